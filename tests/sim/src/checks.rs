//! What must hold in the end of every run. What can be seen as it happens is [`crate::witness`]'s.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use kith_client::core::Core;
use kith_client::core::state::{RowState, RowWhat, SAID_AGAIN};
use kith_protocol::ids::{CoopName, Epoch, Pseudonym, RoomId};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::{Header, Kind};
use kith_storage::{LogRow, Neighbours, Outbox, RoomLog};

use crate::script::{Circle, said_in, short};
use crate::witness::shows;
use crate::world::World;

/// Something that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// A room has one log, everywhere, without gaps, each sender's entries in their order.
    OneLog,
    /// An epoch is ended by one commit.
    OneCommit,
    /// No server stores anything that only members may see.
    NothingReadable,
    /// Checkpoints are over the log beside which they are stored, and signed by whom they say.
    Checkpoints,
    /// What a co-op said that it holds, it holds after a crash.
    Held,
    /// No honest member has cause to distrust an honest co-op.
    Trust,
    /// All members read the same history from their join on.
    SameHistory,
    /// What was acknowledged is there once, in the order in which its author said it.
    NothingLost,
    /// Who is in the group is a member who knows it.
    NoGhosts,
    /// After the last fault everything comes to rest.
    Converges,
    /// What a device sends of its keys' making is on its disk first, so that no key is used twice.
    SavedFirst,
    /// No machine asks for what cannot be done.
    Machines,
}

/// What did not hold, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub check: Check,
    pub what: String,
}

impl Violation {
    pub fn new(check: Check, what: String) -> Self {
        Self { check, what }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} does not hold: {}", self.check, self.what)
    }
}

fn no<T>(check: Check, what: String) -> Result<T, Violation> {
    Err(Violation::new(check, what))
}

/// Whom the newest term that any co-op knows seated; a co-op that is down counts by its store when it is up again.
pub fn hub_of(world: &World, circle: &Circle) -> usize {
    let rooms = world.coops.iter().filter_map(|coop| coop.room(&circle.id));
    let newest = rooms.filter(|room| room.log().is_some()).max_by_key(|room| room.term());
    let name = newest.map(|room| room.hub.name.clone());
    let at = name.and_then(|name| world.coops.iter().position(|coop| coop.id.name == name));
    at.unwrap_or(world.members[circle.creator].coop)
}

/// How much of a log of that size a co-op has when all is told: members of the room there keep it in touch with the hub,
/// and the commit that takes out the last of them is the last that it is sent. None of it: it never had a member in the
/// log as it is now; one whose join was cut keeps the beginning that it was sent.
fn share_of(world: &World, circle: &Circle, name: &CoopName, size: u64) -> u64 {
    let of = |at: usize| world.coops[at].room(&circle.id).and_then(|room| room.log());
    let here = world.coops.iter().position(|coop| coop.id.name == *name).and_then(of);
    // A commit that took out its last member may be void; it has no part in the room all the same, and was not told.
    let own = here.filter(|log| log.end_for(name) == log.frontier.size()).map_or(u64::MAX, |log| log.end_for(name));
    of(hub_of(world, circle)).map_or(0, |log| log.end_for(name)).min(size).min(own)
}

/// Why a world is not at rest; `None`: it is.
pub fn unrest(world: &World) -> Option<String> {
    world.circles.iter().find_map(|circle| unrest_in(world, circle).map(|why| format!("{}: {why}", short(&circle.id))))
}

pub fn is_at_rest(world: &World) -> bool {
    unrest(world).is_none()
}

fn unrest_in(world: &World, circle: &Circle) -> Option<String> {
    let room = world.coops[hub_of(world, circle)].room(&circle.id);
    let Some(size) = room.map(|room| room.durable()) else { return Some("the hub does not have it".to_owned()) };
    for (at, coop) in world.coops.iter().enumerate() {
        let Some(copy) = coop.room(&circle.id) else { continue };
        let share = share_of(world, circle, &coop.id.name, size);
        let is_of_old_term = share == size && room.is_some_and(|room| room.term() != copy.term());
        if (copy.durable() != share && share > 0) || is_of_old_term || copy.size() != copy.durable() {
            return Some(format!("co-op {at} has {} entries of {share}", copy.durable()));
        }
        let pending = coop.store.pending(copy.number).now_or_never().expect("the model never pends").expect("pending");
        if !pending.is_empty() {
            return Some(format!("co-op {at} still has {} entries for the hub", pending.len()));
        }
    }
    for member in &circle.invited {
        let core = &world.members[*member].core;
        let Some(state) = core.room_state(&circle.id) else { continue };
        let waiting = state.outbox.iter().filter(|item| item.seq.is_none()).count();
        match core.phase_name(&circle.id) {
            "left" | "removed" => {}
            "active" if state.size == size && waiting == 0 => {}
            phase => {
                let items: Vec<String> = core
                    .items()
                    .into_iter()
                    .filter(|item| item.room == circle.id)
                    .map(|item| format!("{} {:?}", item.what, item.state))
                    .collect();
                let step = if state.out_of_step.is_some() { ", out of step" } else { "" };
                return Some(format!("member {member} ({phase}{step}) has {} entries of {size}, and waits with {items:?}", state.size));
            }
        }
    }
    None
}

/// Every check. Returns how many messages were acknowledged.
pub fn all(world: &mut World) -> Result<usize, Violation> {
    for check in [Check::OneCommit, Check::OneLog, Check::Checkpoints, Check::NothingReadable, Check::NoGhosts, Check::SameHistory] {
        one(world, check)?;
    }
    one(world, Check::NothingLost)?;
    Ok(world.members.iter().flat_map(|member| &member.said).filter(|said| said.acknowledged).count())
}

/// One of those that can be made when all is over; the others are made on the way.
pub fn one(world: &mut World, check: Check) -> Result<(), Violation> {
    for at in 0..world.circles.len() {
        match check {
            Check::OneLog => one_log(world, &world.circles[at])?,
            Check::OneCommit => one_commit_an_epoch(world, &world.circles[at])?,
            Check::Checkpoints => checkpoints(world, &world.circles[at])?,
            Check::NothingReadable => nothing_readable(world, &world.circles[at])?,
            Check::NoGhosts => no_ghosts(world, at)?,
            Check::SameHistory => same_history(world, at)?,
            Check::NothingLost => nothing_lost(world, at)?,
            Check::Held | Check::Trust | Check::Converges | Check::SavedFirst | Check::Machines => {}
        }
    }
    Ok(())
}

fn headers(rows: &[LogRow]) -> Vec<Header> {
    rows.iter().map(|row| Header::decode(&row.header).expect("a stored header")).collect()
}

/// Each co-op's log is the hub's or its beginning, and each sender's entries follow each other.
fn one_log(world: &World, circle: &Circle) -> Result<(), Violation> {
    let hub = headers(&world.coops[hub_of(world, circle)].log(&circle.id));
    for (at, coop) in world.coops.iter().enumerate() {
        let log = headers(&coop.log(&circle.id));
        let share = share_of(world, circle, &coop.id.name, hub.len() as u64);
        let is_whole = log.len() as u64 == share || share == 0;
        // A commit that took out its last member may have lost its place to a newer term: it has no part in the room any longer,
        // and is not told.
        let parting = log.iter().zip(&hub).find(|(here, there)| here != there);
        let has_parted = coop.room(&circle.id).and_then(|room| room.log()).is_some_and(|of| of.end_for(&coop.id.name) == log.len() as u64);
        let is_cut = has_parted && parting.is_some_and(|(here, there)| here.term < there.term);
        if !is_whole || (hub.get(..log.len()) != Some(&log[..]) && !is_cut) {
            return no(Check::OneLog, format!("co-op {at} has another log of {} than its hub", short(&circle.id)));
        }
    }
    let mut counters = BTreeMap::new();
    for (at, header) in hub.iter().enumerate() {
        if header.seq.0 != at as u64 {
            return no(Check::OneLog, format!("entry {at} says that it is {}", header.seq));
        }
        let last = counters.insert((header.id.sender, header.id.counter.device), header.id.counter.number);
        if last.unwrap_or(0) + 1 != header.id.counter.number {
            return no(Check::OneLog, format!("entry {at} breaks its sender's order"));
        }
    }
    Ok(())
}

fn one_commit_an_epoch(world: &World, circle: &Circle) -> Result<(), Violation> {
    let log = headers(&world.coops[hub_of(world, circle)].log(&circle.id));
    let commits: Vec<(u64, u64)> =
        log.iter().filter(|header| header.kind == Kind::Commit).map(|header| (header.epoch.0, header.seq.0)).collect();
    // Between two of one epoch somebody has complained: the first is void.
    let is_void = |from: u64, to: u64| log[from as usize..to as usize].iter().any(|header| header.kind == Kind::Complaint);
    let twice = commits
        .iter()
        .enumerate()
        .any(|(at, (epoch, seq))| commits[at + 1..].iter().any(|(other, later)| other == epoch && !is_void(*seq, *later)));
    if twice { no(Check::OneCommit, format!("two commits for one epoch: {commits:?}")) } else { Ok(()) }
}

/// The newest checkpoint of each co-op is over the rows that it serves.
fn checkpoints(world: &World, circle: &Circle) -> Result<(), Violation> {
    for (at, coop) in world.coops.iter().enumerate() {
        let mut frontier = Frontier::default();
        coop.log(&circle.id).iter().for_each(|row| drop(frontier.push(leaf_hash(&row.header))));
        let Some(row) = coop.stored_room(&circle.id) else { continue };
        let state = coop.store.room_state(row.number).now_or_never().expect("the model never pends").expect("a state");
        let Some(bytes) = state.checkpoint else { continue };
        let checkpoint = kith_protocol::codec::decode_attestation(circle.id, &bytes).expect("a stored checkpoint").checkpoint;
        // A co-op without a part in the room any longer may have taken its last rows from another holder, with a checkpoint that
        // is over more.
        let share = share_of(world, circle, &coop.id.name, u64::MAX);
        if share < u64::MAX && checkpoint.size > frontier.size() {
            continue;
        }
        if (checkpoint.size, checkpoint.root) != (frontier.size(), frontier.root()) {
            return no(Check::Checkpoints, format!("co-op {at}'s newest checkpoint of {} is of another log", short(&circle.id)));
        }
    }
    Ok(())
}

fn nothing_readable(world: &World, circle: &Circle) -> Result<(), Violation> {
    for (at, coop) in world.coops.iter().enumerate() {
        let mut stored: Vec<Vec<u8>> = Vec::new();
        for row in coop.log(&circle.id) {
            stored.extend([row.header, row.body, row.group_info].map(|bytes| bytes.to_vec()));
        }
        if let Some(row) = coop.stored_room(&circle.id) {
            let state = coop.store.room_state(row.number).now_or_never().expect("the model never pends").expect("a state");
            stored.extend([state.snapshot, state.group, state.checkpoint, state.marked].into_iter().flatten().map(|bytes| bytes.to_vec()));
        }
        let neighbours = coop.store.neighbours().now_or_never().expect("the model never pends").expect("neighbours");
        stored.extend(neighbours.into_iter().map(|row| row.address.into_bytes()));
        if stored.iter().any(|bytes| shows(bytes)) {
            return no(Check::NothingReadable, format!("co-op {at} stores what was said in {}", short(&circle.id)));
        }
    }
    Ok(())
}

/// Whoever the group counts is a device that is in the room, and the other way round.
fn no_ghosts(world: &mut World, at: usize) -> Result<(), Violation> {
    let room = world.circles[at].id;
    let is_in = |member: &&usize| world.members[**member].core.phase_name(&room) == "active";
    let Some(member) = world.circles[at].invited.iter().find(is_in).copied() else { return Ok(()) };
    let Ok(members) = world.members[member].core.members(&room) else { return Ok(()) };
    let listed: BTreeSet<Pseudonym> = members.into_iter().map(|member| member.pseudonym).collect();
    let active = |core: &Core| core.phase_name(&room) == "active";
    let cores = world.members.iter().map(|member| &member.core);
    let there: BTreeSet<Pseudonym> =
        cores.filter(|core| active(core)).filter_map(|core| core.room_state(&room)).map(|state| Pseudonym(state.pseudonym)).collect();
    if listed == there {
        return Ok(());
    }
    let what = format!("{} lists {} members, {} devices are in it", short(&room), listed.len(), there.len());
    no(Check::NoGhosts, what)
}

/// What a room's members can read, by place.
type History = BTreeMap<u64, String>;

/// Up to where a member's rows are everybody's. Whoever has left hears nothing further: what was not certified by then may
/// have been cut since, and stands elsewhere.
fn known_by(world: &World, member: usize, room: &RoomId) -> u64 {
    let core = &world.members[member].core;
    let state = core.room_state(room).filter(|_| core.phase_name(room) != "active");
    state.map_or(u64::MAX, |state| state.certified)
}

/// Parts of a room's log in which what is of an epoch after that one counts for nothing, for the room has gone back.
fn voids(world: &World, room: &RoomId) -> Vec<(std::ops::Range<u64>, Epoch)> {
    let Some(circle) = world.circles.iter().find(|circle| circle.id == *room) else { return Vec::new() };
    let hub = &world.coops[hub_of(world, circle)];
    let mut voids = Vec::new();
    // Which commit ended each epoch.
    let mut ends: Vec<u64> = Vec::new();
    for header in headers(&hub.log(room)).into_iter().filter(|header| header.kind == Kind::Commit) {
        if let Some(first) = ends.get(header.epoch.0 as usize) {
            voids.push((*first..header.seq.0, header.epoch));
        }
        ends.truncate(header.epoch.0 as usize);
        ends.push(header.seq.0);
    }
    let epoch = hub.room(room).and_then(|room| room.log()).map_or(Epoch(u64::MAX), |log| log.epoch());
    voids.extend(ends.get(epoch.0 as usize).map(|first| (*first..u64::MAX, epoch)));
    voids
}

fn is_void(voids: &[(std::ops::Range<u64>, Epoch)], header: &Header) -> bool {
    voids.iter().any(|(part, epoch)| {
        let is_after = if header.kind == Kind::Commit { header.epoch >= *epoch } else { header.epoch > *epoch };
        part.contains(&header.seq.0) && is_after
    })
}

/// A copy of what was made in a void epoch that found a place all the same: its author knows, and says it again.
fn is_said_again(world: &World, room: &RoomId, header: &Header) -> bool {
    world.members.iter().filter(|member| member.core.room_state(room).is_some_and(|state| state.pseudonym == header.id.sender.0)).any(
        |author| {
            author.stored(room).into_iter().any(|(_, value)| {
                let row: RowState = postcard::from_bytes(value).expect("a stored row can be read");
                row.header == header.encode() && matches!(row.what, RowWhat::Unreadable(why) if why == SAID_AGAIN)
            })
        },
    )
}

/// Whose commit was voided, or whose join was undone with one.
fn is_out(world: &World, member: usize, room: &RoomId) -> bool {
    let of = &world.members[member];
    let undone = |value: &[u8]| matches!(postcard::from_bytes(value), Ok(RowState { what: RowWhat::Undone(_), .. }));
    let phase = of.core.phase_name(room);
    phase == "removed" || (phase != "active" && (!of.nonsense.is_empty() || of.stored(room).into_iter().any(|(_, value)| undone(value))))
}

fn history_of(world: &mut World, member: usize, room: &RoomId) -> Result<History, Violation> {
    let mut history = History::new();
    let voids = voids(world, room);
    // What is not shown counts too: a commit that could not be applied leaves a member behind for ever.
    let kept = known_by(world, member, room);
    for (_, value) in world.members[member].stored(room) {
        let row: RowState = postcard::from_bytes(value).expect("a stored row can be read");
        if let RowWhat::Unreadable(why) = row.what {
            let header = Header::decode(&row.header).expect("a stored header");
            if header.seq.0 >= kept || is_void(&voids, &header) || is_said_again(world, room, &header) {
                continue;
            }
            let what = format!("member {member} cannot read {} {:?} of {}: {why}", header.seq, header.kind, short(room));
            return no(Check::SameHistory, what);
        }
    }
    for row in world.members[member].timeline(room) {
        let seq = row.seq.map_or(0, |seq| seq.0);
        if seq >= kept {
            continue;
        }
        if let Some(text) = said_in(&row.content) {
            history.insert(seq, text.to_owned());
        }
    }
    Ok(history)
}

/// From its join on every member has every row, and reads there what all others read.
fn same_history(world: &mut World, at: usize) -> Result<(), Violation> {
    let room = world.circles[at].id;
    let log = headers(&world.coops[hub_of(world, &world.circles[at])].log(&room));
    let whole = whole_history(world, at)?;
    for member in world.circles[at].invited.clone() {
        if is_out(world, member, &room) {
            continue;
        }
        let Some(state) = world.members[member].core.room_state(&room) else { continue };
        let (joined, epoch, who) = (state.joined_at, state.joined_epoch, Pseudonym(state.pseudonym));
        // What comes after one's leave is not for one any more.
        let left = log.iter().find(|header| header.kind == Kind::Leave && header.id.sender == who).map(|header| header.seq.0);
        let size = state.size.min(left.unwrap_or(u64::MAX)).min(known_by(world, member, &room));
        // Whoever never came in, or has been removed and then lost its copy, has nothing to be compared.
        if joined == 0 && epoch == 0 && member != world.circles[at].creator {
            continue;
        }
        let rows = world.members[member].stored_headers(&room).into_iter().map(|(seq, _)| seq);
        if rows.filter(|seq| (joined..size).contains(seq)).ne(joined..size) {
            return no(Check::SameHistory, format!("member {member} lacks rows of {}", short(&room)));
        }
        let read = history_of(world, member, &room)?;
        for (seq, text) in &whole {
            let concerns = (joined..size).contains(seq) && log.get(*seq as usize).is_some_and(|header| header.epoch.0 >= epoch);
            if concerns && read.get(seq) != Some(text) {
                return no(Check::SameHistory, format!("member {member} reads {:?} at {seq}, not {text:?}", read.get(seq)));
            }
        }
    }
    Ok(())
}

/// What anybody reads, all taken together.
fn whole_history(world: &mut World, at: usize) -> Result<History, Violation> {
    let room = world.circles[at].id;
    let mut whole = History::new();
    for member in world.circles[at].invited.clone() {
        if is_out(world, member, &room) {
            continue;
        }
        whole.extend(history_of(world, member, &room)?);
    }
    Ok(whole)
}

fn nothing_lost(world: &mut World, at: usize) -> Result<(), Violation> {
    let room = world.circles[at].id;
    let whole = whole_history(world, at)?;
    let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    whole.iter().for_each(|(seq, text)| places.entry(text).or_default().push(*seq));
    for (number, member) in world.members.iter().enumerate() {
        // What it said last may have come too late, or was of an epoch that is void.
        if is_out(world, number, &room) {
            continue;
        }
        let mut last = 0;
        for said in member.said.iter().filter(|said| said.room == room) {
            let found = places.get(said.text.as_str()).map_or(&[][..], Vec::as_slice);
            match found {
                [] if said.acknowledged => {
                    return no(Check::NothingLost, format!("{:?} of member {number} was acknowledged and is gone", said.text));
                }
                [] => {}
                [place] if *place <= last => return no(Check::NothingLost, format!("{:?} of member {number} is out of order", said.text)),
                [place] => last = *place,
                _ => return no(Check::NothingLost, format!("{:?} of member {number} is there {} times", said.text, found.len())),
            }
        }
    }
    Ok(())
}
