//! A co-op in the simulation: its machine while it runs, its store always.

use futures_util::FutureExt;
use kith_protocol::ids::{Coop as CoopId, PublicKey, UnixSeconds};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::driver::{boot, read};
use kith_relay::coop::{Coop as Machine, Read, ReadResult, Secrets};
use kith_storage::memory::Memory;
use kith_storage::{Write, Writer};

use crate::tamper::{Tamper, View};

/// When every run begins, seconds since 1970.
pub const WALL: u64 = 1_700_000_000;

pub struct Coop {
    pub id: CoopId,
    secrets: Secrets,
    pub link_key: PublicKey,
    pub store: Memory,
    /// `None` while it is down.
    pub machine: Option<Machine>,
    /// Counts its lives: what an earlier one had under way does not reach a later one.
    pub life: u64,
    /// The transaction that is under way.
    pub writes: Option<Vec<Write>>,
    /// Its clock is off by that much, seconds.
    pub skew_s: u64,
    /// One byte of what it reads is not what it wrote.
    pub tamper: Option<Tamper>,
}

impl Coop {
    pub fn new(name: &str, seed: [u8; 32], skew_s: u64) -> Self {
        let root = SecretKey::from_seed(seed);
        let id = CoopId { name: name.parse().expect("a good name"), key: root.public() };
        let mut link_seed = seed;
        link_seed[0] ^= 0xff;
        let link_key = SecretKey::from_seed(link_seed).public();
        let secrets = Secrets::new(root, link_key);
        let mut coop = Self { id, secrets, link_key, store: Memory::new(), machine: None, life: 0, writes: None, skew_s, tamper: None };
        coop.start();
        coop
    }

    pub fn root(&self) -> SecretKey {
        self.secrets.root.clone()
    }

    /// From what is durable.
    pub fn start(&mut self) {
        let boot = boot(&View { store: &self.store, tamper: self.tamper }, &self.id.name)
            .now_or_never()
            .expect("the model never pends")
            .expect("the model holds what was written");
        self.machine = Some(Machine::new(self.id.clone(), self.secrets.clone(), boot, UnixSeconds(WALL)));
        self.life += 1;
    }

    /// Everything that is not durable is gone.
    pub fn crash(&mut self) {
        self.machine = None;
        self.writes = None;
        self.life += 1;
    }

    pub fn commit(&mut self, writes: Vec<Write>) {
        self.store.commit(writes).now_or_never().expect("the model never pends").expect("the machine writes what the store takes");
    }

    pub fn read(&self, what: Read) -> ReadResult {
        read(&View { store: &self.store, tamper: self.tamper }, what).now_or_never().expect("the model never pends")
    }
}
