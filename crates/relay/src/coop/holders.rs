//! Which holder a room is taken from: its hub where there is a link to it, else any co-op that says it has more. Holders
//! tell each other how far they have what both hold, whenever a link comes up and whenever a room gets another hub.

use kith_protocol::codec;
use kith_protocol::ids::{CoopName, Millis, Pseudonym, RoomId, RoomNumber, Seq, Term};
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::Attestation;

use super::machine::Coop;
use crate::room::{Extent, Room};

/// How long a mirror waits before it asks again for what it could not take, milliseconds.
const REFOLLOW_MS: u64 = 2_000;

impl Coop {
    /// Asks a room's hub for everything after what is at hand.
    pub(super) fn follow_room(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        let hub = room.hub.name.clone();
        let is_no_use = !self.links_up.contains_key(&hub) || self.is_served_without_hub(number);
        let from_other = self.following.get(&number).filter(|holder| **holder != hub && is_no_use).cloned();
        self.follow_from(&from_other.unwrap_or(hub), number);
    }

    /// Asks a holder. Whoever was asked before is asked no longer.
    pub(super) fn follow_from(&mut self, holder: &CoopName, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        let (id, from, term) = (room.id, Seq(room.size()), room.term());
        if *holder == self.me.name || !self.neighbours.covers(holder, &id, self.wall) {
            return;
        }
        let before = self.following.insert(number, holder.clone()).filter(|before| before != holder);
        if let Some((connection, link)) = before.and_then(|before| self.link_to(&before)) {
            link.unfollow(number);
            self.pump_link(connection);
        }
        if let Some((connection, link)) = self.link_to(holder) {
            link.follow(number, id, from, term);
            self.pump_link(connection);
        }
    }

    /// While a room comes from the beginning, for a join that has its place, hubs of its past go by: they order nothing any
    /// more.
    pub(super) fn has_hub_of_the_past(&self, room: &Room) -> bool {
        let is_ahead = room.log().is_some() && self.following.get(&room.number).is_some_and(|holder| room.is_ahead(holder));
        is_ahead && self.outbox.has_ordered(room.number, |entry| entry.kind == Kind::Commit && !room.is_member(&entry.id.sender))
    }

    /// Whether a room's log, as far as it is here, has entries by that pseudonym.
    pub(super) fn is_logged(&self, room: &RoomId, who: &Pseudonym) -> bool {
        let room = self.room_numbers.get(room).and_then(|number| self.rooms.get(number));
        room.and_then(Room::log).is_some_and(|log| log.index_of(who).is_some())
    }

    pub(super) fn refollow_later(&mut self, number: RoomNumber) {
        self.refollow.insert(number, Millis(self.now.0 + REFOLLOW_MS));
    }

    /// Whether a co-op may be sent a room as it grows: it has members in it, or a vote.
    pub(super) fn may_hold(&self, number: RoomNumber, peer: &CoopName) -> bool {
        self.end_for(number, peer) == u64::MAX
    }

    /// How far a co-op may be sent a room: not at all if what was agreed with it does not cover the room.
    pub(super) fn end_for(&self, number: RoomNumber, peer: &CoopName) -> u64 {
        let room = self.rooms.get(&number).filter(|room| self.neighbours.covers(peer, &room.id, self.wall));
        room.and_then(|room| room.log()).map_or(0, |log| log.end_for(peer))
    }

    /// Tells a neighbour how far this co-op has the rooms that both hold.
    pub(super) fn tell_status(&mut self, peer: &CoopName) {
        let shared: Vec<RoomNumber> = self.rooms.keys().filter(|number| self.may_hold(**number, peer)).copied().collect();
        for number in shared {
            self.tell_status_to(peer, number);
            self.tell_proof(peer, number);
        }
    }

    /// Tells every holder of a room how far this co-op has it.
    pub(super) fn tell_status_of(&mut self, number: RoomNumber) {
        let peers: Vec<CoopName> = self.links_up.keys().filter(|peer| self.may_hold(number, peer)).cloned().collect();
        peers.iter().for_each(|peer| self.tell_status_to(peer, number));
    }

    /// The peer may hold it.
    pub(super) fn tell_status_to(&mut self, peer: &CoopName, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        let (id, mine, word) = (room.id, room.extent(), room.word_for(peer));
        if let Some((connection, link)) = self.link_to(peer) {
            link.status(id, mine.term, mine.size, mine.fence, word);
            self.pump_link(connection);
        }
    }

    /// A holder asks with a term that this log never had: what it has since that term began is nobody else's, and no entry
    /// that is sent could tell it so.
    pub(super) fn tell_orphan(&mut self, peer: &CoopName, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        let Some(succession) = room.log().map(|log| log.succession.clone()) else { return };
        let (id, term, size) = (room.id, room.term(), room.durable());
        if let Some((connection, link)) = self.link_to(peer) {
            link.status_with(id, term, size, succession);
            self.pump_link(connection);
        }
    }

    /// The term here is one that no other holder has: the log goes back to where all agree, and on from there.
    pub(super) fn orphaned(&mut self, number: RoomNumber, body: &[u8]) {
        let Some(log) = self.rooms.get(&number).and_then(Room::log) else { return };
        let Ok(record) = codec::decode_succession(body) else { return };
        let is_of_room = self.room_numbers.get(&record.room) == Some(&number);
        let is_newer = is_of_room && record.term > log.term && record.chosen().is_some_and(|last| last.checkpoint.term < log.term);
        if is_newer && record.verify_signatures(|name| log.coop_key(name)).is_ok() {
            self.rebuild(number, record);
        }
    }

    /// A holder says how far it has a room. `word`: what the room's hub signed of that.
    pub(super) fn status_came(&mut self, peer: &CoopName, id: &RoomId, theirs: Extent, word: Option<&Attestation>) {
        let Extent { term, size, .. } = theirs;
        if self.repair_from(peer, id, theirs) {
            return;
        }
        let Some(number) = self.room_numbers.get(id).copied() else { return };
        if let Some(room) = self.rooms.get_mut(&number).filter(|room| room.log().is_none()) {
            // A member of ours is joining: what it says is how far the log will go.
            return room.compare(peer, theirs, word);
        }
        if !self.may_hold(number, peer) {
            return self.tell_stranger(peer, number, term);
        }
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if size == 0 && term > room.term() {
            return self.disowned(number, peer);
        }
        let was_settled = room.is_settled();
        room.compare(peer, theirs, word);
        let (mine, is_hub, hub) = ((room.term(), room.durable()), room.is_hub(), room.hub.name.clone());
        let (my_term, my_size) = mine;
        let settles = !was_settled && room.is_settled();
        if !is_hub && term == my_term && size > my_size {
            self.standstill.wait(number, self.now);
        }
        let hub_is_away = !self.links_up.contains_key(&hub) || self.is_served_without_hub(number);
        if term > my_term || (term == my_term && size > my_size && (is_hub || hub_is_away)) {
            // Who is asked already, and says so again, is not asked again at once: it may be what it says that helps.
            if self.following.get(&number) == Some(peer) || self.rebuilds.contains_key(&number) {
                return self.refollow_later(number);
            }
            return self.follow_from(peer, number);
        }
        if term < my_term {
            self.tell_status_to(peer, number);
        }
        if *peer == hub && !hub_is_away && self.following.get(&number).is_some_and(|holder| *holder != hub) {
            // It was no use for a while, and the room was taken from another holder.
            self.follow_room(number);
            self.attest_again(number);
        }
        if settles {
            self.settled(number);
        }
    }

    pub(super) fn tick_settling(&mut self) {
        if self.settle_until.take_if(|until| *until <= self.now).is_some() {
            let rooms: Vec<RoomNumber> = self.rooms.keys().copied().collect();
            for number in rooms {
                let Some(room) = self.rooms.get_mut(&number).filter(|room| !room.is_restored()) else { continue };
                let was_settled = room.is_settled();
                room.end_wait();
                if !was_settled && room.is_settled() {
                    self.settled(number);
                }
            }
        }
    }

    /// This co-op has compared a room with the others since its start: it says what it holds, and a hub goes on ordering.
    pub(super) fn settled(&mut self, number: RoomNumber) {
        self.restored_settled(number);
        self.attest_again(number);
        self.announce_certificate(number);
        self.answer_watches(number);
        self.order_pending(number);
    }

    /// Whoever names a room was shown it: it hears that a term has ended in which it had no part that counts.
    pub(super) fn tell_stranger(&mut self, peer: &CoopName, number: RoomNumber, term: Term) {
        let Some(room) = self.rooms.get(&number).filter(|room| room.term() > term) else { return };
        let (id, term) = (room.id, room.term());
        let is_covered = self.neighbours.covers(peer, &id, self.wall);
        if is_covered
            && self.end_for(number, peer) == 0
            && let Some((connection, link)) = self.link_to(peer)
        {
            link.status(id, term, 0, Term(0), None);
            self.pump_link(connection);
        }
    }

    /// The hub may have been away when this mirror's newest mark was sent.
    pub(super) fn attest_again(&mut self, number: RoomNumber) {
        let (root, wall) = (self.secrets.root.clone(), self.wall);
        let Some(room) = self.rooms.get_mut(&number) else { return };
        let size = room.durable();
        if let Some(mark) = room.committed(&root, wall, size) {
            self.attest_to_hub(number, size, Some(mark));
        }
    }

    /// This co-op orders the room now: what its own members had handed in for another hub gets its place.
    pub(super) fn order_pending(&mut self, number: RoomNumber) {
        if !self.rooms.get(&number).is_some_and(|room| room.orders()) {
            return;
        }
        let me = self.me.clone();
        let mut waiting = self.outbox.take_all(number).into_iter();
        while let Some(submission) = waiting.next() {
            let id = submission.id;
            let Some(room) = self.rooms.get_mut(&number) else { return };
            match room.order(self.wall, &me, &submission) {
                Ok(_) => {
                    self.touched(number);
                    self.write(kith_storage::Write::DropPending { room: number, id });
                }
                Err(error) if error.code().is_transient() => {
                    // Whatever its sender handed in after it waits with it: counters have no gaps.
                    self.outbox.restore_one(number, submission);
                    waiting.by_ref().for_each(|later| self.outbox.restore_one(number, later));
                    self.resubmit_later();
                }
                Err(error) => {
                    self.outbox.restore_one(number, submission);
                    waiting.by_ref().for_each(|later| self.outbox.restore_one(number, later));
                    self.drop_refused(number, &id, error.code(), &error.to_string());
                    waiting = self.outbox.take_all(number).into_iter();
                }
            }
        }
    }
}
