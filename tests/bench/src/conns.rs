//! What an idle connection costs in memory: authenticated, in one room, read to its end; a thousand devices, then ten
//! connections of each. And what happens when all of them come back at once.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::bare;
use crate::device::random;
use crate::fanout::MEMBERS;
use crate::meter::Socket;
use crate::process::{Coop, Server};
use crate::report::{Figure, Report};
use crate::room::{self, Seat};
use crate::tls;
use crate::wire::Line;

const BENCH: &str = "conns";
const CASES: [(&str, usize); 2] = [("rss_per_connection_1000", 1_000), ("rss_per_connection_10000", 10_000)];
const GOAL_KIB: f64 = 8.0;
/// Of the bare one, where the goal was set.
const BARE_KIB: f64 = 4.5;
/// With TLS on top.
const TLS: (&str, usize, f64) = ("rss_per_tls_connection_10000", 10_000, 16.0);
/// A thousand members, each with a device.
const ROOMS: usize = 20;

/// How many come back at once, how many messages each has missed, and how long all of them together may take.
const STORM: usize = 5_000;
const MISSED: u64 = 50;
const STORM_GOAL_S: f64 = 60.0;
/// As a device waits before it tries again: twice as long each time, within bounds.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Resident memory per connection at each number. The sockets stay open all the while.
struct Ladder<'a, S> {
    server: &'a Server,
    sockets: Vec<S>,
    /// Connections at first: what the server allocates once, and for a room once, is no cost of a connection.
    first: usize,
    before_kib: f64,
}

impl<'a, S> Ladder<'a, S> {
    async fn begin(server: &'a Server, first: usize, connect: impl AsyncFn(usize) -> anyhow::Result<S>) -> anyhow::Result<Self> {
        let mut ladder = Self { server, sockets: Vec::new(), first, before_kib: 0.0 };
        ladder.climb(0, &connect).await?;
        ladder.before_kib = server.resident_kib()?;
        Ok(ladder)
    }

    /// So many more than at first; KiB each.
    async fn climb(&mut self, connections: usize, connect: impl AsyncFn(usize) -> anyhow::Result<S>) -> anyhow::Result<f64> {
        while self.sockets.len() < self.first + connections {
            self.sockets.push(connect(self.sockets.len()).await?);
        }
        Ok((self.server.resident_kib()? - self.before_kib) / connections as f64)
    }
}

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::bare()?;
    let connect = async |_| bare::connect(server.port, 0).await;
    let mut ladder = Ladder::begin(&server, 1, connect).await?;
    let mut bare_kib = Vec::new();
    for (_, connections) in CASES {
        bare_kib.push(ladder.climb(connections, connect).await?);
    }
    drop(ladder);

    let mut coop = Coop::start()?;
    let seats = room::many(ROOMS, MEMBERS, &coop).await?;
    // What the thousand joins left in memory is no cost of a connection either.
    coop.stop()?;
    coop.restart()?;
    // One of each room at first.
    let seat = |at: usize| &seats[at % ROOMS * MEMBERS + at / ROOMS % MEMBERS];
    let connect = async |at| seat(at).connect(coop.server.port).await;
    let mut ladder = Ladder::begin(&coop.server, ROOMS, connect).await?;
    for ((case, connections), bare) in CASES.into_iter().zip(bare_kib) {
        let value = ladder.climb(connections, connect).await?;
        report.add(Figure::relative(BENCH, case, value, "KiB", GOAL_KIB, bare, BARE_KIB));
    }
    drop(ladder);
    let came_back = timeout(2 * Duration::from_secs_f64(STORM_GOAL_S), storm(coop.server.port, &seats[..MEMBERS]));
    let seconds = came_back.await.context("not all came back")??;
    report.add(Figure::at_most(BENCH, "storm_5000", seconds, "s", STORM_GOAL_S));

    // The same co-op, which now does TLS itself.
    coop.stop()?;
    let dialler = tls::Dialler::to(&mut coop)?;
    let connect = async |at| {
        let mut socket = dialler.connect().await?;
        seat(at).greet(&mut socket).await?;
        anyhow::Ok(socket)
    };
    let (case, connections, goal) = TLS;
    let value = Ladder::begin(&coop.server, ROOMS, connect).await?.climb(connections, connect).await?;
    report.add(Figure::at_most(BENCH, case, value, "KiB", goal));
    Ok(())
}

/// Messages are said in a room while nobody is there; then everybody comes at once. Seconds until the last has read them all.
async fn storm(port: u16, room: &[Seat]) -> anyhow::Result<f64> {
    let author = room.first().context("somebody")?;
    let mut socket = author.connect(port).await?;
    let mut line = Line::kith(author.clone());
    let noise = random()?;
    for stamp in 0..MISSED {
        socket.send(Message::Binary(line.message(stamp, &noise))).await?;
        while !line.hear(next(&mut socket).await?)?.own {}
    }
    drop(socket);
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for at in 0..STORM {
        let seat = room[at % room.len()].clone();
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
