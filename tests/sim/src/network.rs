//! Connections and what befalls them. Frames of a connection arrive in order or, once one is lost, not at all any more:
//! what was under way when it was cut is gone with everything after it. An end may believe in a connection whose other
//! end is dead, as with half-open TCP.

use std::collections::BTreeMap;

use kith_protocol::ids::ConnectionId;

use crate::dice::Dice;

/// Longest way of a frame between a member and its co-op, and between co-ops, milliseconds.
pub const SESSION_DELAY_MS_MAX: u64 = 120;
pub const LINK_DELAY_MS_MAX: u64 = 60;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Coop(usize),
    Member(usize),
}

/// A way between two places, in one direction.
pub type Way = (Place, Place);

/// A connection, as long as one of its ends believes in it.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Who dialled comes first.
    pub ends: [Place; 2],
    pub open: [bool; 2],
    /// Nothing arrives at that end any more.
    lost: [bool; 2],
    /// When the last frame arrives at each end, and how many are on their way there.
    arrives: [u64; 2],
    pub queued: [usize; 2],
    /// Frames that have arrived at each end.
    pub heard: [u64; 2],
    /// Entries did not fit into a session's queue.
    pub lagging: bool,
}

impl Line {
    pub fn is_link(&self) -> bool {
        matches!(self.ends, [Place::Coop(_), Place::Coop(_)])
    }

    pub fn side_of(&self, place: Place) -> usize {
        usize::from(self.ends[1] == place)
    }
}

/// What was carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub session_frames: u64,
    pub session_bytes: u64,
    pub link_frames: u64,
    pub link_bytes: u64,
}

#[derive(Debug, Default)]
pub struct Network {
    lines: BTreeMap<ConnectionId, Line>,
    made: u64,
    /// Ways on which nothing arrives, and for how many reasons.
    blocked: BTreeMap<Way, u32>,
    /// Ways that are slow, bytes per second.
    slow: BTreeMap<Way, u64>,
    /// Added to every frame's way, at most, milliseconds.
    pub jitter_ms: u64,
    /// Some frames come twice, or late.
    pub garbles: bool,
    pub traffic: Traffic,
}

impl Network {
    pub fn open(&mut self, now: u64, ends: [Place; 2]) -> ConnectionId {
        self.made += 1;
        let connection = ConnectionId(self.made);
        let line = Line { ends, open: [true; 2], lost: [false; 2], arrives: [now; 2], queued: [0; 2], heard: [0; 2], lagging: false };
        self.lines.insert(connection, line);
        connection
    }

    pub fn line(&self, connection: ConnectionId) -> Option<&Line> {
        self.lines.get(&connection)
    }

    pub fn line_mut(&mut self, connection: ConnectionId) -> Option<&mut Line> {
        self.lines.get_mut(&connection)
    }

    /// Connections in which at least one end believes.
    pub fn lines(&self) -> impl Iterator<Item = (ConnectionId, &Line)> {
        self.lines.iter().map(|(connection, line)| (*connection, line))
    }

    /// When a frame arrives at the other end. `None`: it goes nowhere.
    pub fn send(&mut self, now: u64, dice: &mut Dice, connection: ConnectionId, from: Place, bytes: usize) -> Option<(usize, u64)> {
        let line = self.lines.get_mut(&connection)?;
        let side = line.side_of(from);
        if !line.open[side] {
            return None;
        }
        let (to, bytes) = (1 - side, bytes as u64);
        let longest = if line.is_link() { LINK_DELAY_MS_MAX } else { SESSION_DELAY_MS_MAX };
        let delay = dice.between(1, longest + self.jitter_ms);
        let takes = self.slow.get(&(from, line.ends[to])).map_or(0, |rate| bytes * 1_000 / rate);
        let at = (now + delay).max(line.arrives[to] + 1 + takes);
        line.arrives[to] = at;
        line.queued[to] += 1;
        if line.is_link() {
            self.traffic.link_frames += 1;
            self.traffic.link_bytes += bytes;
        } else {
            self.traffic.session_frames += 1;
            self.traffic.session_bytes += bytes;
        }
        Some((to, at))
    }

    /// One more copy of a frame is under way to that end.
    pub fn doubled(&mut self, connection: ConnectionId, side: usize) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.queued[side] += 1;
        }
    }

    /// A frame is there. `false`: it has been lost, or nobody is there to take it.
    pub fn arrive(&mut self, connection: ConnectionId, side: usize) -> bool {
        let Some(line) = self.lines.get_mut(&connection) else { return false };
        let way = (line.ends[1 - side], line.ends[side]);
        if self.blocked.contains_key(&way) {
            line.lost[side] = true;
        }
        if line.lost[side] {
            return false;
        }
        line.queued[side] -= 1;
        line.heard[side] += 1;
        line.open[side]
    }

    /// Nothing arrives on it any more, either way.
    pub fn break_off(&mut self, connection: ConnectionId) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.lost = [true; 2];
        }
    }

    /// Whether an end has been cut off for good without knowing it.
    pub fn is_half_dead(&self, connection: ConnectionId) -> bool {
        self.lines.get(&connection).is_some_and(|line| line.lost != [false; 2])
    }

    /// An end lets go. Returns when the other end hears of it; `None`: not this way.
    pub fn close(&mut self, now: u64, connection: ConnectionId, side: usize) -> Option<u64> {
        let line = self.lines.get_mut(&connection)?;
        line.open[side] = false;
        let other = 1 - side;
        if !line.open[other] {
            self.lines.remove(&connection);
            return None;
        }
        let way = (line.ends[side], line.ends[other]);
        let hears = !line.lost[other] && !self.blocked.contains_key(&way);
        hears.then_some(line.arrives[other].max(now) + 1)
    }

    pub fn is_blocked(&self, a: Place, b: Place) -> bool {
        self.blocked.contains_key(&(a, b)) || self.blocked.contains_key(&(b, a))
    }

    pub fn block(&mut self, ways: &[Way]) {
        ways.iter().for_each(|way| *self.blocked.entry(*way).or_default() += 1);
    }

    pub fn unblock(&mut self, ways: &[Way]) {
        for way in ways {
            if let Some(reasons) = self.blocked.get_mut(way) {
                *reasons -= 1;
                if *reasons == 0 {
                    self.blocked.remove(way);
                }
            }
        }
    }

    /// Connections with frames that arrive only after that time.
    pub fn backlogs(&self, after: u64) -> Vec<ConnectionId> {
        let late = |line: &Line| (0..2).any(|side| line.arrives[side] > after && !line.lost[side]);
        self.lines().filter(|(_, line)| late(line)).map(|(connection, _)| connection).collect()
    }

    pub fn slow_down(&mut self, way: Way, bytes_per_second: u64) {
        self.slow.insert(way, bytes_per_second);
    }

    pub fn speed_up(&mut self, way: Way) {
        self.slow.remove(&way);
    }

    /// Calm: every way is open and quick again.
    pub fn heal(&mut self) {
        self.blocked.clear();
        self.slow.clear();
        self.jitter_ms = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [Place; 2] = [Place::Coop(0), Place::Coop(1)];

    #[test]
    fn frames_keep_their_order_and_nothing_comes_after_a_lost_one() {
        let (mut network, mut dice) = (Network::default(), Dice::new(1));
        let line = network.open(0, ENDS);
        let mut last = 0;
        for _ in 0..50 {
            let (to, at) = network.send(0, &mut dice, line, ENDS[0], 10).unwrap();
            assert!(to == 1 && at > last);
            last = at;
        }
        assert!(network.arrive(line, 1));
        network.block(&[(ENDS[0], ENDS[1])]);
        assert!(!network.arrive(line, 1), "lost on the way");
        network.unblock(&[(ENDS[0], ENDS[1])]);
        assert!(!network.arrive(line, 1), "and what comes after it");
        assert!(network.send(9, &mut dice, line, ENDS[1], 10).is_some_and(|(to, _)| to == 0));
        assert!(network.arrive(line, 0), "the other way is open");
        assert_eq!(network.close(10, line, 0), None, "and nobody tells the deaf end");
        assert!(network.line(line).is_some_and(|line| line.open == [false, true]));
        assert_eq!(network.close(11, line, 1), None);
        assert!(network.line(line).is_none());
    }

    #[test]
    fn a_slow_way_takes_its_time() {
        let (mut network, mut dice) = (Network::default(), Dice::new(1));
        let line = network.open(0, ENDS);
        network.slow_down((ENDS[0], ENDS[1]), 100);
        assert!(network.send(0, &mut dice, line, ENDS[0], 1_000).is_some_and(|(_, at)| at >= 10_000));
        assert!(network.send(0, &mut dice, line, ENDS[1], 1_000).is_some_and(|(_, at)| at <= LINK_DELAY_MS_MAX));
    }
}
