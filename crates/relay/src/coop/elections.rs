//! Seating another hub: who calls for votes and when, who gives one, and what becomes of a majority.
//!
//! ```text
//! hub silent ──▶ probe ──(majority willing)──▶ own vote, fsynced ──▶ call ──(majority)──▶ catch up to the greatest
//!                                                                                          (term, size) ──▶ first entry
//! ```
//!
//! The probe keeps a voter that merely lost its own link from unseating a hub that everybody else can reach: a vote
//! fences its giver off from the old term, so votes are asked for only where a majority would give one.

use std::collections::BTreeMap;

use kith_protocol::ids::{Coop as CoopId, CoopName, Millis, RoomId, RoomNumber, Term};
use kith_protocol::judge::RoomFacts;
use kith_protocol::limits::{CANDIDACY_MS, HUB_SILENCE_MS, TERM_STEPS_MAX, TERMS_MAX};
use kith_protocol::log::succession::{Succession, Vote};
use kith_storage::Write;

use super::machine::Coop;
use super::waiting::After;
use crate::room::Room;

/// Between two voters' first calls, milliseconds: so that one has a majority before the next asks.
const RANK_MS: u64 = 1_000;
/// A hub that was heard for so long on one link works, milliseconds.
const HUB_STEADY_MS: u64 = 10_000;
/// A hub begins another term for a voter that has shut itself off at most this often in a room, milliseconds: terms are
/// bounded, and a voter can claim that at any time.
const RENEW_EVERY_MS: u64 = 600_000;

/// This co-op's attempt to become the hub of a room.
#[derive(Debug)]
struct Candidacy {
    term: Term,
    until: Millis,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Probing(Vec<CoopName>),
    Calling(Vec<Vote>),
    /// A majority has voted; what the longest of their logs has is being fetched from that voter.
    Fetching(Succession),
}

#[derive(Debug, Default)]
pub struct Elections {
    /// Since when a co-op that orders rooms has got nothing done for this one. A link that comes up ends it only once it has
    /// carried something, or has lasted: a hub that falls over after each greeting is as good as gone.
    silent: BTreeMap<CoopName, Millis>,
    /// When this co-op last began a term of a room.
    renewed: BTreeMap<RoomNumber, Millis>,
    candidacies: BTreeMap<RoomNumber, Candidacy>,
    /// Rooms in which this co-op waits for a hub, and when it calls for votes itself.
    due: BTreeMap<RoomNumber, Millis>,
}

impl Elections {
    pub fn forget(&mut self, room: RoomNumber) {
        self.candidacies.remove(&room);
        self.due.remove(&room);
        self.renewed.remove(&room);
    }

    /// Whether this co-op will call for votes there, or does so already.
    pub fn is_waiting_for_hub(&self, room: RoomNumber) -> bool {
        self.due.contains_key(&room) || self.candidacies.contains_key(&room)
    }

    pub fn poll_deadline(&self) -> Option<Millis> {
        self.due.values().copied().chain(self.candidacies.values().map(|candidacy| candidacy.until)).min()
    }
}

impl Coop {
    /// No link to that co-op, from now on (or since this start). On the last one it was heard for so long.
    pub(super) fn hub_silent(&mut self, hub: &CoopName, heard_ms: u64) {
        let now = self.now;
        if heard_ms >= HUB_STEADY_MS {
            self.elections.silent.remove(hub);
        }
        let since = *self.elections.silent.entry(hub.clone()).or_insert(now);
        let left = HUB_SILENCE_MS.saturating_sub(now.0 - since.0);
        for number in self.rooms_of_hub(hub) {
            self.watch_hub(number, left);
        }
    }

    /// It has ordered something, or sent what it ordered.
    pub(super) fn hub_works(&mut self, hub: &CoopName) {
        self.elections.silent.remove(hub);
    }

    /// There is a link to it.
    pub(super) fn hub_heard(&mut self, hub: &CoopName) {
        for number in self.rooms_of_hub(hub) {
            let fenced = self.rooms.get(&number).is_some_and(|room| room.is_fenced());
            if !fenced {
                self.elections.due.remove(&number);
                self.elections.candidacies.remove(&number);
            }
        }
    }

    /// This co-op will call for votes after that time, unless the room has a hub by then. Voters take their turns; a co-op
    /// that is none asks them whether they have seated another.
    pub(super) fn watch_hub(&mut self, number: RoomNumber, wait_ms: u64) {
        let Some(room) = self.rooms.get(&number).filter(|room| room.log().is_some()) else { return };
        let hub = room.hub.name.clone();
        let names = room.electorate().map(|voters| voters.after.names).unwrap_or_default();
        let mut others: Vec<&CoopName> = names.iter().filter(|name| **name != hub).collect();
        others.sort_unstable();
        let rank = others.iter().position(|name| **name == self.me.name).unwrap_or(others.len()) as u64;
        self.elections.due.insert(number, Millis(self.now.0 + wait_ms + rank * RANK_MS));
    }

    pub(super) fn tick_elections(&mut self) {
        let now = self.now;
        let late: Vec<RoomNumber> =
            self.elections.candidacies.iter().filter(|(_, candidacy)| candidacy.until <= now).map(|(room, _)| *room).collect();
        for number in late {
            self.elections.candidacies.remove(&number);
            self.watch_hub(number, CANDIDACY_MS);
        }
        let due: Vec<RoomNumber> = self.elections.due.iter().filter(|(_, at)| **at <= now).map(|(room, _)| *room).collect();
        for number in due {
            self.elections.due.remove(&number);
            self.stand(number);
        }
    }

    fn has_lost_hub(&self, number: RoomNumber, for_ms: u64) -> bool {
        let Some(room) = self.rooms.get(&number) else { return false };
        let is_away = !self.links_up.contains_key(&room.hub.name);
        let silent = self.elections.silent.get(&room.hub.name).is_some_and(|since| self.now.0 >= since.0 + for_ms);
        (is_away && silent) || self.stands_still(number, for_ms) || room.is_fenced() || room.is_frozen() || room.begins_anew()
    }

    /// This co-op offers itself as hub.
    pub(super) fn stand(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        if !self.has_lost_hub(number, HUB_SILENCE_MS) || self.elections.candidacies.contains_key(&number) {
            return;
        }
        if !room.may_order() {
            self.tell_status_of(number);
            return self.watch_hub(number, HUB_SILENCE_MS);
        }
        if !room.is_settled() || room.last_checkpoint().is_none() {
            return self.watch_hub(number, CANDIDACY_MS);
        }
        let term = room.next_term(self.incarnation);
        tracing::info!(room = number.0, term = term.0, "the room needs a hub; asking the other voters");
        self.probe(number, term);
    }

    fn probe(&mut self, number: RoomNumber, term: Term) {
        let until = Millis(self.now.0 + CANDIDACY_MS);
        self.elections.candidacies.insert(number, Candidacy { term, until, step: Step::Probing(vec![self.me.name.clone()]) });
        self.call(number, term, true);
        self.count_willing(number);
    }

    fn call(&mut self, number: RoomNumber, term: Term, probe: bool) {
        let me = self.me.clone();
        self.call_for(number, term, &me, probe);
    }

    fn call_for(&mut self, number: RoomNumber, term: Term, candidate: &CoopId, probe: bool) {
        let Some(room) = self.rooms.get(&number) else { return };
        let (id, names) = (room.id, room.electorate().map(|voters| voters.names()).unwrap_or_default());
        for name in names {
            if !self.neighbours.covers(&name, &id, self.wall) {
                continue;
            }
            if let Some((connection, link)) = self.link_to(&name) {
                link.call(id, term, candidate.clone(), probe);
                self.pump_link(connection);
            }
        }
    }

    fn count_willing(&mut self, number: RoomNumber) {
        let Some(voters) = self.rooms.get(&number).and_then(|room| room.electorate()) else { return };
        let Some(candidacy) = self.elections.candidacies.get_mut(&number) else { return };
        if let Step::Probing(willing) = &candidacy.step
            && voters.seats(willing.iter())
        {
            candidacy.step = Step::Calling(Vec::new());
            let term = candidacy.term;
            let me = self.me.clone();
            self.vote_for(number, term, me);
        }
    }

    /// From now on nothing of older terms is taken; the vote itself is signed once all that was decided is durable.
    fn vote_for(&mut self, number: RoomNumber, term: Term, candidate: CoopId) {
        if self.is_full() {
            return;
        }
        if let Some(room) = self.rooms.get_mut(&number) {
            room.fence(term);
            self.after.push(After::CastVote { room: number, term, candidate });
        }
    }

    pub(super) fn cast_vote(&mut self, number: RoomNumber, term: Term, candidate: CoopId) {
        let root = self.secrets.root.clone();
        let Some(room) = self.rooms.get_mut(&number) else { return };
        let Some(vote) = room.cast(&root, term, candidate) else { return };
        self.write(Write::PutVote { room: number, vote: kith_protocol::codec::encode_vote(&vote) });
        self.after.push(After::SendVote { room: number });
    }

    pub(super) fn send_vote(&mut self, number: RoomNumber) {
        let Some(vote) = self.rooms.get(&number).and_then(|room| room.vote()).cloned() else { return };
        // Whoever voted and hears of no hub calls for votes itself.
        self.watch_hub(number, 2 * CANDIDACY_MS);
        // Whoever compares with this co-op knows of the vote before anybody has it.
        self.tell_status_of(number);
        if vote.candidate.name == self.me.name {
            let term = vote.term;
            self.vote_came(vote);
            return self.call(number, term, false);
        }
        let candidate = vote.candidate.name.clone();
        if !self.neighbours.covers(&candidate, &vote.room, self.wall) {
            return;
        }
        if let Some((connection, link)) = self.link_to(&candidate) {
            link.vote(vote);
            self.pump_link(connection);
        }
    }

    /// The number of a room, if traffic about it may flow between that neighbour and this co-op.
    fn covered_room(&self, peer: &CoopName, id: &RoomId) -> Option<RoomNumber> {
        self.room_numbers.get(id).copied().filter(|_| self.neighbours.covers(peer, id, self.wall))
    }

    /// A neighbour stands, or the hub itself hands the room over.
    pub(super) fn call_came(&mut self, peer: &CoopName, id: &RoomId, term: Term, candidate: CoopId, probe: bool) {
        let Some(number) = self.covered_room(peer, id) else { return };
        let Some(room) = self.rooms.get(&number).filter(|room| room.electorate().is_some_and(|voters| voters.counts(peer))) else { return };
        let is_from_hub = room.hub.name == *peer && !room.is_hub();
        let is_good = room
            .log()
            .is_some_and(|log| log.context.voters.may_order(&candidate.name) && log.coop_key(&candidate.name) == Some(candidate.key))
            && (candidate.name == *peer || is_from_hub)
            && !room.has_convicted(&candidate);
        let counts = room.electorate().is_some_and(|voters| voters.counts(&self.me.name));
        // A vote must be durable; a candidate that is told nothing asks again.
        if !is_good || !counts || !room.is_settled() || self.is_full() {
            return;
        }
        if term <= room.term() {
            return self.tell_status_to(peer, number);
        }
        if term.0 > room.newest_term().0.saturating_add(TERM_STEPS_MAX) {
            // Terms are bounded: nobody uses them up with one word.
            tracing::warn!(room = number.0, neighbour = %peer, term = term.0, "a voter asks for a term that is far away");
            return;
        }
        let has_terms_left = room.log().is_some_and(|log| log.ended.len() < TERMS_MAX / 2);
        if probe && candidate.name == *peer && room.orders() && room.is_fenced_at(peer) && has_terms_left {
            // A voter that asks while its hub is there has voted, and shut itself off with that: nobody else did. It takes
            // the hub back in a newer term, which the others give it gladly.
            return self.renew(number, term);
        }
        let voted_otherwise = room.newest_term() > term || room.vote().is_some_and(|vote| vote.term == term && vote.candidate != candidate);
        // A hub that is heard stays while it gets something done: it steps down by its own steward's act only, or to a majority
        // of the others.
        let has_lost = self.has_lost_hub(number, HUB_SILENCE_MS / 2) || is_from_hub;
        if voted_otherwise || !(has_lost || self.may_be_persuaded(number)) {
            return;
        }
        if probe {
            if let Some((connection, link)) = self.link_to(peer) {
                link.willing(*id, term);
                self.pump_link(connection);
            }
        } else {
            self.elections.candidacies.remove(&number);
            if !has_lost {
                self.was_persuaded(number);
            }
            if candidate.name == self.me.name {
                // The hub hands the room over to this co-op.
                let until = Millis(self.now.0 + CANDIDACY_MS);
                self.elections.candidacies.insert(number, Candidacy { term, until, step: Step::Calling(Vec::new()) });
            }
            self.vote_for(number, term, candidate);
        }
    }

    fn renew(&mut self, number: RoomNumber, asked: Term) {
        let Some(newest) = self.rooms.get(&number).map(Room::newest_term) else { return };
        let is_early = self.elections.renewed.get(&number).is_some_and(|at| self.now.0 < at.0 + RENEW_EVERY_MS);
        if is_early || self.elections.candidacies.contains_key(&number) {
            return;
        }
        let term = Term(newest.max(asked).0 + 1);
        tracing::info!(room = number.0, term = term.0, "a voter has shut itself off from this hub; asking for another term");
        self.probe(number, term);
    }

    pub(super) fn willing_came(&mut self, peer: &CoopName, id: &RoomId, term: Term) {
        let Some(number) = self.covered_room(peer, id) else { return };
        let Some(candidacy) = self.elections.candidacies.get_mut(&number).filter(|candidacy| candidacy.term == term) else { return };
        if let Step::Probing(willing) = &mut candidacy.step
            && !willing.contains(peer)
        {
            willing.push(peer.clone());
            self.count_willing(number);
        }
    }

    pub(super) fn vote_came(&mut self, vote: Vote) {
        let Some(number) = self.room_numbers.get(&vote.room).copied() else { return };
        let Some(room) = self.rooms.get(&number) else { return };
        let Some(log) = room.log() else { return };
        let Some(candidacy) = self.elections.candidacies.get_mut(&number) else { return };
        let Step::Calling(votes) = &mut candidacy.step else { return };
        // A checkpoint of a term that this co-op knows is that term's hub's; of a newer one the log will tell.
        let last = &vote.last;
        let is_of_hub = match last.checkpoint.term.cmp(&log.term) {
            std::cmp::Ordering::Less => {
                log.ended.iter().any(|ended| ended.checkpoint.term == last.checkpoint.term && ended.hub == last.hub)
            }
            std::cmp::Ordering::Equal => last.hub == log.hub.name,
            std::cmp::Ordering::Greater => true,
        };
        let is_for_me = vote.candidate == self.me && vote.term == candidacy.term;
        if !is_for_me
            || !is_of_hub
            || votes.iter().any(|known| known.voter == vote.voter)
            || vote.verify(|name| log.coop_key(name)).is_err()
        {
            return;
        }
        votes.push(vote);
        let record = Succession { room: room.id, term: candidacy.term, hub: self.me.clone(), votes: votes.clone() };
        if record.verify(&log.electorate(), |name| log.coop_key(name)).is_err() {
            return;
        }
        candidacy.step = Step::Fetching(record);
        candidacy.until = Millis(self.now.0 + 4 * CANDIDACY_MS);
        self.seat_if_ready(number);
    }

    /// Whether a voter that has shut itself off from the old hub still takes entries of that term: from whoever knows the
    /// newer hub; while it has not settled; and, as a candidate, what the longest log among its voters has. Else a log that
    /// goes on growing by another way would never be the one that the votes name.
    pub(super) fn still_takes(&self, number: RoomNumber, from: &CoopName, end: u64) -> bool {
        let Some(room) = self.rooms.get(&number) else { return false };
        if room.is_ahead(from) || !room.is_settled() {
            return true;
        }
        let wanted = match self.elections.candidacies.get(&number).map(|candidacy| &candidacy.step) {
            Some(Step::Fetching(record)) => record.chosen().map(|last| last.checkpoint.size),
            _ => None,
        };
        wanted.is_some_and(|size| end <= size)
    }

    /// Once this co-op has what the longest log among its voters has, it begins its term.
    pub(super) fn seat_if_ready(&mut self, number: RoomNumber) {
        let Some(Step::Fetching(record)) = self.elections.candidacies.get(&number).map(|candidacy| &candidacy.step) else { return };
        let Some(chosen) = record.chosen().map(|last| last.checkpoint).filter(|_| !self.rebuilds.contains_key(&number)) else { return };
        let record = record.clone();
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if (room.term(), room.durable()) != (chosen.term, chosen.size) || room.size() != room.durable() {
            let holder = record.votes.iter().find(|vote| vote.last.checkpoint == chosen).map(|vote| vote.voter.clone());
            if let Some(holder) = holder.filter(|holder| self.following.get(&number) != Some(holder)) {
                self.follow_from(&holder, number);
            }
            return;
        }
        self.elections.candidacies.remove(&number);
        match room.seat(self.wall, &record) {
            Ok(()) => {
                tracing::info!(room = number.0, term = record.term.0, "this co-op orders the room now");
                self.following.remove(&number);
                self.elections.renewed.insert(number, self.now);
                self.touched(number);
            }
            Err(error) => {
                tracing::error!(room = number.0, %error, "the room could not be taken over");
                self.watch_hub(number, CANDIDACY_MS);
            }
        }
    }

    /// The first entry of a term is durable here.
    pub(super) fn hub_changed(&mut self, number: RoomNumber) {
        self.standstill.end(number);
        self.elections.due.remove(&number);
        if let Some(Candidacy { step: Step::Calling(given), .. }) = self.elections.candidacies.remove(&number) {
            self.look_for_double_votes(number, &given);
        }
        self.look_for_lost_vote(number);
        let Some(room) = self.rooms.get(&number).filter(|room| !self.has_hub_of_the_past(room)) else { return };
        if room.is_restored() && (room.is_hub() || room.has_settled()) {
            // It was seated by others who know what it forgot, or it has asked them.
            self.refilled(number);
        }
        let Some(room) = self.rooms.get(&number) else { return };
        self.outbox.link_lost(&[number]);
        let hub = room.hub.name.clone();
        tracing::info!(room = number.0, term = room.term().0, %hub, "the room has another hub");
        self.tell_status_of(number);
        if hub == self.me.name {
            return self.order_pending(number);
        }
        if !self.links_up.contains_key(&hub) {
            self.hub_silent(&hub, 0);
        } else if self.following.get(&number) != Some(&hub) {
            self.follow_from(&hub, number);
        }
        self.forward(number);
    }

    /// The steward hands a room over. The hub's own vote, and its word to the other voters.
    pub(super) fn hand_over(&mut self, id: &RoomId, to: &CoopName) -> Result<(), String> {
        let number = self.room_numbers.get(id).copied().ok_or("no such room here")?;
        let room = self.rooms.get(&number).ok_or("no such room here")?;
        let log = room.log().ok_or("the room has not begun here")?;
        if !room.is_hub() {
            return Err(format!("{} orders that room now: its steward can hand it over", room.hub.name));
        }
        if !room.orders() {
            return Err(
                "the room's other voters have not been heard from yet; try again once `kithd neighbour list` shows them up".to_owned()
            );
        }
        if *to == self.me.name || !log.context.voters.may_order(to) {
            return Err("only another voter of the room can take it over; `kith room voters` lists and changes them".to_owned());
        }
        if !self.links_up.contains_key(to) {
            return Err(format!("there is no link to {to} now; try again once `kithd neighbour list` shows it up"));
        }
        if !self.neighbours.covers(to, id, self.wall) {
            return Err(format!("what was agreed with {to} leaves out that room; see `kithd neighbour show … {to}`"));
        }
        let key = log.coop_key(to).ok_or("the room's records have no key of that co-op")?;
        let candidate = CoopId { name: to.clone(), key };
        let term = Term(room.newest_term().0 + 1);
        self.vote_for(number, term, candidate.clone());
        self.call_for(number, term, &candidate, false);
        Ok(())
    }
}
