//! Running things, and setting up what is missing on a fresh machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The checkout's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in crates/xtask").to_owned()
}

/// What cargo says of this workspace and its own packages.
pub fn metadata() -> Result<Value> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::inherit()).output()?;
    serde_json::from_slice(&output.stdout).context("cargo does not describe the workspace")
}

/// Where cargo builds, by its own word: it reads CARGO_TARGET_DIR and its configuration files, and takes a relative one
/// from the root, where every command here runs.
pub fn target_dir() -> Result<PathBuf> {
    let dir = metadata()?["target_directory"].as_str().context("cargo names no target directory")?.to_owned();
    Ok(PathBuf::from(dir))
}

/// Caches that outlive a checkout: toolchains are large and the same for every one.
pub fn cache_dir() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("there is no HOME to keep a cache in")?.join("kith"))
}

pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments);
    command
}

/// Runs it, and shows what it runs.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", line(command));
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether a program answers.
pub fn has(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Installs a Debian package if a program of it is missing.
pub fn need_program(program: &str, package: &str) -> Result<()> {
    if has(program, "--version") {
        return Ok(());
    }
    run(command("apt-get").args(["update", "-qq"]))?;
    run(command("apt-get").args(["install", "-y", "-qq", package]))
}

/// Installs a cargo subcommand if it is missing.
pub fn need_cargo_tool(subcommand: &str, options: &[&str]) -> Result<()> {
    if cargo(&[subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
        return Ok(());
    }
    run(cargo(&["install", "--locked", &format!("cargo-{subcommand}")]).args(options))
}
