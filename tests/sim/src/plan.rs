//! How large a run is, and how rough.

use kith_protocol::limits::SESSION_QUEUE_MESSAGES_MAX;

use crate::dice::Dice;
use crate::mutant::Mutant;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// Everything about a run that its seed does not decide on the way. A test changes what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub coops: usize,
    /// In all, spread over the co-ops.
    pub members: usize,
    pub rooms: usize,
    /// Co-ops whose votes count in each room, where as many have members in it.
    pub voters: usize,
    /// What members do while the weather is rough.
    pub acts: u64,
    /// Faults that are begun meanwhile, about.
    pub faults: u64,
    /// Backups that are made meanwhile and put back, if others can give back what they lack.
    pub restores: u64,
    /// Spells meanwhile in which a co-op keeps its links and takes, or sends, no entries over them.
    pub idles: u64,
    /// Spells meanwhile in which a co-op shows others what it does not have.
    pub lies: u64,
    /// Spells meanwhile in which frames come twice, or after those that were sent after them.
    pub garbles: u64,
    /// Members meanwhile whose next commit nobody can follow.
    pub mad: u64,
    /// While faults happen, milliseconds of virtual time.
    pub rough_ms: u64,
    /// After the last fault everything must have come to rest within this.
    pub calm_ms: u64,
    /// One in so many steps of a member tears: it persists and dies before it sends.
    pub tear_one_in: u64,
    /// One in so many commits kills its server, before or after it is durable.
    pub crash_one_in: u64,
    /// Outgoing messages that a session's queue holds.
    pub session_queue: usize,
    /// Clocks are off by up to this in the beginning, either way, seconds.
    pub skew_s_max: u64,
    /// Something is wrong on purpose, so that a check is seen failing.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// Two co-ops, two members, one room: the smallest world in which everything has its place.
    pub const PAIR: Self = Self {
        coops: 2,
        members: 2,
        rooms: 1,
        voters: 1,
        acts: 24,
        faults: 24,
        restores: 0,
        idles: 0,
        lies: 0,
        garbles: 0,
        mad: 0,
        rough_ms: 30 * SECOND,
        calm_ms: 240 * SECOND,
        tear_one_in: 60,
        crash_one_in: 400,
        session_queue: SESSION_QUEUE_MESSAGES_MAX,
        skew_s_max: 30,
        mutant: None,
    };

    /// The largest.
    pub const FULL: Self =
        Self { coops: 7, members: 40, rooms: 4, acts: 100, faults: 80, rough_ms: 120 * SECOND, tear_one_in: 600, ..Self::PAIR };

    /// Nine in ten seeds are small, one in a hundred is of full size, the others lie between.
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x706c_616e);
        let mut plan = match dice.roll(100) {
            0 => Self::FULL,
            1..=9 => Self {
                coops: dice.between(3, 6) as usize,
                members: dice.between(6, 16) as usize,
                rooms: dice.between(1, 3) as usize,
                acts: 60,
                faults: 50,
                rough_ms: 60 * SECOND,
                tear_one_in: 150,
                ..Self::PAIR
            },
            _ => Self {
                coops: dice.between(1, 3) as usize,
                members: dice.between(2, 5) as usize,
                rooms: dice.between(1, 2) as usize,
                acts: dice.between(10, 30),
                faults: dice.between(5, 30),
                ..Self::PAIR
            },
        };
        // Every other world in which a room can have three voters has rooms that outlive their hubs.
        if plan.coops >= 3 && dice.roll(2) == 0 {
            plan.voters = if plan.coops >= 5 && dice.roll(2) == 0 { 5 } else { 3 };
            plan.rough_ms = plan.rough_ms.max(150 * SECOND);
        }
        // The same number of faults, stretched: outages last as long as the weather lets them.
        plan.rough_ms = match dice.roll(200) {
            0 => dice.between(DAY, 14 * DAY),
            1..=4 => dice.between(2 * HOUR, DAY),
            5..=30 => dice.between(300 * SECOND, HOUR),
            _ => dice.between(plan.rough_ms / 2, plan.rough_ms * 2),
        };
        if dice.roll(4) == 0 {
            // Small enough that a reader who is a little slow falls behind.
            plan.session_queue = dice.between(34, 48) as usize;
        }
        if dice.roll(10) == 0 {
            plan.skew_s_max = 12 * 3_600;
        }
        // Dice of its own: what else a seed means does not hang on it.
        let mut restores = Dice::new(seed ^ 0x7265_7374);
        if plan.coops >= 2 && restores.roll(4) == 0 {
            plan.restores = restores.between(1, 4);
        }
        let mut idles = Dice::new(seed ^ 0x6964_6c65);
        if plan.coops >= 2 && idles.roll(4) == 0 {
            plan.idles = idles.between(1, 4);
        }
        let mut lies = Dice::new(seed ^ 0x6c69_6573);
        if lies.roll(4) == 0 {
            plan.lies = lies.between(1, 4);
        }
        let mut garbles = Dice::new(seed ^ 0x6761_7262);
        if garbles.roll(4) == 0 {
            plan.garbles = garbles.between(1, 4);
        }
        let mut mad = Dice::new(seed ^ 0x6d61_6421);
        if plan.members > 3 && mad.roll(4) == 0 {
            plan.mad = mad.between(1, 3);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_seeds_are_small_and_some_are_of_full_size() {
        let plans: Vec<Plan> = (0..10_000).map(Plan::of_seed).collect();
        let small = plans.iter().filter(|plan| plan.coops <= 3 && plan.members <= 5).count();
        let full = plans.iter().filter(|plan| (plan.coops, plan.members) == (7, 40)).count();
        assert!((8_700..9_300).contains(&small), "{small}");
        assert!((60..140).contains(&full), "{full}");
        assert!(plans.iter().any(|plan| plan.rough_ms > 7 * DAY));
    }
}
