//! State, inputs, and the cycle of commits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kith_federation::link::Link;
use kith_protocol::codec::{Encoding, encode_to_member};
use kith_protocol::error::Code;
use kith_protocol::ids::{
    AccountHandle, ConnectionId, Coop as CoopId, CoopName, DeviceHandle, Epoch, Millis, Pseudonym, PublicKey, RoomId, RoomNumber, Seq,
    Term, UnixSeconds,
};
use kith_protocol::limits::{BACKLOG_MAX, RESTORED_WAIT_MS, SETTLE_MS};
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::member::{Refused, RequestId, ToMember};
use kith_storage::{DeviceRow, RoomRow, Write};

use super::agreements::NeighbourTable;
use super::elections::Elections;
use super::feed::Feed;
use super::outbox::Outbox;
use super::rebuild::Rebuild;
use super::scrub::Scrub;
use super::standstill::Standstill;
use super::status::Behind;
use super::turns::Turns;
use super::types::{Boot, Effect, Input, Read, Secrets};
use super::waiting::{After, Reader};
use crate::room::Room;
use crate::session::Session;

/// How long a cursor may wait for a commit that something else needs, milliseconds.
const LAZY_WRITE_MS: u64 = 1_000;
/// How long a submission that the hub cannot take now waits, milliseconds.
const RESUBMIT_MS: u64 = 300;

#[derive(Debug)]
pub struct Coop {
    pub(super) me: CoopId,
    pub(super) secrets: Secrets,
    pub(super) now: Millis,
    pub(super) wall: UnixSeconds,

    pub(super) rooms: BTreeMap<RoomNumber, Room>,
    pub(super) room_numbers: BTreeMap<RoomId, RoomNumber>,
    pub(super) next_room: u32,
    pub(super) outbox: Outbox,

    pub(super) invites: BTreeMap<PublicKey, u32>,
    pub(super) devices: BTreeMap<DeviceHandle, DeviceRow>,
    pub(super) device_keys: BTreeMap<PublicKey, DeviceHandle>,
    pub(super) next_device: u64,
    pub(super) memberships: BTreeMap<AccountHandle, BTreeMap<RoomId, Pseudonym>>,
    pub(super) accounts: BTreeMap<(RoomId, Pseudonym), AccountHandle>,

    pub(super) sessions: BTreeMap<ConnectionId, Session>,
    pub(super) subscribers: BTreeMap<RoomNumber, Vec<ConnectionId>>,
    /// Sessions that have not authenticated yet, and until when they may.
    pub(super) strangers: BTreeMap<ConnectionId, Millis>,
    /// Sessions with watches.
    pub(super) watchers: BTreeSet<ConnectionId>,

    pub(super) neighbours: NeighbourTable,
    pub(super) behind: Behind,
    pub(super) links: BTreeMap<ConnectionId, Link>,
    pub(super) links_up: BTreeMap<CoopName, ConnectionId>,
    pub(super) feeds: BTreeMap<(CoopName, RoomNumber), Feed>,
    pub(super) turns: Turns,
    /// Requests of sessions that a neighbour is to answer.
    pub(super) relayed: BTreeMap<RequestId, (ConnectionId, RequestId, Millis)>,
    pub(super) next_relayed: RequestId,
    pub(super) resubmit_at: Option<Millis>,
    /// Rooms whose hub sent what could not be taken: they are asked for again then.
    pub(super) refollow: BTreeMap<RoomNumber, Millis>,
    /// Rooms that have grown, and when their other holders are told.
    pub(super) compare_at: BTreeMap<RoomNumber, Millis>,
    /// The commit, and the term, whose certificate a room's sessions have been told.
    pub(super) announced: BTreeMap<RoomNumber, (Seq, Term)>,
    /// The newest marks of others over more than is durable here.
    pub(super) early: BTreeMap<RoomNumber, Attestation>,
    /// Which holder a room is taken from now.
    pub(super) following: BTreeMap<RoomNumber, CoopName>,
    /// Until then hubs wait for their mirrors after this start.
    pub(super) settle_until: Option<Millis>,
    /// When its store was put back from a backup; until when rooms that nobody else votes in wait for mirrors.
    pub(super) incarnation: u64,
    pub(super) restored_until: Option<Millis>,
    pub(super) elections: Elections,
    pub(super) standstill: Standstill,
    pub(super) rebuilds: BTreeMap<RoomNumber, Rebuild>,
    /// Rooms that are damaged on this disk, until a holder has shown that it has them.
    pub(super) damaged: BTreeMap<RoomNumber, RoomRow>,
    pub(super) scrub: Scrub,

    pub(super) effects: VecDeque<Effect>,
    pub(super) writes: Vec<Write>,
    lazy: Vec<Write>,
    lazy_since: Option<Millis>,
    pub(super) dirty: Vec<RoomNumber>,
    pub(super) after: Vec<After>,
    pub(super) in_flight: Option<(Vec<Write>, Vec<After>)>,
    /// While the disk is full: when the next attempt is due.
    pub(super) full_until: Option<Millis>,
    pub(super) readers: BTreeMap<u64, Reader>,
    pub(super) next_read: u64,
    pub(super) draining: bool,
}

impl Coop {
    /// `wall` is the time of the start.
    pub fn new(me: CoopId, secrets: Secrets, boot: Boot, wall: UnixSeconds) -> Self {
        let mut coop = Self {
            me,
            secrets,
            now: Millis(0),
            wall,
            rooms: BTreeMap::new(),
            room_numbers: BTreeMap::new(),
            next_room: 1,
            outbox: Outbox::default(),
            invites: boot.invites.into_iter().collect(),
            devices: BTreeMap::new(),
            device_keys: BTreeMap::new(),
            next_device: 1,
            memberships: BTreeMap::new(),
            accounts: BTreeMap::new(),
            sessions: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            watchers: BTreeSet::new(),
            refollow: BTreeMap::new(),
            compare_at: BTreeMap::new(),
            announced: BTreeMap::new(),
            early: BTreeMap::new(),
            following: BTreeMap::new(),
            settle_until: Some(Millis(SETTLE_MS)),
            incarnation: boot.incarnation,
            restored_until: None,
            elections: Elections::default(),
            standstill: Standstill::default(),
            rebuilds: BTreeMap::new(),
            damaged: BTreeMap::new(),
            scrub: Scrub::new(),
            neighbours: NeighbourTable::restore(boot.neighbours),
            behind: BTreeMap::new(),
            links: BTreeMap::new(),
            links_up: BTreeMap::new(),
            feeds: BTreeMap::new(),
            turns: Turns::default(),
            relayed: BTreeMap::new(),
            next_relayed: 1,
            resubmit_at: None,
            effects: VecDeque::new(),
            writes: Vec::new(),
            lazy: Vec::new(),
            lazy_since: None,
            dirty: Vec::new(),
            after: Vec::new(),
            in_flight: None,
            full_until: None,
            readers: BTreeMap::new(),
            next_read: 1,
            draining: false,
        };
        for mut room in boot.rooms {
            // What is on disk is held: this co-op says so again, for its marks are not stored with each append.
            room.begin_wait();
            room.committed(&coop.secrets.root, wall, room.durable());
            coop.next_room = coop.next_room.max(room.number.0 + 1);
            coop.room_numbers.insert(room.id, room.number);
            coop.rooms.insert(room.number, room);
        }
        let is_news = boot.damaged.iter().any(|(_, is_known)| !is_known);
        for (row, _) in boot.damaged {
            coop.next_room = coop.next_room.max(row.number.0 + 1);
            coop.room_numbers.insert(row.id, row.number);
            coop.damaged.insert(row.number, row);
        }
        for (room, rows) in boot.pending {
            coop.outbox.restore(room, rows);
        }
        let hubs: BTreeSet<CoopName> = coop.rooms.values().map(|room| room.hub.name.clone()).filter(|hub| *hub != coop.me.name).collect();
        hubs.iter().for_each(|hub| coop.hub_silent(hub, 0));
        for device in boot.devices {
            coop.next_device = coop.next_device.max(device.handle.0 + 1);
            coop.note_device(device);
        }
        for row in boot.memberships {
            coop.note_membership(row.account, row.room, row.pseudonym);
        }
        if is_news {
            coop.begin_incarnation();
        }
        coop.number_on();
        if coop.rooms.values().any(Room::is_restored) {
            coop.restored_until = Some(Millis(RESTORED_WAIT_MS));
        }
        coop
    }

    pub fn me(&self) -> &CoopId {
        &self.me
    }

    pub(super) fn note_device(&mut self, device: DeviceRow) {
        self.device_keys.insert(device.key, device.handle);
        self.devices.insert(device.handle, device);
    }

    pub(super) fn note_membership(&mut self, account: AccountHandle, room: RoomId, pseudonym: Pseudonym) {
        self.memberships.entry(account).or_default().insert(room, pseudonym);
        self.accounts.insert((room, pseudonym), account);
    }

    /// Takes an input. `now` is monotone; `wall` is what new headers and certificates say.
    pub fn handle(&mut self, now: Millis, wall: UnixSeconds, input: Input) {
        (self.now, self.wall) = (now, wall);
        match input {
            Input::MemberOpened { connection, encoding, nonce } => self.member_opened(connection, encoding, nonce),
            Input::MemberFrame { connection, frame } => self.member_frame(connection, frame),
            Input::MemberClosed { connection } => self.member_closed(connection),
            Input::MemberDrained { connection } => self.member_drained(connection),
            Input::Undelivered { connection, room, first } => self.undelivered(connection, room, first),
            Input::LinkOpened { connection, peer_link_key, dialled } => self.link_opened(connection, peer_link_key, dialled),
            Input::LinkFrame { connection, frame } => self.link_frame(connection, frame),
            Input::LinkClosed { connection } => self.link_closed(connection),
            Input::DialFailed { name, why } => self.note_link_error(&name, &why),
            Input::ReadDone { id, result } => self.read_done(id, result),
            Input::Steward { id, request } => self.handle_steward(id, request),
            Input::Committed => self.handle_committed(),
            Input::DiskFull => self.handle_disk_full(),
            Input::Drain => self.handle_drain(),
            Input::Tick => self.handle_tick(),
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due, if nothing else comes.
    pub fn poll_deadline(&self) -> Option<Millis> {
        let sessions = self.strangers.values().copied();
        let refollow = self.refollow.values().chain(self.compare_at.values()).copied();
        let links = self.links.values().map(Link::poll_deadline);
        let relayed = self.relayed.values().map(|(_, _, deadline)| *deadline);
        let may_commit = self.in_flight.is_none() && !self.is_full();
        let lazy = self.lazy_since.filter(|_| may_commit).map(|since| Millis(since.0 + LAZY_WRITE_MS));
        let elections =
            self.elections.poll_deadline().into_iter().chain(self.standstill.poll_deadline(self.now)).chain(self.scrub.poll_deadline());
        let deadlines = sessions.chain(links).chain(relayed).chain(refollow).chain(lazy).chain(self.resubmit_at);
        deadlines.chain(self.settle_until).chain(self.restored_until).chain(elections).chain(self.full_deadline()).min()
    }

    pub(super) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// A write that may wait a little for company.
    pub(super) fn write_lazily(&mut self, write: Write) {
        self.lazy.push(write);
        self.lazy_since.get_or_insert(self.now);
    }

    /// Marks over a log that is cut are over another log from then on.
    pub(super) fn forget_marks(&mut self, number: RoomNumber) {
        let is_mark = |write: &Write| matches!(write, Write::PutMarked { room, .. } if *room == number);
        self.lazy.retain(|write| !is_mark(write));
        self.writes.retain(|write| !is_mark(write));
    }

    /// Puts waiting writes into the next transaction. `true`: something is not durable yet.
    pub(super) fn flush_lazy_writes(&mut self) -> bool {
        self.writes.append(&mut self.lazy);
        self.lazy_since = None;
        !self.writes.is_empty() || self.in_flight.is_some()
    }

    pub(super) fn touched(&mut self, room: RoomNumber) {
        if !self.dirty.contains(&room) {
            self.dirty.push(room);
        }
    }

    /// The next transaction, unless one is under way. Its end comes back as [`Input::Committed`].
    pub fn poll_commit(&mut self) -> Option<Vec<Write>> {
        let lazy_due = self.lazy_since.is_some_and(|since| self.now.0 >= since.0 + LAZY_WRITE_MS);
        let idle = self.writes.is_empty() && self.dirty.is_empty() && self.after.is_empty() && !lazy_due;
        if self.in_flight.is_some() || idle || self.full_until.is_some_and(|at| self.now < at) {
            return None;
        }
        let mut writes = std::mem::take(&mut self.writes);
        let mut after = Vec::new();
        for number in std::mem::take(&mut self.dirty) {
            let appended = self.rooms.get_mut(&number).and_then(|room| room.take_append(&self.secrets.root));
            if let Some((append, committed)) = appended {
                writes.push(Write::Append(append));
                after.push(After::Grown(committed));
            }
        }
        // Marks are over what is there by then.
        writes.append(&mut self.lazy);
        self.lazy_since = None;
        after.append(&mut self.after);
        self.in_flight = Some((writes.clone(), after));
        Some(writes)
    }

    fn handle_committed(&mut self) {
        let Some((_, after)) = self.in_flight.take() else { return };
        self.full_until = None;
        for action in after {
            self.act(action);
        }
    }

    pub(super) fn act(&mut self, action: After) {
        match action {
            After::Effect(effect) => self.effects.push_back(effect),
            After::Grown(committed) => {
                self.note_growth(&committed);
                self.grown(committed);
            }
            After::Agreement { name } => self.show_agreement(&name),
            After::Restored => self.announce_incarnation(),
            After::Repair { room, peer } => self.repair(room, &peer),
            After::Pending { room, id } => {
                self.outbox.durable(room, &id);
                self.deliver_one(room, &id);
                self.forward(room);
            }
            After::Submitted { connection, id } => {
                if let Some(link) = self.links.get_mut(&connection) {
                    link.submitted(id, Ok(()));
                    self.pump_link(connection);
                }
            }
            After::Subscribe { connection, room, from } => self.subscribe(connection, room, from),
            After::FetchGroup { connection, fetch } => self.fetch_group(connection, fetch, false),
            After::PeerFetchGroup { connection, fetch } => self.peer_fetch_group(connection, fetch, false),
            After::FollowNew { room } => {
                self.follow_room(room);
                self.refollow_later(room);
            }
            After::CastVote { room, term, candidate } => self.cast_vote(room, term, candidate),
            After::SendVote { room } => self.send_vote(room),
            After::Rebuilt { room } => self.rebuilt(room),
            After::Frozen { room } => self.frozen(room),
            After::ReadCursors { connection, device } => {
                self.read(Reader::Cursors { connection }, Read::Cursors { device });
            }
            After::StartSync { connection, device } => self.start_sync(connection, device),
        }
    }

    fn handle_tick(&mut self) {
        let late: Vec<ConnectionId> =
            self.strangers.iter().filter(|(_, until)| **until <= self.now).map(|(connection, _)| *connection).collect();
        for connection in late {
            self.refuse(connection, Code::NotAuthenticated, "no device authenticated in time", 0);
            self.close_member(connection);
        }
        self.tick_links();
        self.tick_scrub();
        self.tick_standstill();
        self.tick_elections();
        self.tick_settling();
        self.tick_restored();
        self.tick_compare();
        self.tick_agreements();
        if self.resubmit_at.is_some_and(|at| at <= self.now) {
            self.resubmit_at = None;
            let rooms: Vec<RoomNumber> = self.outbox.rooms_with_pending().collect();
            rooms.into_iter().for_each(|room| self.forward(room));
        }
    }

    /// Whether there is room for further inputs: when much waits for a commit, they wait outside. While the disk is full
    /// nothing is added to what waits.
    pub fn takes_input(&self) -> bool {
        self.is_full() || self.writes.len() + self.after.len() + self.rooms_staged() < BACKLOG_MAX
    }

    fn rooms_staged(&self) -> usize {
        self.dirty.iter().filter_map(|number| self.rooms.get(number)).map(Room::staged_len).sum()
    }

    pub(super) fn resubmit_later(&mut self) {
        self.resubmit_at.get_or_insert(Millis(self.now.0 + RESUBMIT_MS));
    }

    fn handle_drain(&mut self) {
        self.draining = true;
        let connections: Vec<ConnectionId> = self.sessions.keys().copied().collect();
        for connection in connections {
            self.reply(connection, &ToMember::Draining);
        }
    }

    /// Whether everything decided is durable and told.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.writes.is_empty() && self.dirty.is_empty() && self.after.is_empty()
    }

    pub(super) fn encode(&self, connection: ConnectionId, frame: &ToMember) -> Option<Bytes> {
        let encoding = self.sessions.get(&connection)?.encoding;
        Some(encode_to_member(frame, encoding))
    }

    pub(super) fn reply(&mut self, connection: ConnectionId, frame: &ToMember) {
        if let Some(bytes) = self.encode(connection, frame) {
            self.effects.push_back(Effect::ToMember { connection, bytes });
        }
    }

    pub(super) fn reply_after_commit(&mut self, connection: ConnectionId, frame: &ToMember) {
        if let Some(bytes) = self.encode(connection, frame) {
            self.after.push(After::Effect(Effect::ToMember { connection, bytes }));
        }
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, code: Code, detail: &str, request: RequestId) {
        let refused = Refused {
            code,
            detail: detail.to_owned(),
            request,
            room: RoomNumber(0),
            counter: 0,
            retry_after_ms: if code.is_transient() { 300 } else { 0 },
            epoch: None,
        };
        self.reply(connection, &ToMember::Refused(refused));
    }

    pub(super) fn refuse_entry(
        &mut self,
        connection: ConnectionId,
        room: RoomNumber,
        counter: u64,
        code: Code,
        detail: &str,
        request: RequestId,
    ) {
        self.refuse_made_entry(connection, room, counter, None, code, detail, request);
    }

    /// Of an entry that was made for that epoch.
    #[allow(clippy::too_many_arguments, reason = "the fields of the frame")]
    pub(super) fn refuse_made_entry(
        &mut self,
        connection: ConnectionId,
        room: RoomNumber,
        counter: u64,
        epoch: Option<Epoch>,
        code: Code,
        detail: &str,
        request: RequestId,
    ) {
        let retry_after_ms = if code.is_transient() { 300 } else { 0 };
        let refused = Refused { code, detail: detail.to_owned(), request, room, counter, retry_after_ms, epoch };
        self.reply(connection, &ToMember::Refused(refused));
    }

    pub(super) fn close_member(&mut self, connection: ConnectionId) {
        if self.sessions.contains_key(&connection) {
            self.effects.push_back(Effect::CloseMember { connection });
            self.member_closed(connection);
        }
    }

    pub(super) fn encodings_of(&self, connections: &[ConnectionId]) -> BTreeMap<bool, Vec<ConnectionId>> {
        let mut by_encoding: BTreeMap<bool, Vec<ConnectionId>> = BTreeMap::new();
        for connection in connections {
            if let Some(session) = self.sessions.get(connection) {
                by_encoding.entry(session.encoding == Encoding::Json).or_default().push(*connection);
            }
        }
        by_encoding
    }

    /// The sessions of the account behind a pseudonym.
    pub(super) fn sessions_of(&self, room: &RoomId, who: &Pseudonym, device: u16) -> Vec<ConnectionId> {
        let Some(account) = self.accounts.get(&(*room, *who)) else { return Vec::new() };
        let is_author =
            |session: &&Session| session.identity.is_some_and(|identity| identity.account == *account && identity.device_number == device);
        self.sessions.values().filter(is_author).map(|session| session.connection).collect()
    }

    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    pub fn links_up(&self) -> usize {
        self.links_up.len()
    }

    pub fn sessions_open(&self) -> usize {
        self.sessions.len()
    }
}
