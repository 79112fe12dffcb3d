//! Connections between machines: dialled, carrying frames, ended by either side or by the weather.

use bytes::Bytes;
use kith_federation::backoff::Backoff;
use kith_protocol::codec::{Encoding, decode_link, decode_to_member, decode_to_server};
use kith_protocol::ids::ConnectionId;
use kith_protocol::limits::LINK_QUEUE_MESSAGES_MAX;
use kith_protocol::link::LinkFrame;
use kith_relay::coop::Input;

use crate::network::Place;
use crate::world::{Event, World};

/// First and longest wait of a member before connecting again, milliseconds, as the native client waits.
const RECONNECT_FIRST_MS: u64 = 100;
const RECONNECT_MS_MAX: u64 = 3_000;
/// A transport without heartbeats finds out within this time that its peer is gone, milliseconds.
const TRANSPORT_MS: (u64, u64) = (5_000, 60_000);
/// One frame in so many comes twice, and one is overtaken, by up to so long, milliseconds.
const GARBLED_ONE_IN: u64 = 20;
const OVERTAKEN_MS_MAX: u64 = 400;
/// Frames before a link is up.
const GREETING_FRAMES: u64 = 2;

/// A neighbour that is to be dialled.
#[derive(Debug, Default)]
pub struct Dialled {
    pub line: Option<ConnectionId>,
    pub backoff: Backoff,
}

impl World {
    /// `false`: it did not go, and the connection is as good as gone.
    pub(crate) fn send(&mut self, connection: ConnectionId, from: Place, bytes: Bytes) -> bool {
        let bytes = self.as_told(connection, from, bytes);
        let Some((side, at)) = self.network.send(self.clock.now(), &mut self.dice, connection, from, bytes.len()) else { return false };
        let late = self.garble_frame(connection, side, at, &bytes);
        self.clock.at(at + late, Event::Frame { connection, side, bytes });
        true
    }

    /// By how much a frame comes later than what is sent after it; or it comes once more.
    fn garble_frame(&mut self, connection: ConnectionId, side: usize, at: u64, bytes: &Bytes) -> u64 {
        if !self.network.garbles {
            return 0;
        }
        match self.dice.roll(GARBLED_ONE_IN) {
            0 => {
                self.count("a frame comes twice");
                self.network.doubled(connection, side);
                let again = at + self.dice.between(1, OVERTAKEN_MS_MAX);
                self.clock.at(again, Event::Frame { connection, side, bytes: bytes.clone() });
                0
            }
            1 => {
                self.count("a frame is overtaken");
                self.dice.between(1, OVERTAKEN_MS_MAX)
            }
            _ => 0,
        }
    }

    pub(crate) fn send_over_link(&mut self, coop: usize, connection: ConnectionId, bytes: Bytes) {
        let Some(line) = self.network.line(connection) else { return };
        let side = line.side_of(Place::Coop(coop));
        if line.queued[1 - side] >= LINK_QUEUE_MESSAGES_MAX {
            self.count("a neighbour does not read");
            self.hang_up(connection, side);
            return self.tell(coop, Input::LinkClosed { connection });
        }
        self.send(connection, Place::Coop(coop), bytes);
    }

    pub(crate) fn frame_arrived(&mut self, connection: ConnectionId, side: usize, bytes: Bytes) {
        let was_dead = self.network.is_half_dead(connection);
        if !self.network.arrive(connection, side) {
            if !was_dead && self.network.is_half_dead(connection) {
                self.give_up_later(connection);
            }
            return;
        }
        let Some(line) = self.network.line(connection).copied() else { return };
        match (line.ends[side], line.is_link()) {
            (Place::Member(member), _) => {
                let frame = decode_to_member(bytes, Encoding::Binary).expect("servers send what decodes");
                let wall = self.members[member].wall(self.clock.now());
                self.members[member].core.handle_frame(wall, frame);
                self.member_acts(member);
                if let Place::Coop(coop) = line.ends[1 - side] {
                    self.drained(coop, connection, side);
                }
            }
            (Place::Coop(coop), true) => {
                let frame = decode_link(bytes);
                let is_kept_back = match &frame {
                    Ok(LinkFrame::Submit { .. }) => self.coops[coop].is_deaf,
                    Ok(LinkFrame::Batch(_)) => {
                        line.ends[1 - side] == Place::Coop(self.coops[coop].hears_nothing_from.unwrap_or(usize::MAX))
                    }
                    _ => false,
                };
                if !is_kept_back {
                    self.input(coop, Input::LinkFrame { connection, frame });
                }
            }
            (Place::Coop(coop), false) => {
                let frame = decode_to_server(bytes, Encoding::Binary);
                self.input(coop, Input::MemberFrame { connection, frame });
            }
        }
    }

    /// A session's queue that was full is empty again.
    fn drained(&mut self, coop: usize, connection: ConnectionId, side: usize) {
        let Some(line) = self.network.line_mut(connection).filter(|line| line.lagging && line.queued[side] == 0) else { return };
        line.lagging = false;
        if line.open[1 - side] {
            self.input(coop, Input::MemberDrained { connection });
        }
    }

    /// Without heartbeats a session's ends find out late; links have heartbeats.
    fn give_up_later(&mut self, connection: ConnectionId) {
        if self.network.line(connection).is_some_and(|line| !line.is_link()) {
            let delay = self.dice.between(TRANSPORT_MS.0, TRANSPORT_MS.1);
            (0..2).for_each(|side| self.clock.after(delay, Event::Closed { connection, side }));
        }
    }

    /// One end lets go of a connection; the other hears of it, if the way there is open.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId, side: usize) {
        let Some(line) = self.network.line(connection).copied().filter(|line| line.open[side]) else { return };
        match self.network.close(self.clock.now(), connection, side) {
            Some(at) => self.clock.at(at, Event::Closed { connection, side: 1 - side }),
            None => self.give_up_later(connection),
        }
        match line.ends[side] {
            Place::Member(member) => {
                if self.members[member].connection == Some(connection) {
                    self.members[member].connection = None;
                    self.members[member].core.handle_disconnected();
                    self.reconnect(member);
                }
            }
            Place::Coop(from) => {
                if let Place::Coop(to) = line.ends[1 - side]
                    && let Some(dialled) = self.dialled.get_mut(&(from, to)).filter(|dialled| dialled.line == Some(connection))
                {
                    dialled.line = None;
                    if line.heard[side] > GREETING_FRAMES {
                        dialled.backoff.reset();
                    }
                    self.dial_again(from, to);
                }
            }
        }
    }

    /// An end finds its connection closed.
    pub(crate) fn closed(&mut self, connection: ConnectionId, side: usize) {
        let Some(line) = self.network.line(connection).copied().filter(|line| line.open[side]) else { return };
        self.hang_up(connection, side);
        if let Place::Coop(coop) = line.ends[side] {
            let input = if line.is_link() { Input::LinkClosed { connection } } else { Input::MemberClosed { connection } };
            self.input(coop, input);
        }
    }

    /// Cuts a connection at whatever byte is under way. Both ends notice; or one of them is not told.
    pub(crate) fn cut(&mut self, connection: ConnectionId, told: [bool; 2]) {
        self.network.break_off(connection);
        for (side, told) in told.into_iter().enumerate() {
            if told {
                let delay = self.dice.between(0, 40);
                self.clock.after(delay, Event::Closed { connection, side });
            }
        }
        self.give_up_later(connection);
    }

    /// Every connection of a process that died. Mostly the other ends are told by its system, sometimes by nobody.
    pub(crate) fn cut_all(&mut self, place: Place) {
        let is_told = self.dice.roll(4) > 0;
        let of_place: Vec<(ConnectionId, usize)> = self
            .network
            .lines()
            .filter(|(_, line)| line.ends.contains(&place))
            .map(|(connection, line)| (connection, line.side_of(place)))
            .collect();
        for (connection, side) in of_place {
            let told = [is_told && side != 0, is_told && side != 1];
            self.cut(connection, told);
            self.hang_up(connection, side);
        }
    }

    fn reconnect(&mut self, member: usize) {
        let device = &mut self.members[member];
        if std::mem::replace(&mut device.connecting, true) {
            return;
        }
        let wait = (RECONNECT_FIRST_MS << device.failures.min(8)).min(RECONNECT_MS_MAX);
        device.failures += 1;
        let life = device.life;
        let delay = wait + self.dice.roll(100);
        self.clock.after(delay, Event::Connect { member, life });
    }

    /// Comes back after a while, whatever happens meanwhile.
    pub(crate) fn connect_after(&mut self, member: usize, delay: u64) {
        self.members[member].connecting = true;
        let life = self.members[member].life;
        self.clock.after(delay, Event::Connect { member, life });
    }

    pub(crate) fn connect(&mut self, member: usize) {
        self.members[member].connecting = false;
        if self.members[member].connection.is_some() {
            return;
        }
        let coop = self.members[member].coop;
        let ends = [Place::Member(member), Place::Coop(coop)];
        if self.coops[coop].machine.is_none() || self.network.is_blocked(ends[0], ends[1]) {
            return self.reconnect(member);
        }
        let connection = self.network.open(self.clock.now(), ends);
        self.members[member].failures = 0;
        self.members[member].connection = Some(connection);
        self.members[member].core.handle_connected();
        let nonce = self.dice.bytes32();
        self.input(coop, Input::MemberOpened { connection, encoding: Encoding::Binary, nonce });
    }

    fn dial_again(&mut self, from: usize, to: usize) {
        let random = self.dice.draw();
        let life = self.coops[from].life;
        if let Some(dialled) = self.dialled.get_mut(&(from, to)) {
            let delay = dialled.backoff.next_ms(random);
            self.clock.after(delay, Event::Dial { from, to, life });
        }
    }

    /// Of two neighbours the one whose name comes first dials.
    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        if self.dialled.get(&(from, to)).is_none_or(|dialled| dialled.line.is_some()) {
            return;
        }
        let ends = [Place::Coop(from), Place::Coop(to)];
        if self.coops[to].machine.is_none() || self.network.is_blocked(ends[0], ends[1]) {
            return self.dial_again(from, to);
        }
        let connection = self.network.open(self.clock.now(), ends);
        self.dialled.entry((from, to)).or_default().line = Some(connection);
        let keys = [self.coops[from].link_key, self.coops[to].link_key];
        let dialled = Some(self.coops[to].id.name.clone());
        self.input(from, Input::LinkOpened { connection, peer_link_key: keys[1], dialled });
        self.input(to, Input::LinkOpened { connection, peer_link_key: keys[0], dialled: None });
    }

    /// A co-op that has just started dials whomever it has to.
    pub(crate) fn dial_all(&mut self, from: usize) {
        let life = self.coops[from].life;
        let neighbours: Vec<usize> = self.dialled.keys().filter(|(dials, _)| *dials == from).map(|(_, to)| *to).collect();
        for to in neighbours {
            self.dialled.insert((from, to), Dialled::default());
            let delay = self.dice.between(1, 50);
            self.clock.after(delay, Event::Dial { from, to, life });
        }
    }
}
