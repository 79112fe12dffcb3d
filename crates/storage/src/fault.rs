//! A store that fails on command, for tests of what a server does when its disk does.
//!
//! `kill -9` keeps the page cache, so killing processes never shows an acknowledgement that came before the disk's.
//! Here the script says which commit fails and on which side of the disk; the same script fails the same way again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kith_protocol::ids::{DeviceHandle, EntryId, Hash, PublicKey, RoomNumber, Seq};
use kith_protocol::log::merkle::NodeId;

use crate::{
    DeviceRow, LogRow, Members, MembershipRow, NeighbourRow, Neighbours, Outbox, Result, RoomLog, RoomRow, RoomState, Store, StoreError,
    Write, Writer,
};

/// Most faults in one script.
pub const FAULTS_MAX: usize = 4_096;

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `Failed`, and nothing was written.
    BeforeApply,
    /// `Failed`, although everything was written.
    AfterApply,
    /// `Full`; nothing was written.
    Full,
}

/// A store with a script of faults.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    commits: u64,
    faults: BTreeMap<u64, Fault>,
}

impl<S> Faulty<S> {
    /// Fails nothing until told.
    pub fn new(inner: S) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// The commit number `nth`, counted from 1 over the life of this value, meets `fault`. The last word on a number
    /// counts.
    ///
    /// # Panics
    ///
    /// If the commit is past, or the script has [`FAULTS_MAX`] faults ahead: a fault that cannot come is a wrong test.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut script = self.script();
        assert!(nth > script.commits, "commit {nth} is past");
        assert!(script.faults.len() < FAULTS_MAX, "the script is full");
        script.faults.insert(nth, fault);
    }

    /// The next commit meets `fault`.
    pub fn fail_next(&self, fault: Fault) {
        let next = self.commits() + 1;
        self.fail(next, fault);
    }

    /// Commits so far, failed ones too.
    pub fn commits(&self) -> u64 {
        self.script().commits
    }

    pub fn inner(&self) -> &S {
        &self.inner
    }

    pub fn into_inner(self) -> S {
        self.inner
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        // A wrong call of `fail` panics under the lock, and leaves the script as it was.
        self.script.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut script = self.script();
        script.commits += 1;
        let nth = script.commits;
        script.faults.remove(&nth)
    }
}

#[async_trait]
impl<S: Store> Writer for Faulty<S> {
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        match self.next_fault() {
            None => self.inner.commit(writes).await,
            Some(Fault::BeforeApply) => Err(StoreError::Failed("scripted, before the write".into())),
            Some(Fault::AfterApply) => {
                self.inner.commit(writes).await?;
                Err(StoreError::Failed("scripted, after the write".into()))
            }
            Some(Fault::Full) => Err(StoreError::Full),
        }
    }
}

#[async_trait]
impl<S: Store> RoomLog for Faulty<S> {
    async fn rooms(&self) -> Result<Vec<RoomRow>> {
        self.inner.rooms().await
    }

    async fn room_state(&self, room: RoomNumber) -> Result<RoomState> {
        self.inner.room_state(room).await
    }

    async fn entries(&self, room: RoomNumber, from: Seq, rows_max: usize, bytes_max: usize) -> Result<Vec<LogRow>> {
        self.inner.entries(room, from, rows_max, bytes_max).await
    }

    async fn headers(&self, room: RoomNumber, from: Seq, max: usize) -> Result<Vec<Bytes>> {
        self.inner.headers(room, from, max).await
    }

    async fn nodes(&self, room: RoomNumber, ids: Vec<NodeId>) -> Result<Vec<Option<Hash>>> {
        self.inner.nodes(room, ids).await
    }
}

#[async_trait]
impl<S: Store> Outbox for Faulty<S> {
    async fn pending(&self, room: RoomNumber) -> Result<Vec<(EntryId, Bytes)>> {
        self.inner.pending(room).await
    }

    async fn pending_rooms(&self) -> Result<Vec<RoomNumber>> {
        self.inner.pending_rooms().await
    }
}

#[async_trait]
impl<S: Store> Members for Faulty<S> {
    async fn incarnation(&self) -> Result<u64> {
        self.inner.incarnation().await
    }

    async fn invites(&self) -> Result<Vec<(PublicKey, u32)>> {
        self.inner.invites().await
    }

    async fn devices(&self) -> Result<Vec<DeviceRow>> {
        self.inner.devices().await
    }

    async fn memberships(&self) -> Result<Vec<MembershipRow>> {
        self.inner.memberships().await
    }

    async fn cursors(&self, device: DeviceHandle) -> Result<Vec<(RoomNumber, Seq)>> {
        self.inner.cursors(device).await
    }
}

#[async_trait]
impl<S: Store> Neighbours for Faulty<S> {
    async fn neighbours(&self) -> Result<Vec<NeighbourRow>> {
        self.inner.neighbours().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn invite(uses_left: u32) -> Vec<Write> {
        vec![Write::PutInvite { key: PublicKey([7; 32]), uses_left }]
    }

    #[tokio::test]
    async fn the_script_is_followed() {
        let store = Faulty::new(Memory::new());
        store.fail(2, Fault::BeforeApply);
        store.fail(3, Fault::AfterApply);
        store.fail(4, Fault::Full);
        let mut left = Vec::new();
        let mut outcomes = Vec::new();
        for uses_left in 1..=5 {
            outcomes.push(match store.commit(invite(uses_left)).await {
                Ok(()) => "ok",
                Err(StoreError::Failed(_)) => "failed",
                Err(StoreError::Full) => "full",
                Err(other) => panic!("{other}"),
            });
            left.push(store.invites().await.unwrap()[0].1);
        }
        assert_eq!(outcomes, ["ok", "failed", "failed", "full", "ok"]);
        assert_eq!(left, [1, 1, 3, 3, 5]);
        assert_eq!(store.commits(), 5);
    }

    #[tokio::test]
    async fn a_misuse_is_told_rather_than_the_fault_after_it() {
        let store = Faulty::new(Memory::new());
        store.fail_next(Fault::AfterApply);
        let misuse = store.commit(vec![Write::DropRoom { number: RoomNumber(1) }]).await;
        assert!(matches!(misuse, Err(StoreError::Misused(_))));
    }
}
