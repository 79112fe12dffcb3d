//! Seeds in CI: some fixed, among them whatever once failed, and the promise that a seed repeats itself.

use kith_sim::{Plan, run};

#[test]
fn fixed_seeds_hold() {
    for seed in 1..=20 {
        let outcome = run(seed, Plan::default()).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(outcome.acknowledged > 0 && outcome.trace.len() > 20, "seed {seed}: {outcome:?}");
    }
}

#[test]
fn a_larger_circle_holds() {
    for seed in [100, 101, 102] {
        let plan = Plan { members: 6, messages: 60, ..Plan::default() };
        run(seed, plan).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn the_same_seed_takes_the_same_decisions() {
    let (one, other) = (run(7, Plan::default()).unwrap(), run(7, Plan::default()).unwrap());
    assert_eq!(one, other);
    assert_ne!(one.trace, run(8, Plan::default()).unwrap().trace);
}
