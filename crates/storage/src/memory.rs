//! The model: the store's meaning in maps, against which the other backends are held.
//!
//! Nothing is durable, and no function ever pends, so a simulator may poll each of them once. [`Memory::fork`] is the
//! disk as a crash finds it. The rules that every backend shares ([`append_end`], [`check_place`], [`check_sizes`], [`stored_at`])
//! stand here too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kith_protocol::ids::{AccountHandle, Coop, CoopName, DeviceHandle, EntryId, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::limits::{STORED_BYTES_MAX, TREE_LEVELS_MAX};
use kith_protocol::log::merkle::{NodeId, leaf_hash};

use crate::{
    Append, DeviceRow, LogRow, Members, MembershipRow, NeighbourRow, Neighbours, Outbox, Result, RoomLog, RoomRow, RoomState, StoreError,
    Truncate, Write, Writer,
};

pub(crate) const UNKNOWN_ROOM: StoreError = StoreError::Misused("there is no such room");
pub(crate) const ROOM_NOT_NEW: StoreError = StoreError::Misused("the room's number or id is taken");
pub(crate) const NO_ROOM: StoreError = StoreError::Misused("there is no such room to drop");
pub(crate) const WRONG_FIRST: StoreError = StoreError::Misused("an append must begin where the room's log ends");
pub(crate) const WRONG_CUT: StoreError = StoreError::Misused("a log can be cut only within what it has");
pub(crate) const NO_LOG: StoreError = StoreError::Misused("a room without entries has no checkpoint to mark");
pub(crate) const OTHER_ACCOUNT: StoreError = StoreError::Misused("the pseudonym belongs to another account");

/// Bytes of a Merkle node.
pub(crate) const NODE_LEN: usize = Hash::LEN;

/// The size of the log after this append, once the append has been found well formed.
pub(crate) fn append_end(append: &Append) -> Result<Seq> {
    if append.rows.is_empty() {
        return Err(StoreError::Misused("an append has at least one row"));
    }
    let end = append.first.0.saturating_add(append.rows.len() as u64);
    check_place(Seq(end))?;
    for (seq, row) in (append.first.0..end).zip(&append.rows) {
        if row.header.is_empty() {
            return Err(StoreError::Misused("an entry has a header"));
        }
        // A log with other nodes could never prove anything again.
        if row.nodes.len() != NODE_LEN * seq.trailing_ones() as usize {
            return Err(StoreError::Misused("a row carries exactly the nodes that its leaf completes"));
        }
    }
    Ok(Seq(end))
}

/// Whether every value of a write may go to a database.
pub(crate) fn check_sizes(write: &Write) -> Result<()> {
    let fits = |bytes: &Bytes| bytes.len() <= STORED_BYTES_MAX;
    let all_fit = match write {
        Write::Append(append) => {
            let row_fits = |row: &LogRow| [&row.header, &row.nodes, &row.body, &row.group_info].into_iter().all(fits);
            [&append.snapshot, &append.checkpoint].into_iter().chain(&append.group).all(fits) && append.rows.iter().all(row_fits)
        }
        Write::Truncate(cut) => [&cut.snapshot, &cut.group, &cut.checkpoint].into_iter().all(fits),
        Write::PutVote { vote, .. } => fits(vote),
        Write::PutProof { proof, .. } => fits(proof),
        Write::PutMarked { attestation, .. } => fits(attestation),
        Write::PutPending { submission, .. } => fits(submission),
        Write::PutNeighbour(row) => row.address.len() <= STORED_BYTES_MAX && fits(&row.agreement),
        Write::PutRoom { .. }
        | Write::DropRoom { .. }
        | Write::DropPending { .. }
        | Write::PutInvite { .. }
        | Write::PutDevice(_)
        | Write::PutMembership(_)
        | Write::SetCursor { .. }
        | Write::ResetCursor { .. }
        | Write::ClearLog { .. }
        | Write::BeginIncarnation { .. }
        | Write::PutRefilled { .. } => true,
    };
    if all_fit { Ok(()) } else { Err(StoreError::Misused("a value is larger than any that is stored")) }
}

/// Incarnations only go up, and their numbers stay below what every engine can hold.
pub(crate) fn check_incarnation(old: u64, new: u64) -> Result<()> {
    if new > old && i64::try_from(new).is_ok() { Ok(()) } else { Err(StoreError::Misused("an incarnation is greater than the one before")) }
}

/// Whether a log can reach that far.
pub(crate) fn check_place(seq: Seq) -> Result<()> {
    if seq.0 >> TREE_LEVELS_MAX == 0 { Ok(()) } else { Err(StoreError::Misused("no log reaches that far")) }
}

/// [`NodeId::stored_at`], or `None` for a node that no log can have.
pub(crate) fn stored_at(id: NodeId) -> Option<(Seq, Option<usize>)> {
    let levels_max = u32::try_from(TREE_LEVELS_MAX).expect("a small number");
    if id.level >= levels_max || id.index >= 1 << (levels_max - id.level) {
        return None;
    }
    let (leaf, place) = id.stored_at();
    Some((Seq(leaf), place))
}

/// The node at `place` of what is kept beside a leaf.
pub(crate) fn node_at(header: &[u8], nodes: &[u8], place: Option<usize>) -> Result<Hash> {
    let Some(place) = place else {
        return Ok(leaf_hash(header));
    };
    let node = nodes.chunks_exact(NODE_LEN).nth(place).ok_or_else(|| StoreError::Damaged("a row lacks a Merkle node".into()))?;
    Ok(Hash::from_slice(node).expect("chunks have the length of a hash"))
}

/// A store that forgets. See the module.
#[derive(Debug, Default)]
pub struct Memory {
    disk: Mutex<Disk>,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    tables: Tables,
    /// Changes only after a whole list was accepted; so it needs no copy to be rolled back.
    logs: BTreeMap<RoomNumber, Vec<LogRow>>,
}

/// What happens to a log once its list is accepted.
enum Change {
    Append(RoomNumber, Vec<LogRow>),
    Truncate(RoomNumber, Seq),
}

/// Everything but the logs: small enough to be copied by each commit, which is what makes one all or nothing.
#[derive(Debug, Clone, Default)]
struct Tables {
    rooms: BTreeMap<RoomNumber, Room>,
    pending: BTreeMap<RoomNumber, Vec<(EntryId, Bytes)>>,
    invites: BTreeMap<PublicKey, u32>,
    devices: BTreeMap<DeviceHandle, DeviceRow>,
    memberships: BTreeMap<(RoomId, Pseudonym), AccountHandle>,
    cursors: BTreeMap<(DeviceHandle, RoomNumber), Seq>,
    neighbours: BTreeMap<CoopName, NeighbourRow>,
    incarnation: u64,
}

#[derive(Debug, Clone)]
struct Room {
    id: RoomId,
    hub: Coop,
    size: Seq,
    state: RoomState,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    /// What a bad disk does to the rows of a room. For tests.
    pub fn spoil(&self, room: RoomNumber, how: impl FnOnce(&mut Vec<LogRow>)) {
        how(self.disk().logs.entry(room).or_default());
    }

    /// A deep copy: what a restart would find if the process died now.
    pub fn fork(&self) -> Self {
        Self { disk: Mutex::new(self.disk().clone()) }
    }

    /// What a bad disk does to a room's state. For tests.
    pub fn spoil_state(&self, room: RoomNumber, how: impl FnOnce(&mut RoomState)) {
        if let Some(room) = self.disk().tables.rooms.get_mut(&room) {
            how(&mut room.state);
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder of the lock panics")
    }
}

impl Tables {
    fn apply(&mut self, write: Write, changes: &mut Vec<Change>) -> Result<()> {
        match write {
            Write::PutRoom { number, id, hub } => self.put_room(number, id, hub)?,
            Write::DropRoom { number } => changes.push(self.drop_room(number)?),
            Write::Append(append) => changes.push(self.append(append)?),
            Write::Truncate(truncate) => changes.push(self.truncate(truncate)?),
            Write::ClearLog { room } => changes.push(self.clear_log(room)?),
            Write::PutProof { room, proof } => self.rooms.get_mut(&room).ok_or(UNKNOWN_ROOM)?.state.proof = Some(proof),
            Write::PutVote { room, vote } => self.rooms.get_mut(&room).ok_or(UNKNOWN_ROOM)?.state.vote = Some(vote),
            Write::PutMarked { room, attestation } => {
                let room = self.rooms.get_mut(&room).filter(|room| room.size > Seq(0)).ok_or(NO_LOG)?;
                room.state.marked = Some(attestation);
            }
            Write::PutPending { room, id, submission } => self.put_pending(room, id, submission)?,
            Write::DropPending { room, id } => {
                if let Some(pending) = self.pending.get_mut(&room) {
                    pending.retain(|(other, _)| *other != id);
                }
            }
            Write::PutInvite { key, uses_left } => {
                self.invites.insert(key, uses_left);
            }
            Write::PutDevice(row) => {
                self.devices.insert(row.handle, row);
            }
            Write::PutMembership(row) => {
                if *self.memberships.entry((row.room, row.pseudonym)).or_insert(row.account) != row.account {
                    return Err(OTHER_ACCOUNT);
                }
            }
            Write::SetCursor { device, room, next } => {
                let cursor = self.cursor(device, room, next)?;
                *cursor = next.max(*cursor);
            }
            Write::ResetCursor { device, room, next } => *self.cursor(device, room, next)? = next,
            Write::PutNeighbour(row) => {
                self.neighbours.insert(row.coop.name.clone(), row);
            }
            Write::BeginIncarnation { number } => {
                check_incarnation(self.incarnation, number)?;
                self.incarnation = number;
                self.rooms.values_mut().for_each(|room| room.state.is_restored = true);
            }
            Write::PutRefilled { room } => self.rooms.get_mut(&room).ok_or(UNKNOWN_ROOM)?.state.is_restored = false,
        }
        Ok(())
    }

    fn put_room(&mut self, number: RoomNumber, id: RoomId, hub: Coop) -> Result<()> {
        if self.rooms.contains_key(&number) || self.rooms.values().any(|room| room.id == id) {
            return Err(ROOM_NOT_NEW);
        }
        self.rooms.insert(number, Room { id, hub, size: Seq(0), state: RoomState::default() });
        Ok(())
    }

    fn drop_room(&mut self, number: RoomNumber) -> Result<Change> {
        self.rooms.remove(&number).ok_or(NO_ROOM)?;
        self.pending.remove(&number);
        // The number may come to mean another room.
        self.cursors.retain(|(_, room), _| *room != number);
        Ok(Change::Truncate(number, Seq(0)))
    }

    fn clear_log(&mut self, number: RoomNumber) -> Result<Change> {
        let room = self.rooms.get_mut(&number).ok_or(UNKNOWN_ROOM)?;
        room.size = Seq(0);
        let RoomState { vote, proof, is_restored, .. } = std::mem::take(&mut room.state);
        room.state = RoomState { vote, proof, is_restored, ..RoomState::default() };
        Ok(Change::Truncate(number, Seq(0)))
    }

    fn truncate(&mut self, truncate: Truncate) -> Result<Change> {
        let Truncate { room: number, size, snapshot, group, checkpoint } = truncate;
        let room = self.rooms.get_mut(&number).filter(|room| size > Seq(0) && size <= room.size).ok_or(WRONG_CUT)?;
        room.size = size;
        let (vote, proof) = (room.state.vote.take(), room.state.proof.take());
        let is_restored = room.state.is_restored;
        let (snapshot, group, checkpoint) = (Some(snapshot), Some(group), Some(checkpoint));
        room.state = RoomState { snapshot, group, checkpoint, marked: None, vote, proof, is_restored };
        for ((_, of), next) in &mut self.cursors {
            if *of == number {
                *next = size.min(*next);
            }
        }
        Ok(Change::Truncate(number, size))
    }

    fn append(&mut self, append: Append) -> Result<Change> {
        let end = append_end(&append)?;
        let room = self.rooms.get_mut(&append.room).filter(|room| room.size == append.first).ok_or(WRONG_FIRST)?;
        room.size = end;
        room.state.snapshot = Some(append.snapshot);
        room.state.checkpoint = Some(append.checkpoint);
        if append.group.is_some() {
            room.state.group = append.group;
        }
        Ok(Change::Append(append.room, append.rows))
    }

    fn put_pending(&mut self, room: RoomNumber, id: EntryId, submission: Bytes) -> Result<()> {
        if !self.rooms.contains_key(&room) {
            return Err(UNKNOWN_ROOM);
        }
        let pending = self.pending.entry(room).or_default();
        match pending.iter_mut().find(|(other, _)| *other == id) {
            Some((_, old)) => *old = submission,
            None => pending.push((id, submission)),
        }
        Ok(())
    }

    fn cursor(&mut self, device: DeviceHandle, room: RoomNumber, next: Seq) -> Result<&mut Seq> {
        check_place(next)?;
        if !self.rooms.contains_key(&room) {
            return Err(UNKNOWN_ROOM);
        }
        Ok(self.cursors.entry((device, room)).or_insert(next))
    }
}

#[async_trait]
impl Writer for Memory {
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        let mut disk = self.disk();
        let mut tables = disk.tables.clone();
        let mut changes = Vec::new();
        for write in writes {
            check_sizes(&write)?;
            tables.apply(write, &mut changes)?;
        }
        disk.tables = tables;
        for change in changes {
            match change {
                Change::Append(room, rows) => disk.logs.entry(room).or_default().extend(rows),
                Change::Truncate(room, size) => {
                    let size = usize::try_from(size.0).expect("no more than is in memory");
                    disk.logs.entry(room).or_default().truncate(size);
                }
            }
        }
        Ok(())
    }
}

impl Disk {
    fn log_from(&self, room: RoomNumber, from: Seq) -> &[LogRow] {
        let log = self.logs.get(&room).map_or(&[][..], Vec::as_slice);
        usize::try_from(from.0).ok().and_then(|from| log.get(from..)).unwrap_or_default()
    }
}

#[async_trait]
impl RoomLog for Memory {
    async fn rooms(&self) -> Result<Vec<RoomRow>> {
        let disk = self.disk();
        Ok(disk.tables.rooms.iter().map(|(number, room)| RoomRow { number: *number, id: room.id, hub: room.hub.clone() }).collect())
    }

    async fn room_state(&self, room: RoomNumber) -> Result<RoomState> {
        Ok(self.disk().tables.rooms.get(&room).map(|room| room.state.clone()).unwrap_or_default())
    }

    async fn entries(&self, room: RoomNumber, from: Seq, rows_max: usize, bytes_max: usize) -> Result<Vec<LogRow>> {
        let disk = self.disk();
        let mut page = Vec::new();
        let mut bytes = 0;
        for row in disk.log_from(room, from).iter().take(rows_max) {
            bytes += row.body.len();
            page.push(row.clone());
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(page)
    }

    async fn headers(&self, room: RoomNumber, from: Seq, max: usize) -> Result<Vec<Bytes>> {
        Ok(self.disk().log_from(room, from).iter().take(max).map(|row| row.header.clone()).collect())
    }

    async fn nodes(&self, room: RoomNumber, ids: Vec<NodeId>) -> Result<Vec<Option<Hash>>> {
        let disk = self.disk();
        ids.into_iter()
            .map(|id| {
                let Some((leaf, place)) = stored_at(id) else { return Ok(None) };
                disk.log_from(room, leaf).first().map(|row| node_at(&row.header, &row.nodes, place)).transpose()
            })
            .collect()
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn pending(&self, room: RoomNumber) -> Result<Vec<(EntryId, Bytes)>> {
        Ok(self.disk().tables.pending.get(&room).cloned().unwrap_or_default())
    }

    async fn pending_rooms(&self) -> Result<Vec<RoomNumber>> {
        Ok(self.disk().tables.pending.iter().filter(|(_, pending)| !pending.is_empty()).map(|(room, _)| *room).collect())
    }
}

#[async_trait]
impl Members for Memory {
    async fn incarnation(&self) -> Result<u64> {
        Ok(self.disk().tables.incarnation)
    }

    async fn invites(&self) -> Result<Vec<(PublicKey, u32)>> {
        Ok(self.disk().tables.invites.iter().map(|(key, uses_left)| (*key, *uses_left)).collect())
    }

    async fn devices(&self) -> Result<Vec<DeviceRow>> {
        Ok(self.disk().tables.devices.values().cloned().collect())
    }

    async fn memberships(&self) -> Result<Vec<MembershipRow>> {
        let disk = self.disk();
        let mut rows: Vec<_> =
            disk.tables.memberships.iter().map(|(&(room, pseudonym), &account)| MembershipRow { account, room, pseudonym }).collect();
        rows.sort();
        Ok(rows)
    }

    async fn cursors(&self, device: DeviceHandle) -> Result<Vec<(RoomNumber, Seq)>> {
        let range = (device, RoomNumber(0))..=(device, RoomNumber(u32::MAX));
        Ok(self.disk().tables.cursors.range(range).map(|((_, room), next)| (*room, *next)).collect())
    }
}

#[async_trait]
impl Neighbours for Memory {
    async fn neighbours(&self) -> Result<Vec<NeighbourRow>> {
        Ok(self.disk().tables.neighbours.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    fn once<T>(future: impl Future<Output = T>) -> T {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the model never pends"),
        }
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let store = Memory::new();
        let key = PublicKey([1; 32]);
        once(store.commit(vec![Write::PutInvite { key, uses_left: 2 }])).unwrap();
        let fork = store.fork();
        once(store.commit(vec![Write::PutInvite { key, uses_left: 1 }])).unwrap();
        assert_eq!(once(fork.invites()).unwrap(), [(key, 2)]);
        assert_eq!(once(store.invites()).unwrap(), [(key, 1)]);
    }

    #[test]
    fn nodes_that_no_log_has_are_nowhere() {
        for (level, index) in [(0, 1 << 48), (48, 0), (64, 0), (3, u64::MAX)] {
            assert_eq!(stored_at(NodeId { level, index }), None, "{level} {index}");
        }
        assert_eq!(stored_at(NodeId { level: 1, index: 2 }), Some((Seq(5), Some(0))));
    }
}
