//! Whose turn it is on a link: few rooms at a time have batches under way to a neighbour, the others wait in line. So what
//! is queued for a link is bounded however many rooms two co-ops share, and a long log does not keep the short ones waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kith_protocol::ids::{CoopName, RoomNumber};
use kith_protocol::limits::LINK_ROOMS_IN_FLIGHT_MAX;

use super::machine::Coop;

#[derive(Debug, Default)]
pub struct Turns {
    /// Rooms with batches under way, or being read for one.
    busy: BTreeMap<CoopName, BTreeSet<RoomNumber>>,
    waiting: BTreeMap<CoopName, VecDeque<RoomNumber>>,
    /// The same rooms, to be found.
    known: BTreeSet<(CoopName, RoomNumber)>,
}

impl Turns {
    fn wait(&mut self, peer: &CoopName, room: RoomNumber) {
        if self.known.insert((peer.clone(), room)) {
            self.waiting.entry(peer.clone()).or_default().push_back(room);
        }
    }

    fn next(&mut self, peer: &CoopName) -> Option<RoomNumber> {
        let room = self.waiting.get_mut(peer)?.pop_front()?;
        self.known.remove(&(peer.clone(), room));
        Some(room)
    }

    fn has_waiting(&self, peer: &CoopName) -> bool {
        self.waiting.get(peer).is_some_and(|waiting| !waiting.is_empty())
    }

    /// The link is gone, and every feed with it.
    pub fn forget(&mut self, peer: &CoopName) {
        self.busy.remove(peer);
        self.waiting.remove(peer);
        self.known.retain(|(name, _)| name != peer);
    }
}

impl Coop {
    fn is_under_way(&self, peer: &CoopName, number: RoomNumber) -> bool {
        self.feeds.get(&(peer.clone(), number)).is_some_and(|feed| feed.reading || !feed.in_flight.is_empty())
    }

    /// Whether a batch of that room may go to that neighbour now; if not, it waits for its turn.
    pub(super) fn may_feed(&mut self, peer: &CoopName, number: RoomNumber) -> bool {
        let busy = self.turns.busy.get(peer).cloned().unwrap_or_default();
        let mut still: BTreeSet<RoomNumber> = busy.into_iter().filter(|room| self.is_under_way(peer, *room)).collect();
        let may = still.contains(&number) || still.len() < LINK_ROOMS_IN_FLIGHT_MAX;
        if may {
            still.insert(number);
        } else {
            self.turns.wait(peer, number);
        }
        self.turns.busy.insert(peer.clone(), still);
        may
    }

    /// A mirror has what was under way of a room: who waits is next, and the room goes to the end of the line.
    pub(super) fn pass_turn(&mut self, peer: &CoopName, number: RoomNumber) {
        if self.is_under_way(peer, number) || !self.turns.has_waiting(peer) {
            return self.feed(peer, number, None);
        }
        self.turns.wait(peer, number);
        for _ in 0..LINK_ROOMS_IN_FLIGHT_MAX {
            let Some(next) = self.turns.next(peer) else { return };
            self.feed(peer, next, None);
            if self.turns.known.contains(&(peer.clone(), next)) {
                // No place is free: it is in line again.
                return;
            }
        }
    }
}
