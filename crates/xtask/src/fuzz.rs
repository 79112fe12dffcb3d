//! libFuzzer over every decoder, on stable Rust: the instrumentation is LLVM's own, switched on by flags.

use std::fs;
use std::process::Command;

use crate::setup::{cargo, metadata, root, run, target_dir};
use anyhow::{Context, Result, bail};

/// Builds all targets and gives each its share of the time. What one finds is left in `fuzz/artifacts`.
pub fn fuzz(seconds: u64) -> Result<()> {
    let dir = target_dir()?.join("fuzz");
    let mut build = cargo(&["build", "--config", "tests/fuzz/config.toml", "-p", "kith-fuzz", "--features", "libfuzzer", "--bins"]);
    run(build.env("CARGO_TARGET_DIR", &dir))?;
    let seeds = dir.join("seeds");
    run(cargo(&["run", "--quiet", "-p", "kith-fuzz", "--example", "seeds", "--"]).arg(&seeds))?;
    let targets = targets()?;
    let bins = dir.join(host()?).join("debug");
    let artifacts = dir.join("artifacts");
    fs::create_dir_all(&artifacts)?;
    let share = seconds.div_ceil(targets.len().max(1) as u64).max(1);
    let mut found = Vec::new();
    for target in &targets {
        let corpus = dir.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        let mut fuzzer = Command::new(bins.join(target));
        fuzzer.arg(format!("-max_total_time={share}")).args(["-timeout=5", "-rss_limit_mb=1024", "-max_len=8192"]);
        fuzzer.arg(format!("-artifact_prefix={}/{target}-", artifacts.display()));
        fuzzer.arg(corpus);
        fuzzer.args([root().join("tests/fuzz/seeds").join(target), seeds.join(target)].into_iter().filter(|seeds| seeds.exists()));
        if run(&mut fuzzer).is_err() {
            found.push(target.clone());
        }
    }
    if !found.is_empty() {
        bail!("found something in {}: look in {}", found.join(", "), artifacts.display());
    }
    println!("{} targets, {share} s each, nothing found", targets.len());
    Ok(())
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn targets() -> Result<Vec<String>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|package| package["name"] == "kith-fuzz").context("no kith-fuzz")?;
    let bins = package["targets"].as_array().into_iter().flatten().filter(|target| target["kind"][0] == "bin");
    Ok(bins.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}
