//! What is handed out of a room: its rows, and what a joiner starts from, which is the group's state and the log's end, both as
//! they are durable. Messages that have been decided and wait for their commit change nothing of the group, so that nobody waits
//! for a quiet moment to join a busy room.

use bytes::Bytes;
use kith_protocol::ids::{EntryId, Epoch, Pseudonym, PublicKey, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::judge::{RoomFacts, Standing};
use kith_protocol::log::Header;
use kith_protocol::log::merkle::Frontier;
use kith_protocol::member::{Entries, Group};

use super::log::Log;
use super::machine::Room;

/// The end of a log.
#[derive(Debug)]
pub struct Tip {
    frontier: Frontier,
    last_time: UnixSeconds,
    senders: usize,
    term: Term,
    last_commit: Seq,
    leaves: usize,
}

impl Tip {
    pub fn of(log: &Log) -> Self {
        Self {
            frontier: log.frontier.clone(),
            last_time: log.last_time,
            senders: log.senders.len(),
            term: log.term,
            last_commit: log.last_commit,
            leaves: log.leaves().len(),
        }
    }

    pub fn size(&self) -> u64 {
        self.frontier.size()
    }
}

/// Why nobody is offered the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoGroup {
    /// The invite is closed, used up, or none of this room.
    Closed,
    /// A change of the group is not durable yet, or this mirror has no word of the hub over exactly what it has.
    Later,
}

impl Room {
    /// Whether it is a member by this co-op's own certificate. An account may claim any pseudonym before the room is here;
    /// what the log says of a pseudonym is what counts.
    pub fn is_own_member(&self, who: &Pseudonym) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_member(who) && log.coop_of(who) == Some(&self.me))
    }

    /// Whether it may read on: as a member, or because its commit was voided and the next one will take it out. It is told why.
    pub fn is_own_reader(&self, who: &Pseudonym) -> bool {
        let log = self.log.as_ref().filter(|log| log.coop_of(who) == Some(&self.me));
        log.is_some_and(|log| matches!(log.standing(who), Standing::Member | Standing::Convicted))
    }

    /// Whether an entry of that id has its place in the log.
    pub fn has(&self, id: &EntryId) -> bool {
        self.log.as_ref().is_some_and(|log| id.counter.number <= log.last_counter(id))
    }

    pub fn take_went_back(&mut self, entries: std::ops::Range<u64>) -> Option<Epoch> {
        self.log.as_mut().and_then(|log| log.take_went_back(entries))
    }

    /// Whether a commit took it out, by the log.
    pub fn is_own_former_member(&self, who: &Pseudonym) -> bool {
        let log = self.log.as_ref().filter(|log| log.coop_of(who) == Some(&self.me));
        log.is_some_and(|log| matches!(log.standing(who), Standing::Removed | Standing::Unknown) && log.out_at(who).is_some())
    }

    pub fn group(&self, invite: &PublicKey, now: UnixSeconds) -> Result<Group, NoGroup> {
        let log = self.log.as_ref().ok_or(NoGroup::Later)?;
        let tip = self.tip.as_ref().ok_or(NoGroup::Later)?;
        let is_of_tip = (tip.size(), tip.term, tip.last_commit) == (self.durable, log.term, log.last_commit);
        let leaves = log.leaves();
        if !is_of_tip || leaves.len() != tip.leaves {
            return Err(NoGroup::Later);
        }
        let next_use = log.next_use(invite, now.max(log.last_time)).ok_or(NoGroup::Closed)?;
        Ok(Group {
            group_info: log.group_info.clone(),
            short_tree: log.short_tree().ok_or(NoGroup::Closed)?,
            creation: log.creation.clone(),
            size: self.durable,
            term: log.term,
            frontier: tip.frontier.nodes().to_vec(),
            senders: log.senders[..tip.senders].iter().map(|sender| sender.pseudonym).collect(),
            last_time: tip.last_time,
            next_use,
            attestation: self.ledger.at(self.durable).ok_or(NoGroup::Later)?.clone(),
            leaves,
            succession: log.succession.clone(),
            days: log.activity[..tip.senders].iter().map(|activity| activity.day).collect(),
        })
    }

    /// Rows in the form of the wire, under a number of the receiver's.
    pub fn pack(&self, number: RoomNumber, rows: &[(Header, Bytes)]) -> Option<Entries> {
        let log = self.log.as_ref()?;
        let senders: Vec<Pseudonym> = log.senders.iter().map(|sender| sender.pseudonym).collect();
        kith_protocol::log::pack::pack(number, log.created, rows, &senders, |who| log.index_of(who)).ok()
    }
}
