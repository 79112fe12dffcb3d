//! What must hold in the end of every run.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use kith_client::core::timeline::RowContent;
use kith_protocol::content::Content;
use kith_protocol::ids::{RoomId, Seq};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::{Header, Kind};
use kith_storage::{LogRow, RoomLog};

use crate::world::World;

fn log(world: &World, coop: usize) -> Vec<LogRow> {
    let store = &world.coops[coop].store;
    let rooms = store.rooms().now_or_never().expect("the model never pends").expect("rooms");
    let Some(room) = rooms.iter().find(|row| Some(row.id) == world.room) else { return Vec::new() };
    store.entries(room.number, Seq(0), usize::MAX, usize::MAX).now_or_never().expect("the model never pends").expect("entries")
}

fn headers(world: &World, coop: usize) -> Vec<Header> {
    log(world, coop).iter().map(|row| Header::decode(&row.header).expect("a stored header")).collect()
}

/// Every decision: which entry got which place.
pub fn trace(world: &World) -> Vec<String> {
    let line = |h: &Header| format!("{} {:?} {} {} {} {}", h.seq, h.kind, h.epoch, h.id.sender, h.id.counter.number, h.body_hash);
    headers(world, 0).iter().map(line).collect()
}

fn unread(world: &World, room: &RoomId) -> Option<String> {
    let size = log(world, 0).len() as u64;
    if log(world, 1).len() as u64 != size {
        return Some(format!("the mirror has {} entries of {size}", log(world, 1).len()));
    }
    for (number, member) in world.members.iter().enumerate() {
        let state = member.core.room_state(room)?;
        let waiting = state.outbox.iter().filter(|item| item.seq.is_none()).count();
        if state.size != size || waiting > 0 {
            return Some(format!("member {number} has {} entries of {size} and {waiting} in its outbox", state.size));
        }
    }
    None
}

pub fn is_at_rest(world: &World) -> bool {
    world.room.is_some_and(|room| unread(world, &room).is_none())
}

/// Why it did not come to rest.
pub fn unrest(world: &World) -> String {
    let why = world.room.and_then(|room| unread(world, &room)).unwrap_or_default();
    format!("it did not come to rest: {why}")
}

/// All checks. Returns how many messages were acknowledged.
pub fn check(world: &mut World) -> Result<usize, String> {
    let room = world.room.ok_or("there is no room")?;
    one_log(world)?;
    one_commit_an_epoch(world)?;
    nothing_readable(world)?;
    let timelines = same_timelines(world, &room)?;
    nothing_lost_or_doubled(world, &timelines)
}

/// Hub and mirror have the same log, and it is one tree.
fn one_log(world: &World) -> Result<(), String> {
    let logs = [headers(world, 0), headers(world, 1)];
    if logs[0] != logs[1] {
        return Err("hub and mirror have different logs".to_owned());
    }
    let mut counters = BTreeMap::new();
    let mut frontier = Frontier::default();
    for (at, header) in logs[0].iter().enumerate() {
        frontier.push(leaf_hash(&header.encode()));
        if header.seq.0 != at as u64 {
            return Err(format!("entry {at} says that it is {}", header.seq));
        }
        let last = counters.insert((header.id.sender, header.id.counter.device), header.id.counter.number);
        if last.unwrap_or(0) + 1 != header.id.counter.number {
            return Err(format!("entry {at} breaks its sender's order"));
        }
    }
    Ok(())
}

fn one_commit_an_epoch(world: &World) -> Result<(), String> {
    let commits: Vec<u64> = headers(world, 0).iter().filter(|header| header.kind == Kind::Commit).map(|header| header.epoch.0).collect();
    let unique: BTreeSet<u64> = commits.iter().copied().collect();
    if unique.len() == commits.len() { Ok(()) } else { Err(format!("two commits for one epoch: {commits:?}")) }
}

/// No server has what was said, in any row.
fn nothing_readable(world: &World) -> Result<(), String> {
    let canaries = [&b"words that only members may see"[..], b"the room of this run", b"member 0"];
    for coop in 0..2 {
        for row in log(world, coop) {
            for bytes in [&row.body, &row.group_info, &row.header] {
                if canaries.iter().any(|canary| bytes.windows(canary.len()).any(|window| window == *canary)) {
                    return Err("a server can read what was said".to_owned());
                }
            }
        }
    }
    Ok(())
}

/// Every member decrypts the same history from when all were there. Returns the texts, in order, of each.
fn same_timelines(world: &mut World, room: &RoomId) -> Result<Vec<Vec<String>>, String> {
    let mut timelines = Vec::new();
    for number in 0..world.members.len() {
        let mut texts = Vec::new();
        for row in world.members[number].timeline(room) {
            match row.content {
                RowContent::Content(Content::Text(text)) => texts.push(text),
                RowContent::Unreadable(why) => return Err(format!("member {number} cannot read {:?}: {why}", row.seq)),
                _ => {}
            }
        }
        timelines.push(texts);
    }
    if timelines.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err("members read different histories".to_owned());
    }
    Ok(timelines)
}

fn nothing_lost_or_doubled(world: &World, timelines: &[Vec<String>]) -> Result<usize, String> {
    let history = timelines.first().ok_or("nobody is there")?;
    let mut acknowledged = 0;
    for said in world.members.iter().flat_map(|member| &member.said) {
        let times = history.iter().filter(|text| **text == said.text).count();
        acknowledged += usize::from(said.acknowledged);
        if times > 1 || (said.acknowledged && times == 0) {
            return Err(format!("{:?} stands {times} times in the history (acknowledged: {})", said.text, said.acknowledged));
        }
    }
    Ok(acknowledged)
}
