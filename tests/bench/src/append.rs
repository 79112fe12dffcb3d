//! Durable messages a second: fifty members of one room, each with one message in flight. Beside it, what the disk gives a
//! bare loop.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::crowd::percentile;
use crate::fanout::{MEMBERS, connect};
use crate::process::Coop;
use crate::report::{Figure, Report};
use crate::room;

const BENCH: &str = "append";
const WARM: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(6);
const REFERENCE: Duration = Duration::from_secs(2);

/// Writes and fsyncs of 4 KiB a second, one after another.
fn fsyncs_per_second(dir: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(dir.join("fsync"))?;
    let page = [0x5a; 4_096];
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < REFERENCE {
        // As a write-ahead log that is used again: the file keeps its length.
        if count.is_multiple_of(256) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&page)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let coop = Coop::start()?;
    let fsyncs = fsyncs_per_second(coop.dir.path())?;
    let seats = room::of(MEMBERS, coop.invite(MEMBERS)?).await?;
    let crowd = connect(&coop, seats).await?;
    let all: Vec<usize> = (0..MEMBERS).collect();
    let outcome = crowd.closed_loop(&all, WARM, MEASURED, &coop.server).await?;
    outcome.tell("append");
    let (rate, p99) = (outcome.messages_per_second(), percentile(&outcome.placed_after, 990));
    eprintln!("append: p50 {:.1} ms, p99 {p99:.1} ms; the disk: {fsyncs:.0} fsyncs/s", percentile(&outcome.placed_after, 500));
    let (rate_goal, p99_goal) = (3_000.0, 100.0);
    report.add(Figure {
        bench: BENCH,
        case: "durable_per_second",
        value: rate,
        unit: "messages/s",
        goal: rate_goal,
        reference: Some(fsyncs),
        ok: rate >= rate_goal,
    });
    report.add(Figure {
        bench: BENCH,
        case: "p99",
        value: p99,
        unit: "ms",
        goal: p99_goal,
        reference: Some(1_000.0 / fsyncs),
        ok: p99 <= p99_goal,
    });
    Ok(())
}
