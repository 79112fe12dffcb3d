//! A hub that is there and gets nothing done: it keeps its link, and a room does not grow although entries wait for it, or
//! although others have more. Its members are served all the same, the log is taken from others, and in the end the voters
//! seat another hub.
//!
//! A voter with nothing to hand in cannot see the difference between a hub that refuses and a quiet room. It believes
//! another voter that says so by asking for its vote, if it has seen nothing grow either; once in a while only.

use std::collections::{BTreeMap, BTreeSet};

use kith_protocol::error::Code;
use kith_protocol::ids::{Millis, RoomNumber};
use kith_protocol::limits::HUB_SILENCE_MS;

use super::machine::Coop;

/// After this time members are served without the hub, milliseconds.
const SERVED_AFTER_MS: u64 = HUB_SILENCE_MS / 4;
/// How seldom a voter gives up a hub that it hears itself because another voter asks for it, milliseconds.
const PERSUADED_EVERY_MS: u64 = 600_000;

#[derive(Debug, Default)]
pub struct Standstill {
    /// Since when something has been waiting in a room that did not grow.
    since: BTreeMap<RoomNumber, Millis>,
    /// When a room grew last, in this run.
    grown: BTreeMap<RoomNumber, Millis>,
    persuaded: BTreeMap<RoomNumber, Millis>,
    /// Rooms in which members have been shown what waits.
    served: BTreeSet<RoomNumber>,
}

impl Standstill {
    /// Something waits, from now on if nothing did.
    pub fn wait(&mut self, room: RoomNumber, now: Millis) {
        self.since.entry(room).or_insert(now);
    }

    /// `is_waiting`: for more.
    pub fn grow(&mut self, room: RoomNumber, now: Millis, is_waiting: bool) {
        self.grown.insert(room, now);
        self.end(room);
        if is_waiting {
            self.wait(room, now);
        }
    }

    pub fn end(&mut self, room: RoomNumber) {
        self.since.remove(&room);
        self.served.remove(&room);
    }

    pub fn forget(&mut self, room: RoomNumber) {
        self.end(room);
        self.grown.remove(&room);
        self.persuaded.remove(&room);
    }

    fn has_lasted(&self, room: RoomNumber, now: Millis, for_ms: u64) -> bool {
        self.since.get(&room).is_some_and(|since| now.0 >= since.0 + for_ms)
    }

    /// When a room has stood still for so long that its members are to be served otherwise, or that it is to get another hub.
    pub fn poll_deadline(&self, now: Millis) -> Option<Millis> {
        let steps = |since: &Millis| [SERVED_AFTER_MS, HUB_SILENCE_MS].map(|step| Millis(since.0 + step));
        self.since.values().flat_map(steps).filter(|at| *at > now).min()
    }
}

impl Coop {
    /// Whether the room's hub, be there a link to it or not, has got nothing done for its members here for so long.
    pub(super) fn stands_still(&self, number: RoomNumber, for_ms: u64) -> bool {
        self.standstill.has_lasted(number, self.now, for_ms)
    }

    pub(super) fn is_served_without_hub(&self, number: RoomNumber) -> bool {
        self.stands_still(number, SERVED_AFTER_MS)
    }

    /// The hub said no for now. What the agreement says is no standstill.
    pub(super) fn put_off_by_hub(&mut self, number: RoomNumber, code: Code) {
        if matches!(code, Code::RateLimited | Code::NoAgreement) {
            self.standstill.end(number);
        }
    }

    pub(super) fn tick_standstill(&mut self) {
        let waiting = self.standstill.since.keys().copied();
        let late: Vec<RoomNumber> = waiting.filter(|number| self.is_served_without_hub(*number)).collect();
        for number in late {
            if self.standstill.served.insert(number) {
                let to = self.subscribers.get(&number).cloned().unwrap_or_default();
                self.deliver_waiting(number, &to);
                let other = self.rooms.get(&number).and_then(|room| room.who_has_more(|peer| self.links_up.contains_key(peer)));
                other.into_iter().for_each(|other| self.follow_from(&other, number));
            }
            if !self.stands_still(number, HUB_SILENCE_MS) {
                continue;
            }
            if !self.elections.is_waiting_for_hub(number) {
                self.watch_hub(number, 0);
            }
        }
    }

    /// Whether this co-op, which hears the hub, believes another voter that it gets nothing done.
    pub(super) fn may_be_persuaded(&self, number: RoomNumber) -> bool {
        let is_over = |at: Option<&Millis>, for_ms: u64| at.is_none_or(|at| self.now.0 >= at.0 + for_ms);
        let has_run_for = self.now.0 >= HUB_SILENCE_MS;
        let is_quiet = has_run_for && is_over(self.standstill.grown.get(&number), HUB_SILENCE_MS / 2);
        is_quiet && is_over(self.standstill.persuaded.get(&number), PERSUADED_EVERY_MS)
    }

    pub(super) fn was_persuaded(&mut self, number: RoomNumber) {
        self.standstill.persuaded.insert(number, self.now);
    }
}
