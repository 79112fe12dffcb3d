//! The short form of ratchet trees, over trees that OpenMLS made: a room that grows, loses members and grows again.

use kith_client::mls::group::{Group, Handshake, Outgoing};
use kith_client::mls::provider::Provider;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Coop, Hash, Pseudonym, RoomId, UnixSeconds};
use kith_protocol::limits::{FORWARD_MAX, OUT_OF_ORDER_MAX};
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

/// How far a sender's messages may come out of order, and how far ahead one may be: what is beyond cannot be opened, and
/// does no harm to the rest.
#[test]
fn a_senders_ratchet_has_a_window() {
    let root = SecretKey::from_seed([99; 32]);
    let coop = Coop { name: "alder.test".parse().unwrap(), key: root.public() };
    let leaf = |seed: u8| SecretKey::from_seed([seed; 32]);
    let certified = |seed: u8| LeafCertificate::issue(&root, coop.clone(), &ROOM, &leaf(seed).public(), Pseudonym([seed; 16]), 0, NOW);
    let voters = Voters { names: vec![coop.name.clone()], tie_breaker: None };
    let roles = vec![(Pseudonym([1; 16]), Role::Facilitator)];
    let context = RoomContext { roles, invites: Vec::new(), voters, voter_keys: vec![coop.key] };
    let (ours, theirs) = (Provider::new([1; 32]), Provider::new([2; 32]));
    let (mut group, info, tree) = Group::create(&ours, &ROOM, &leaf(1), &certified(1), &context).unwrap();
    let joined = Group::join(&Provider::new([3; 32]), &leaf(2), &certified(2), &info, &tree, Vec::new()).unwrap();
    let Handshake::Other(staged) = group.stage(&ours, &joined.outgoing.commit).unwrap() else { panic!("it is somebody else's") };
    group.merge(&ours, *staged).unwrap();
    let mut reader = Group::adopt(&theirs, &ROOM, joined.state).unwrap();
    let say = |group: &mut Group, text: &[u8]| group.encrypt(&ours, &leaf(1), &Hash([1; 32]), text).unwrap();
    let window: Vec<Vec<u8>> = (0..OUT_OF_ORDER_MAX + 2).map(|_| say(&mut group, b"in the window")).collect();
    let (last, first) = (window.len() - 1, &window[0]);
    assert!(reader.open(&theirs, &window[last]).is_ok());
    assert!(reader.open(&theirs, first).is_err(), "too far behind");
    assert!(reader.open(&theirs, &window[last - OUT_OF_ORDER_MAX as usize + 1]).is_ok());
    (0..FORWARD_MAX).for_each(|_| drop(say(&mut group, b"nobody hears")));
    let near = say(&mut group, b"just there");
    let far = say(&mut group, b"too far");
    assert!(reader.open(&theirs, &far).is_err(), "too far ahead");
    assert!(reader.open(&theirs, &near).is_ok());
    assert!(reader.open(&theirs, &far).is_ok(), "and now it is near");
}
