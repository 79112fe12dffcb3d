//! Every room's rows are read through some time after each start, and again every week: what a disk has lost is found before
//! somebody needs it. A page at a time, with pauses.

use std::collections::VecDeque;

use kith_protocol::ids::{Hash, Millis, RoomNumber, Seq};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_storage::LogRow;

use super::machine::Coop;
use super::repair::parse_rows;
use super::types::Read;
use super::waiting::Reader;

/// How long after a start it begins, milliseconds.
const FIRST_MS: u64 = 60_000;
/// Between two pages, milliseconds.
const PAUSE_MS: u64 = 20;
/// Between the end of one round and the next, milliseconds.
const ROUND_MS: u64 = 7 * 24 * 3_600_000;

/// A room that is being read: as far as a checkpoint that was there in the beginning.
#[derive(Debug)]
struct Under {
    room: RoomNumber,
    read: Frontier,
    size: u64,
    root: Hash,
}

#[derive(Debug)]
pub struct Scrub {
    /// What is left of this round. `None`: the next one has not begun.
    rooms: Option<VecDeque<RoomNumber>>,
    under: Option<Under>,
    at: Option<Millis>,
}

impl Scrub {
    pub fn new() -> Self {
        Self { rooms: None, under: None, at: Some(Millis(FIRST_MS)) }
    }

    pub fn poll_deadline(&self) -> Option<Millis> {
        self.at
    }
}

impl Coop {
    pub(super) fn tick_scrub(&mut self) {
        if self.scrub.at.take_if(|at| *at <= self.now).is_none() {
            return;
        }
        while self.scrub.under.is_none() {
            let all = self.rooms.keys();
            let Some(number) = self.scrub.rooms.get_or_insert_with(|| all.copied().collect()).pop_front() else { break };
            let room = self.rooms.get(&number).filter(|_| !self.damaged.contains_key(&number));
            let last = room.and_then(|room| room.last_word()).map(|word| word.checkpoint);
            self.scrub.under = last.map(|last| Under { room: number, read: Frontier::default(), size: last.size, root: last.root });
        }
        match &self.scrub.under {
            Some(Under { room, read, .. }) => {
                let (room, from) = (*room, Seq(read.size()));
                self.read(Reader::Scrub { room, from }, Read::Scrub { room, from });
            }
            None => {
                self.scrub.rooms = None;
                self.scrub.at = Some(Millis(self.now.0 + ROUND_MS));
            }
        }
    }

    /// `None`: the store could not read it; what that means is somebody else's to say.
    pub(super) fn scrub_read(&mut self, number: RoomNumber, from: Seq, rows: Option<Vec<LogRow>>) {
        self.scrub.at = Some(Millis(self.now.0 + PAUSE_MS));
        let Some(mut under) = self.scrub.under.take().filter(|under| under.room == number && under.read.size() == from.0) else { return };
        // A log that was cut meanwhile is read again in the next round.
        let Some(room) = self.rooms.get(&number).filter(|room| room.durable() >= under.size) else { return };
        let Some(rows) = rows else { return };
        let Some(rows) = parse_rows(&room.id, from, rows).filter(|rows| !rows.is_empty()) else {
            return self.found_damaged(number);
        };
        for (_, row) in rows.iter().take(usize::try_from(under.size - from.0).unwrap_or(usize::MAX)) {
            under.read.push(leaf_hash(&row.header));
        }
        if under.read.size() < under.size {
            self.scrub.under = Some(under);
        } else if under.read.root() != under.root {
            self.found_damaged(number);
        }
    }
}
