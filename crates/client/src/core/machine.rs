//! State, inputs and effects of the device.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kith_protocol::codec;
use kith_protocol::content::{Content, ContentError};
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, CoopName, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::limits::ROOM_INVITES_MAX;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::merkle::Frontier;
use kith_protocol::log::pack::Unpacked;
use kith_protocol::member::{RequestId, ToMember, ToServer};
use openmls_traits::OpenMlsProvider;

use super::audit::Audit;
use super::state::{Account, BeforeState, Key, OutItem, Phase, RoomState};
use crate::mls::group::{Group, GroupError};
use crate::mls::provider::Provider;

/// Why a command cannot be done. What to do next is in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    #[error("this device belongs to no co-op yet. Join one: kith join LINK --name YOUR_NAME")]
    NoAccount,
    #[error("this device belongs to {0} already. Use another --home for another co-op")]
    HasAccount(String),
    #[error("no such room on this device. `kith rooms` lists yours")]
    NoSuchRoom,
    #[error("you have left that room. What you read there stays readable; to come back, join with a fresh link")]
    Gone,
    #[error("your co-op says that you were taken out of that room. What you read there stays readable; its moderators can tell you why")]
    ShutOut,
    #[error("that room is not ready yet: this device is still joining it. Try again in a moment")]
    NotReady,
    #[error("you are in that room already. `kith read ROOM` shows what is said there")]
    AlreadyIn,
    #[error(
        "this device's copy of the room is older than what it has sent (a restored backup?). It can still read; to write again, join with a fresh link from another --home"
    )]
    OutOfStep,
    #[error("only a facilitator of the room can do that. `kith members ROOM` shows who is one")]
    NotFacilitator,
    #[error("{0} has no member in this room. A co-op votes only where it has members; have one of them join first")]
    NoMembersThere(String),
    #[error("voters change one at a time, so that every two majorities share one. Add or remove one, then the next")]
    OneVoterAtATime,
    #[error("{0}. With two voters name a third co-op that breaks ties: --tie-breaker NAME")]
    Voters(String),
    #[error(
        "{ROOM_INVITES_MAX} links to this room are open, and there can be no more. Each closes when it is used up, or after 14 days; one link for several people takes one place: --uses N"
    )]
    TooManyInvites,
    #[error("too much is waiting in the outbox. Get a connection, then run `kith outbox list`")]
    OutboxFull,
    #[error("no such item in the outbox. `kith outbox list` shows them")]
    NoSuchItem,
    #[error("that one has been handed to a server already and cannot be taken back. `kith read ROOM` shows how far it has come")]
    TooLate,
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("this device's memory is damaged: {0}. Restore it from a backup, or join again from another --home")]
    Damaged(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Must be durable before any later effect is carried out. `None` deletes.
    Persist(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Send(ToServer),
    Event(Event),
    /// Lines of a room's timeline are needed: answered by [`Core::handle_rows`] with all that are stored from there on.
    Load {
        room: RoomId,
        from: Seq,
    },
}

/// What whoever drives the device may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Ready,
    /// All rooms have been read to their ends.
    Synced,
    Draining,
    RoomReady(RoomId),
    JoinFailed {
        room: RoomId,
        code: Code,
        detail: String,
    },
    ItemFailed {
        room: RoomId,
        item: u64,
        code: Code,
        detail: String,
    },
    /// The server refused something that was no entry and no request of ours.
    Refused {
        code: Code,
        detail: String,
    },
    /// Refused for now: this device tries it again by itself.
    PutOff {
        code: Code,
        detail: String,
    },
    Verified(VerifyReport),
    /// Somebody broke their word in this room; the proof was checked and is kept.
    Frozen {
        room: RoomId,
        words: String,
    },
    /// What the server sent does not add up. The connection must be closed.
    Distrust {
        room: RoomId,
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    pub room: RoomId,
    /// Why it does not hold; `None`: it does.
    pub problem: Option<String>,
    pub size: u64,
    pub root: Hash,
    pub cosigned_by: Vec<CoopName>,
}

/// What a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Certify(RoomId),
    Create(RoomId),
    Group(RoomId),
    Join(RoomId),
    Headers(RoomId),
    Watch(RoomId),
}

/// An item of the outbox, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub id: u64,
    pub room: RoomId,
    pub what: &'static str,
    pub state: ItemState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    Waiting,
    Stored,
    Ordered(Seq),
    Held { seq: Seq, by: usize, of: usize },
    Unknown,
}

/// The log as this session has been sent it: possibly ahead of what could be applied.
#[derive(Debug)]
pub(super) struct LogView {
    pub frontier: Frontier,
    pub senders: Vec<Pseudonym>,
    /// Roots at recent sizes: marks of co-ops are over one of them.
    pub roots: VecDeque<(u64, Hash)>,
    /// Entries that wait for a commit before them, or themselves, to be certified.
    pub waiting: VecDeque<Unpacked>,
    /// Marks over more than has come so far.
    pub early: Option<Attestation>,
    /// At its end.
    pub term: Term,
    pub hub: Option<Coop>,
}

/// What lasts as long as a connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub ready: bool,
    pub synced: bool,
    pub next_request: RequestId,
    pub asked: BTreeMap<RequestId, Ask>,
    pub logs: BTreeMap<RoomId, LogView>,
    /// Items that were sent in this session.
    pub sent: BTreeSet<(RoomId, u64)>,
    pub audit: Option<Audit>,
    /// Rooms whose join was handed in.
    pub offered: BTreeSet<RoomId>,
    /// Rooms where the server asked for patience, until the next tick.
    pub paused: BTreeSet<RoomId>,
    pub watching: BTreeSet<RoomId>,
    /// How far the server was told that this device has come.
    pub cursors: BTreeMap<RoomId, u64>,
}

pub struct Core {
    pub(super) account: Option<Account>,
    pub(super) rooms: BTreeMap<RoomId, RoomState>,
    pub(super) provider: Provider,
    pub(super) groups: BTreeMap<RoomId, Group>,
    /// States of groups that they may have to go back to, by epoch.
    pub(super) befores: BTreeMap<(RoomId, u64), BeforeState>,
    pub(super) session: Session,
    pub(super) now: UnixSeconds,
    account_dirty: bool,
    dirty: BTreeSet<RoomId>,
    pub(super) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) sends: Vec<ToServer>,
    pub(super) events: Vec<Event>,
    pub(super) loads: Vec<Effect>,
    effects: VecDeque<Effect>,
}

const KEY_ACCOUNT: &[u8] = b"a";
const KEY_MLS: u8 = b'm';
const KEY_ROOM: u8 = b'r';
const KEY_ROW: u8 = b't';
const KEY_BEFORE: u8 = b'b';

fn prefixed(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(rest);
    key
}

/// The key of a line of a room's timeline; they sort by sequence number.
pub fn row_key(room: &RoomId, seq: Seq) -> Vec<u8> {
    let mut key = prefixed(KEY_ROW, &room.0);
    key.extend_from_slice(&seq.0.to_be_bytes());
    key
}

/// The key of a group's state in an earlier epoch.
pub(super) fn before_key(room: &RoomId, epoch: u64) -> Vec<u8> {
    let mut key = prefixed(KEY_BEFORE, &room.0);
    key.extend_from_slice(&epoch.to_be_bytes());
    key
}

/// Whether a key is loaded into memory; the timeline is read where it lies.
pub fn is_loaded(key: &[u8]) -> bool {
    key.first() != Some(&KEY_ROW)
}

impl Core {
    /// From what was persisted (all keys of which [`is_loaded`] says so). `seed` must be fresh each time.
    pub fn load(seed: [u8; 32], entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, CoreError> {
        let damaged = |error: postcard::Error| CoreError::Damaged(error.to_string());
        let (mut account, mut rooms, mut mls, mut befores) = (None, BTreeMap::new(), Vec::new(), BTreeMap::new());
        let id_of = |bytes: &[u8]| RoomId::from_slice(bytes).map_err(|error| CoreError::Damaged(error.to_string()));
        for (key, value) in entries {
            match key.split_first() {
                Some((prefix, [])) if [*prefix] == KEY_ACCOUNT => account = Some(postcard::from_bytes(&value).map_err(damaged)?),
                Some((&KEY_MLS, rest)) => mls.push((rest.to_vec(), value)),
                Some((&KEY_ROOM, rest)) => {
                    rooms.insert(id_of(rest)?, postcard::from_bytes(&value).map_err(damaged)?);
                }
                Some((&KEY_BEFORE, rest)) => {
                    let (room, epoch) = rest.split_last_chunk::<8>().unwrap_or((rest, &[0; 8]));
                    let before = postcard::from_bytes(&value).map_err(damaged)?;
                    befores.insert((id_of(room)?, u64::from_be_bytes(*epoch)), before);
                }
                _ => {}
            }
        }
        Ok(Self {
            account,
            rooms,
            provider: Provider::from_parts(seed, mls),
            groups: BTreeMap::new(),
            befores,
            session: Session::default(),
            now: UnixSeconds(0),
            account_dirty: false,
            dirty: BTreeSet::new(),
            rows: Vec::new(),
            sends: Vec::new(),
            events: Vec::new(),
            loads: Vec::new(),
            effects: VecDeque::new(),
        })
    }

    /// Another process changed what is persisted: takes that over, and keeps this process's session.
    pub fn reload(&mut self, seed: [u8; 32], entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<(), CoreError> {
        let fresh = Self::load(seed, entries)?;
        self.account = fresh.account;
        self.rooms = fresh.rooms;
        self.provider = fresh.provider;
        self.befores = fresh.befores;
        self.groups.clear();
        Ok(())
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.provider.rand().fill(&mut bytes);
        bytes
    }

    pub(super) fn touch(&mut self, room: &RoomId) {
        self.dirty.insert(*room);
    }

    pub(super) fn touch_account(&mut self) {
        self.account_dirty = true;
    }

    /// Ends a step: what changed is to be persisted, then what depends on it may be sent and told.
    pub(super) fn finish(&mut self) {
        let mut delta: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            self.provider.storage().take_delta().into_iter().map(|(key, value)| (prefixed(KEY_MLS, &key), value)).collect();
        if std::mem::take(&mut self.account_dirty) {
            let value = self.account.as_ref().map(|account| postcard::to_stdvec(account).expect("plain data serialises"));
            delta.push((KEY_ACCOUNT.to_vec(), value));
        }
        for room in std::mem::take(&mut self.dirty) {
            let value = self.rooms.get(&room).map(|state| postcard::to_stdvec(state).expect("plain data serialises"));
            delta.push((prefixed(KEY_ROOM, &room.0), value));
        }
        delta.append(&mut self.rows);
        if !delta.is_empty() {
            self.effects.push_back(Effect::Persist(delta));
        }
        self.effects.extend(self.sends.drain(..).map(Effect::Send));
        self.effects.extend(self.events.drain(..).map(Effect::Event));
        self.effects.append(&mut self.loads.drain(..).collect());
    }

    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    pub(super) fn coop(&self) -> Result<Coop, CoreError> {
        let account = self.account.as_ref().ok_or(CoreError::NoAccount)?;
        let name = account.coop_name.parse().map_err(|_| CoreError::Damaged("the co-op's name".to_owned()))?;
        Ok(Coop { name, key: PublicKey(account.coop_key) })
    }

    pub fn handle_connected(&mut self) {
        self.session = Session { next_request: 1, ..Session::default() };
    }

    pub fn handle_disconnected(&mut self) {
        self.session = Session::default();
    }

    pub fn is_synced(&self) -> bool {
        self.session.synced
    }

    pub(super) fn ask(&mut self, ask: Ask) -> RequestId {
        let request = self.session.next_request;
        self.session.next_request += 1;
        self.session.asked.insert(request, ask);
        request
    }

    /// A frame from the co-op.
    pub fn handle_frame(&mut self, now: UnixSeconds, frame: ToMember) {
        self.now = now;
        match frame {
            ToMember::Challenge { nonce } => self.answer_challenge(&nonce),
            ToMember::Registered { device, number } => self.registered(device, number),
            ToMember::Ready => {
                self.session.ready = true;
                self.events.push(Event::Ready);
                self.reopen_rooms();
            }
            ToMember::Synced => {
                self.session.synced = true;
                self.events.push(Event::Synced);
            }
            ToMember::Draining => self.events.push(Event::Draining),
            ToMember::Entries(entries) => self.entries_came(&entries),
            ToMember::Ack { room, counter, ordered } => self.ack_came(room, counter, ordered),
            ToMember::Refused(refused) => self.refused(refused),
            ToMember::Certificate { request, certificate } => self.certificate_came(request, certificate),
            ToMember::RoomNumber { request, room, number } => self.number_came(request, &room, number),
            ToMember::Group { request, group } => self.group_came(request, *group),
            ToMember::Headers { request, first, headers } => self.headers_came(request, first, &headers),
            ToMember::Attestation { room, attestation } => self.attestation_came(room, attestation),
            ToMember::Frozen { room, proof } => self.frozen_came(room, &proof),
            ToMember::Provisionals { room, entries } => self.provisionals_came(room, entries),
        }
        self.pump();
        self.finish();
    }

    /// Time has passed (a third of a second or so): what was refused for now is tried again.
    pub fn handle_tick(&mut self, now: UnixSeconds) {
        self.now = now;
        if !self.session.paused.is_empty() {
            self.session.paused.clear();
            self.pump();
        }
        self.send_cursors();
    }

    /// Sends what can be sent now.
    pub(super) fn pump(&mut self) {
        if !self.session.ready {
            return;
        }
        let rooms: Vec<RoomId> = self.rooms.keys().copied().collect();
        for room in rooms {
            self.pump_membership(&room);
            if self.session.synced {
                self.pump_outbox(&room);
            }
        }
    }

    pub(super) fn room_by_number(&self, number: RoomNumber) -> Option<RoomId> {
        self.rooms.iter().find(|(_, state)| state.number == Some(number.0)).map(|(id, _)| *id)
    }

    pub(super) fn room(&self, room: &RoomId) -> Result<&RoomState, CoreError> {
        self.rooms.get(room).ok_or(CoreError::NoSuchRoom)
    }

    pub(super) fn active(&self, room: &RoomId) -> Result<&RoomState, CoreError> {
        let state = self.room(room)?;
        match state.phase {
            Phase::Active => Ok(state),
            Phase::Gone => Err(CoreError::Gone),
            Phase::Creating { .. } | Phase::Joining(_) => Err(CoreError::NotReady),
        }
    }

    /// Loads the group where it is not at hand yet.
    pub(super) fn with_group<T>(
        &mut self,
        room: &RoomId,
        act: impl FnOnce(&mut Group, &Provider) -> Result<T, GroupError>,
    ) -> Result<T, GroupError> {
        if !self.groups.contains_key(room) {
            let group = Group::load(&self.provider, room)?;
            self.groups.insert(*room, group);
        }
        let group = self.groups.get_mut(room).expect("just loaded");
        act(group, &self.provider)
    }

    pub(super) fn device_number(&self) -> u16 {
        self.account.as_ref().map_or(0, |account| account.device_number)
    }

    pub(super) fn distrust(&mut self, room: &RoomId, why: String) {
        self.session.logs.remove(room);
        self.events.push(Event::Distrust { room: *room, why });
    }

    /// Room ids, in a stable order.
    pub fn room_ids(&self) -> Vec<RoomId> {
        self.rooms.keys().copied().collect()
    }

    pub fn room_state(&self, room: &RoomId) -> Option<&RoomState> {
        self.rooms.get(room)
    }

    pub(super) fn push_item(&mut self, room: &RoomId, intent: super::state::Intent) -> Result<u64, CoreError> {
        let account = self.account.as_mut().ok_or(CoreError::NoAccount)?;
        let id = account.next_item;
        account.next_item += 1;
        let at = self.now.0;
        let state = self.rooms.get_mut(room).ok_or(CoreError::NoSuchRoom)?;
        if state.outbox.len() >= kith_protocol::limits::OUTBOX_MAX {
            return Err(CoreError::OutboxFull);
        }
        state.outbox.push(OutItem { id, intent, made: None, stored: false, seq: None, at, tries: 0, former: Vec::new() });
        self.touch_account();
        self.touch(room);
        Ok(id)
    }

    /// The tree over what has been applied.
    pub(super) fn applied(state: &RoomState) -> Frontier {
        Frontier::from_parts(state.size, state.frontier.iter().map(|node| Hash(*node)).collect()).unwrap_or_default()
    }

    pub(super) fn content(bytes: &[u8]) -> Content {
        codec::decode_content(bytes).unwrap_or(Content::Unknown)
    }

    pub(super) fn term(state: &RoomState) -> Term {
        Term(state.term)
    }

    pub(super) fn key_array(key: &PublicKey) -> Key {
        key.0
    }
}
