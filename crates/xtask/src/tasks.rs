//! Tests, checks, measurements.

use anyhow::{Result, bail};

use crate::setup::{cargo, command, need_cargo_tool, need_program, run, target_dir};

/// All tests: the pure ones, the stores, and the real binaries.
pub fn test() -> Result<()> {
    need_cargo_tool("nextest", &[])?;
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let bins = target_dir()?.join("debug");
    run(cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]).env("KITH_BIN_DIR", bins))
}

/// Neither a quick program nor one that fetches anything is needed to look at a lock file: it builds in a minute.
const DENY_OPTIONS: [&str; 5] =
    ["--no-default-features", "--config", "profile.release.opt-level=0", "--config", "profile.release.lto=false"];

/// Formatting, lints, what the dependencies are, the systemd unit, and the client for wasm32. The rules of the house are
/// tests.
pub fn check() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    need_cargo_tool("deny", &DENY_OPTIONS)?;
    run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    advisories()?;
    need_program("systemd-analyze", "systemd")?;
    run(&mut cargo(&["build", "-p", "kith-relay", "--bin", "kithd"]))?;
    run(command("bash").arg("deploy/check.sh").arg(target_dir()?.join("debug/kithd")))?;
    crate::wasm::check()
}

/// A known hole in a dependency fails the check. Where the database of advisories cannot be fetched, that is said, and nothing
/// more: this machine may have no way out.
fn advisories() -> Result<()> {
    let output = cargo(&["deny", "check", "advisories"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    if said.contains("failed to fetch advisory database") {
        println!("ADVISORIES WERE NOT CHECKED: their database cannot be fetched from here. Run `cargo deny check advisories` where it can");
        return Ok(());
    }
    bail!("an advisory is about one of the dependencies:\n{said}");
}

pub fn bench(name: Option<&str>, json: bool, entries: Option<u64>) -> Result<()> {
    run(&mut cargo(&["build", "--release", "--bins"]))?;
    let mut bench = cargo(&["run", "--release", "--quiet", "-p", "kith-bench", "--"]);
    bench.args(name);
    if json {
        bench.arg("--json");
    }
    if let Some(entries) = entries {
        bench.args(["--entries", &entries.to_string()]);
    }
    run(bench.env("KITH_BIN_DIR", target_dir()?.join("release")))
}

/// For so many seeds an optimised build is worth its time.
const SEEDS_OPTIMISED: u32 = 200;

pub fn sim(seeds: u32, seed: Option<u64>) -> Result<()> {
    let mut sim = cargo(&["run", "--quiet", "-p", "kith-sim"]);
    if seed.is_none() && seeds >= SEEDS_OPTIMISED {
        sim.arg("--release");
    }
    sim.arg("--");
    match seed {
        Some(seed) => sim.args(["--seed", &seed.to_string()]),
        None => sim.args(["--seeds", &seeds.to_string()]),
    };
    run(&mut sim)
}
