//! `cargo xtask sim`: runs seeds, says how to repeat one that failed, and what all of it came to.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kith_sim::trace::SHOWN;
use kith_sim::{Outcome, Plan, run};

const HOUR_MS: f64 = 3_600_000.0;

/// What all seeds came to together.
#[derive(Default)]
struct Sum {
    faults: BTreeMap<&'static str, u64>,
    /// Hours of all servers, virtual.
    server_hours: f64,
    entries: u64,
    frames: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        for (kind, times) in &outcome.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        self.server_hours += outcome.plan.coops as f64 * outcome.virtual_ms as f64 / HOUR_MS;
        self.entries += outcome.entries;
        self.frames += outcome.traffic.session_frames + outcome.traffic.link_frames;
        self.bytes += outcome.traffic.session_bytes + outcome.traffic.link_bytes;
    }

    fn print(&self, took: Duration) {
        println!("faults:");
        for (kind, times) in &self.faults {
            println!("  {times:>8} {kind}");
        }
        let (hours, minutes) = (self.server_hours, took.as_secs_f64() / 60.0);
        println!("{hours:.1} virtual server-hours, {:.1} a minute of one core", hours / minutes);
        let a_server_hour = |what: u64| what as f64 / hours;
        println!(
            "a server-hour carries {:.1} entries, {:.1} frames, {:.0} bytes",
            a_server_hour(self.entries),
            a_server_hour(self.frames),
            a_server_hour(self.bytes)
        );
    }
}

/// The seed's own plan, but for what the command line says.
fn planned(seed: u64, value: impl Fn(&str) -> Option<u64>) -> Plan {
    let plan = Plan::of_seed(seed);
    let size = |name: &str, own: usize| value(name).map_or(own, |value| value as usize);
    Plan {
        coops: size("--coops", plan.coops),
        members: size("--members", plan.members),
        rooms: size("--rooms", plan.rooms),
        acts: value("--acts").unwrap_or(plan.acts),
        faults: value("--faults").unwrap_or(plan.faults),
        restores: value("--restores").unwrap_or(plan.restores),
        idles: value("--idles").unwrap_or(plan.idles),
        mad: value("--mad").unwrap_or(plan.mad),
        lies: value("--lies").unwrap_or(plan.lies),
        garbles: value("--garbles").unwrap_or(plan.garbles),
        rough_ms: value("--rough-ms").unwrap_or(plan.rough_ms),
        crash_one_in: value("--crash-one-in").unwrap_or(plan.crash_one_in),
        session_queue: size("--session-queue", plan.session_queue),
        skew_s_max: value("--skew-s").unwrap_or(plan.skew_s_max),
        ..plan
    }
}

/// What runs a seed once more, with whatever the command line said of its plan.
fn again(seed: u64, arguments: &[String]) -> String {
    let mut own = Vec::new();
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let value = rest.next();
        if !["--seed", "--seeds", "--from", "--lines"].contains(&argument.as_str()) {
            own.push(argument.as_str());
            own.extend(value.map(String::as_str));
        }
    }
    if own.is_empty() {
        format!("cargo xtask sim --seed {seed}")
    } else {
        format!("cargo run -p kith-sim -- --seed {seed} {}", own.join(" "))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).and_then(|v| v.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seeds: Vec<u64> = match value("--seed") {
        Some(seed) => vec![seed],
        None => {
            let base = value("--from").unwrap_or(clock % 1_000_000_000);
            println!("seeds from {base}");
            (0..value("--seeds").unwrap_or(20)).map(|i| base + i).collect()
        }
    };
    let begun = Instant::now();
    let (mut failed, mut sum) = (0, Sum::default());
    for seed in &seeds {
        let plan = planned(*seed, value);
        let since = Instant::now();
        match run(*seed, plan) {
            Ok(outcome) => {
                println!(
                    "seed {seed}: {} co-ops, {} members, {} rooms, {} entries, {} acknowledged, {} faults in {:.1} h, at rest after {} ms ({:.2} s)",
                    plan.coops,
                    plan.members,
                    plan.rooms,
                    outcome.entries,
                    outcome.acknowledged,
                    outcome.faults.values().sum::<u64>(),
                    outcome.virtual_ms as f64 / HOUR_MS,
                    outcome.rest_ms,
                    since.elapsed().as_secs_f32()
                );
                sum.add(&outcome);
            }
            Err(failure) => {
                failed += 1;
                let shown = value("--lines").map_or(SHOWN, |lines| lines as usize);
                println!("seed {seed}: FAILED: {}\n{}", failure.violation, failure.trace.tail(shown));
                println!("  again: {}", again(*seed, &arguments));
            }
        }
    }
    let took = begun.elapsed();
    sum.print(took);
    println!("{} seeds, {failed} failed, {:.1} s", seeds.len(), took.as_secs_f32());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
