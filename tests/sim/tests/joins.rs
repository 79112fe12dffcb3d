//! External commits against the room machine itself, with real MLS: only what a member authorised gets a place.

use bytes::Bytes;
use futures_util::FutureExt;
use kith_client::mls::group::Group;
use kith_client::mls::provider::Provider;
use kith_protocol::admission::Admission;
use kith_protocol::codec::{decode_group_snapshot, encode_admission, encode_group_snapshot};
use kith_protocol::credential::LeafCertificate;
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, Counter, EntryId, Epoch, Pseudonym, Seq, UnixSeconds};
use kith_protocol::judge::Standing;
use kith_protocol::limits::LEAVES_MAX;
use kith_protocol::link::Submission;
use kith_protocol::log::Kind;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::member::Group as Offered;
use kith_protocol::ratchet_tree;
use kith_protocol::room::{SignedLeave, leave_statement};
use kith_protocol::sign::{SecretKey, Signature};
use kith_protocol::snapshot::{GroupSnapshot, Sender};
use kith_relay::room::{Order, Room};
use kith_sim::World;
use kith_sim::coop::WALL;
use kith_storage::RoomLog;

const NOW: UnixSeconds = UnixSeconds(WALL + 1_000);

struct Scene {
    room: Room,
    hub: Coop,
    root: SecretKey,
    /// Another co-op, with its root key.
    cedar: (SecretKey, Coop),
    invite: SecretKey,
}

/// The hub's room after a start, open for one more join.
fn scene() -> Scene {
    scene_with(|_| {})
}

/// After a start from what is not quite as it was stored.
fn scene_with(change: impl FnOnce(&mut GroupSnapshot)) -> Scene {
    let world = World::calm(11).unwrap();
    let coop = &world.coops[world.members[world.circles[0].creator].coop];
    let invite = world.invite_link().unwrap().invite;
    let row = coop.store.rooms().now_or_never().unwrap().unwrap().remove(0);
    let mut state = coop.store.room_state(row.number).now_or_never().unwrap().unwrap();
    let mut group = decode_group_snapshot(row.id, &state.group.unwrap()).unwrap();
    change(&mut group);
    state.group = Some(encode_group_snapshot(&group));
    let mut room = Room::restore(row, coop.id.name.clone(), &state).unwrap();
    let root = coop.root();
    room.committed(&root, NOW, room.durable());
    let cedar = SecretKey::from_seed([77; 32]);
    let cedar_id = Coop { name: "cedar.test".parse().unwrap(), key: cedar.public() };
    Scene { room, hub: coop.id.clone(), root, cedar: (cedar, cedar_id), invite }
}

struct Join<'a> {
    invite: &'a SecretKey,
    /// Who certifies.
    root: &'a SecretKey,
    coop: &'a Coop,
    who: u8,
    use_number: u32,
    hash: Option<[u8; 32]>,
}

impl Scene {
    fn offered(&self) -> Offered {
        self.room.group(&self.invite.public(), NOW).expect("the invite is open")
    }

    fn join(&self) -> Join<'_> {
        Join { invite: &self.invite, root: &self.cedar.0, coop: &self.cedar.1, who: 1, use_number: 2, hash: None }
    }

    fn make(&self, join: &Join<'_>) -> Submission {
        let offered = self.offered();
        let (leaf, who) = (SecretKey::from_seed([join.who; 32]), Pseudonym([join.who; 16]));
        let certificate = LeafCertificate::issue(join.root, join.coop.clone(), &self.room.id, &leaf.public(), who, 0, NOW);
        let hash = join.hash.map_or_else(|| hash_bytes(&offered.group_info), kith_protocol::ids::Hash);
        let admission = Admission::sign(join.invite, &self.room.id, &leaf.public(), hash, join.use_number);
        let scratch = Provider::new([join.who; 32]);
        let tree = ratchet_tree::restore(&offered.short_tree, &offered.senders).unwrap();
        let joined = Group::join(&scratch, &leaf, &certificate, &offered.group_info, &tree, encode_admission(&admission)).unwrap();
        Submission {
            room: self.room.id,
            id: EntryId { sender: who, counter: Counter { device: 0, number: 1 } },
            epoch: joined.epoch,
            kind: Kind::Commit,
            body: joined.outgoing.commit.into(),
            group_info: joined.outgoing.group_info.into(),
            base: None,
        }
    }

    fn order(&mut self, origin: &Coop, submission: &Submission) -> Result<Order, Code> {
        self.room.order(NOW, origin, submission).map_err(|error| error.code())
    }
}

#[test]
fn fault_01_and_20_only_an_invited_join_in_its_epoch_gets_a_place() {
    let mut scene = scene();
    let cedar = scene.cedar.1.clone();
    let size = scene.room.size();
    let foreign = SecretKey::from_seed([9; 32]);
    let closed = [
        scene.make(&Join { invite: &foreign, ..scene.join() }),
        scene.make(&Join { use_number: 1, ..scene.join() }),
        scene.make(&Join { use_number: 99, ..scene.join() }),
        scene.make(&Join { hash: Some([1; 32]), ..scene.join() }),
    ];
    for submission in closed {
        assert_eq!(scene.order(&cedar, &submission), Err(Code::InviteClosed));
    }
    let (good, rival) = (scene.make(&scene.join()), scene.make(&Join { who: 2, ..scene.join() }));
    assert_eq!(scene.order(&cedar, &good), Ok(Order::New(Seq(size))));
    assert_eq!(scene.order(&cedar, &good), Ok(Order::Known), "handed in twice, it has one place");
    assert_eq!(scene.order(&cedar, &rival), Err(Code::EpochBusy), "until the first is certified");
}

#[test]
fn fault_12_nobody_plants_a_key_for_a_co_op() {
    let mut scene = scene();
    let (hub, cedar) = (scene.hub.clone(), scene.cedar.1.clone());
    // A certificate by a key of the joiner's own under the name of its co-op.
    let forger = SecretKey::from_seed([5; 32]);
    let forged_coop = Coop { key: forger.public(), ..cedar.clone() };
    let forged = scene.make(&Join { root: &forger, coop: &forged_coop, ..scene.join() });
    assert_eq!(scene.order(&cedar, &forged), Err(Code::Forbidden));
    // The hub's name with another key, and a good certificate handed in by somebody else.
    let taken = Coop { key: forger.public(), ..hub.clone() };
    let forged = scene.make(&Join { root: &forger, coop: &taken, ..scene.join() });
    assert_eq!(scene.order(&hub, &forged), Err(Code::BadCertificate));
    let good = scene.make(&scene.join());
    assert_eq!(scene.order(&hub, &good), Err(Code::Forbidden));
    let own = scene.make(&Join { root: &scene.root, coop: &scene.hub, ..scene.join() });
    assert!(matches!(scene.order(&hub, &own), Ok(Order::New(_))));
}

#[test]
fn fault_19_and_23_a_broken_commit_changes_nothing() {
    let mut scene = scene();
    let cedar = scene.cedar.1.clone();
    let good = scene.make(&scene.join());
    let (size, root) = (scene.room.size(), scene.room.log().unwrap().frontier.root());
    for at in (0..good.body.len()).step_by(7) {
        let mut body = good.body.to_vec();
        body[at] ^= 0x10;
        let broken = Submission { body: body.into(), ..good.clone() };
        assert!(scene.order(&cedar, &broken).is_err(), "byte {at}");
    }
    for group_info in [Bytes::new(), Bytes::from_static(b"nonsense"), scene.offered().group_info] {
        let broken = Submission { group_info, ..good.clone() };
        assert_eq!(scene.order(&cedar, &broken), Err(Code::InvalidCommit), "a GroupInfo that is not the commit's");
    }
    assert_eq!((scene.room.size(), scene.room.log().unwrap().frontier.root()), (size, root));
    assert_eq!(scene.order(&cedar, &good), Ok(Order::New(Seq(size))), "and the room goes on");
}

/// What a joiner is handed fits a frame: the next commit takes out who has left, and then others may leave.
#[test]
fn leaves_that_wait_for_a_commit_are_bounded() {
    for (waiting, outcome) in [(LEAVES_MAX - 1, None), (LEAVES_MAX, Some(Code::Busy))] {
        let mut scene = scene_with(|group| {
            for i in 0..waiting {
                let pseudonym = Pseudonym((0x5000_0000 + i as u128).to_be_bytes());
                let id = EntryId { sender: pseudonym, counter: Counter { device: 0, number: 1 } };
                let leave = Some(SignedLeave { id, signature: Signature([1; 64]) });
                let coop = "cedar.test".parse().unwrap();
                group.senders.push(Sender { pseudonym, standing: Standing::Left, coop, leave, out_at: None });
            }
        });
        let (cedar, leaf) = (scene.cedar.1.clone(), SecretKey::from_seed([1; 32]));
        let join = scene.make(&scene.join());
        assert!(scene.order(&cedar, &join).is_ok());
        scene.room.take_append(&scene.root);
        scene.room.committed(&scene.root, NOW, scene.room.size());
        let id = EntryId { sender: join.id.sender, counter: Counter { device: 0, number: 2 } };
        let body = leaf.sign(&leave_statement(&scene.room.id, &id)).0.to_vec().into();
        let leave = Submission {
            id,
            epoch: Epoch(join.epoch.0 + 1),
            kind: Kind::Leave,
            body,
            group_info: Bytes::new(),
            room: join.room,
            base: None,
        };
        assert_eq!(scene.order(&cedar, &leave).err(), outcome);
    }
}
