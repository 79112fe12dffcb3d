//! Sees every transaction as it becomes durable, on every co-op, and says at once what must not be.

use std::collections::{BTreeMap, BTreeSet};

use kith_protocol::codec::{decode_attestation, decode_vote};
use kith_protocol::ids::{CoopName, Hash, RoomId, RoomNumber, Seq, Term};
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::{Header, Kind};
use kith_storage::{Append, LogRow, Truncate, Write};

use crate::checks::{Check, Violation};
use crate::coop::Coop;
use crate::script::{SECRET, short};
use crate::world::World;

/// A room's log on one co-op, as far as it is durable.
#[derive(Debug, Default)]
struct Copy {
    frontier: Frontier,
    leaves: Vec<Hash>,
    /// The root at each size from 1 on.
    roots: Vec<Hash>,
}

impl Copy {
    fn truncate(&mut self, size: usize) {
        self.leaves.truncate(size);
        self.roots.truncate(size);
        self.frontier = Frontier::default();
        self.leaves.iter().for_each(|leaf| drop(self.frontier.push(*leaf)));
    }
}

#[derive(Debug, Default)]
pub struct Witness {
    rooms: BTreeMap<(usize, RoomNumber), RoomId>,
    copies: BTreeMap<(usize, RoomId), Copy>,
    /// What the first co-op that had an entry has there: all others must have the same.
    places: BTreeMap<(RoomId, Term, Seq), Hash>,
    /// Which commit ended an epoch.
    epochs: BTreeMap<(RoomId, Term, u64), Seq>,
    /// Where somebody said that a commit cannot be followed.
    complaints: BTreeSet<(RoomId, Seq)>,
    votes: BTreeMap<(usize, RoomId, Term), CoopName>,
    /// Bodies in the order in which they were first stored.
    bodies: BTreeMap<Hash, usize>,
    /// Copies that were dropped because nobody there had a part in the room, or that a backup took the place of: what was said
    /// of them before is void.
    dropped: BTreeSet<(usize, RoomId)>,
}

fn no(check: Check, what: String) -> Result<(), Violation> {
    Err(Violation::new(check, what))
}

/// Whether a row shows what only members may see.
pub fn shows(bytes: &[u8]) -> bool {
    let secret = SECRET.as_bytes();
    // Most bytes are not its first one: `contains` is quick, windows are not.
    bytes.contains(&secret[0]) && bytes.windows(secret.len()).any(|window| window[0] == secret[0] && window == secret)
}

/// Everything that a transaction stores which came from somebody else.
fn stored(write: &Write) -> Vec<&[u8]> {
    match write {
        Write::Append(append) => {
            let rows = append.rows.iter().flat_map(|row: &LogRow| [&row.header[..], &row.body, &row.group_info]);
            rows.chain([&append.snapshot[..], &append.checkpoint]).chain(append.group.as_deref()).collect()
        }
        Write::PutMarked { attestation, .. } => vec![attestation],
        Write::PutPending { submission, .. } => vec![submission],
        Write::Truncate(cut) => vec![&cut.snapshot, &cut.group, &cut.checkpoint],
        Write::PutVote { vote, .. } => vec![vote],
        Write::PutProof { proof, .. } => vec![proof],
        Write::PutNeighbour(row) => vec![row.address.as_bytes()],
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
        | Write::PutRefilled { .. } => Vec::new(),
    }
}

impl Witness {
    /// Entries that have a place, in all rooms.
    pub fn entries(&self) -> u64 {
        self.places.len() as u64
    }

    fn size(&self, coop: usize, room: &RoomId) -> u64 {
        self.copies.get(&(coop, *room)).map_or(0, |copy| copy.frontier.size())
    }

    fn commit(&mut self, at: usize, coops: &[Coop], writes: &[Write], lines: &mut Vec<String>) -> Result<(), Violation> {
        for write in writes {
            if stored(write).into_iter().any(shows) {
                return no(Check::NothingReadable, format!("co-op {at} stores what was said"));
            }
            match write {
                Write::PutRoom { number, id, .. } => drop(self.rooms.insert((at, *number), *id)),
                Write::DropRoom { number } => {
                    if let Some(id) = self.rooms.remove(&(at, *number)) {
                        self.copies.remove(&(at, id));
                        self.dropped.insert((at, id));
                    }
                }
                Write::Append(append) => self.append(at, coops, append, lines)?,
                Write::Truncate(cut) => self.cut(at, cut, lines)?,
                Write::ClearLog { room } => {
                    if let Some(id) = self.rooms.get(&(at, *room)).copied() {
                        lines.push(format!("  {} is cleared", short(&id)));
                        self.copies.remove(&(at, id));
                        self.dropped.insert((at, id));
                    }
                }
                Write::PutVote { room, vote } => self.vote(at, *room, vote, lines)?,
                Write::PutMarked { room, attestation } => {
                    let Some(id) = self.rooms.get(&(at, *room)).copied() else { continue };
                    let marked =
                        decode_attestation(id, attestation).map_err(|error| Violation::new(Check::Checkpoints, error.to_string()))?;
                    self.check_attestation(at, coops, &id, &marked)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Nothing that is certified is cut: whether it was, is checked in the end, when everybody must still have read it.
    fn cut(&mut self, at: usize, cut: &Truncate, lines: &mut Vec<String>) -> Result<(), Violation> {
        let Some(room) = self.rooms.get(&(at, cut.room)).copied() else { return Ok(()) };
        let copy = self.copies.entry((at, room)).or_default();
        lines.push(format!("  {} is cut from {} to {}", short(&room), copy.roots.len(), cut.size));
        copy.truncate(cut.size.0 as usize);
        Ok(())
    }

    /// One vote a term and voter.
    fn vote(&mut self, at: usize, room: RoomNumber, vote: &[u8], lines: &mut Vec<String>) -> Result<(), Violation> {
        let Some(room) = self.rooms.get(&(at, room)).copied() else { return Ok(()) };
        let vote = decode_vote(vote).map_err(|error| Violation::new(Check::OneLog, error.to_string()))?;
        lines.push(format!("  {} votes for {} in term {} at {}", short(&room), vote.candidate.name, vote.term, vote.last.checkpoint.size));
        let first = self.votes.entry((at, room, vote.term)).or_insert_with(|| vote.candidate.name.clone());
        if *first != vote.candidate.name {
            return no(Check::OneLog, format!("co-op {at} votes for {first} and {} in term {}", vote.candidate.name, vote.term));
        }
        Ok(())
    }

    fn append(&mut self, at: usize, coops: &[Coop], append: &Append, lines: &mut Vec<String>) -> Result<(), Violation> {
        let Some(room) = self.rooms.get(&(at, append.room)).copied() else {
            return no(Check::OneLog, format!("co-op {at} appends to a room that it does not have"));
        };
        for row in &append.rows {
            let header = Header::decode(&row.header).map_err(|error| Violation::new(Check::OneLog, error.to_string()))?;
            // The order of several removals in one commit is OpenMLS's own draw, and with it every ciphertext that follows: a
            // body is named by when it was first seen.
            let seen = self.bodies.len();
            let body = *self.bodies.entry(header.body_hash).or_insert(seen);
            lines.push(format!(
                "  {} {} {:?} epoch {} by {} #{} body {}",
                short(&room),
                header.seq,
                header.kind,
                header.epoch,
                header.id.sender,
                header.id.counter.number,
                body
            ));
            let copy = self.copies.entry((at, room)).or_default();
            if header.seq.0 != copy.frontier.size() {
                return no(Check::OneLog, format!("co-op {at} stores entry {} where {} belongs", header.seq, copy.frontier.size()));
            }
            let leaf = leaf_hash(&row.header);
            copy.frontier.push(leaf);
            copy.leaves.push(leaf);
            copy.roots.push(copy.frontier.root());
            let first = *self.places.entry((room, header.term, header.seq)).or_insert(leaf);
            if first != leaf {
                return no(Check::OneLog, format!("co-op {at} has another entry {} in {} than it had been", header.seq, short(&room)));
            }
            if header.kind == Kind::Complaint {
                self.complaints.insert((room, header.seq));
            }
            if header.kind == Kind::Commit {
                let other = self.epochs.entry((room, header.term, header.epoch.0)).or_insert(header.seq);
                let (earlier, later) = (header.seq.min(*other), header.seq.max(*other));
                // Between two of one epoch somebody has complained: the first is void.
                let is_void = self.complaints.range((room, earlier)..(room, later)).next().is_some();
                if earlier != later && !is_void {
                    let what = format!("entries {earlier} and {later} both end epoch {} of {}", header.epoch, short(&room));
                    return no(Check::OneCommit, what);
                }
                *other = later;
            }
        }
        let checkpoint =
            decode_attestation(room, &append.checkpoint).map_err(|error| Violation::new(Check::Checkpoints, error.to_string()))?;
        // While a mirror catches up from another holder, the checkpoint is over more than has come.
        if checkpoint.checkpoint.size > self.size(at, &room) {
            return Ok(());
        }
        if checkpoint.checkpoint.size != self.size(at, &room) {
            return no(Check::Checkpoints, format!("co-op {at} stores a checkpoint that is not over its log"));
        }
        self.check_attestation(at, coops, &room, &checkpoint)
    }

    /// Over the very log that this co-op has, and signed by whom it says.
    fn check_attestation(&self, at: usize, coops: &[Coop], room: &RoomId, attestation: &Attestation) -> Result<(), Violation> {
        let checkpoint = attestation.checkpoint;
        let root = self.copies.get(&(at, *room)).and_then(|copy| copy.roots.get((checkpoint.size as usize).checked_sub(1)?));
        if root != Some(&checkpoint.root) {
            return no(
                Check::Checkpoints,
                format!("co-op {at}: the checkpoint of {} over {} is of another log", short(room), checkpoint.size),
            );
        }
        let key_of = |name: &kith_protocol::ids::CoopName| coops.iter().find(|coop| coop.id.name == *name).map(|coop| coop.id.key);
        attestation.verify(key_of).map_err(|error| Violation::new(Check::Checkpoints, format!("co-op {at}: {error}")))
    }
}

impl World {
    pub(crate) fn witness_commit(&mut self, coop: usize, writes: &[Write]) {
        let mut lines = Vec::new();
        let seen = self.witness.commit(coop, &self.coops, writes, &mut lines);
        self.note(|_| format!("co-op {coop} commits {} writes", writes.len()));
        lines.into_iter().for_each(|line| self.note(|_| line));
        if let Err(violation) = seen {
            self.violated(violation);
        }
    }

    /// A backup took the place of the store. What that co-op says from now on must fit what it said before all the same.
    pub(crate) fn witness_restore(&mut self, coop: usize) {
        let rooms: Vec<(RoomNumber, RoomId)> =
            self.witness.rooms.iter().filter(|((at, _), _)| *at == coop).map(|((_, number), id)| (*number, *id)).collect();
        for (number, id) in rooms {
            let size = self.coops[coop].log(&id).len();
            if self.coops[coop].stored_room(&id).is_none() {
                self.witness.rooms.remove(&(coop, number));
            }
            self.witness.dropped.insert((coop, id));
            if let Some(copy) = self.witness.copies.get_mut(&(coop, id)) {
                copy.truncate(size);
            }
        }
    }

    /// A process died: what anybody was told that it holds must still be there.
    pub(crate) fn witness_crash(&mut self, coop: usize) {
        let name = self.coops[coop].id.name.to_string();
        for circle in &self.circles {
            let size = self.coops[coop].log(&circle.id).len() as u64;
            let states = self.members.iter().filter_map(|member| member.core.room_state(&circle.id));
            let told = states.filter_map(|state| state.held.get(&name)).max().copied().unwrap_or(0);
            if told > size && !self.witness.dropped.contains(&(coop, circle.id)) {
                let what = format!("co-op {coop} said that it holds {told} entries of {}, and holds {size}", short(&circle.id));
                return self.violated(Violation::new(Check::Held, what));
            }
        }
    }
}
