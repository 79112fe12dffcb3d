//! Lying members and neighbours against a hub.

use bytes::Bytes;
use kith_client::mls::group::Group;
use kith_client::mls::provider::Provider;
use kith_protocol::agreement::{Rooms, Terms};
use kith_protocol::codec::{decode_creation, decode_creation_body, encode_creation, encode_creation_body};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop, Epoch, Pseudonym, RoomId, Seq, Term};
use kith_protocol::limits::{MEMBER_COMMITS_BURST, MEMBER_COMMITS_EVERY_S};
use kith_protocol::link::LinkFrame;
use kith_protocol::log::Kind;
use kith_protocol::member::{Send, ToMember, ToServer};
use kith_protocol::room::CreationBody;
use kith_protocol::sign::SecretKey;
use kith_relay::coop::Input;
use kith_relay::coop::agreements::Act;
use kith_relay::coop::steward::Request;
use kith_sim::World;
use kith_sim::stand::Stand;

use crate::forge::{pseudonym, say, submission};

struct Scene {
    world: World,
    hub: Stand,
    birch: Coop,
    birch_root: SecretKey,
    link: ConnectionId,
}

/// A hub alone with its neighbour's keys: members 0 and 2 are its own, 1 is the neighbour's.
fn scene() -> Scene {
    let mut world = World::calm_circle(22, 3).unwrap();
    let mut hub = Stand::new(world.coops.remove(0));
    let (birch, birch_root) = (world.coops[0].id.clone(), world.coops[0].root());
    let (link, _) = hub.link(&birch, &birch_root);
    Scene { world, hub, birch, birch_root, link }
}

impl Scene {
    /// The neighbour hands in an entry in somebody's name.
    fn submit(&mut self, who: Pseudonym, send: Send) -> Result<(), Code> {
        let room = self.hub.room().id;
        let frame = LinkFrame::Submit { id: 7, submission: submission(room, who, send) };
        let said = self.hub.link_frame(self.link, frame);
        let outcome =
            said.into_iter().find_map(|frame| if let LinkFrame::Submitted { id: 7, outcome } = frame { Some(outcome) } else { None });
        outcome.expect("an answer").map_err(|(code, _)| code)
    }

    fn restart(&mut self) {
        self.hub.restart();
        self.link = self.hub.link(&self.birch, &self.birch_root).0;
    }

    /// A commit that stands in the log, made out to be that member's next entry.
    fn old_commit(&self, send: &Send) -> Send {
        let log = self.hub.log();
        let (header, row) = log.iter().rev().find(|(header, _)| header.kind == Kind::Commit).expect("a commit");
        Send { kind: Kind::Commit, epoch: header.epoch, body: row.body.clone(), group_info: row.group_info.clone(), ..send.clone() }
    }
}

fn refusal(said: &[ToMember]) -> Option<Code> {
    said.iter().find_map(|frame| if let ToMember::Refused(refused) = frame { Some(refused.code) } else { None })
}

#[test]
fn fault_02_a_co_op_speaks_for_its_own_members_only() {
    let mut scene = scene();
    let (zero, one) = (pseudonym(&scene.world, 0), pseudonym(&scene.world, 1));
    let (own, other) = (say(&mut scene.world, 1, "my own words"), say(&mut scene.world, 0, "not my words"));
    let size = scene.hub.log().len();
    assert_eq!(scene.submit(zero, other.clone()), Err(Code::Forbidden), "a member of another co-op");
    assert_eq!(scene.submit(Pseudonym([3; 16]), Send { counter: 1, ..own.clone() }), Err(Code::NoSuchRoom), "nobody");
    // A commit of member 0's, in the name of member 1.
    let commit = invite_commit(&mut scene);
    assert_eq!(scene.submit(one, Send { counter: own.counter, ..commit }), Err(Code::InvalidCommit));
    assert_eq!(scene.hub.log().len(), size);
    assert_eq!(scene.submit(one, own), Ok(()));
    assert_eq!(scene.hub.log().last().unwrap().0.id.sender, one);
}

/// A facilitator's true commit that has not been handed in.
fn invite_commit(scene: &mut Scene) -> Send {
    let room = scene.world.circles[0].id;
    // A fresh device state without what it said before would be in another place: only the commit's counter matters.
    let mut world = World::calm_circle(22, 3).unwrap();
    world.members[0].core.invite(scene.hub.wall(), &room, 1).unwrap();
    let sends = world.members[0].take_effects(false).sends;
    let found = sends.into_iter().find_map(|frame| if let ToServer::Send(send) = frame { Some(send) } else { None });
    found.filter(|send| send.kind == Kind::Commit).expect("a commit")
}

#[test]
fn fault_04_a_room_is_created_once_and_is_the_hash_of_its_creation() {
    let mut scene = scene();
    let (room, who) = (scene.hub.room(), pseudonym(&scene.world, 0));
    let (size, body) = (scene.hub.log().len(), scene.hub.log()[0].1.body.clone());
    let (session, _) = scene.hub.session(&scene.world.members[0]);
    // Its creator asks once more: the room is there as it is.
    let create = ToServer::CreateRoom { request: 1, room: room.id, pseudonym: who, body: body.clone() };
    let said = scene.hub.frame(session, create.clone());
    assert!(matches!(said[0], ToMember::RoomNumber { number, .. } if number == room.number), "{said:?}");
    // Somebody who is not in it gets no room of that id, with this or with another beginning.
    let (newcomer, leaf) = (scene.hub.newcomer(60), SecretKey::from_seed([61; 32]));
    let mine = Pseudonym([62; 16]);
    let said = scene.hub.frame(newcomer, ToServer::Certify { request: 2, room: room.id, pseudonym: mine, leaf_key: leaf.public() });
    let [ToMember::Certificate { certificate, .. }] = &said[..] else { panic!("{said:?}") };
    let body = decode_creation_body(&body).unwrap();
    let mut creation = decode_creation(&body.creation).unwrap();
    creation.creator_key = leaf.public();
    creation.context.roles[0].0 = mine;
    let (_, group_info, tree) = Group::create(&Provider::new([1; 32]), &room.id, &leaf, certificate, &creation.context).unwrap();
    let rival = encode_creation_body(&CreationBody { creation: encode_creation(&creation), group_info, tree });
    let said = scene.hub.frame(newcomer, ToServer::CreateRoom { request: 3, room: room.id, pseudonym: mine, body: rival.clone().into() });
    assert_eq!(refusal(&said), Some(Code::BadCreation));
    assert_eq!((scene.hub.room(), scene.hub.log().len()), (room.clone(), size));
    // Nor at a co-op that does not have the room yet: these bytes begin another one.
    let created =
        kith_relay::room::Room::empty(room.number, room.id, room.hub.clone(), room.hub.name.clone()).create(&mine, 0, &rival.into());
    assert_eq!(created.map_err(|error| error.to_string()), Err("the room's id is not the hash of its creation".to_owned()));
    // And after a restart it is still that one room.
    scene.restart();
    let (session, _) = scene.hub.session(&scene.world.members[0]);
    assert_eq!(refusal(&scene.hub.frame(session, create)), None);
    assert_eq!((scene.hub.room(), scene.hub.log().len()), (room, size));
}

#[test]
fn fault_08_what_was_made_for_another_room_is_refused() {
    let mut scene = scene();
    let one = pseudonym(&scene.world, 1);
    let own = say(&mut scene.world, 1, "for this room");
    // A true commit of a facilitator, of another group at the same epoch.
    let mut elsewhere = World::calm_circle(77, 3).unwrap();
    let (other, author) = (elsewhere.circles[0].id, pseudonym(&elsewhere, 0));
    elsewhere.members[0].core.invite(scene.hub.wall(), &other, 1).unwrap();
    let sends = elsewhere.members[0].take_effects(false).sends;
    let found = sends.into_iter().find_map(|frame| if let ToServer::Send(send) = frame { Some(send) } else { None });
    let foreign = Send { counter: own.counter, ..found.filter(|send| send.kind == Kind::Commit).expect("a commit") };
    assert_eq!(foreign.epoch, own.epoch);
    let size = scene.hub.log().len();
    assert_eq!(scene.submit(one, foreign.clone()), Err(Code::InvalidCommit), "in a member's name");
    assert_eq!(scene.submit(author, foreign.clone()), Err(Code::InvalidCommit), "in its author's");
    let frame = LinkFrame::Submit { id: 8, submission: submission(other, author, foreign) };
    let said = scene.hub.link_frame(scene.link, frame);
    let refused = said.iter().any(|frame| matches!(frame, LinkFrame::Submitted { id: 8, outcome: Err((Code::NoSuchRoom, _)) }));
    assert!(refused, "as it is, where its room is not: {said:?}");
    assert_eq!(scene.hub.log().len(), size);
    assert_eq!(scene.submit(one, own), Ok(()), "on the same link");
}

#[test]
fn fault_09_a_refused_entry_stays_refused_whichever_way_it_comes() {
    let mut scene = scene();
    let (one, two) = (pseudonym(&scene.world, 1), pseudonym(&scene.world, 2));
    let (of_one, of_two) = (say(&mut scene.world, 1, "one"), say(&mut scene.world, 2, "two"));
    let (stale_one, stale_two) = (scene.old_commit(&of_one), scene.old_commit(&of_two));
    let size = scene.hub.log().len();
    for _ in 0..2 {
        let (session, _) = scene.hub.session(&scene.world.members[2]);
        assert_eq!(refusal(&scene.hub.frame(session, ToServer::Send(stale_two.clone()))), Some(Code::WrongEpoch), "by its member");
        assert_eq!(scene.submit(one, stale_one.clone()), Err(Code::WrongEpoch), "by a neighbour");
        assert!(scene.submit(two, stale_two.clone()).is_err(), "by a neighbour for another's member");
        let current = Send { epoch: of_one.epoch, ..stale_one.clone() };
        assert_eq!(scene.submit(one, current), Err(Code::InvalidCommit), "with another epoch in the envelope");
        // After a restart all is judged alike.
        scene.restart();
    }
    assert_eq!(scene.hub.log().len(), size);
    assert_eq!(scene.submit(one, of_one), Ok(()), "it did not use up its sender's counter");
}

#[test]
fn fault_10_nobody_fetches_what_it_is_not_in() {
    let mut scene = scene();
    let room = scene.hub.room();
    let newcomer = scene.hub.newcomer(50);
    for frame in [
        ToServer::Open { room: room.number, from: Seq(0) },
        ToServer::FetchHeaders { request: 1, room: room.number, from: Seq(0) },
        ToServer::Watch { request: 2, room: room.number, size: 0, held: 0 },
        ToServer::Cursor { room: room.number, next: Seq(1) },
    ] {
        let said = scene.hub.frame(newcomer, frame.clone());
        assert!(matches!(&said[..], [ToMember::Refused(refused)] if refused.code == Code::NoSuchRoom), "{frame:?}: {said:?}");
    }
    // A neighbour with nobody in the room: it is not there, for following, submitting and joining without an invite.
    let (root, name) = (SecretKey::from_seed([70; 32]), "cedar.test".parse().unwrap());
    let cedar = Coop { name, key: root.public() };
    let request = Request::AddNeighbour { coop: cedar.clone(), address: "simulated:1".to_owned(), terms: None, replace: false };
    scene.hub.restart();
    scene.hub.tell(Input::Steward { id: 1, request });
    let (link, _) = scene.hub.link(&cedar, &root);
    let follow = LinkFrame::Follow { room: room.number, id: room.id, from: Seq(0), term: Term(1) };
    let said = scene.hub.link_frame(link, follow);
    assert!(matches!(said[..], [LinkFrame::Error { code: Code::NoSuchRoom, .. }]), "{said:?}");
    let invite = SecretKey::from_seed([71; 32]);
    for (signer, key) in [(&invite, invite.public()), (&invite, scene.world.invite_link().unwrap().invite.public())] {
        let proof = signer.sign(&kith_protocol::admission::fetch_statement(&room.id, &cedar.name));
        let fetch = kith_protocol::member::FetchGroup { request: 3, room: room.id, holder: scene.hub.coop.id.clone(), invite: key, proof };
        let said = scene.hub.link_frame(link, LinkFrame::FetchGroup(fetch));
        assert_eq!(said, [LinkFrame::NoGroup { request: 3 }]);
    }
    // What happens in the room meanwhile reaches neither.
    let two = say(&mut scene.world, 2, "among us");
    let (session, _) = scene.hub.session(&scene.world.members[2]);
    let said = scene.hub.tell(Input::MemberFrame { connection: session, frame: Ok(ToServer::Send(two)) });
    assert!(kith_sim::stand::over_link(&said, link).is_empty() && kith_sim::stand::to_member(&said, newcomer).is_empty());
}

/// A mark that does not verify is refused by name, counts for nothing, and the link and the room go on.
#[test]
fn fault_34_a_forged_mark_is_refused_and_the_link_lives() {
    let mut scene = scene();
    let room = scene.hub.room();
    let size = scene.hub.log().len() as u64;
    scene.hub.link_frame(scene.link, LinkFrame::Follow { room: room.number, id: room.id, from: Seq(size), term: Term(1) });
    let checkpoint = scene.hub.coop.room(&room.id).unwrap().last_checkpoint().unwrap().checkpoint;
    let (at, other) = (scene.hub.wall(), SecretKey::from_seed([77; 32]));
    let mark = |key: &SecretKey| kith_protocol::log::checkpoint::Mark {
        coop: scene.birch.name.clone(),
        cosignature: Some((at, checkpoint.cosign(key, at))),
        held: Some(checkpoint.sign_held(key)),
    };
    let (forged, good) = (mark(&other), mark(&scene.birch_root));
    let mut other_root = good.clone();
    other_root.held = Some(kith_protocol::log::checkpoint::Checkpoint { size: size - 1, ..checkpoint }.sign_held(&scene.birch_root));
    let held = |scene: &Scene| {
        let room = scene.hub.coop.room(&room.id).unwrap();
        room.ledger().held().any(|(name, held)| *name == scene.birch.name && held == size)
    };
    let attest = |scene: &mut Scene, mark| scene.hub.link_frame(scene.link, LinkFrame::Attest { room: room.number, size, mark });
    let before = held(&scene);
    // A good word beside a forged one does not carry it.
    let half = kith_protocol::log::checkpoint::Mark { held: good.held, ..forged.clone() };
    for bad in [forged, other_root, half] {
        let said = attest(&mut scene, bad);
        assert!(matches!(&said[..], [LinkFrame::Error { code: Code::BadProof, .. }]), "{said:?}");
        assert_eq!(held(&scene), before);
    }
    assert!(!attest(&mut scene, good).iter().any(|frame| matches!(frame, LinkFrame::Error { .. })));
    assert!(held(&scene));
    let one = say(&mut scene.world, 1, "still here");
    assert_eq!(scene.submit(pseudonym(&scene.world, 1), one), Ok(()));
}

/// A former member knows who is in a room. With an account of its own it claims one of them: somebody of another co-op, or
/// somebody of this one; before the room is here, or after.
#[test]
fn fault_10_nobody_reads_by_anothers_pseudonym() {
    let mut scene = scene();
    let room = scene.hub.room();
    let newcomer = scene.hub.newcomer(50);
    let leaf_key = SecretKey::from_seed([51; 32]).public();
    for member in [0, 1] {
        let claimed = pseudonym(&scene.world, member);
        let said = scene.hub.frame(newcomer, ToServer::Certify { request: 1, room: room.id, pseudonym: claimed, leaf_key });
        assert_eq!(refusal(&said), Some(Code::Forbidden), "member {member}: {said:?}");
    }
    // It was claimed before the log said whose it is.
    let row = kith_storage::MembershipRow {
        account: kith_protocol::ids::AccountHandle(u64::MAX >> 20),
        room: room.id,
        pseudonym: pseudonym(&scene.world, 1),
    };
    let device = SecretKey::from_seed([52; 32]);
    let handle = kith_protocol::ids::DeviceHandle(row.account.0);
    let known = kith_storage::DeviceRow { handle, account: row.account, number: 0, key: device.public() };
    scene.hub.coop.commit(vec![kith_storage::Write::PutDevice(known), kith_storage::Write::PutMembership(row)], None).unwrap();
    scene.restart();
    let claimant = scene.hub.device_session(handle, &device);
    for frame in [
        ToServer::Open { room: room.number, from: Seq(0) },
        ToServer::FetchHeaders { request: 1, room: room.number, from: Seq(0) },
        ToServer::Send(Send { room: room.number, ..say(&mut scene.world, 1, "as if I were she") }),
    ] {
        let said = scene.hub.frame(claimant, frame.clone());
        assert_eq!(refusal(&said), Some(Code::NoSuchRoom), "{frame:?}: {said:?}");
    }
}

/// Birch has members in the room, and goes on asking after both stewards have left the room out.
#[test]
fn fault_10_a_room_that_the_agreement_leaves_out_is_not_sent() {
    let mut scene = scene();
    let room = scene.hub.room();
    let follow = || LinkFrame::Follow { room: room.number, id: room.id, from: Seq(0), term: Term(1) };
    let said = scene.hub.link_frame(scene.link, follow());
    assert!(said.iter().any(|frame| matches!(frame, LinkFrame::Batch(_))), "{said:?}");
    let terms = Terms { rooms: Rooms::Listed([RoomId([9; 32])].into()), ..Terms::default() };
    let act = Act::Propose(Box::new(terms));
    scene.hub.tell(Input::Steward { id: 1, request: Request::Agreement { name: scene.birch.name.clone(), act } });
    scene.restart();
    let said = scene.hub.link_frame(scene.link, follow());
    assert!(matches!(said[..], [LinkFrame::Error { code: Code::NoSuchRoom, .. }]), "{said:?}");
    let status = LinkFrame::Status { room: room.id, term: Term(0), size: 0, fence: Term(0), attestation: None, succession: Bytes::new() };
    assert_eq!(scene.hub.link_frame(scene.link, status), [], "nor is it told how the room is");
    let two = say(&mut scene.world, 1, "let me in");
    assert_eq!(scene.submit(pseudonym(&scene.world, 1), two), Err(Code::NoSuchRoom));
    let mine = say(&mut scene.world, 2, "among us");
    let (session, _) = scene.hub.session(&scene.world.members[2]);
    let said = scene.hub.tell(Input::MemberFrame { connection: session, frame: Ok(ToServer::Send(mine)) });
    assert!(kith_sim::stand::over_link(&said, scene.link).is_empty());
}

#[test]
fn fault_21_one_member_cannot_flood_a_room_with_commits() {
    let mut scene = scene();
    let room = scene.world.circles[0].id;
    let (session, _) = scene.hub.session(&scene.world.members[0]);
    // Until the first no, which the device hears too, as all else.
    let flood = |scene: &mut Scene| {
        let mut taken = 0;
        loop {
            scene.world.members[0].core.handle_tick(scene.hub.wall());
            let mut outgoing = scene.world.members[0].take_effects(false).sends;
            if outgoing.iter().all(|frame| !matches!(frame, ToServer::Send(_))) {
                scene.world.members[0].core.invite(scene.hub.wall(), &room, 1).unwrap();
                outgoing.extend(scene.world.members[0].take_effects(false).sends);
            }
            for frame in outgoing {
                let is_commit = matches!(&frame, ToServer::Send(send) if send.kind == Kind::Commit);
                let said = scene.hub.frame(session, frame);
                let refused = refusal(&said);
                said.into_iter().for_each(|frame| scene.world.members[0].core.handle_frame(scene.hub.wall(), frame));
                if let Some(code) = refused {
                    assert_eq!(code, Code::RateLimited);
                    return taken;
                }
                taken += u32::from(is_commit);
            }
        }
    };
    assert_eq!(flood(&mut scene), MEMBER_COMMITS_BURST);
    // Others go on, and with time so does it.
    let (one, send) = (pseudonym(&scene.world, 1), say(&mut scene.world, 1, "still heard"));
    let epoch = Epoch(send.epoch.0 + u64::from(MEMBER_COMMITS_BURST));
    assert_eq!(scene.submit(one, Send { epoch, ..send }), Ok(()));
    scene.hub.now.0 += MEMBER_COMMITS_EVERY_S * 1_000;
    assert_eq!(flood(&mut scene), 1);
}

#[test]
fn fault_22_an_entry_handed_in_again_has_one_place() {
    let mut scene = scene();
    let (one, send) = (pseudonym(&scene.world, 1), say(&mut scene.world, 1, "once"));
    let size = scene.hub.log().len();
    for _ in 0..3 {
        assert_eq!(scene.submit(one, send.clone()), Ok(()));
        assert_eq!(scene.hub.log().len(), size + 1);
    }
    scene.restart();
    assert_eq!(scene.submit(one, send.clone()), Ok(()));
    let (session, _) = scene.hub.session(&scene.world.members[2]);
    let two = say(&mut scene.world, 2, "once too");
    for _ in 0..2 {
        let said = scene.hub.frame(session, ToServer::Send(two.clone()));
        assert!(said.iter().any(|frame| matches!(frame, ToMember::Ack { .. })), "{said:?}");
    }
    assert_eq!(scene.hub.log().len(), size + 2);
    // Not under the next number either: the commit of an epoch that is over opens nothing.
    let stale = scene.old_commit(&Send { counter: send.counter + 1, ..send });
    assert_eq!(scene.submit(one, stale), Err(Code::WrongEpoch));
}

/// A neighbour says that it has more than there is. Without the hub's own word for it that holds up nobody: after a start
/// the hub orders as soon as it has waited for its mirrors.
#[test]
fn fault_11_numbers_alone_hold_up_no_hub() {
    let mut scene = scene();
    scene.hub.coop.crash();
    scene.hub.coop.start(0);
    scene.hub.now = kith_protocol::ids::Millis(0);
    scene.link = scene.hub.link(&scene.birch, &scene.birch_root).0;
    let room = scene.hub.room();
    let size = scene.hub.log().len() as u64;
    let status = |term: u32, size: u64| LinkFrame::Status {
        room: room.id,
        term: Term(term),
        size,
        fence: Term(0),
        attestation: None,
        succession: Bytes::new(),
    };
    scene.hub.link_frame(scene.link, status(1, size + 1_000_000));
    scene.hub.link_frame(scene.link, status(99, size + 1));
    scene.hub.now = kith_protocol::ids::Millis(kith_protocol::limits::SETTLE_MS + 1);
    scene.hub.tell(Input::Tick);
    let one = say(&mut scene.world, 1, "let us go on");
    assert_eq!(scene.submit(pseudonym(&scene.world, 1), one), Ok(()));
}
