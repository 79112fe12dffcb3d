//! What an operation costs a member in application bytes, by the real client core on both ends.

use std::time::Duration;

use anyhow::{Context, ensure};
use kith_client::core::{Event, ItemState};
use kith_client::pulse::{Beat, Pulse};
use kith_protocol::content::{CheckIn, Content};
use kith_protocol::ids::{RoomId, RoomNumber, Seq, UnixSeconds};
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use kith_protocol::member::{ToMember, ToServer};

use crate::device::{Device, now};
use crate::process::Coop;
use crate::report::{Figure, Report};
use crate::room;

const BENCH: &str = "bytes";
const MEMBERS: usize = 50;
/// 100 bytes.
const TEXT_100: &str = "Slept a bit better, and the walk by the river helped me more than I had thought it would. Thank you!";
/// 36 bytes each, the median of real chats.
const TEXTS_36: [&str; 4] = [
    "I had a hard day but I am here, all.",
    "Thanks for asking, it helped a lot! ",
    "See you on Tuesday then, same place?",
    "That sounds rough. Do you need help?",
];
const BACKLOG: usize = 100;
/// A device looks three times a second.
const LOOKS_AN_HOUR: u64 = 3 * 3_600;
/// A minute, four of them, a quarter of an hour.
const SILENCES_TO_THE_LONGEST: usize = 2;
const HOUR_MS: u64 = 3_600_000;
const PULSE_MS: u64 = 300;
const IDLE: Duration = Duration::from_secs(10);
/// A request that the core never makes.
const PROBE: u32 = u32::MAX;

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    ensure!(TEXT_100.len() == 100 && TEXTS_36.iter().all(|text| text.len() == 36), "the texts have their lengths");
    let coop = Coop::start()?;
    let link = coop.invite(MEMBERS + 1)?;
    let (mut author, id, room_link) = room::open(&link, MEMBERS + 1).await?;
    let mut reader = room::join(&link, &room_link).await?;
    for _ in 2..MEMBERS {
        room::join(&link, &room_link).await?.close().await;
    }
    // Both have read everything, and have told the room their names.
    catch_up(&mut author, &id).await?;
    catch_up(&mut reader, &id).await?;
    say(&mut author, &id, TEXT_100).await?;
    say(&mut reader, &id, TEXT_100).await?;
    catch_up(&mut author, &id).await?;

    resume(report, &coop, &mut reader, &id).await?;
    send(report, &mut author, &id).await?;
    catch_up(&mut reader, &id).await?;
    receive(report, &mut author, &mut reader, &id).await?;
    backlog(report, &coop, &mut author, &mut reader, &id).await?;
    idle(report, &mut reader, &id).await?;
    quiet_day(report, &coop, &mut author, &mut reader, &id).await?;
    join(report, &link, &room_link, &mut reader).await
}

fn add(report: &mut Report, case: &'static str, bytes: u64, goal: f64) {
    report.add(Figure::at_most(BENCH, case, bytes as f64, "B", goal));
}

/// A frame in the words of whoever reads along.
fn name(frame: &ToMember) -> String {
    match frame {
        ToMember::Group { group, .. } => {
            let (info, tree, creation) = (group.group_info.len(), group.short_tree.len(), group.creation.len());
            format!("group (info {info}, tree {tree}, creation {creation}, {} senders)", group.senders.len())
        }
        ToMember::Entries(_) => "entries".to_owned(),
        ToMember::Attestation { .. } => "attestation".to_owned(),
        ToMember::Certificate { .. } => "certificate".to_owned(),
        ToMember::RoomNumber { .. } => "room number".to_owned(),
        _ => "other".to_owned(),
    }
}

fn size(device: &Device, room: &RoomId) -> u64 {
    device.core.room_state(room).map_or(0, |state| state.size)
}

fn number(device: &Device, room: &RoomId) -> anyhow::Result<RoomNumber> {
    device.core.room_state(room).and_then(|state| state.number).map(RoomNumber).context("a room with a number")
}

/// Reconnects and reads to the end.
async fn catch_up(device: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    device.connect().await?;
    device.sync().await?;
    round_trip(device, room).await
}

/// Whatever was sent before this has been handled when it returns, and whatever was sent here has been taken.
async fn round_trip(device: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    let at_end = Seq(size(device, room));
    device.pending.push(ToServer::FetchHeaders { request: PROBE, room: number(device, room)?, from: at_end });
    device.flush().await?;
    loop {
        let frame = device.next().await?;
        let is_answer = matches!(frame, ToMember::Headers { request: PROBE, .. });
        device.take(frame)?;
        device.flush().await?;
        if is_answer {
            return Ok(());
        }
    }
}

async fn say(device: &mut Device, room: &RoomId, text: &str) -> anyhow::Result<()> {
    let item = device.core.say(now(), room, &Content::Text(text.to_owned()))?;
    let is_placed = |state| matches!(state, ItemState::Ordered(_) | ItemState::Held { .. });
    device.until(|core, _| is_placed(core.item_state(room, item))).await
}

async fn resume(report: &mut Report, coop: &Coop, device: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    // The cursor waits lazily to be written; the next commit takes it along.
    catch_up(device, room).await?;
    device.tell_cursors().await?;
    coop.invite(1)?;
    device.connect().await?;
    device.sync().await?;
    let bytes = device.meter();
    add(report, "resume_up", bytes.up, 96.0);
    add(report, "resume_down", bytes.down, 64.0);
    Ok(())
}

async fn send(report: &mut Report, author: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    round_trip(author, room).await?;
    author.core.say(now(), room, &Content::Text(TEXT_100.to_owned()))?;
    author.checked()?;
    ensure!(matches!(author.pending.as_slice(), [ToServer::Send(_)]), "the text, and nothing else");
    let before = author.meter();
    author.flush().await?;
    add(report, "send_text_100", author.meter().since(before).up, 360.0);
    let ack = author.next().await?;
    ensure!(matches!(ack, ToMember::Ack { ordered: Some(_), .. }), "its place, not {ack:?}");
    add(report, "ack", author.meter().since(before).down, 16.0);
    author.take(ack)?;
    author.flush().await
}

async fn receive(report: &mut Report, author: &mut Device, reader: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    round_trip(reader, room).await?;
    let (before, expected) = (reader.meter(), size(reader, room) + 1);
    let item = author.core.say(now(), room, &Content::Text(TEXTS_36[0].to_owned()))?;
    author.checked()?;
    if let [ToServer::Send(send)] = author.pending.as_slice() {
        eprintln!("bytes: the body of a text of 36 bytes is {} bytes long", send.body.len());
    }
    author.until(|core, _| !matches!(core.item_state(room, item), ItemState::Waiting | ItemState::Stored)).await?;
    reader.until(|core, _| core.room_state(room).is_some_and(|state| state.size >= expected)).await?;
    let bytes = reader.meter().since(before);
    add(report, "receive_median_text", bytes.both(), 300.0);
    Ok(())
}

async fn backlog(report: &mut Report, coop: &Coop, author: &mut Device, reader: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    round_trip(reader, room).await?;
    coop.invite(1)?;
    reader.close().await;
    let expected = size(reader, room) + BACKLOG as u64;
    for text in TEXTS_36.iter().cycle().take(BACKLOG) {
        say(author, room, text).await?;
    }
    reader.connect().await?;
    reader.sync().await?;
    ensure!(size(reader, room) == expected, "all of them were read");
    add(report, "catch_up_100", reader.meter().both(), 30_000.0);
    Ok(())
}

/// A device in the foreground while nothing happens. Its core is told that an hour passes, look by look; the socket is
/// listened to for a while, since a server that spoke by itself would do so within its first seconds.
async fn idle(report: &mut Report, device: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    round_trip(device, room).await?;
    device.tell_cursors().await?;
    let (before, mut clock) = (device.meter(), 0);
    for look in 0..LOOKS_AN_HOUR {
        device.core.handle_tick(UnixSeconds(now().0 + look / 3));
        device.checked()?;
        device.flush().await?;
    }
    device.listen(IDLE).await?;
    // An hour in which nothing is heard but answers to pings, once silences have become as long as they may.
    let mut pulse = Pulse::default();
    for _ in 0..SILENCES_TO_THE_LONGEST {
        while pulse.poll(clock) != Beat::Ping {
            clock += PULSE_MS;
        }
        pulse.handle_heard(clock);
    }
    for _ in 0..HOUR_MS / PULSE_MS {
        clock += PULSE_MS;
        if pulse.poll(clock) == Beat::Ping {
            device.ping().await?;
            pulse.handle_heard(clock);
        }
    }
    add(report, "idle_hour", device.meter().since(before).both(), 32.0);
    Ok(())
}

/// Resumes once, checks in, and receives ten texts.
async fn quiet_day(report: &mut Report, coop: &Coop, author: &mut Device, reader: &mut Device, room: &RoomId) -> anyhow::Result<()> {
    coop.invite(1)?;
    let expected = size(reader, room) + 11;
    reader.connect().await?;
    reader.sync().await?;
    let words = ["tired".to_owned(), "hopeful".to_owned()].to_vec();
    let note = "slept badly, but the sun is out".to_owned();
    let check_in = CheckIn { pleasant: Some(1), energy: Some(-1), words, note, ..CheckIn::default() };
    let item = reader.core.say(now(), room, &Content::CheckIn(check_in))?;
    reader.until(|core, _| !matches!(core.item_state(room, item), ItemState::Waiting | ItemState::Stored)).await?;
    for text in TEXTS_36.iter().cycle().take(10) {
        say(author, room, text).await?;
    }
    reader.until(|core, _| core.room_state(room).is_some_and(|state| state.size >= expected)).await?;
    add(report, "quiet_day", reader.meter().both(), 5_000.0);
    Ok(())
}

/// One more member joins a room of fifty, and another hears of it.
async fn join(report: &mut Report, link: &MembershipLink, room: &RoomLink, reader: &mut Device) -> anyhow::Result<()> {
    round_trip(reader, &room.room).await?;
    let (reader_before, expected) = (reader.meter(), size(reader, &room.room) + 1);
    let mut joiner = Device::register(link, "one more").await?;
    joiner.core.join_room(now(), room)?;
    joiner.checked()?;
    let mut before = joiner.meter();
    let mut parts = Vec::new();
    loop {
        let at = joiner.meter();
        joiner.flush().await?;
        parts.push(format!("up {}", joiner.meter().since(at).up));
        let at = joiner.meter();
        let frame = joiner.next().await?;
        parts.push(format!("{} {}", name(&frame), joiner.meter().since(at).down));
        // The certificate of the leaf is no part of it: it is got once, whatever the room's size.
        if matches!(frame, ToMember::Certificate { .. }) {
            before = joiner.meter();
        }
        if joiner.take(frame)?.contains(&Event::RoomReady(room.room)) {
            break;
        }
    }
    eprintln!("bytes: a join frame by frame: {}", parts.join(", "));
    add(report, "join_room_of_50", joiner.meter().since(before).both(), 18_000.0);
    reader.until(|core, _| core.room_state(&room.room).is_some_and(|state| state.size >= expected)).await?;
    add(report, "told_of_joiner", reader.meter().since(reader_before).both(), 1_600.0);
    Ok(())
}
