//! What an idle connection costs in memory: authenticated, in one room, read to its end. And what happens when all of them
//! come back at once.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::bare;
use crate::device::random;
use crate::meter::Socket;
use crate::process::{Coop, Server};
use crate::report::{Figure, Report};
use crate::room::{self, Seat};
use crate::wire::Line;

const BENCH: &str = "conns";
const CASES: [(&str, usize); 2] = [("rss_per_connection_1000", 1_000), ("rss_per_connection_10000", 10_000)];
const GOAL_KIB: f64 = 8.0;
/// Of the bare one, where the goal was set.
const BARE_KIB: f64 = 4.5;

/// How many come back at once, how many messages each has missed, and how long all of them together may take.
const STORM: usize = 5_000;
const MISSED: u64 = 50;
const STORM_GOAL_S: f64 = 60.0;
/// As a device waits before it tries again: twice as long each time, within bounds.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Resident memory per connection at each number. The sockets stay open all the while.
struct Ladder<'a> {
    server: &'a Server,
    sockets: Vec<Socket>,
    before_kib: f64,
}

impl<'a> Ladder<'a> {
    /// One connection first: what the server allocates once is no cost of a connection.
    fn begin(server: &'a Server, first: Socket) -> anyhow::Result<Self> {
        Ok(Self { server, sockets: vec![first], before_kib: server.resident_kib()? })
    }

    fn kib_each(&self) -> anyhow::Result<f64> {
        Ok((self.server.resident_kib()? - self.before_kib) / (self.sockets.len() - 1) as f64)
    }
}

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::bare()?;
    let mut ladder = Ladder::begin(&server, bare::connect(server.port, 0).await?)?;
    let mut bare_kib = Vec::new();
    for (_, connections) in CASES {
        while ladder.sockets.len() <= connections {
            ladder.sockets.push(bare::connect(server.port, 0).await?);
        }
        bare_kib.push(ladder.kib_each()?);
    }
    drop(ladder);

    let coop = Coop::start()?;
    let seats = room::of(1, coop.invite(1)?).await?;
    let Some(seat) = seats.first() else { return Ok(()) };
    let mut ladder = Ladder::begin(&coop.server, seat.connect(coop.server.port).await?)?;
    for ((case, connections), bare) in CASES.into_iter().zip(bare_kib) {
        while ladder.sockets.len() <= connections {
            ladder.sockets.push(seat.connect(coop.server.port).await?);
        }
        let value = ladder.kib_each()?;
        report.add(Figure::relative(BENCH, case, value, "KiB", GOAL_KIB, bare, BARE_KIB));
    }
    drop(ladder);
    let seconds =
        timeout(2 * Duration::from_secs_f64(STORM_GOAL_S), storm(coop.server.port, seat)).await.context("not all came back")??;
    report.add(Figure::at_most(BENCH, "storm_5000", seconds, "s", STORM_GOAL_S));
    Ok(())
}

/// Messages are said while nobody is there; then everybody comes at once. Seconds until the last has read them all.
async fn storm(port: u16, seat: &Seat) -> anyhow::Result<f64> {
    let mut socket = seat.connect(port).await?;
    let mut line = Line::kith(seat.clone());
    let noise = random()?;
    for stamp in 0..MISSED {
        socket.send(Message::Binary(line.message(stamp, &noise))).await?;
        while !line.hear(next(&mut socket).await?)?.own {}
    }
    drop(socket);
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for at in 0..STORM {
        let seat = seat.clone();
        all.spawn(async move {
            let (mut wait, longest) = AGAIN;
            loop {
                // One that is turned away comes again, not at the same time as the others.
                match read_on(port, &seat).await {
                    Ok(socket) => return socket,
                    Err(_) => sleep(wait / 2 + wait.mul_f64(at as f64 / STORM as f64 / 2.0)).await,
                }
                wait = (2 * wait).min(longest);
            }
        });
    }
    let open = all.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    if open.len() == STORM { Ok(seconds) } else { bail!("{} came back", open.len()) }
}

async fn next(socket: &mut Socket) -> anyhow::Result<bytes::Bytes> {
    loop {
        if let Message::Binary(bytes) = socket.next().await.context("the server closed the connection")?? {
            return Ok(bytes);
        }
    }
}

/// A session that reads what was missed.
async fn read_on(port: u16, seat: &Seat) -> anyhow::Result<Socket> {
    let (socket, read) = seat.connect_counting(port).await?;
    if read >= MISSED { Ok(socket) } else { bail!("{read} of {MISSED} messages came") }
}
