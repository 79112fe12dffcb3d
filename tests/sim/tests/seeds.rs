//! Seeds in CI: some fixed, among them whatever once failed; some new each time; and the promise that a seed repeats itself.

use std::time::{SystemTime, UNIX_EPOCH};

use kith_sim::{Outcome, Plan, run};

/// New seeds of each test run.
const NEW_SEEDS: u64 = 20;

fn hold(seed: u64, plan: Plan) -> Outcome {
    run(seed, plan).unwrap_or_else(|failure| panic!("seed {seed} with {plan:?}: {failure}\n  again: cargo xtask sim --seed {seed}"))
}

#[test]
fn fixed_seeds_hold() {
    for seed in 1..=30 {
        let outcome = hold(seed, Plan::of_seed(seed));
        assert!(outcome.trace.lines().len() > 20, "seed {seed}: {outcome:?}");
    }
}

#[test]
fn new_seeds_hold() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let base = clock % 1_000_000_000;
    println!("seeds from {base}");
    (base..base + NEW_SEEDS).for_each(|seed| drop(hold(seed, Plan::of_seed(seed))));
}

#[test]
fn a_world_of_full_size_holds() {
    let outcome = hold(1, Plan::FULL);
    assert!(outcome.acknowledged > 50, "{}", outcome.acknowledged);
}

/// Two weeks, of which up to one passes between groups of co-ops that do not reach each other.
#[test]
fn weeks_apart_hold() {
    let outcome = hold(3, Plan { coops: 3, members: 4, rough_ms: 14 * 24 * 3_600_000, ..Plan::PAIR });
    assert!(outcome.virtual_ms > 14 * 24 * 3_600_000);
}

#[test]
fn the_same_seed_takes_the_same_decisions() {
    for seed in [7, 8, 9] {
        let (one, other) = (hold(seed, Plan::of_seed(seed)), hold(seed, Plan::of_seed(seed)));
        assert_eq!(one.trace.parts_from(&other.trace), None);
        assert_eq!(one, other);
        assert!(one.trace.parts_from(&hold(seed + 100, Plan::of_seed(seed)).trace).is_some());
    }
}

/// A fault that never happens is not tested.
#[test]
fn every_kind_of_fault_happens() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 200..212 {
        let plan = Plan { coops: 3, members: 5, rooms: 2, acts: 80, faults: 60, session_queue: 34, crash_one_in: 100, ..Plan::PAIR };
        kinds.extend(hold(seed, plan).faults.into_keys());
    }
    for kind in [
        "a session lags",
        "a step is torn",
        "a transaction finds the disk full",
        "clock set",
        "co-op's crash",
        "crash after a commit",
        "crash before a commit",
        "disk full",
        "jitter",
        "link cut",
        "link half open",
        "member's crash",
        "one way is dead",
        "partition",
        "session cut",
        "session half open",
        "slow reader",
        "throttled",
    ] {
        assert!(kinds.contains(kind), "{kind:?} is not among {kinds:?}");
    }
}
