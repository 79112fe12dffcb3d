//! A member's device in the simulation: its core, its disk, and what it means to say.

use std::collections::BTreeMap;

use kith_client::core::machine::is_loaded;
use kith_client::core::{Core, Effect, Event, ItemState, VerifyReport};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, RoomId};
use kith_protocol::member::ToServer;

/// Something that was said, and how far it is known to have come.
#[derive(Debug, Clone)]
pub struct Said {
    pub item: u64,
    pub text: String,
    pub acknowledged: bool,
}

pub struct Member {
    pub coop: usize,
    pub core: Core,
    pub disk: BTreeMap<Vec<u8>, Vec<u8>>,
    pub connection: Option<ConnectionId>,
    pub said: Vec<Said>,
    /// Counts its lives.
    pub life: u64,
    /// What its audits came to.
    pub reports: Vec<VerifyReport>,
    /// Why its co-op put something off, in order.
    pub put_off: Vec<Code>,
}

impl Member {
    pub fn new(coop: usize, seed: [u8; 32]) -> Self {
        let core = Core::load(seed, []).expect("nothing to be damaged");
        Self { coop, core, disk: BTreeMap::new(), connection: None, said: Vec::new(), life: 0, reports: Vec::new(), put_off: Vec::new() }
    }

    /// Carries out what the core wants: persist, then send. With `torn`, the process dies right after persisting.
    pub fn take_effects(&mut self, torn: bool) -> Vec<ToServer> {
        let mut sends = Vec::new();
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
                Effect::Send(frame) if !torn => sends.push(frame),
                Effect::Event(Event::Verified(report)) => self.reports.push(report),
                Effect::Event(Event::PutOff { code, .. }) => self.put_off.push(code),
                Effect::Send(_) | Effect::Event(_) => {}
            }
        }
        sends
    }

    /// The process dies and starts again from its disk.
    pub fn crash(&mut self, seed: [u8; 32]) {
        let entries: Vec<_> = self.disk.iter().filter(|(key, _)| is_loaded(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
        self.core = Core::load(seed, entries).expect("what was persisted can be read");
        self.connection = None;
        self.life += 1;
    }

    /// Notes what has been acknowledged by now.
    pub fn note_acks(&mut self, room: &RoomId) {
        for said in self.said.iter_mut().filter(|said| !said.acknowledged) {
            let state = self.core.item_state(room, said.item);
            said.acknowledged = matches!(state, ItemState::Stored | ItemState::Ordered(_) | ItemState::Held { .. });
        }
    }

    /// Headers in its own timeline.
    pub fn stored_headers(&self, room: &RoomId) -> Vec<(u64, Vec<u8>)> {
        let prefix = [&b"t"[..], &room.0].concat();
        let rows = self.disk.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        rows.map(|(_, value)| Core::row_header(value).expect("a stored row can be read")).collect()
    }

    /// Rows of the timeline, as they are shown.
    pub fn timeline(&mut self, room: &RoomId) -> Vec<kith_client::core::Row> {
        let prefix = [&b"t"[..], &room.0].concat();
        let values: Vec<Vec<u8>> =
            self.disk.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)).map(|(_, value)| value.clone()).collect();
        values.iter().filter_map(|value| self.core.row(room, value).expect("a stored row can be read")).collect()
    }
}
