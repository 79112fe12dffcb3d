//! Faults: which there are, when they begin, and how they end. What the machines come to survive later is one more kind here,
//! and one more arm in [`World::fault`] or, with dice of its own, one more count in the plan.

use kith_protocol::ids::ConnectionId;

use crate::network::{Place, Way};
use crate::world::{Event, World};

/// Shortest spell of bad weather, milliseconds.
const SPELL_MS_MIN: u64 = 500;
/// A connection whose frames take longer than this, once its way is no longer slow, is cut, milliseconds.
const BACKLOG_MS: u64 = 5_000;
/// Rates of slow ways, bytes per second.
const SLOW: (u64, u64) = (200, 20_000);

/// The end of a fault.
#[derive(Debug)]
pub(crate) enum Heal {
    Ways(Vec<Way>),
    Slow(Way),
    Jitter,
    Idle(usize),
    Truth(usize),
    Garble,
}

impl World {
    /// How long something lasts: as often seconds as hours, if the weather is that long, and never most of it.
    pub(crate) fn spell(&mut self) -> u64 {
        let longest = (self.plan.rough_ms / 2).max(2 * SPELL_MS_MIN);
        let doublings = u64::from((longest / SPELL_MS_MIN).ilog2());
        let bound = SPELL_MS_MIN << (1 + self.dice.roll(doublings));
        self.dice.between(bound / 2, bound)
    }

    pub(crate) fn any_coop(&mut self) -> usize {
        self.dice.roll(self.coops.len() as u64) as usize
    }

    fn any_member(&mut self) -> usize {
        self.dice.roll(self.members.len() as u64) as usize
    }

    fn any_link(&mut self) -> Option<ConnectionId> {
        let links: Vec<ConnectionId> = self.network.lines().filter(|(_, line)| line.is_link()).map(|(connection, _)| connection).collect();
        (!links.is_empty()).then(|| links[self.dice.roll(links.len() as u64) as usize])
    }

    /// A way between a member and its co-op, or between two co-ops.
    fn any_way(&mut self) -> Way {
        let way = if self.coops.len() > 1 && self.dice.roll(2) == 0 {
            let one = self.any_coop();
            let other = (one + 1 + self.dice.roll(self.coops.len() as u64 - 1) as usize) % self.coops.len();
            (Place::Coop(one), Place::Coop(other))
        } else {
            let member = self.any_member();
            (Place::Coop(self.members[member].coop), Place::Member(member))
        };
        if self.dice.roll(2) == 0 { way } else { (way.1, way.0) }
    }

    /// Something goes wrong.
    pub(crate) fn fault(&mut self) {
        match self.dice.roll(100) {
            0..=16 => self.cut_session(),
            17..=33 => self.cut_link(),
            34..=41 => self.crash_any_coop(),
            42..=49 => {
                let member = self.any_member();
                self.count("member's crash");
                self.crash_member(member);
            }
            50..=58 => self.go_one_way(),
            59..=66 => self.fall_apart(),
            67..=74 => self.throttle(),
            75..=80 => self.read_slowly(),
            81..=84 => self.jitter(),
            85..=89 => self.jump(),
            90..=93 => self.stay_away(),
            _ => self.fill_disk(),
        }
    }

    /// Both ends are told, or only one.
    fn told(&mut self) -> [bool; 2] {
        match self.dice.roll(4) {
            0 => [true, false],
            1 => [false, true],
            _ => [true; 2],
        }
    }

    fn cut_session(&mut self) {
        let member = self.any_member();
        if let Some(connection) = self.members[member].connection {
            let told = self.told();
            self.count(if told == [true; 2] { "session cut" } else { "session half open" });
            self.cut(connection, told);
        }
    }

    fn cut_link(&mut self) {
        if let Some(connection) = self.any_link() {
            let told = self.told();
            self.count(if told == [true; 2] { "link cut" } else { "link half open" });
            self.cut(connection, told);
        }
    }

    fn crash_any_coop(&mut self) {
        let coop = self.any_coop();
        if self.coops[coop].machine.is_some() {
            self.count("co-op's crash");
            self.crash_coop(coop);
        }
    }

    /// Down for as long as it takes to be given up.
    fn stay_away(&mut self) {
        let coop = self.any_coop();
        if self.coops[coop].machine.is_some() {
            let spell = self.spell().max(2_000) + self.dice.roll(60_000);
            self.count("co-op away");
            self.note(|_| format!("co-op {coop} for {spell} ms"));
            self.be_absent(coop, spell);
        }
    }

    fn block_for_a_while(&mut self, ways: Vec<Way>) {
        self.network.block(&ways);
        let delay = self.spell();
        self.note(|_| format!("{ways:?} for {delay} ms"));
        self.clock.after(delay, Event::Heal(Heal::Ways(ways)));
    }

    /// Frames of one direction vanish; the other direction goes on.
    fn go_one_way(&mut self) {
        let way = self.any_way();
        self.count("one way is dead");
        self.block_for_a_while(vec![way]);
    }

    /// Co-ops fall into two groups that do not reach each other.
    fn fall_apart(&mut self) {
        let groups: Vec<bool> = self.coops.iter().map(|_| self.dice.roll(2) == 0).collect();
        let coops = groups.len();
        let pairs = (0..coops).flat_map(|one| (0..coops).map(move |other| (one, other)));
        let ways: Vec<Way> = pairs
            .filter(|(one, other)| groups[*one] != groups[*other])
            .map(|(one, other)| (Place::Coop(one), Place::Coop(other)))
            .collect();
        if !ways.is_empty() {
            self.count("partition");
            self.block_for_a_while(ways);
        }
    }

    fn slow_for_a_while(&mut self, way: Way) {
        let rate = self.dice.between(SLOW.0, SLOW.1);
        self.network.slow_down(way, rate);
        let delay = self.spell();
        self.note(|_| format!("{way:?} at {rate} B/s for {delay} ms"));
        self.clock.after(delay, Event::Heal(Heal::Slow(way)));
    }

    fn throttle(&mut self) {
        let way = self.any_way();
        self.count("throttled");
        self.slow_for_a_while(way);
    }

    fn read_slowly(&mut self) {
        let member = self.any_member();
        self.count("slow reader");
        self.slow_for_a_while((Place::Coop(self.members[member].coop), Place::Member(member)));
    }

    fn jitter(&mut self) {
        self.count("jitter");
        self.network.jitter_ms = self.dice.between(100, 3_000);
        let delay = self.spell();
        self.clock.after(delay, Event::Heal(Heal::Jitter));
    }

    /// A clock is set, by a little or by hours.
    fn jump(&mut self) {
        let by = match self.dice.roll(4) {
            0 => self.dice.between(0, 24 * 3_600),
            _ => self.dice.between(0, 120),
        };
        let by = if self.dice.roll(2) == 0 { by as i64 } else { -(by as i64) };
        self.count("clock set");
        if self.dice.roll(2) == 0 {
            let coop = self.any_coop();
            self.coops[coop].skew_s += by;
            self.note(|_| format!("co-op {coop} by {by} s"));
        } else {
            let member = self.any_member();
            self.members[member].skew_s += by;
            self.note(|_| format!("member {member} by {by} s"));
        }
    }

    /// A co-op keeps its links, and takes no entry from neighbours; or one of them sends it none.
    pub(crate) fn idle(&mut self) {
        let coop = self.any_coop();
        if self.dice.roll(2) == 0 || self.coops.len() < 2 {
            self.count("co-op is deaf");
            self.coops[coop].is_deaf = true;
        } else {
            let other = (coop + 1 + self.dice.roll(self.coops.len() as u64 - 1) as usize) % self.coops.len();
            self.count("a log is kept back");
            self.coops[coop].hears_nothing_from = Some(other);
        }
        let delay = self.spell().max(2_000) + self.dice.roll(60_000);
        self.note(|_| format!("co-op {coop} for {delay} ms"));
        self.clock.after(delay, Event::Heal(Heal::Idle(coop)));
    }

    /// What was said meanwhile and not heard comes again on new links.
    pub(crate) fn work_again(&mut self, coop: usize) {
        let was_deaf = std::mem::take(&mut self.coops[coop].is_deaf);
        let was_kept_short = self.coops[coop].hears_nothing_from.take().is_some();
        if !was_deaf && !was_kept_short {
            return;
        }
        let place = Place::Coop(coop);
        let is_link = |line: &crate::network::Line| line.is_link() && line.ends.contains(&place);
        let links: Vec<ConnectionId> = self.network.lines().filter(|(_, line)| is_link(line)).map(|(connection, _)| connection).collect();
        links.into_iter().for_each(|link| self.cut(link, [true; 2]));
    }

    /// Frames come twice, or after later ones. No transport does that; what it carries survives it all the same.
    pub(crate) fn garble(&mut self) {
        self.network.garbles = true;
        let delay = self.spell();
        self.clock.after(delay, Event::Heal(Heal::Garble));
    }

    /// An answer that came before what it answers may leave an end waiting, for as long as that connection lasts.
    pub(crate) fn end_garbling(&mut self) {
        if std::mem::take(&mut self.network.garbles) {
            let all: Vec<ConnectionId> = self.network.lines().map(|(connection, _)| connection).collect();
            all.into_iter().for_each(|connection| self.cut(connection, [true; 2]));
        }
    }

    fn fill_disk(&mut self) {
        let coop = self.any_coop();
        let spell = self.spell();
        self.count("disk full");
        self.note(|_| format!("co-op {coop} for {spell} ms"));
        self.coops[coop].full_until = self.clock.now() + spell;
    }

    pub(crate) fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::Ways(ways) => self.network.unblock(&ways),
            Heal::Slow(way) => {
                self.network.speed_up(way);
                self.cut_backlogs();
            }
            Heal::Jitter => self.network.jitter_ms = 0,
            Heal::Idle(coop) => self.work_again(coop),
            Heal::Truth(coop) => self.tell_the_truth(coop),
            Heal::Garble => self.end_garbling(),
        }
    }

    /// What had piled up on a slow way is lost with its connection, rather than trickling in long after.
    pub(crate) fn cut_backlogs(&mut self) {
        for connection in self.network.backlogs(self.clock.now() + BACKLOG_MS) {
            self.count("backlog cut");
            self.cut(connection, [true; 2]);
        }
    }
}
