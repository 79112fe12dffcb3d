//! A store in which one byte is not what was written.

use async_trait::async_trait;
use bytes::Bytes;
use kith_protocol::ids::{DeviceHandle, EntryId, Hash, PublicKey, RoomNumber, Seq};
use kith_protocol::log::merkle::NodeId;
use kith_storage::fault::Faulty;
use kith_storage::memory::Memory;
use kith_storage::{
    DeviceRow, LogRow, Members, MembershipRow, NeighbourRow, Neighbours, Outbox, Result, RoomLog, RoomRow, RoomState, Write, Writer,
};

/// Which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    Header { seq: u64, at: usize },
    Checkpoint { at: usize },
    Marked { at: usize },
}

/// The store as a server sees it.
pub struct View<'a> {
    pub store: &'a Faulty<Memory>,
    pub tamper: Option<Tamper>,
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0x04;
    }
    bytes.into()
}

#[async_trait]
impl Writer for View<'_> {
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        self.store.commit(writes).await
    }
}

#[async_trait]
impl RoomLog for View<'_> {
    async fn rooms(&self) -> Result<Vec<RoomRow>> {
        self.store.rooms().await
    }
    async fn room_state(&self, room: RoomNumber) -> Result<RoomState> {
        let mut state = self.store.room_state(room).await?;
        match self.tamper {
            Some(Tamper::Checkpoint { at }) => state.checkpoint = state.checkpoint.map(|bytes| flip(&bytes, at)),
            Some(Tamper::Marked { at }) => state.marked = state.marked.map(|bytes| flip(&bytes, at)),
            _ => {}
        }
        Ok(state)
    }
    async fn entries(&self, room: RoomNumber, from: Seq, rows_max: usize, bytes_max: usize) -> Result<Vec<LogRow>> {
        self.store.entries(room, from, rows_max, bytes_max).await
    }
    async fn headers(&self, room: RoomNumber, from: Seq, max: usize) -> Result<Vec<Bytes>> {
        let mut headers = self.store.headers(room, from, max).await?;
        if let Some(Tamper::Header { seq, at }) = self.tamper
            && let Some(header) = seq.checked_sub(from.0).and_then(|index| headers.get_mut(index as usize))
        {
            *header = flip(header, at);
        }
        Ok(headers)
    }
    async fn nodes(&self, room: RoomNumber, ids: Vec<NodeId>) -> Result<Vec<Option<Hash>>> {
        self.store.nodes(room, ids).await
    }
}

#[async_trait]
impl Outbox for View<'_> {
    async fn pending(&self, room: RoomNumber) -> Result<Vec<(EntryId, Bytes)>> {
        self.store.pending(room).await
    }
    async fn pending_rooms(&self) -> Result<Vec<RoomNumber>> {
        self.store.pending_rooms().await
    }
}

#[async_trait]
impl Members for View<'_> {
    async fn invites(&self) -> Result<Vec<(PublicKey, u32)>> {
        self.store.invites().await
    }
    async fn devices(&self) -> Result<Vec<DeviceRow>> {
        self.store.devices().await
    }
    async fn memberships(&self) -> Result<Vec<MembershipRow>> {
        self.store.memberships().await
    }
    async fn cursors(&self, device: DeviceHandle) -> Result<Vec<(RoomNumber, Seq)>> {
        self.store.cursors(device).await
    }
}

#[async_trait]
impl Neighbours for View<'_> {
    async fn neighbours(&self) -> Result<Vec<NeighbourRow>> {
        self.store.neighbours().await
    }
}
