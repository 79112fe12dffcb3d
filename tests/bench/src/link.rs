//! Entries a second that a mirror which was away takes over from a room's hub: verified, durable and signed for. Beside
//! it, how fast the store alone takes the same entries, hashed as the log hashes them.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use kith_protocol::codec::{self, Encoding};
use kith_protocol::ids::{Coop as CoopId, Counter, EntryId, RoomId, Seq};
use kith_protocol::judge::Standing;
use kith_protocol::limits::BATCH_ENTRIES_MAX;
use kith_protocol::log::checkpoint::{Attestation, Checkpoint};
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::pack::extra_of;
use kith_protocol::log::{Header, Kind};
use kith_protocol::member::{ToMember, ToServer};
use kith_protocol::sign::SecretKey;
use kith_protocol::snapshot::{GroupSnapshot, RoomSnapshot};
use kith_relay::config::Folder;
use kith_storage::sqlite::Sqlite;
use kith_storage::{Append, LogRow, RoomLog, RoomRow, Write, Writer};
use tokio_tungstenite::tungstenite::Message;

use crate::device::random;
use crate::fanout::MEMBERS;
use crate::process::Coop;
use crate::report::{Figure, Report};
use crate::room::{self, Seat};
use crate::wire::{self, BODY_NOISE, body};

const BENCH: &str = "link";
/// No run that is worth waiting for takes longer.
const WAIT: Duration = Duration::from_secs(600);

/// The hub's own copy, written as its room machine writes it.
struct Filler {
    room: RoomRow,
    hub: CoopId,
    root: SecretKey,
    small: RoomSnapshot,
    frontier: Frontier,
    group: GroupSnapshot,
    /// Indexes of the members of the hub's own co-op, who speak in turns.
    speakers: Vec<usize>,
    noise: [u8; BODY_NOISE],
}

impl Filler {
    async fn new(store: &Sqlite, folder: &Folder) -> anyhow::Result<Self> {
        let room = store.rooms().await?.pop().context("a room")?;
        let state = store.room_state(room.number).await?;
        let small = codec::decode_room_snapshot(&state.snapshot.context("a room that has begun")?)?;
        let group = codec::decode_group_snapshot(room.id, &state.group.context("with a group")?)?;
        let is_speaker = |index: &usize| {
            let sender = &group.senders[*index];
            sender.standing == Standing::Member && sender.coop == folder.coop.name
        };
        Ok(Self {
            hub: folder.coop.clone(),
            root: folder.keys.secrets.root.clone(),
            frontier: Frontier::from_parts(small.size, small.frontier.clone())?,
            speakers: (0..group.senders.len()).filter(is_speaker).collect(),
            noise: random()?,
            room,
            small,
            group,
        })
    }

    fn row(&mut self) -> LogRow {
        let seq = self.frontier.size();
        let index = self.speakers[seq as usize % self.speakers.len()];
        let counters = &mut self.small.counters[index];
        counters.resize(counters.len().max(1), 0);
        counters[0] += 1;
        let body = body(seq, &self.noise);
        let header = Header {
            room: self.room.id,
            seq: Seq(seq),
            term: self.small.term,
            epoch: self.small.epoch,
            kind: Kind::Message,
            id: EntryId { sender: self.group.senders[index].pseudonym, counter: Counter { device: 0, number: counters[0] } },
            time: self.small.last_time,
            body_hash: hash_bytes(&body),
            extra: extra_of(Kind::Message, &body, None).expect("a body as members send it"),
        };
        let header = header.encode();
        let nodes: Vec<u8> = self.frontier.push(leaf_hash(&header)).iter().flat_map(|node| node.0).collect();
        LogRow { header: bytes::Bytes::copy_from_slice(&header), nodes: nodes.into(), body, group_info: bytes::Bytes::new() }
    }

    fn append(&mut self, count: u64) -> Write {
        let first = Seq(self.frontier.size());
        let rows = (0..count).map(|_| self.row()).collect();
        (self.small.size, self.small.frontier) = (self.frontier.size(), self.frontier.nodes().to_vec());
        let checkpoint = Checkpoint { room: self.room.id, term: self.small.term, size: self.frontier.size(), root: self.frontier.root() };
        let signature = checkpoint.sign(&self.root);
        let attestation = Attestation { checkpoint, hub: self.hub.name.clone(), signature, marks: Vec::new() };
        Write::Append(Append {
            room: self.room.number,
            first,
            rows,
            snapshot: codec::encode_room_snapshot(&self.small),
            group: None,
            checkpoint: codec::encode_attestation(&attestation),
        })
    }
}

/// Makes the stopped hub's room so much longer. Its size then, and how many entries a second that took. Who watches has
/// read all.
async fn fill(coop: &Coop, entries: u64, watcher: &Seat) -> anyhow::Result<(u64, f64)> {
    let folder = Folder::open(&coop.folder())?;
    let store = Sqlite::open(&folder.database()).await?;
    let mut filler = Filler::new(&store, &folder).await?;
    let begun = Instant::now();
    let mut left = entries;
    while left > 0 {
        let count = left.min(BATCH_ENTRIES_MAX as u64);
        store.commit(vec![filler.append(count)]).await?;
        left -= count;
    }
    let rate = entries as f64 / begun.elapsed().as_secs_f64();
    let size = filler.frontier.size();
    let cursor = Write::SetCursor { device: watcher.handle, room: filler.room.number, next: Seq(size) };
    store.commit(vec![cursor]).await?;
    store.close().await?;
    Ok((size, rate))
}

/// Waits until the hub shows a checkpoint over so many entries under which both co-ops have signed that they hold all of it.
async fn held_by_both(watcher: &Seat, room: RoomId, size: u64, coops: &[&Coop; 2]) -> anyhow::Result<()> {
    let keys = [Folder::open(&coops[0].folder())?.coop, Folder::open(&coops[1].folder())?.coop];
    let mut socket = watcher.connect(coops[0].server.port).await?;
    wire::send(&mut socket, &ToServer::Watch { request: 1, room: watcher.room, size, held: 2 }).await?;
    loop {
        let message = socket.next().await.context("the hub closed the connection")??;
        let Message::Binary(bytes) = message else { continue };
        let ToMember::Attestation { mut attestation, .. } = codec::decode_to_member(bytes, Encoding::Binary)? else { continue };
        attestation.checkpoint.room = room;
        attestation.verify(|name| keys.iter().find(|coop| coop.name == *name).map(|coop| coop.key))?;
        let holders = keys.iter().filter(|coop| attestation.holders().any(|holder| *holder == coop.name)).count();
        if attestation.checkpoint.size >= size && holders == coops.len() {
            return Ok(());
        }
    }
}

pub async fn run(report: &mut Report, entries: u64) -> anyhow::Result<()> {
    ensure!(entries > 0, "a room without entries is mirrored at once");
    let (mut hub, mut mirror) = (Coop::start()?, Coop::named("birch.test")?);
    hub.agree(&mirror)?;
    mirror.agree(&hub)?;
    let link = hub.invite(MEMBERS)?;
    let (mut founder, id, room_link) = room::open(&link, MEMBERS).await?;
    founder.close().await;
    for _ in 2..MEMBERS {
        room::join(&link, &room_link).await?.close().await;
    }
    room::join(&mirror.invite(1)?, &room_link).await?.close().await;
    let watcher = Seat::of(&founder.core, &id)?;
    hub.stop()?;
    mirror.stop()?;
    let (size, reference) = fill(&hub, entries, &watcher).await?;

    // The hub dials: the mirror is there when it does.
    mirror.restart()?;
    hub.restart()?;
    let deadline = Instant::now() + WAIT;
    while mirror.server.metric("kith_links ") != Some(1.0) {
        ensure!(Instant::now() < deadline, "there is no link");
        tokio::task::yield_now().await;
    }
    let (begun, cpu) = (Instant::now(), [hub.server.cpu_seconds()?, mirror.server.cpu_seconds()?]);
    tokio::time::timeout(WAIT, held_by_both(&watcher, id, size, &[&hub, &mirror])).await.context("the mirror does not catch up")??;
    let took = begun.elapsed().as_secs_f64();
    let per_100k = |after: f64, before: f64| (after - before) * 100_000.0 / entries as f64;
    eprintln!(
        "link: {entries} entries in {took:.1} s; CPU of hub {:.2} and mirror {:.2} s/100k entries, mirror {:.0} MiB",
        per_100k(hub.server.cpu_seconds()?, cpu[0]),
        per_100k(mirror.server.cpu_seconds()?, cpu[1]),
        mirror.server.resident_kib()? / 1024.0,
    );
    let (value, goal) = (entries as f64 / took, 20_000.0);
    report.add(Figure {
        bench: BENCH,
        case: "mirrored_per_second",
        value,
        unit: "entries/s",
        goal,
        reference: Some(reference),
        ok: value >= goal,
    });
    Ok(())
}
