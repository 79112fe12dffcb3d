//! A line between two servers that is as bad as a test wants it: it holds up, slows down, loses what goes one way, cuts.
//!
//! ```text
//! one ──▶ Line ══(clear … slow … clear … dead, cut)══▶ other      each direction runs its own course
//! ```
//!
//! What happens is decided by a seed and by the bytes that pass, not by a clock. Nothing is reordered or altered: below is
//! TCP, and what is lost of it ends its connection. Knows nothing of what is said on it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Dice;

/// At most so much is moved at once.
const CHUNK_BYTES: usize = 2 * 1024;
/// Nothing happens for at least so long, and for at most as long again.
const CLEAR_BYTES: u64 = 8 * 1024;
/// A slow stretch, and its rate: that of a bad mobile link.
const SLOW_BYTES: u64 = 6 * 1024;
const SLOW_BYTES_PER_SECOND: u64 = 16 * 1024;
/// What a dead direction swallows before the connection is cut.
const DEAD_BYTES: u64 = 2 * 1024;
/// The longest time for which a chunk is held up, milliseconds.
const DELAY_MS_MAX: u64 = 250;

/// What becomes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    Waits { ms: u64 },
    IsLost,
    Cuts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Clear,
    Slow,
    Dead,
}

/// What one direction of one connection goes through.
#[derive(Debug)]
struct Course {
    dice: Dice,
    stretch: Stretch,
    left: u64,
}

impl Course {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let left = CLEAR_BYTES + dice.roll(CLEAR_BYTES);
        Self { dice, stretch: Stretch::Clear, left }
    }

    fn meets(&mut self, bytes: u64) -> Fate {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return match self.stretch {
                Stretch::Clear => Fate::Passes,
                Stretch::Slow => Fate::Waits { ms: bytes * 1_000 / SLOW_BYTES_PER_SECOND },
                Stretch::Dead => Fate::IsLost,
            };
        }
        if self.stretch == Stretch::Dead {
            return Fate::Cuts;
        }
        let (fate, stretch, left) = match self.dice.roll(8) {
            _ if self.stretch == Stretch::Slow => (Fate::Passes, Stretch::Clear, CLEAR_BYTES),
            0 => (Fate::Cuts, Stretch::Clear, CLEAR_BYTES),
            1 => (Fate::IsLost, Stretch::Dead, DEAD_BYTES),
            2 | 3 => (Fate::Passes, Stretch::Slow, SLOW_BYTES),
            _ => (Fate::Waits { ms: 1 + self.dice.roll(DELAY_MS_MAX) }, Stretch::Clear, CLEAR_BYTES),
        };
        self.stretch = stretch;
        self.left = left + self.dice.roll(left);
        fate
    }
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub held_up: u64,
    pub lost: u64,
    pub cut: u64,
}

#[derive(Default)]
struct State {
    /// Both ends of every connection.
    open: BTreeMap<u64, (TcpStream, TcpStream)>,
    opened: u64,
    ended: bool,
    counts: Counts,
}

struct Shared {
    seed: u64,
    to: u16,
    stormy: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Holds up what is to pass, unless the line itself ends.
    fn hold(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state();
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|_| !state.ended) {
            state = self.changed.wait_timeout(state, left).expect("nobody panics while holding it").0;
        }
    }

    fn carry(self: &Arc<Self>, from: TcpStream) -> std::io::Result<()> {
        let to = TcpStream::connect(("127.0.0.1", self.to))?;
        from.set_nodelay(true)?;
        to.set_nodelay(true)?;
        let mut state = self.state();
        let number = state.opened;
        state.opened += 1;
        if state.ended {
            return Ok(());
        }
        state.open.insert(number, (from.try_clone()?, to.try_clone()?));
        let there = (from.try_clone()?, to.try_clone()?);
        for (way, (from, to)) in [there, (to, from)].into_iter().enumerate() {
            let shared = self.clone();
            let course = Course::new(self.seed ^ (2 * number + way as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            std::thread::spawn(move || {
                // However it ended: nothing half-open is left behind.
                let _ = shared.pump(from, to, course);
                shared.close(number);
            });
        }
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, mut course: Course) -> std::io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let bytes = from.read(&mut chunk)?;
            if bytes == 0 {
                return Ok(());
            }
            // What has begun to be lost goes on being lost when the storm is over: TCP has no gaps.
            let goes_on = self.stormy.load(Ordering::Relaxed) || course.stretch == Stretch::Dead;
            let fate = if goes_on { course.meets(bytes as u64) } else { Fate::Passes };
            match fate {
                Fate::Passes => {}
                Fate::Waits { ms } => {
                    self.state().counts.held_up += 1;
                    self.hold(Duration::from_millis(ms));
                }
                Fate::IsLost => {
                    self.state().counts.lost += 1;
                    continue;
                }
                Fate::Cuts => {
                    self.state().counts.cut += 1;
                    return Ok(());
                }
            }
            to.write_all(&chunk[..bytes])?;
        }
    }

    fn close(&self, number: u64) {
        if let Some((one, other)) = self.state().open.remove(&number) {
            // Either may be closed already.
            let _ = (one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both));
        }
    }
}

/// One line: whoever connects to its port is connected to another.
pub struct Line {
    pub port: u16,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

impl Line {
    /// A clear line to a port of this machine.
    pub fn to(to: u16, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared { seed, to, stormy: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new() });
        let accepting = shared.clone();
        let accepts = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.state().ended {
                    return;
                }
                // Nobody there: whoever dialled is hung up on.
                let _ = stream.and_then(|stream| accepting.carry(stream));
            }
        });
        Self { port, shared, accepts: Some(accepts) }
    }

    /// Faults begin, or come to their end.
    pub fn set_stormy(&self, stormy: bool) {
        self.shared.stormy.store(stormy, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        let open: Vec<u64> = state.open.keys().copied().collect();
        drop(state);
        self.shared.changed.notify_all();
        open.into_iter().for_each(|number| self.shared.close(number));
        // Whoever waits for the next connection gets this one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64) -> Vec<Fate> {
        let mut course = Course::new(seed);
        (0..2_000).map(|_| course.meets(500)).collect()
    }

    #[test]
    fn a_seed_is_a_course() {
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
        let mut seen = [false; 3];
        for fates in (1..200).map(fates) {
            assert!(fates.iter().take(CLEAR_BYTES as usize / 500).all(|fate| *fate == Fate::Passes), "it begins well");
            let ends = |fate: &Fate| matches!(fate, Fate::IsLost | Fate::Cuts);
            let at = fates.iter().position(ends).expect("no line lasts");
            seen[0] |= fates[at] == Fate::Cuts;
            seen[1] |= fates[at] == Fate::IsLost;
            seen[2] |= fates[..at].iter().any(|fate| matches!(fate, Fate::Waits { .. }));
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn what_is_lost_ends_in_a_cut() {
        for seed in 1..50 {
            let fates = fates(seed);
            for pair in fates.windows(2).filter(|pair| pair[0] == Fate::IsLost) {
                assert!(matches!(pair[1], Fate::IsLost | Fate::Cuts), "seed {seed}: {pair:?}");
            }
        }
    }

    #[test]
    fn a_clear_line_passes_everything_and_closes_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Line::to(listener.local_addr().unwrap().port(), 1);
        let mut one = TcpStream::connect(("127.0.0.1", line.port)).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let sent: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
        one.write_all(&sent).unwrap();
        let mut got = vec![0; sent.len()];
        other.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
        other.write_all(b"heard").unwrap();
        drop(other);
        let mut answer = Vec::new();
        one.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"heard");
        assert_eq!(line.counts(), Counts::default());
    }
}
