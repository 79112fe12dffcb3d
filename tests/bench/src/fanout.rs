//! What a delivery costs the server, and how long it takes; beside it, the bare broadcaster under the same load.

use std::time::Duration;

use crate::bare;
use crate::crowd::{Crowd, Outcome, percentile};
use crate::process::{Coop, Server};
use crate::report::{Figure, Report};
use crate::room::{self, Seat};
use crate::wire::Line;

const BENCH: &str = "fanout";
pub const MEMBERS: usize = 50;
const ROOMS: usize = 20;
const WARM: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(6);
/// Members of each of many rooms who speak: 200 in all.
const SPEAKERS: usize = 10;
const PER_SECOND: u32 = 20;
const PACED: usize = 200;

pub async fn connect(coop: &Coop, seats: Vec<Seat>) -> anyhow::Result<Crowd> {
    let mut connections = Vec::new();
    for seat in seats {
        connections.push((seat.connect(coop.server.port).await?, Line::kith(seat)));
    }
    Crowd::of(connections, MEMBERS)
}

async fn connect_bare(server: &Server, rooms: usize) -> anyhow::Result<Crowd> {
    let mut connections = Vec::new();
    for at in 0..rooms * MEMBERS {
        let (room, me) = (u16::try_from(at / MEMBERS)?, u16::try_from(at % MEMBERS)?);
        connections.push((bare::connect(server.port, room).await?, Line::Bare { room, me }));
    }
    Crowd::of(connections, MEMBERS)
}

struct Single {
    full: Outcome,
    single: Outcome,
    paced: Outcome,
}

async fn one_room(crowd: &Crowd, server: &Server, whose: &str) -> anyhow::Result<Single> {
    let all: Vec<usize> = (0..MEMBERS).collect();
    let full = crowd.closed_loop(&all, WARM, MEASURED, server).await?;
    full.tell(&format!("fanout {whose}, 50 in flight"));
    let single = crowd.one_at_a_time(WARM, MEASURED, server).await?;
    single.tell(&format!("fanout {whose}, 1 in flight"));
    let paced = crowd.paced(PER_SECOND, PACED, server).await?;
    paced.tell(&format!("fanout {whose}, 20 a second"));
    Ok(Single { full, single, paced })
}

async fn many_rooms(crowd: &Crowd, server: &Server, whose: &str) -> anyhow::Result<Outcome> {
    let speakers: Vec<usize> = (0..ROOMS).flat_map(|room| (0..SPEAKERS).map(move |member| room * MEMBERS + member)).collect();
    let outcome = crowd.closed_loop(&speakers, WARM, MEASURED, server).await?;
    outcome.tell(&format!("fanout {whose}, 20 rooms"));
    Ok(outcome)
}

async fn bare_figures() -> anyhow::Result<(Single, Outcome)> {
    let server = Server::bare()?;
    let one = one_room(&connect_bare(&server, 1).await?, &server, "bare").await?;
    drop(server);
    let server = Server::bare()?;
    let many = many_rooms(&connect_bare(&server, ROOMS).await?, &server, "bare").await?;
    Ok((one, many))
}

async fn kith_figures() -> anyhow::Result<(Single, Outcome)> {
    let coop = Coop::start()?;
    let seats = room::of(MEMBERS, coop.invite(MEMBERS)?).await?;
    let one = one_room(&connect(&coop, seats).await?, &coop.server, "kithd").await?;
    drop(coop);
    let coop = Coop::start()?;
    // Every member of every room is a device of its own: shared ones would get several rooms' messages in one write.
    let seats = room::many(ROOMS, MEMBERS, &coop).await?;
    let many = many_rooms(&connect(&coop, seats).await?, &coop.server, "kithd").await?;
    Ok((one, many))
}

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let (bare_one, bare_many) = bare_figures().await?;
    let (one, many) = kith_figures().await?;
    let cpu = "s/100k deliveries";
    for (case, outcome, goal, reference, bare) in [
        ("room_of_50_in_flight_50", &one.full, 0.17, &bare_one.full, 0.065),
        ("room_of_50_in_flight_1", &one.single, 0.9, &bare_one.single, 0.585),
        ("20_rooms_in_flight_200", &many, 0.3, &bare_many, 0.15),
    ] {
        report.add(Figure::relative(BENCH, case, outcome.cpu_per_100k(), cpu, goal, reference.cpu_per_100k(), bare));
    }
    for (case, per_mille, goal, bare) in [("latency_20_per_s_p50", 500, 1.5, 0.56), ("latency_20_per_s_p99", 990, 5.0, 0.99)] {
        let (value, reference) = (percentile(&one.paced.received_after, per_mille), percentile(&bare_one.paced.received_after, per_mille));
        report.add(Figure::relative(BENCH, case, value, "ms", goal, reference, bare));
    }
    Ok(())
}
