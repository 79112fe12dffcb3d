//! A store from which something else is read than what was written.

use async_trait::async_trait;
use bytes::Bytes;
use kith_protocol::ids::{DeviceHandle, EntryId, Hash, PublicKey, RoomNumber, Seq};
use kith_protocol::log::Header;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::{NodeId, leaf_hash, node_hash};
use kith_storage::fault::Faulty;
use kith_storage::memory::Memory;
use kith_storage::{
    DeviceRow, LogRow, Members, MembershipRow, NeighbourRow, Neighbours, Outbox, Result, RoomLog, RoomRow, RoomState, Write, Writer,
};

use crate::script::SECRET;

/// What is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// One byte of a header that is served for verification.
    Header {
        seq: u64,
        at: usize,
    },
    /// One byte of the room's stored state.
    Checkpoint {
        at: usize,
    },
    Marked {
        at: usize,
    },
    /// One byte of an entry.
    Body {
        seq: u64,
    },
    /// An entry and the next have changed places.
    Swapped {
        seq: u64,
    },
    /// An entry is not there.
    Missing {
        seq: u64,
    },
    /// An entry says that it is of the epoch before.
    Epoch {
        seq: u64,
    },
    /// What was said stands there in the clear.
    Text {
        seq: u64,
    },
}

impl Tamper {
    /// What is read of a log from `from` on.
    fn rows(self, from: Seq, rows: &mut Vec<LogRow>) {
        let at = |seq: u64| seq.checked_sub(from.0).map(|index| index as usize).filter(|index| *index < rows.len());
        match self {
            Self::Body { seq } => {
                if let Some(at) = at(seq) {
                    rows[at].body = flip(&rows[at].body, rows[at].body.len() / 2);
                    make_fit(&mut rows[at..], seq);
                }
            }
            Self::Swapped { seq } => {
                if let (Some(at), Some(next)) = (at(seq), at(seq + 1)) {
                    rows.swap(at, next);
                }
            }
            Self::Missing { seq } => {
                if let Some(at) = at(seq) {
                    rows.remove(at);
                }
            }
            Self::Epoch { seq } => {
                if let Some(at) = at(seq) {
                    let mut header = Header::decode(&rows[at].header).expect("a stored header");
                    header.epoch.0 -= 1;
                    rows[at].header = header.encode().to_vec().into();
                }
            }
            Self::Text { seq } => {
                if let Some(at) = at(seq) {
                    rows[at].body = Bytes::from_static(SECRET.as_bytes());
                }
            }
            Self::Header { .. } | Self::Checkpoint { .. } | Self::Marked { .. } => {}
        }
    }
}

/// A server that lies with its eyes open has rows that fit each other: the header names the body, and the tree the headers.
fn make_fit(rows: &mut [LogRow], seq: u64) {
    let mut header = Header::decode(&rows[0].header).expect("a stored header");
    header.body_hash = hash_bytes(&rows[0].body);
    rows[0].header = header.encode().to_vec().into();
    // One at an odd place hangs on the row before, which may be on another page: the tests change rows at even places, or
    // the first of a page.
    if seq.is_multiple_of(2) && rows.len() > 1 {
        let node = node_hash(&leaf_hash(&rows[0].header), &leaf_hash(&rows[1].header));
        let rest = rows[1].nodes.slice(node.0.len()..);
        rows[1].nodes = [&node.0[..], &rest].concat().into();
    }
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
        let mut rows = self.store.entries(room, from, rows_max, bytes_max).await?;
        if let Some(tamper) = self.tamper {
            tamper.rows(from, &mut rows);
        }
        Ok(rows)
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
    async fn incarnation(&self) -> Result<u64> {
        self.store.incarnation().await
    }
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
