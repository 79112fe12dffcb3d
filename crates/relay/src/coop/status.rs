//! How a co-op is, for its steward: neighbours and rooms in numbers, nothing about anybody in them.

use std::collections::BTreeMap;

use kith_federation::agreement::State;
use kith_protocol::ids::{ConnectionId, Coop as CoopId, CoopName, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::proof::Proof;

use super::agreements::LinkNote;
use super::machine::Coop;
use crate::room::{Committed, Room};

#[derive(Debug, Clone)]
pub struct Status {
    /// With the root key that neighbours pin.
    pub coop: CoopId,
    /// How long this run has lasted.
    pub uptime_s: u64,
    pub now: UnixSeconds,
    /// When it was put back from a backup last, seconds since 1970; 0: never.
    pub incarnation: u64,
    pub neighbours: Vec<NeighbourStatus>,
    pub rooms: Vec<RoomStatus>,
    /// Rooms whose rows are lost or damaged on this disk.
    pub damaged: Vec<RoomId>,
}

#[derive(Debug, Clone)]
pub struct NeighbourStatus {
    pub name: CoopName,
    pub address: String,
    pub state: State,
    /// The connection of its link while that is up.
    pub connection: Option<ConnectionId>,
    pub link: LinkNote,
    /// Entries of rooms that this co-op orders which the neighbour is not known to hold.
    pub behind_entries: u64,
    /// How long the oldest of them has been there.
    pub behind_s: u64,
    /// Entries of members here that wait for the neighbour to order them.
    pub waiting_entries: u64,
    /// Frames' bytes over the link that is up; the driver fills them in.
    pub bytes: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
pub struct RoomStatus {
    pub room: RoomId,
    pub number: RoomNumber,
    pub is_hub: bool,
    pub hub: CoopName,
    pub size: u64,
    /// `None`: no entry has come yet.
    pub term: Option<Term>,
    pub certified: u64,
    /// Entries of members here that wait for the hub.
    pub pending: u64,
    /// How far each co-op is known to hold the log.
    pub held: BTreeMap<CoopName, u64>,
    /// Why nothing more is taken in this term.
    pub frozen: Option<Proof>,
    /// It was put back from a backup, and has not been compared with others' copies yet.
    pub is_restored: bool,
}

/// Since when neighbours have been behind in a room.
pub(super) type Behind = BTreeMap<(CoopName, RoomNumber), UnixSeconds>;

fn held_by(room: &Room, name: &CoopName) -> u64 {
    room.ledger().held().find(|(holder, _)| *holder == name).map_or(0, |(_, size)| size)
}

impl Coop {
    /// A room of this co-op's has grown: who had all of it before is behind from now on.
    pub(super) fn note_growth(&mut self, committed: &Committed) {
        let Some(room) = self.rooms.get(&committed.room).filter(|room| room.is_hub()) else { return };
        let (Some(log), Some((first, _))) = (room.log(), committed.rows.first()) else { return };
        for name in self.neighbours.keys().filter(|name| log.coop_key(name).is_some()) {
            let key = (name.clone(), committed.room);
            if Seq(held_by(room, name)) >= first.seq {
                self.behind.insert(key, first.time);
            } else {
                self.behind.entry(key).or_insert(first.time);
            }
        }
    }

    /// Entries that a neighbour lacks in the rooms that this co-op orders, and for how long the oldest.
    fn behind(&self, name: &CoopName) -> (u64, u64) {
        let mirrored = |room: &&Room| room.is_hub() && room.log().is_some_and(|log| log.end_for(name) == u64::MAX);
        self.rooms.values().filter(mirrored).fold((0, 0), |(entries, seconds), room| {
            let lacks = room.durable().saturating_sub(held_by(room, name));
            // After a restart nobody remembers since when: the last entry is the least.
            let last = room.log().map_or(self.wall, |log| log.last_time);
            let since = self.behind.get(&(name.clone(), room.number)).copied().unwrap_or(last);
            let age = if lacks == 0 { 0 } else { self.wall.0.saturating_sub(since.0) };
            (entries + lacks, seconds.max(age))
        })
    }

    pub(super) fn status(&self) -> Status {
        let neighbours = self.neighbours.values().map(|neighbour| {
            let name = &neighbour.coop.name;
            let (behind_entries, behind_s) = self.behind(name);
            let waiting = self.rooms_of_hub(name).into_iter().map(|room| self.outbox.len(room) as u64).sum();
            NeighbourStatus {
                name: name.clone(),
                address: neighbour.address.clone(),
                state: neighbour.pact.state(self.wall),
                connection: self.links_up.get(name).copied(),
                link: neighbour.link.clone(),
                behind_entries,
                behind_s,
                waiting_entries: waiting,
                bytes: None,
            }
        });
        let rooms = self.rooms.values().map(|room| RoomStatus {
            room: room.id,
            number: room.number,
            is_hub: room.is_hub(),
            hub: room.hub.name.clone(),
            size: room.durable(),
            term: room.log().map(|log| log.term),
            certified: room.certified_size(),
            pending: self.outbox.len(room.number) as u64,
            held: room.ledger().held().map(|(name, size)| (name.clone(), size)).collect(),
            frozen: room.proof().filter(|_| room.is_frozen()).cloned(),
            is_restored: room.is_restored(),
        });
        Status {
            coop: self.secrets.identity.coop(&self.me.name),
            uptime_s: self.now.0 / 1_000,
            now: self.wall,
            incarnation: self.incarnation,
            neighbours: neighbours.collect(),
            rooms: rooms.collect(),
            damaged: self.damaged.values().map(|row| row.id).collect(),
        }
    }
}
