//! A real device in a real group of two, made anew from fixed seeds, and what the other one sends it.

use kith_client::mls::group::{Group, GroupError, Handshake, Joined, Opened};
use kith_client::mls::provider::Provider;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Coop, Hash, Pseudonym, UnixSeconds};
use kith_protocol::log::voters::Voters;
use kith_protocol::room::{Role, RoomContext};
use kith_protocol::sign::SecretKey;

use crate::ROOM;

pub struct Device {
    provider: Provider,
    group: Group,
    /// A GroupInfo after its length and a tree, a commit and a message: what the target takes, with its first byte.
    pub seeds: [(&'static str, Vec<u8>); 3],
}

fn leaf(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn certified(seed: u8) -> LeafCertificate {
    let root = leaf(99);
    let coop = Coop { name: "alder.test".parse().expect("a name"), key: root.public() };
    LeafCertificate::issue(&root, coop, &ROOM, &leaf(seed).public(), Pseudonym([seed; 16]), 0, UnixSeconds(1_790_000_000))
}

impl Device {
    pub fn real() -> Self {
        let certificate = certified(1);
        let context = RoomContext {
            roles: vec![(Pseudonym([1; 16]), Role::Facilitator)],
            invites: Vec::new(),
            voters: Voters { names: vec![certificate.coop.name.clone()], tie_breaker: None },
            voter_keys: vec![certificate.coop.key],
        };
        let (provider, theirs) = (Provider::new([1; 32]), Provider::new([2; 32]));
        let (mut group, info, tree) = Group::create(&provider, &ROOM, &leaf(1), &certificate, &context).expect("a group of one");
        let joined = Group::join(&Provider::new([3; 32]), &leaf(2), &certified(2), &info, &tree, Vec::new()).expect("a second member");
        let staged = group.stage(&provider, &joined.outgoing.commit).expect("the join");
        if let Handshake::Other(staged) = staged {
            group.merge(&provider, *staged).expect("the join");
        }
        let mut other = Group::adopt(&theirs, &ROOM, joined.state).expect("its group");
        let message = other.encrypt(&theirs, &leaf(2), &Hash([4; 32]), b"hello").expect("a message");
        let commit = other.commit(&theirs, &leaf(2), None, &[]).expect("a commit").commit;
        let length = u16::try_from(info.len()).expect("a small GroupInfo").to_be_bytes();
        let seeds = [
            ("join", [&[0][..], &length, &info, &tree].concat()),
            ("commit", [&[1][..], &commit].concat()),
            ("message", [&[2][..], &message].concat()),
        ];
        Self { provider, group, seeds }
    }

    pub fn join(&self, group_info: &[u8], tree: &[u8]) -> Result<Joined, GroupError> {
        Group::join(&Provider::new([5; 32]), &leaf(3), &certified(3), group_info, tree, Vec::new())
    }

    pub fn stage(&mut self, commit: &[u8]) -> Result<Handshake, GroupError> {
        self.group.stage(&self.provider, commit)
    }

    pub fn open(&mut self, message: &[u8]) -> Result<Opened, GroupError> {
        self.group.open(&self.provider, message)
    }
}
