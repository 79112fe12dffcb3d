//! `kith-bench`: what the server costs, against the budgets of `docs/`. It runs a real `kithd` of the release profile on
//! loopback and is itself the load, in a process of its own; where a figure depends on the machine, a bare reference runs
//! beside it.

mod append;
mod bare;
mod bytes;
mod conns;
mod crowd;
mod device;
mod fanout;
mod link;
mod meter;
mod process;
mod report;
mod room;
mod tls;
mod wire;

use anyhow::bail;
use clap::Parser;

use crate::report::Report;

/// Measures the server and the protocol against their budgets.
#[derive(Parser)]
#[command(name = "kith-bench", version)]
struct Arguments {
    /// bytes, append, fanout, conns or link; all of them if it is left out.
    name: Option<String>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// How many entries the room of `link` has.
    #[arg(long, default_value_t = 200_000)]
    entries: u64,
}

fn main() -> anyhow::Result<()> {
    // Before anything starts: children inherit it.
    process::raise_open_files()?;
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut report = Report::new(arguments.json);
    match arguments.name.as_deref() {
        // The reference, started by the benchmarks themselves; not for people.
        Some(bare::SUBCOMMAND) => return bare::serve().await,
        Some("bytes") => bytes::run(&mut report).await?,
        Some("append") => append::run(&mut report).await?,
        Some("fanout") => fanout::run(&mut report).await?,
        Some("conns") => conns::run(&mut report).await?,
        Some("link") => link::run(&mut report, arguments.entries).await?,
        Some(other) => bail!("there is no benchmark {other}; there are bytes, append, fanout, conns and link"),
        None => {
            bytes::run(&mut report).await?;
            append::run(&mut report).await?;
            fanout::run(&mut report).await?;
            conns::run(&mut report).await?;
            link::run(&mut report, arguments.entries).await?;
        }
    }
    report.finish();
    Ok(())
}
