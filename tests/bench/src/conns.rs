//! What an idle connection costs in memory: authenticated, in one room, read to its end.

use crate::bare;
use crate::meter::Socket;
use crate::process::{Coop, Server};
use crate::report::{Figure, Report};
use crate::room;

const BENCH: &str = "conns";
const CASES: [(&str, usize); 2] = [("rss_per_connection_1000", 1_000), ("rss_per_connection_10000", 10_000)];
const GOAL_KIB: f64 = 8.0;
/// Of the bare one, where the goal was set.
const BARE_KIB: f64 = 4.5;

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
    Ok(())
}
