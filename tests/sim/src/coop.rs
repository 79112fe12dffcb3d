//! A co-op in the simulation: its machine while it runs, its store always.

use futures_util::FutureExt;
use kith_protocol::ids::{Coop as CoopId, Millis, PublicKey, RoomId, Seq, UnixSeconds};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::driver::{boot, read};
use kith_relay::coop::{Coop as Machine, Read, ReadResult, Secrets};
use kith_relay::room::Room;
use kith_storage::fault::{Fault, Faulty};
use kith_storage::memory::Memory;
use kith_storage::{LogRow, RoomLog, RoomRow, StoreError, Write, Writer};

use crate::tamper::{Tamper, View};

/// When every run begins, seconds since 1970.
pub const WALL: u64 = 1_700_000_000;

pub struct Coop {
    pub id: CoopId,
    secrets: Secrets,
    pub link_key: PublicKey,
    pub store: Faulty<Memory>,
    /// `None` while it is down.
    pub machine: Option<Machine>,
    /// Counts its lives: what an earlier one had under way does not reach a later one.
    pub life: u64,
    /// The transaction that is under way.
    pub writes: Option<Vec<Write>>,
    /// Its wall clock is off by that much, seconds.
    pub skew_s: i64,
    /// When this life began: the monotone clock counts from there, milliseconds.
    pub started: u64,
    /// When it is to be told that time has passed.
    pub wakes: Option<u64>,
    /// Its disk is full until then.
    pub full_until: u64,
    /// An earlier state of its store, if that lacks nothing but what neighbours have.
    pub backup: Option<Memory>,
    /// It keeps its links and takes no entry from neighbours.
    pub is_deaf: bool,
    /// That co-op keeps its link to this one and sends it no entries.
    pub hears_nothing_from: Option<usize>,
    /// What it reads is not what it wrote.
    pub tamper: Option<Tamper>,
    /// What others are shown is not what it has.
    pub is_lying: bool,
    /// It has lied at some time.
    pub has_lied: bool,
}

impl Coop {
    pub fn new(name: &str, seed: [u8; 32], skew_s: i64) -> Self {
        let root = SecretKey::from_seed(seed);
        let id = CoopId { name: name.parse().expect("a good name"), key: root.public() };
        let mut link_seed = seed;
        link_seed[0] ^= 0xff;
        let link_key = SecretKey::from_seed(link_seed).public();
        let secrets = Secrets::new(root, link_key);
        let store = Faulty::new(Memory::new());
        let mut coop = Self {
            id,
            secrets,
            link_key,
            store,
            machine: None,
            life: 0,
            writes: None,
            skew_s,
            started: 0,
            wakes: None,
            full_until: 0,
            backup: None,
            is_deaf: false,
            hears_nothing_from: None,
            tamper: None,
            is_lying: false,
            has_lied: false,
        };
        coop.start(0);
        coop
    }

    pub fn wall(&self, now: u64) -> UnixSeconds {
        wall(now, self.skew_s)
    }

    /// The monotone clock of this life.
    pub fn millis(&self, now: u64) -> Millis {
        Millis(now - self.started)
    }

    pub fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    pub fn root(&self) -> SecretKey {
        self.secrets.root.clone()
    }

    /// From what is durable.
    pub fn start(&mut self, now: u64) {
        let boot = boot(&View { store: &self.store, tamper: self.tamper }, &self.id.name)
            .now_or_never()
            .expect("the model never pends")
            .expect("the model holds what was written");
        self.machine = Some(Machine::new(self.id.clone(), self.secrets.clone(), boot, self.wall(now)));
        self.life += 1;
        self.started = now;
        self.wakes = None;
    }

    /// Everything that is not durable is gone.
    pub fn crash(&mut self) {
        self.machine = None;
        self.writes = None;
        self.life += 1;
    }

    /// One transaction, which may meet a fault.
    pub fn commit(&mut self, writes: Vec<Write>, fault: Option<Fault>) -> Result<(), StoreError> {
        if let Some(fault) = fault {
            self.store.fail_next(fault);
        }
        self.store.commit(writes).now_or_never().expect("the model never pends")
    }

    pub fn read(&self, what: Read) -> ReadResult {
        read(&View { store: &self.store, tamper: self.tamper }, what).now_or_never().expect("the model never pends")
    }

    /// The machine's view of a room.
    pub fn room(&self, id: &RoomId) -> Option<&Room> {
        self.machine.as_ref()?.rooms().find(|room| room.id == *id)
    }

    pub fn stored_room(&self, id: &RoomId) -> Option<RoomRow> {
        let rooms = self.store.rooms().now_or_never().expect("the model never pends").expect("rooms");
        rooms.into_iter().find(|row| row.id == *id)
    }

    /// A room's log, as it is read from the store.
    pub fn log(&self, id: &RoomId) -> Vec<LogRow> {
        let Some(row) = self.stored_room(id) else { return Vec::new() };
        let view = View { store: &self.store, tamper: self.tamper };
        view.entries(row.number, Seq(0), usize::MAX, usize::MAX).now_or_never().expect("the model never pends").expect("entries")
    }
}

/// A clock on the wall that is off by so much.
pub fn wall(now: u64, skew_s: i64) -> UnixSeconds {
    UnixSeconds((WALL + now / 1_000).saturating_add_signed(skew_s))
}
