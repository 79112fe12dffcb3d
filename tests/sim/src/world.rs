//! Virtual time, the network, the faults, and the script of a run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use kith_client::core::{ItemState, VerifyReport};
use kith_protocol::codec::{Encoding, decode_link, decode_to_member, decode_to_server, encode_to_server};
use kith_protocol::content::Content;
use kith_protocol::ids::{ConnectionId, Millis, PublicKey, RoomId, UnixSeconds};
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::steward::Request;
use kith_relay::coop::{Effect, Input};

use crate::checks;
use crate::coop::{Coop, WALL};
use crate::dice::Dice;
use crate::member::{Member, Said};
use crate::tamper::Tamper;

const ROOM_NAME: &str = "the room of this run";

/// How large a run is and how rough.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub members: usize,
    pub messages: u64,
    /// While faults happen, milliseconds of virtual time.
    pub rough_ms: u64,
    /// After the last fault everything must have come to rest within this.
    pub calm_ms: u64,
    /// One in so many steps of a member tears: it persists and dies before it sends.
    pub tear_one_in: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { members: 2, messages: 24, rough_ms: 30_000, calm_ms: 120_000, tear_one_in: 60 }
    }
}

/// Faults that happened, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub cuts: u64,
    pub link_cuts: u64,
    pub server_crashes: u64,
    pub member_crashes: u64,
    pub tears: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    /// Every header of the log, in order: what was decided.
    pub trace: Vec<String>,
    pub faults: Faults,
    pub acknowledged: usize,
    /// When it came to rest, virtual milliseconds.
    pub rest_ms: u64,
}

#[derive(Debug)]
enum Event {
    /// A frame arrives at a co-op or a member.
    ToCoop {
        connection: ConnectionId,
        bytes: Bytes,
    },
    ToMember {
        connection: ConnectionId,
        bytes: Bytes,
    },
    OverLink {
        connection: ConnectionId,
        to: usize,
        bytes: Bytes,
    },
    Connect {
        member: usize,
    },
    Dial,
    Commit {
        coop: usize,
        life: u64,
    },
    Input {
        coop: usize,
        life: u64,
        input: Input,
    },
    Restart {
        coop: usize,
    },
    Say {
        member: usize,
        number: u64,
    },
    Fault,
    Tick,
}

struct Timed {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A connection that is open: who is at its ends, and when its last frame each way arrives (frames never overtake).
#[derive(Debug, Clone, Copy)]
enum Line {
    Session { member: usize, coop: usize, to_coop: u64, to_member: u64 },
    Link { arrivals: [u64; 2] },
}

pub struct World {
    plan: Plan,
    dice: Dice,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Timed>>,
    pub coops: Vec<Coop>,
    pub members: Vec<Member>,
    lines: BTreeMap<ConnectionId, Line>,
    next_connection: u64,
    pub room: Option<RoomId>,
    invite: Option<(u64, String)>,
    joining: bool,
    faults: Faults,
    rough_until: u64,
}

/// Runs one seed to its end and checks everything. An error says what did not hold.
pub fn run(seed: u64, plan: Plan) -> Result<Outcome, String> {
    let mut world = World::new(seed, plan);
    world.settle_in()?;
    world.be_rough();
    let rest_ms = world.calm_down()?;
    let acknowledged = checks::check(&mut world)?;
    Ok(Outcome { seed, trace: checks::trace(&world), faults: world.faults, acknowledged, rest_ms })
}

impl World {
    /// A world in calm weather, in which everybody has said something and all is at rest.
    pub fn calm(seed: u64) -> Result<Self, String> {
        let mut world = Self::new(seed, Plan { rough_ms: 0, ..Plan::default() });
        world.settle_in()?;
        (0..world.members.len()).for_each(|member| world.say(member, member as u64));
        world.calm_down()?;
        Ok(world)
    }

    /// Starts a co-op again with one byte changed, and has a member verify the room. `None`: it could not even begin to.
    pub fn verify(&mut self, member: usize, tamper: Option<Tamper>, stored: Vec<(u64, Vec<u8>)>) -> Option<VerifyReport> {
        let (room, coop) = (self.room?, self.members[member].coop);
        self.coops[coop].tamper = tamper;
        self.crash_coop(coop);
        self.until(10_000, |world| world.members[member].core.is_synced() && world.has_link());
        self.until(1_000, |_| false);
        self.members[member].reports.clear();
        self.members[member].core.verify(&room, stored).ok()?;
        self.members[member].core.watch(&room, 1);
        self.member_acts(member);
        self.until(3_000, |world| !world.members[member].reports.is_empty());
        self.members[member].reports.pop()
    }

    /// The link with which everybody joined.
    pub fn invite_link(&self) -> Option<RoomLink> {
        self.invite.as_ref().and_then(|(_, link)| RoomLink::parse(link).ok())
    }

    fn has_link(&self) -> bool {
        self.lines.values().any(|line| matches!(line, Line::Link { .. }))
    }

    fn new(seed: u64, plan: Plan) -> Self {
        let mut dice = Dice::new(seed);
        let coops = ["alder.test", "birch.test"].map(|name| Coop::new(name, dice.bytes32(), dice.roll(30)));
        let members = (0..plan.members).map(|i| Member::new(i % 2, dice.bytes32())).collect();
        Self {
            plan,
            dice,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            coops: coops.into(),
            members,
            lines: BTreeMap::new(),
            next_connection: 1,
            room: None,
            invite: None,
            joining: false,
            faults: Faults::default(),
            rough_until: 0,
        }
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Timed { at: self.now + delay, order: self.order, event }));
    }

    fn wall(&self) -> UnixSeconds {
        UnixSeconds(WALL + self.now / 1000)
    }

    fn input(&mut self, coop: usize, input: Input) {
        let wall = UnixSeconds(WALL + self.now / 1000 + self.coops[coop].skew_s);
        let now = Millis(self.now);
        if let Some(machine) = self.coops[coop].machine.as_mut() {
            machine.handle(now, wall, input);
        }
        self.pump(coop);
    }

    /// Carries out what a co-op's machine wants.
    fn pump(&mut self, coop: usize) {
        let life = self.coops[coop].life;
        while let Some(effect) = self.coops[coop].machine.as_mut().and_then(kith_relay::coop::Coop::poll_effect) {
            match effect {
                Effect::ToMember { connection, bytes } => self.send_to_member(connection, bytes),
                Effect::Deliver { to, bytes, .. } => to.into_iter().for_each(|connection| self.send_to_member(connection, bytes.clone())),
                Effect::CloseMember { connection } | Effect::CloseLink { connection } => self.cut(connection),
                Effect::ToLink { connection, bytes } => self.send_over_link(connection, coop, bytes),
                Effect::Read { id, read } => {
                    let result = self.coops[coop].read(read);
                    let delay = self.dice.between(1, 5);
                    self.at(delay, Event::Input { coop, life, input: Input::ReadDone { id, result } });
                }
                Effect::Steward { .. } | Effect::NeighboursChanged | Effect::LinkStage { .. } => {}
            }
        }
        if self.coops[coop].writes.is_none()
            && let Some(writes) = self.coops[coop].machine.as_mut().and_then(kith_relay::coop::Coop::poll_commit)
        {
            self.coops[coop].writes = Some(writes);
            let delay = self.dice.between(1, 8);
            self.at(delay, Event::Commit { coop, life });
        }
    }

    fn send_to_member(&mut self, connection: ConnectionId, bytes: Bytes) {
        let delay = self.dice.between(1, 120);
        let now = self.now;
        let Some(Line::Session { to_member, .. }) = self.lines.get_mut(&connection) else { return };
        let at = (now + delay).max(*to_member + 1);
        *to_member = at;
        self.at(at - now, Event::ToMember { connection, bytes });
    }

    fn send_to_coop(&mut self, connection: ConnectionId, bytes: Bytes) {
        let delay = self.dice.between(1, 120);
        let now = self.now;
        let Some(Line::Session { to_coop, .. }) = self.lines.get_mut(&connection) else { return };
        let at = (now + delay).max(*to_coop + 1);
        *to_coop = at;
        self.at(at - now, Event::ToCoop { connection, bytes });
    }

    fn send_over_link(&mut self, connection: ConnectionId, from: usize, bytes: Bytes) {
        let delay = self.dice.between(1, 60);
        let now = self.now;
        let Some(Line::Link { arrivals }) = self.lines.get_mut(&connection) else { return };
        let to = 1 - from;
        let at = (now + delay).max(arrivals[to] + 1);
        arrivals[to] = at;
        self.at(at - now, Event::OverLink { connection, to, bytes });
    }

    fn new_connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }

    /// Whatever was on its way is lost; both ends notice.
    fn cut(&mut self, connection: ConnectionId) {
        match self.lines.remove(&connection) {
            None => {}
            Some(Line::Session { member, coop, .. }) => {
                if self.members[member].connection == Some(connection) {
                    self.members[member].connection = None;
                    self.members[member].core.handle_disconnected();
                    let delay = self.dice.between(50, 800);
                    self.at(delay, Event::Connect { member });
                }
                self.input(coop, Input::MemberClosed { connection });
            }
            Some(Line::Link { .. }) => {
                (0..2).for_each(|coop| self.input(coop, Input::LinkClosed { connection }));
                let delay = self.dice.between(100, 1_500);
                self.at(delay, Event::Dial);
            }
        }
    }

    /// Steps of a member's core end here: persist, then send.
    fn member_acts(&mut self, member: usize) {
        let is_rough = self.now < self.rough_until;
        let torn = is_rough && self.dice.roll(self.plan.tear_one_in) == 0;
        let sends = self.members[member].take_effects(torn);
        if torn {
            self.faults.tears += 1;
            return self.crash_member(member);
        }
        if let Some(connection) = self.members[member].connection {
            for frame in sends {
                self.send_to_coop(connection, encode_to_server(&frame, Encoding::Binary));
            }
        }
        if let Some(room) = self.room {
            self.members[member].note_acks(&room);
        }
        self.go_on_with_script(member);
    }

    fn crash_member(&mut self, member: usize) {
        self.faults.member_crashes += 1;
        let connection = self.members[member].connection;
        let seed = self.dice.bytes32();
        self.members[member].crash(seed);
        match connection {
            Some(connection) => {
                self.members[member].connection = Some(connection);
                self.cut(connection);
            }
            None => self.at(300, Event::Connect { member }),
        }
    }

    /// First a room, then an invite, then everybody joins.
    fn go_on_with_script(&mut self, member: usize) {
        let wall = self.wall();
        let Some(room) = self.room else { return };
        if member != 0 || self.joining || self.members[0].core.phase_name(&room) != "active" {
            return;
        }
        match self.invite.clone() {
            None if self.members[0].core.is_synced() => {
                let uses = self.plan.members as u32;
                self.invite = self.members[0].core.invite(wall, &room, uses).ok();
                self.member_acts(0);
            }
            Some((item, link)) => {
                let state = self.members[0].core.item_state(&room, item);
                if matches!(state, ItemState::Ordered(_) | ItemState::Held { .. }) {
                    self.joining = true;
                    let link = RoomLink::parse(&link).expect("our own link");
                    for joiner in 1..self.members.len() {
                        let joined = self.members[joiner].core.join_room(wall, &link);
                        assert_eq!(joined, Ok(()));
                        self.member_acts(joiner);
                    }
                }
            }
            None => {}
        }
    }

    /// Accounts, agreement, a room with everybody in it, in calm weather.
    fn settle_in(&mut self) -> Result<(), String> {
        for (here, there) in [(0, 1), (1, 0)] {
            let (coop, address) = (self.coops[there].id.clone(), "simulated:1".to_owned());
            let request = Request::AddNeighbour { coop, address, terms: None, replace: false };
            self.input(here, Input::Steward { id: 1, request });
        }
        self.at(10, Event::Dial);
        for member in 0..self.members.len() {
            let coop = self.members[member].coop;
            let invite = SecretKey::from_seed(self.dice.bytes32());
            self.input(coop, Input::Steward { id: 2, request: Request::Invite { key: invite.public(), uses: 1 } });
            let link = MembershipLink { secure: false, address: "simulated:1".to_owned(), coop: self.coops[coop].id.clone(), invite };
            let joined = self.members[member].core.join_coop(UnixSeconds(WALL), &link, &format!("member {member}"));
            joined.map_err(|error| error.to_string())?;
            self.member_acts(member);
            self.at(100, Event::Connect { member });
        }
        self.at(1_000, Event::Tick);
        let room = self.members[0].core.new_room(UnixSeconds(WALL), ROOM_NAME).map_err(|error| error.to_string())?;
        self.room = Some(room);
        self.member_acts(0);
        self.until(60_000, |world| world.members.iter().all(|member| member.core.phase_name(&room) == "active")).ok_or_else(|| {
            let phases: Vec<_> = self.members.iter().map(|member| member.core.phase_name(&room)).collect();
            format!("not everybody could join in calm weather: {phases:?}")
        })
    }

    fn be_rough(&mut self) {
        self.rough_until = self.now + self.plan.rough_ms;
        for number in 0..self.plan.messages {
            let member = self.dice.roll(self.members.len() as u64) as usize;
            let delay = self.dice.roll(self.plan.rough_ms);
            self.at(delay, Event::Say { member, number });
        }
        self.at(500, Event::Fault);
        let until = self.rough_until;
        self.until(self.plan.rough_ms + 1, |world| world.now >= until);
    }

    /// Everything comes to rest: nothing in any outbox, both logs alike, everybody has read them.
    fn calm_down(&mut self) -> Result<u64, String> {
        let begun = self.now;
        for coop in 0..2 {
            if self.coops[coop].machine.is_none() {
                self.coops[coop].start();
            }
        }
        (0..self.members.len()).for_each(|member| self.at(1, Event::Connect { member }));
        self.at(1, Event::Dial);
        self.until(self.plan.calm_ms, checks::is_at_rest).ok_or_else(|| checks::unrest(self))?;
        Ok(self.now - begun)
    }

    /// Runs until something holds; `None` if it does not within the time.
    fn until(&mut self, limit_ms: u64, holds: impl Fn(&Self) -> bool) -> Option<()> {
        let end = self.now + limit_ms;
        while !holds(self) {
            let Reverse(next) = self.queue.pop()?;
            if next.at > end {
                self.queue.push(Reverse(next));
                self.now = end;
                return holds(self).then_some(());
            }
            self.now = next.at;
            self.happen(next.event);
        }
        Some(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToCoop { connection, bytes } => {
                if let Some(Line::Session { coop, .. }) = self.lines.get(&connection).copied() {
                    let frame = decode_to_server(bytes, Encoding::Binary);
                    self.input(coop, Input::MemberFrame { connection, frame });
                }
            }
            Event::ToMember { connection, bytes } => self.member_hears(connection, bytes),
            Event::OverLink { connection, to, bytes } => {
                if self.lines.contains_key(&connection) {
                    self.input(to, Input::LinkFrame { connection, frame: decode_link(bytes) });
                }
            }
            Event::Connect { member } => self.connect(member),
            Event::Dial => self.dial(),
            Event::Commit { coop, life } => self.commit(coop, life),
            Event::Input { coop, life, input } => {
                if self.coops[coop].life == life {
                    self.input(coop, input);
                }
            }
            Event::Restart { coop } => {
                if self.coops[coop].machine.is_none() {
                    self.coops[coop].start();
                    self.at(20, Event::Dial);
                }
            }
            Event::Say { member, number } => self.say(member, number),
            Event::Fault => self.fault(),
            Event::Tick => {
                (0..2).for_each(|coop| self.input(coop, Input::Tick));
                let wall = self.wall();
                for member in 0..self.members.len() {
                    self.members[member].core.handle_tick(wall);
                    self.member_acts(member);
                }
                self.at(300, Event::Tick);
            }
        }
    }

    fn member_hears(&mut self, connection: ConnectionId, bytes: Bytes) {
        let Some(Line::Session { member, .. }) = self.lines.get(&connection).copied() else { return };
        if self.members[member].connection != Some(connection) {
            return;
        }
        let frame = decode_to_member(bytes, Encoding::Binary).expect("servers send what decodes");
        let wall = self.wall();
        self.members[member].core.handle_frame(wall, frame);
        self.member_acts(member);
    }

    fn connect(&mut self, member: usize) {
        if self.members[member].connection.is_some() {
            return;
        }
        let coop = self.members[member].coop;
        if self.coops[coop].machine.is_none() {
            let delay = self.dice.between(100, 600);
            return self.at(delay, Event::Connect { member });
        }
        let connection = self.new_connection();
        self.lines.insert(connection, Line::Session { member, coop, to_coop: self.now, to_member: self.now });
        self.members[member].connection = Some(connection);
        self.members[member].core.handle_connected();
        let nonce = self.dice.bytes32();
        self.input(coop, Input::MemberOpened { connection, encoding: Encoding::Binary, nonce });
    }

    fn dial(&mut self) {
        if self.has_link() {
            return;
        }
        if self.coops.iter().any(|coop| coop.machine.is_none()) {
            let delay = self.dice.between(100, 1_000);
            return self.at(delay, Event::Dial);
        }
        let connection = self.new_connection();
        self.lines.insert(connection, Line::Link { arrivals: [self.now; 2] });
        let (alder, birch) = (self.coops[0].id.clone(), self.coops[1].id.clone());
        let keys: [PublicKey; 2] = [self.coops[0].link_key, self.coops[1].link_key];
        let dialled = (alder.name < birch.name).then_some(birch.name);
        self.input(0, Input::LinkOpened { connection, peer_link_key: keys[1], dialled });
        self.input(1, Input::LinkOpened { connection, peer_link_key: keys[0], dialled: None });
    }

    /// The transaction becomes durable. In rough weather the process may die just before or just after.
    fn commit(&mut self, coop: usize, life: u64) {
        if self.coops[coop].life != life {
            return;
        }
        let Some(writes) = self.coops[coop].writes.take() else { return };
        let dies = self.now < self.rough_until && self.dice.roll(400) == 0;
        if dies && self.dice.roll(2) == 0 {
            return self.crash_coop(coop);
        }
        self.coops[coop].commit(writes);
        if dies {
            return self.crash_coop(coop);
        }
        self.input(coop, Input::Committed);
    }

    fn crash_coop(&mut self, coop: usize) {
        self.faults.server_crashes += 1;
        self.coops[coop].crash();
        let dead: Vec<ConnectionId> = self
            .lines
            .iter()
            .filter(|(_, line)| match line {
                Line::Session { coop: of, .. } => *of == coop,
                Line::Link { .. } => true,
            })
            .map(|(connection, _)| *connection)
            .collect();
        dead.into_iter().for_each(|connection| self.cut(connection));
        let delay = self.dice.between(100, 3_000);
        self.at(delay, Event::Restart { coop });
    }

    fn say(&mut self, member: usize, number: u64) {
        let (wall, text) = (self.wall(), format!("words that only members may see, number {number}"));
        let Some(room) = self.room else { return };
        if let Ok(item) = self.members[member].core.say(wall, &room, &Content::Text(text.clone())) {
            self.members[member].said.push(Said { item, text, acknowledged: false });
        }
        self.member_acts(member);
    }

    fn fault(&mut self) {
        if self.now >= self.rough_until {
            return;
        }
        match self.dice.roll(10) {
            0..=3 => {
                let member = self.dice.roll(self.members.len() as u64) as usize;
                if let Some(connection) = self.members[member].connection {
                    self.faults.cuts += 1;
                    self.cut(connection);
                }
            }
            4..=6 => {
                let link = self.lines.iter().find(|(_, line)| matches!(line, Line::Link { .. })).map(|(connection, _)| *connection);
                if let Some(connection) = link {
                    self.faults.link_cuts += 1;
                    self.cut(connection);
                }
            }
            7..=8 => {
                let coop = self.dice.roll(2) as usize;
                if self.coops[coop].machine.is_some() {
                    self.crash_coop(coop);
                }
            }
            _ => {
                let member = self.dice.roll(self.members.len() as u64) as usize;
                self.crash_member(member);
            }
        }
        let delay = self.dice.between(100, 2_500);
        self.at(delay, Event::Fault);
    }
}
