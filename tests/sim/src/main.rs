//! `cargo xtask sim`: runs seeds, and says how to repeat one that failed.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kith_sim::{Plan, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seeds: Vec<u64> = match value("--seed") {
        Some(seed) => vec![seed],
        None => {
            let base = clock % 1_000_000_000;
            println!("seeds from {base}");
            (0..value("--seeds").unwrap_or(20)).map(|i| base + i).collect()
        }
    };
    let begun = Instant::now();
    let mut failed = 0;
    for seed in &seeds {
        // One run in ten is larger.
        let plan = if seed % 10 == 0 { Plan { members: 6, messages: 60, ..Plan::default() } } else { Plan::default() };
        match run(*seed, plan) {
            Ok(outcome) => println!(
                "seed {seed}: {} entries, {} acknowledged, {:?}, at rest after {} ms",
                outcome.trace.len(),
                outcome.acknowledged,
                outcome.faults,
                outcome.rest_ms
            ),
            Err(why) => {
                failed += 1;
                println!("seed {seed}: FAILED: {why}\n  again: cargo xtask sim --seed {seed}");
            }
        }
    }
    println!("{} seeds, {failed} failed, {:.1} s", seeds.len(), begun.elapsed().as_secs_f32());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
