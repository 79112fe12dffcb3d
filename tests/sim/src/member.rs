//! A member's device in the simulation: its core, its disk, and what it means to say.

use std::collections::{BTreeMap, BTreeSet};

use kith_client::core::machine::{is_loaded, row_key};
use kith_client::core::state::{Phase, RoomState};
use kith_client::core::{Core, Effect, Event, ItemState, Row, VerifyReport};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Hash, RoomId, UnixSeconds};
use kith_protocol::log::Kind;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::member::ToServer;
use kith_protocol::sign::SecretKey;

use crate::coop::wall;
use crate::nonsense::{Nonsense, spoil};

/// Where in a key of the MLS store it says what the value is (behind two prefixes, the group's id and its length), and what
/// the private keys of a leaf and its path are.
const LABEL_AT: usize = 35;
const EPOCH_KEY_PAIRS: u8 = 13;

/// Something that was said, and how far it is known to have come.
#[derive(Debug, Clone)]
pub struct Said {
    pub room: RoomId,
    pub item: u64,
    pub text: String,
    pub acknowledged: bool,
}

/// What came of a step of the core.
#[derive(Debug, Default)]
pub struct Step {
    pub sends: Vec<ToServer>,
    pub events: Vec<Event>,
    /// Made with the group's keys, and sent before this device's disk knew of it: after a crash it would use those keys again.
    pub unsaved: usize,
}

pub struct Member {
    pub coop: usize,
    pub core: Core,
    pub disk: BTreeMap<Vec<u8>, Vec<u8>>,
    pub connection: Option<ConnectionId>,
    pub said: Vec<Said>,
    /// Counts its lives.
    pub life: u64,
    /// Its clock is off by that much, seconds.
    pub skew_s: i64,
    /// Tries to connect that failed since the last one that did not.
    pub failures: u32,
    /// A try to connect, and a look at what was refused for now, are already to come.
    pub connecting: bool,
    pub ticking: bool,
    /// What its audits came to.
    pub reports: Vec<VerifyReport>,
    /// Why its co-op put something off, in order.
    pub put_off: Vec<Code>,
    /// What a blinded device lacks.
    hidden: Vec<(Vec<u8>, Vec<u8>)>,
    /// Commits that it has sent, by their counters.
    sent: BTreeSet<(RoomId, u64)>,
    /// The room in which its next commit is nonsense.
    pub mad_in: Option<(RoomId, Nonsense)>,
    /// Hashes of such commits.
    pub nonsense: Vec<Hash>,
}

impl Member {
    pub fn new(coop: usize, seed: [u8; 32], skew_s: i64) -> Self {
        Self {
            coop,
            core: Core::load(seed, []).expect("nothing to be damaged"),
            disk: BTreeMap::new(),
            connection: None,
            said: Vec::new(),
            life: 0,
            skew_s,
            failures: 0,
            connecting: false,
            ticking: false,
            reports: Vec::new(),
            put_off: Vec::new(),
            hidden: Vec::new(),
            sent: BTreeSet::new(),
            mad_in: None,
            nonsense: Vec::new(),
        }
    }

    pub fn wall(&self, now: u64) -> UnixSeconds {
        wall(now, self.skew_s)
    }

    /// Carries out what the core wants: persist, then send. With `torn`, the process dies right after persisting.
    pub fn take_effects(&mut self, torn: bool) -> Step {
        let mut step = Step::default();
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Persist(delta) => {
                    for (key, value) in delta {
                        match value {
                            Some(value) => drop(self.disk.insert(key, value)),
                            None => drop(self.disk.remove(&key)),
                        }
                    }
                }
                Effect::Load { room, from } => {
                    let prefix = [&b"t"[..], &room.0].concat();
                    let rows = self.disk.range(row_key(&room, from)..).take_while(|(key, _)| key.starts_with(&prefix));
                    let rows: Vec<Vec<u8>> = rows.map(|(_, value)| value.clone()).collect();
                    self.core.handle_rows(&room, &rows);
                }
                Effect::Send(frame) if !torn => {
                    step.unsaved += usize::from(!self.is_on_disk(&frame));
                    step.sends.push(self.as_it_means(frame));
                }
                Effect::Event(Event::Verified(report)) => self.reports.push(report),
                Effect::Event(Event::PutOff { code, .. }) => self.put_off.push(code),
                Effect::Event(event) if !torn => step.events.push(event),
                Effect::Send(_) | Effect::Event(_) => {}
            }
        }
        step
    }

    /// What a mad member sends, and believes that it has made.
    fn as_it_means(&mut self, mut frame: ToServer) -> ToServer {
        let ToServer::Send(send) = &mut frame else { return frame };
        let is_here = |core: &Core, id: &RoomId| core.room_state(id).is_some_and(|room| room.number == Some(send.room.0));
        let Some(id) = self.core.room_ids().into_iter().find(|id| is_here(&self.core, id)) else { return frame };
        if send.kind != Kind::Commit {
            return frame;
        }
        let Some((_, nonsense)) = self.mad_in.filter(|(room, _)| *room == id) else {
            self.sent.insert((id, send.counter));
            return frame;
        };
        // What a server may have already is what it is.
        if !self.sent.insert((id, send.counter)) {
            return frame;
        }
        self.mad_in = None;
        // The others must be more than half.
        if self.core.members(&id).map_or(0, |members| members.len()) <= 3 {
            return frame;
        }
        let key = [&b"r"[..], &id.0].concat();
        let mut room: RoomState = postcard::from_bytes(&self.disk[&key]).expect("what was persisted can be read");
        spoil(send, &SecretKey::from_seed(room.leaf_seed), nonsense);
        let made = room.outbox.iter_mut().filter_map(|item| item.made.as_mut()).find(|made| made.counter == send.counter);
        let made = made.expect("it is in the outbox before it is sent");
        (made.body, made.group_info) = (send.body.to_vec(), send.group_info.to_vec());
        self.disk.insert(key, postcard::to_stdvec(&room).expect("plain data serialises"));
        let hash = hash_bytes(&send.body);
        self.nonsense.push(hash);
        self.core.reload(hash.0, self.loaded()).expect("its own disk");
        frame
    }

    /// Takes the private keys of its path away from a device, or gives them back: without them it can follow no commit.
    pub fn blind(&mut self, seed: u8) {
        let is_key = |key: &[u8]| key.starts_with(b"mg") && key.get(LABEL_AT) == Some(&EPOCH_KEY_PAIRS);
        if self.hidden.is_empty() {
            let keys: Vec<_> = self.disk.keys().filter(|key| is_key(key)).cloned().collect();
            assert!(!keys.is_empty(), "it is in a group");
            self.hidden = keys.into_iter().filter_map(|key| self.disk.remove_entry(&key)).collect();
        } else {
            self.disk.extend(std::mem::take(&mut self.hidden));
        }
        self.core.reload([seed; 32], self.loaded()).expect("its own disk");
    }

    /// What is made with the group's keys is stored in one step with the keys as they are after it.
    fn is_on_disk(&self, frame: &ToServer) -> bool {
        let mut rooms = self.disk.iter().filter(|(key, _)| key.first() == Some(&b'r'));
        let mut is_in_a_room = |holds: &dyn Fn(&RoomState) -> bool| {
            rooms.any(|(_, value)| holds(&postcard::from_bytes(value).expect("what was persisted can be read")))
        };
        match frame {
            ToServer::Send(sent) => is_in_a_room(&|room| {
                let mut made = room.outbox.iter().filter_map(|item| item.made.as_ref());
                room.number == Some(sent.room.0) && made.any(|made| made.counter == sent.counter && made.body == sent.body)
            }),
            ToServer::Join(join) => is_in_a_room(
                &|room| matches!(&room.phase, Phase::Joining(joining) if joining.offer.as_ref().is_some_and(|offer| offer.commit == join.commit)),
            ),
            _ => true,
        }
    }

    /// What a process reads when it starts.
    fn loaded(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.disk.iter().filter(|(key, _)| is_loaded(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The process dies and starts again from its disk.
    pub fn crash(&mut self, seed: [u8; 32]) {
        self.core = Core::load(seed, self.loaded()).expect("what was persisted can be read");
        self.connection = None;
        self.life += 1;
        (self.connecting, self.ticking) = (false, false);
    }

    /// Notes what has been acknowledged by now.
    pub fn note_acks(&mut self) {
        for said in self.said.iter_mut().rev().filter(|said| !said.acknowledged) {
            let state = self.core.item_state(&said.room, said.item);
            said.acknowledged = matches!(state, ItemState::Stored | ItemState::Ordered(_) | ItemState::Held { .. });
        }
    }

    /// Headers in its own timeline.
    pub fn stored_headers(&self, room: &RoomId) -> Vec<(u64, Vec<u8>)> {
        self.stored(room).map(|(_, value)| Core::row_header(value).expect("a stored row can be read")).collect()
    }

    /// Rows of the timeline as they lie on its disk.
    pub fn stored(&self, room: &RoomId) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        let prefix = [&b"t"[..], &room.0].concat();
        self.disk.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// Rows of the timeline, as they are shown.
    pub fn timeline(&mut self, room: &RoomId) -> Vec<Row> {
        let values: Vec<Vec<u8>> = self.stored(room).map(|(_, value)| value.clone()).collect();
        values.iter().filter_map(|value| self.core.row(room, value).expect("a stored row can be read")).collect()
    }
}
