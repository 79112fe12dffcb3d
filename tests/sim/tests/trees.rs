//! The short form of ratchet trees, over trees that OpenMLS made: a room that grows, loses members and grows again.

use kith_client::mls::group::{Group, Outgoing};
use kith_client::mls::provider::Provider;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Coop, Pseudonym, RoomId, UnixSeconds};
use kith_protocol::log::voters::Voters;
use kith_protocol::ratchet_tree::{restore, shorten};
use kith_protocol::room::{Role, RoomContext};
use kith_protocol::sign::SecretKey;
use kith_relay::room::view::GroupView;

const ROOM: RoomId = RoomId([9; 32]);
const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
const MEMBERS: u8 = 50;

/// The newest member's device, and the group as a server follows it.
struct Circle {
    root: SecretKey,
    coop: Coop,
    senders: Vec<Pseudonym>,
    view: GroupView,
    group_info: Vec<u8>,
    leaf: SecretKey,
    provider: Provider,
    group: Group,
}

impl Circle {
    fn begin() -> Self {
        let root = SecretKey::from_seed([99; 32]);
        let coop = Coop { name: "alder.test".parse().unwrap(), key: root.public() };
        let (leaf, who, provider) = (SecretKey::from_seed([1; 32]), Pseudonym([1; 16]), Provider::new([1; 32]));
        let certificate = LeafCertificate::issue(&root, coop.clone(), &ROOM, &leaf.public(), who, 0, NOW);
        let voters = Voters { names: vec![coop.name.clone()], tie_breaker: None };
        let context = RoomContext { roles: vec![(who, Role::Facilitator)], invites: Vec::new(), voters, voter_keys: vec![coop.key] };
        let (group, group_info, tree) = Group::create(&provider, &ROOM, &leaf, &certificate, &context).unwrap();
        let view = GroupView::open(&group_info, &tree).unwrap();
        Self { root, coop, senders: vec![who], view, group_info, leaf, provider, group }
    }

    fn follow(&mut self, outgoing: Outgoing) {
        let staged = self.view.stage(&outgoing.commit).unwrap();
        self.view.merge(staged, &outgoing.group_info).unwrap();
        self.group_info = outgoing.group_info;
    }

    fn join(&mut self, seed: u8) {
        let (leaf, who) = (SecretKey::from_seed([seed; 32]), Pseudonym([seed; 16]));
        let certificate = LeafCertificate::issue(&self.root, self.coop.clone(), &ROOM, &leaf.public(), who, 0, NOW);
        // From what is served, as a joiner does it.
        let tree = restore(&shorten(&self.view.tree_bytes(), &self.senders).unwrap(), &self.senders).unwrap();
        let scratch = Provider::new([seed; 32]);
        let joined = Group::join(&scratch, &leaf, &certificate, &self.group_info, &tree, Vec::new()).unwrap();
        self.provider = Provider::new([seed; 32]);
        self.group = Group::adopt(&self.provider, &ROOM, joined.state).unwrap();
        self.leaf = leaf;
        self.senders.push(who);
        self.follow(joined.outgoing);
    }

    /// By the newest member.
    fn commit(&mut self, removed: &[u8]) {
        let removed: Vec<Pseudonym> = removed.iter().map(|seed| Pseudonym([*seed; 16])).collect();
        let outgoing = self.group.commit(&self.provider, &self.leaf, None, &removed).unwrap();
        self.group.merge_own(&self.provider).unwrap();
        self.follow(outgoing);
    }

    /// Bytes of the tree and of its short form, which gives back the tree.
    fn sizes(&self) -> (usize, usize) {
        let tree = self.view.tree_bytes();
        let short = shorten(&tree, &self.senders).unwrap();
        assert_eq!(restore(&short, &self.senders).as_ref(), Ok(&tree));
        (tree.len(), short.len())
    }
}

#[test]
fn a_tree_that_grows_shrinks_and_grows_again_comes_back_whole() {
    let mut circle = Circle::begin();
    circle.sizes();
    for seed in 2..=MEMBERS {
        circle.join(seed);
        circle.sizes();
    }
    let (whole, short) = circle.sizes();
    let budget = usize::from(MEMBERS) * 290;
    assert!(short <= budget, "{short} of {whole} bytes for {MEMBERS} members, and not {budget}");
    circle.commit(&[]);
    circle.sizes();
    // Blank leaves and parents in the middle, then half of the tree, then newcomers in their places.
    circle.commit(&[3, 17, 18, 20]);
    circle.sizes();
    circle.commit(&(21..MEMBERS).collect::<Vec<_>>());
    circle.sizes();
    for seed in 100..110 {
        circle.join(seed);
        circle.commit(&[]);
        circle.sizes();
    }
}
