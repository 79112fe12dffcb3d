//! A store that was put back from a backup. Its steward says so, or others show this co-op its own signatures over what it
//! does not have. All rooms lack something from then on, each until it has been compared with others
//! ([`crate::room::Room::is_restored`]); what this co-op numbers by itself goes on from where it cannot have been before.

use kith_protocol::error::Code;
use kith_protocol::ids::{CoopName, Millis, RoomNumber};
use kith_protocol::limits::RESTORED_WAIT_MS;
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::Attestation;
use kith_storage::Write;

use super::machine::Coop;
use super::members::No;
use super::waiting::After;

impl Coop {
    /// The wall's seconds count incarnations: two restores of one backup have two numbers.
    pub(super) fn begin_incarnation(&mut self) {
        self.incarnation = self.wall.0.max(self.incarnation + 1);
        tracing::warn!(incarnation = self.incarnation, "this co-op was put back from a backup; its rooms are compared with others' copies");
        self.write(Write::BeginIncarnation { number: self.incarnation });
        self.rooms.values_mut().for_each(crate::room::Room::mark_restored);
        self.number_on();
        self.restored_until = Some(Millis(self.now.0 + RESTORED_WAIT_MS));
        self.after.push(After::Restored);
    }

    /// Numbers that this co-op gave after the backup was made are not given again.
    pub(super) fn number_on(&mut self) {
        self.next_device = self.next_device.max(self.incarnation);
        self.next_room = self.next_room.max(u32::try_from(self.incarnation).unwrap_or(u32::MAX));
    }

    /// The neighbours hear of it, and say what they have: each link begins anew.
    pub(super) fn announce_incarnation(&mut self) {
        let connections: Vec<_> = self.links.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.close_link(connection));
    }

    /// What a neighbour shows may be this co-op's own word that it does not know of.
    pub(super) fn look_for_loss(&mut self, number: RoomNumber, word: &Attestation) {
        let Some(room) = self.rooms.get(&number).filter(|room| !room.is_restored()) else { return };
        // A room that is joined anew comes from its beginning: what was signed of an earlier copy is no loss.
        let is_joined_anew = self.outbox.has_ordered(number, |entry| entry.kind == Kind::Commit && !room.is_member(&entry.id.sender));
        if !is_joined_anew && room.has_forgotten(word) {
            tracing::warn!(room = number.0, size = word.checkpoint.size, "this co-op signed more of a room than it has");
            self.begin_incarnation();
        }
    }

    pub(super) fn look_for_lost_vote(&mut self, number: RoomNumber) {
        if self.rooms.get(&number).is_some_and(|room| !room.is_restored() && room.has_forgotten_vote()) {
            tracing::warn!(room = number.0, "this co-op voted and does not know of it");
            self.begin_incarnation();
        }
    }

    /// The room has been compared with others' copies. A hub goes on in another term; to anybody else it is as before.
    pub(super) fn restored_settled(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number).filter(|room| room.is_restored() && room.has_settled()) else { return };
        if room.begins_anew() { self.stand(number) } else { self.refilled(number) }
    }

    pub(super) fn refilled(&mut self, number: RoomNumber) {
        if let Some(room) = self.rooms.get_mut(&number).filter(|room| room.is_restored()) {
            tracing::info!(room = number.0, size = room.size(), "the room is refilled");
            room.refilled();
            self.write(Write::PutRefilled { room: number });
        }
    }

    /// Rooms that wait for nobody's word, and those that have waited long enough.
    pub(super) fn tick_restored(&mut self) {
        if self.restored_until.is_none() {
            return;
        }
        let is_over = self.restored_until.take_if(|until| *until <= self.now).is_some();
        let restored: Vec<RoomNumber> =
            self.rooms.iter().filter(|(_, room)| room.is_restored() && !room.has_settled()).map(|(number, _)| *number).collect();
        for number in restored {
            let Some(room) = self.rooms.get_mut(&number) else { continue };
            if is_over {
                room.end_wait();
            }
            room.settle();
            if room.has_settled() {
                self.settled(number);
            }
        }
    }

    /// A no for what a log shows, or lacks. While it lacks what came after a backup, that is no final no: others have it, or
    /// the device itself.
    pub(super) fn unless_restored(&self, number: RoomNumber, no: No) -> No {
        match self.rooms.get(&number) {
            Some(room) if !room.is_restored() => no,
            None if !self.damaged.contains_key(&number) => no,
            _ => (Code::Busy, "your co-op was put back from a backup, and asks its neighbours for what it lacks".to_owned()),
        }
    }

    pub(super) fn note_incarnation(&mut self, name: &CoopName, incarnation: u64) {
        let Some(neighbour) = self.neighbours.get_mut(name) else { return };
        let known = neighbour.link.incarnation.replace(incarnation);
        if known.is_some_and(|known| known < incarnation) {
            tracing::warn!(neighbour = %name, incarnation, "a neighbour was put back from a backup");
        }
    }
}
