//! Whether the other end of a connection is still there.
//!
//! A phone that changes networks leaves half of a TCP connection behind, and nobody says so: what is sent goes nowhere,
//! and what others write does not come. So whoever has had no answer, or has heard nothing for long, sends a ping
//! (RFC 6455 section 5.5.2), and takes the connection for lost if not a byte comes back. Every answer to a ping in a
//! silence lets the next silence be longer. A connection that was lost in a silence was perhaps forgotten by something on
//! the way: silences are short again, and stay shorter than that one was until many of them were answered. Time is
//! milliseconds of any clock that never goes back.

use kith_protocol::limits::{PING_AFTER_MS, PING_FIRST_MS, PING_MS_MAX, PONG_MS_MAX};

/// How many times longer the next silence may be.
const STEP: u64 = 4;
/// After so many answered silences, as long as they may be since one was too long, that one is tried again.
const PROBE_AFTER: u32 = 16;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Nothing,
    /// Send a ping.
    Ping,
    /// Take the connection for lost.
    Lost,
}

#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    interval_ms: u64,
    /// As long as a silence may become.
    ceiling_ms: u64,
    /// Silences of that length that were answered.
    answered: u32,
    heard_ms: u64,
    /// Since when something waits for its answer.
    asked_ms: Option<u64>,
    pinged_ms: Option<u64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { interval_ms: PING_FIRST_MS, ceiling_ms: PING_MS_MAX, answered: 0, heard_ms: 0, asked_ms: None, pinged_ms: None }
    }
}

impl Pulse {
    /// A connection has been opened.
    pub fn handle_connected(&mut self, now_ms: u64) {
        (self.heard_ms, self.asked_ms, self.pinged_ms) = (now_ms, None, None);
    }

    /// A byte came.
    pub fn handle_heard(&mut self, now_ms: u64) {
        if self.is_silence() {
            if self.interval_ms == self.ceiling_ms && self.ceiling_ms < PING_MS_MAX {
                self.answered += 1;
            }
            if self.answered >= PROBE_AFTER {
                (self.answered, self.ceiling_ms) = (0, (self.ceiling_ms * STEP).min(PING_MS_MAX));
            }
            self.interval_ms = (self.interval_ms * STEP).min(self.ceiling_ms);
        }
        (self.heard_ms, self.asked_ms, self.pinged_ms) = (now_ms, None, None);
    }

    /// Something was sent that the other end answers.
    pub fn handle_asked(&mut self, now_ms: u64) {
        self.asked_ms.get_or_insert(now_ms);
    }

    fn due_ms(&self) -> u64 {
        let silence = self.heard_ms + self.interval_ms;
        match (self.pinged_ms, self.asked_ms) {
            (Some(pinged), _) => pinged + PONG_MS_MAX,
            (None, Some(asked)) => silence.min(asked + PING_AFTER_MS),
            (None, None) => silence,
        }
    }

    /// The ping that was asked for has left.
    pub fn handle_pinged(&mut self, now_ms: u64) {
        self.pinged_ms = Some(now_ms);
    }

    /// A ping is under way because nothing was heard for long, not for want of an answer.
    fn is_silence(&self) -> bool {
        self.pinged_ms.is_some_and(|pinged| pinged >= self.heard_ms + self.interval_ms)
    }

    /// What is due. A ping that it asks for counts as sent.
    pub fn poll(&mut self, now_ms: u64) -> Beat {
        if now_ms < self.due_ms() {
            return Beat::Nothing;
        }
        if self.pinged_ms.is_none() {
            self.pinged_ms = Some(now_ms);
            return Beat::Ping;
        }
        if self.is_silence() {
            (self.answered, self.ceiling_ms) = (0, (self.interval_ms / STEP).max(PING_FIRST_MS));
        }
        self.interval_ms = PING_FIRST_MS;
        Beat::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pings of an hour in which the other end answers each after `rtt_ms` and says nothing else.
    fn pings_of_an_hour(pulse: &mut Pulse, from_ms: u64, rtt_ms: u64) -> Vec<u64> {
        let mut pings = Vec::new();
        let mut pong = None;
        for now in (from_ms..from_ms + 3_600_000).step_by(100) {
            if pong.is_some_and(|pong| pong <= now) {
                pong = None;
                pulse.handle_heard(now);
            }
            match pulse.poll(now) {
                Beat::Nothing => {}
                Beat::Ping => {
                    pings.push((now - from_ms) / 1_000);
                    pong = Some(now + rtt_ms);
                }
                Beat::Lost => panic!("it is there"),
            }
        }
        pings
    }

    #[test]
    fn silences_grow_to_a_quarter_of_an_hour() {
        let mut pulse = Pulse::default();
        pulse.handle_connected(5_000);
        assert_eq!(pings_of_an_hour(&mut pulse, 5_000, 100), [60, 300, 1_200, 2_100, 3_000]);
        assert_eq!(pings_of_an_hour(&mut pulse, 3_605_000, 100).len(), 4);
    }

    #[test]
    fn a_slow_line_is_no_lost_one() {
        let mut pulse = Pulse::default();
        pulse.handle_connected(0);
        assert_eq!(pings_of_an_hour(&mut pulse, 0, PONG_MS_MAX - 100).len(), 5);
    }

    #[test]
    fn who_does_not_answer_is_asked_once_and_then_lost() {
        let mut pulse = Pulse::default();
        pulse.handle_connected(0);
        pulse.handle_asked(1_000);
        // A second question does not put off the first one's end.
        pulse.handle_asked(PING_AFTER_MS);
        assert_eq!(pulse.poll(999 + PING_AFTER_MS), Beat::Nothing);
        assert_eq!(pulse.poll(1_000 + PING_AFTER_MS), Beat::Ping);
        assert_eq!(pulse.poll(999 + PING_AFTER_MS + PONG_MS_MAX), Beat::Nothing);
        assert_eq!(pulse.poll(1_000 + PING_AFTER_MS + PONG_MS_MAX), Beat::Lost);
    }

    #[test]
    fn a_ping_that_a_full_line_held_up_has_its_time_all_the_same() {
        let mut pulse = Pulse::default();
        pulse.handle_connected(0);
        assert_eq!(pulse.poll(PING_FIRST_MS), Beat::Ping);
        let left = PING_FIRST_MS + PONG_MS_MAX - 1;
        pulse.handle_pinged(left);
        assert_eq!((pulse.poll(left + PONG_MS_MAX - 1), pulse.poll(left + PONG_MS_MAX)), (Beat::Nothing, Beat::Lost));
    }

    #[test]
    fn an_answer_ends_the_question_and_says_nothing_of_silences() {
        let mut pulse = Pulse::default();
        pulse.handle_connected(0);
        pulse.handle_asked(0);
        assert_eq!(pulse.poll(PING_AFTER_MS), Beat::Ping);
        pulse.handle_heard(PING_AFTER_MS + 1);
        assert_eq!(pulse.poll(PING_AFTER_MS + PING_FIRST_MS), Beat::Nothing);
        assert_eq!(pulse.poll(PING_AFTER_MS + PING_FIRST_MS + 1), Beat::Ping);
    }

    #[test]
    fn after_a_loss_silences_are_short_again() {
        let mut pulse = Pulse::default();
        pulse.handle_connected(0);
        pings_of_an_hour(&mut pulse, 0, 100);
        let quiet = 3_600_000 + PING_MS_MAX;
        assert_eq!((pulse.poll(quiet), pulse.poll(quiet + PONG_MS_MAX)), (Beat::Ping, Beat::Lost));
        pulse.handle_connected(quiet + PONG_MS_MAX);
        assert_eq!(pulse.poll(quiet + PONG_MS_MAX + PING_FIRST_MS), Beat::Ping);
        // Something on the way forgets a connection in a quarter of an hour: four minutes are the most, until it is tried again.
        let (mut now, mut longest) = (quiet, Vec::new());
        pulse.handle_connected(now);
        for _ in 0..20 {
            let from = now;
            while pulse.poll(now) != Beat::Ping {
                now += 100;
            }
            longest.push((now - from) / 1_000);
            pulse.handle_heard(now);
        }
        assert_eq!((&longest[..3], longest[16], longest[17..].iter().max()), (&[60, 225, 225][..], 225, Some(&900)));
        // A connection that ends otherwise tells nothing of how long a silence may be.
        let mut pulse = Pulse { interval_ms: PING_MS_MAX, ..Pulse::default() };
        pulse.handle_connected(0);
        assert_eq!(pulse.poll(PING_MS_MAX - 1), Beat::Nothing);
    }
}
