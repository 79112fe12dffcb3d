//! The commands that everything hangs on. `cargo xtask --help` lists them.

mod fuzz;
mod setup;
mod tasks;
mod up;
mod wasm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests, measures and runs Kith from a checkout. Each command sets up what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build and run a co-op here, and print what to paste next. Data survive a restart. With KITH_BIN_DIR nothing is
    /// built, and the programs there run.
    Up {
        /// How many co-ops: 2 are neighbours of each other.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
        coops: u8,
        /// Where their folders are. Without it: `up`, where cargo builds.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The first of their ports: co-op N listens at it + N, and for its neighbours at it + 10 + N.
        #[arg(long, default_value_t = 7401, value_parser = clap::value_parser!(u16).range(1..=65_000))]
        port: u16,
    },
    /// Set up and pass all tests.
    Test,
    /// Formatting, lints, bans, licences and sources of the dependencies, the systemd unit, and the wasm build of the client. The rules of the house are tests.
    Check,
    /// Measure. Without a name, everything.
    Bench {
        /// bytes, append, fanout, conns or link.
        name: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// How many entries the room of `link` has, if not as many as usual.
        #[arg(long)]
        entries: Option<u64>,
    },
    /// Run the simulator.
    Sim {
        /// How many random seeds.
        #[arg(long, default_value_t = 20)]
        seeds: u32,
        /// One seed, again.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Fuzz every decoder.
    Fuzz {
        /// In all, shared among the targets.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.task {
        Task::Up { coops, dir, port } => up::up(coops, dir, port),
        Task::Test => tasks::test(),
        Task::Check => tasks::check(),
        Task::Bench { name, json, entries } => tasks::bench(name.as_deref(), json, entries),
        Task::Sim { seeds, seed } => tasks::sim(seeds, seed),
        Task::Fuzz { seconds } => fuzz::fuzz(seconds),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
