//! A lying hub against a mirror.

use bytes::Bytes;
use kith_client::core::timeline::RowContent;
use kith_protocol::codec::{decode_creation_body, encode_creation_body};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop, Hash, RoomId, Seq};
use kith_protocol::link::{Batch, LinkFrame};
use kith_protocol::log::checkpoint::Checkpoint;
use kith_protocol::member::{Send, ToMember, ToServer};
use kith_protocol::room::CreationBody;
use kith_protocol::sign::SecretKey;
use kith_relay::room::Room;
use kith_sim::World;
use kith_sim::stand::Stand;

use crate::forge::{Forge, pseudonym, say, shown, submission, text};

struct Scene {
    world: World,
    mirror: Stand,
    hub: Coop,
    root: SecretKey,
    link: ConnectionId,
}

/// A mirror alone with its hub's keys, and a member of each.
fn scene() -> Scene {
    let mut world = World::calm(21).unwrap();
    let mut mirror = Stand::new(world.coops.pop().unwrap());
    let (hub, root) = (world.coops[0].id.clone(), world.coops[0].root());
    let (link, said) = mirror.link(&hub, &root);
    assert!(said.iter().any(|frame| matches!(frame, LinkFrame::Follow { .. })), "{said:?}");
    Scene { world, mirror, hub, root, link }
}

impl Scene {
    fn forge(&self) -> Forge {
        Forge::new(&self.mirror, self.hub.clone(), self.root.clone())
    }

    fn send(&mut self, batch: Batch) -> Vec<LinkFrame> {
        self.mirror.link_frame(self.link, LinkFrame::Batch(Box::new(batch)))
    }

    fn refuses(&mut self, batch: Batch, why: &str) {
        let size = self.mirror.log().len();
        let said = self.send(batch);
        let is_refused = said.iter().any(|frame| matches!(frame, LinkFrame::Error { code: Code::BadProof, .. }));
        let has_signed = said.iter().any(|frame| matches!(frame, LinkFrame::Attest { .. }));
        assert!(is_refused && !has_signed, "{why}: {said:?}");
        assert_eq!(self.mirror.log().len(), size, "{why}");
    }
}

fn attested(said: &[LinkFrame]) -> Option<u64> {
    said.iter().find_map(|frame| if let LinkFrame::Attest { size, .. } = frame { Some(*size) } else { None })
}

#[test]
fn fault_04_only_the_hub_sequences_and_only_in_its_term() {
    let mut scene = scene();
    let (who, send) = (pseudonym(&scene.world, 0), say(&mut scene.world, 0, "in my turn"));
    let room = scene.mirror.room();
    let size = scene.mirror.log().len();
    // Even its hub cannot have it give out a place.
    let frame = LinkFrame::Submit { id: 1, submission: submission(room.id, who, send.clone()) };
    let said = scene.mirror.link_frame(scene.link, frame);
    assert!(matches!(said[..], [LinkFrame::Submitted { id: 1, outcome: Err((Code::HolderUnreachable, _)) }]), "{said:?}");
    assert_eq!(scene.mirror.log().len(), size);
    // Nor go on in a term that nobody agreed to.
    let mut forge = scene.forge();
    forge.last.term.0 += 1;
    forge.put(who, &send);
    let batch = forge.batch(room.number);
    scene.refuses(batch, "another term");
    // Nor write a second history over what is there.
    let mut forge = scene.forge();
    forge.put(who, &send);
    let mut again = forge.batch(room.number);
    again.entries.first = Seq(size as u64 - 1);
    assert_eq!(attested(&scene.send(again)), None);
    assert_eq!(scene.mirror.log().len(), size);
    let mut forge = scene.forge();
    forge.put(who, &send);
    assert_eq!(attested(&scene.send(forge.batch(room.number))), Some(size as u64 + 1), "and the good one is taken");
}

#[test]
fn fault_05_a_mirror_signs_no_root_that_it_did_not_compute() {
    let mut scene = scene();
    let (who, send) = (pseudonym(&scene.world, 0), say(&mut scene.world, 0, "true"));
    let number = scene.mirror.room().number;
    for change in [
        |checkpoint: &mut Checkpoint| checkpoint.root = Hash([7; 32]),
        |checkpoint: &mut Checkpoint| checkpoint.size += 1,
        |checkpoint: &mut Checkpoint| checkpoint.term.0 += 1,
    ] {
        let mut forge = scene.forge();
        forge.put(who, &send);
        let mut checkpoint = forge.checkpoint();
        change(&mut checkpoint);
        let attestation = forge.sign(checkpoint);
        scene.refuses(Batch { attestation, ..forge.batch(number) }, "a checkpoint of the hub's own making");
    }
}

#[test]
fn fault_07_an_invalid_entry_keeps_its_place_and_paging_goes_on_past_it() {
    let mut scene = scene();
    let (zero, one) = (pseudonym(&scene.world, 0), pseudonym(&scene.world, 1));
    let good = say(&mut scene.world, 0, "after the poison");
    let number = scene.mirror.room().number;
    let size = scene.mirror.log().len() as u64;
    let mut forge = scene.forge();
    // A message from an epoch that is not there yet, one with a gap before it, a commit that is none.
    forge.put(zero, &Send { epoch: kith_protocol::ids::Epoch(good.epoch.0 + 9), ..good.clone() });
    forge.put(one, &Send { counter: 99, ..good.clone() });
    let nonsense = Bytes::from_static(b"no commit");
    forge.put(zero, &Send { kind: kith_protocol::log::Kind::Commit, group_info: nonsense.clone(), body: nonsense, ..good.clone() });
    let seq = forge.put(zero, &good).seq;
    let said = scene.send(forge.batch(number));
    assert_eq!(attested(&said), Some(size + 4), "{said:?}");

    // Its member reads to the end, over the poison, and what follows has its effect: the counter had not moved.
    let (session, mut said) = scene.mirror.session(&scene.world.members[1]);
    said.extend(scene.mirror.frame(session, ToServer::Open { room: number, from: Seq(0) }));
    let pages: usize = said.iter().map(|frame| if let ToMember::Entries(page) = frame { page.entries.len() } else { 0 }).sum();
    assert!(pages as u64 >= size + 4, "{said:?}");
    let said = scene.mirror.frame(session, ToServer::FetchHeaders { request: 5, room: number, from: Seq(0) });
    assert!(matches!(&said[..], [ToMember::Headers { headers, .. }] if headers.len() as u64 == size + 4), "{said:?}");
    for frame in scene.mirror.session(&scene.world.members[1]).1 {
        scene.world.members[1].core.handle_frame(scene.mirror.wall(), frame);
    }
    assert_eq!(shown(&mut scene.world, 1, seq), text("after the poison"));

    // A cursor beyond the end is refused, and a page from there is empty.
    let said = scene.mirror.frame(session, ToServer::Cursor { room: number, next: Seq(size + 5) });
    assert!(matches!(&said[..], [ToMember::Refused(refused)] if refused.code == Code::NoSuchRoom), "{said:?}");
    let said = scene.mirror.frame(session, ToServer::FetchHeaders { request: 6, room: number, from: Seq(1 << 47) });
    assert!(matches!(&said[..], [ToMember::Headers { headers, .. }] if headers.is_empty()), "{said:?}");
    // And after a restart the hub's next entry is taken.
    scene.mirror.restart();
    let (link, _) = scene.mirror.link(&scene.hub, &scene.root);
    scene.link = link;
    let mut forge = scene.forge();
    forge.put(zero, &Send { counter: good.counter + 1, ..good });
    assert_eq!(attested(&scene.send(forge.batch(number))), Some(size + 5));
}

#[test]
fn fault_08_entries_of_another_room_are_refused_and_the_room_lives() {
    let mut scene = scene();
    let who = pseudonym(&scene.world, 0);
    let good = say(&mut scene.world, 0, "of this room");
    let room = scene.mirror.room();
    // Made for another room: the hub's word is over that room, or over this one with the other's headers in it.
    let other = || RoomId([8; 32]);
    let mut forge = scene.forge().of_room(other());
    forge.put(who, &good);
    let batch = forge.batch(room.number);
    let attestation = forge.sign(Checkpoint { room: room.id, ..forge.checkpoint() });
    scene.refuses(batch.clone(), "a batch of another room");
    scene.refuses(Batch { attestation, ..batch }, "headers of another room");
    // What was encrypted for another room, at a place of this one: nobody reads it, and what follows is read.
    let mut elsewhere = World::calm(77).unwrap();
    let foreign = say(&mut elsewhere, 0, "of another room");
    let mut forge = scene.forge();
    let poison = forge.put(who, &Send { body: foreign.body, ..good.clone() }).seq;
    let own = pseudonym(&scene.world, 1);
    let mine = say(&mut scene.world, 1, "still here");
    let after = forge.put(own, &mine).seq;
    assert_eq!(attested(&scene.send(forge.batch(room.number))), Some(after.0 + 1), "on the same link");
    for frame in scene.mirror.session(&scene.world.members[1]).1 {
        scene.world.members[1].core.handle_frame(scene.mirror.wall(), frame);
    }
    let read = shown(&mut scene.world, 1, poison);
    assert!(matches!(read, Some(RowContent::Unreadable(_))), "{read:?}");
    assert_eq!(shown(&mut scene.world, 1, after), text("still here"));
}

#[test]
fn fault_09_what_the_hub_refused_is_never_handed_in_again() {
    let mut scene = scene();
    let send = say(&mut scene.world, 1, "refused");
    let (room, who) = (scene.mirror.room(), pseudonym(&scene.world, 1));
    let (session, _) = scene.mirror.session(&scene.world.members[1]);
    let said = scene.mirror.tell(kith_relay::coop::Input::MemberFrame { connection: session, frame: Ok(ToServer::Send(send)) });
    let submits = kith_sim::stand::over_link(&said, scene.link);
    let [LinkFrame::Submit { id, .. }] = submits[..] else { panic!("not handed in: {submits:?}") };
    let outcome = Err((Code::Forbidden, "no".to_owned()));
    let said =
        scene.mirror.tell(kith_relay::coop::Input::LinkFrame { connection: scene.link, frame: Ok(LinkFrame::Submitted { id, outcome }) });
    let told = kith_sim::stand::to_member(&said, session);
    assert!(matches!(&told[..], [ToMember::Refused(refused)] if refused.code == Code::Forbidden), "{told:?}");
    // Neither when the link comes anew nor when the co-op starts again.
    for restart in [false, true] {
        if restart {
            scene.mirror.restart();
        }
        let (_, said) = scene.mirror.link(&scene.hub, &scene.root);
        assert!(!said.iter().any(|frame| matches!(frame, LinkFrame::Submit { .. })), "{said:?}");
    }
    assert!(scene.mirror.log().iter().all(|(header, _)| (header.room, header.id.sender) != (room.id, who) || header.id.counter.number > 0));
}

#[test]
fn fault_13_the_exact_bytes_are_what_is_verified() {
    let mut scene = scene();
    let (who, send) = (pseudonym(&scene.world, 0), say(&mut scene.world, 0, "to the byte"));
    let room = scene.mirror.room();
    // Another encoding of the same creation: it reads alike, and is another room.
    let (header, row) = scene.mirror.log().remove(0);
    let body = decode_creation_body(&row.body).unwrap();
    let mut creation = body.creation.clone();
    creation.extend_from_slice(&[0xf8, 0x07, 0x01]);
    assert_eq!(
        kith_protocol::codec::decode_creation(&creation).unwrap(),
        kith_protocol::codec::decode_creation(&body.creation).unwrap(),
        "a decoder sees no difference"
    );
    let altered: Bytes = encode_creation_body(&CreationBody { creation, ..body }).into();
    let mut empty = Room::empty(room.number, room.id, scene.hub.clone(), scene.hub.name.clone());
    let refused = empty.create(&header.id.sender, 0, &altered).map_err(|error| error.to_string());
    assert_eq!(refused, Err("the room's id is not the hash of its creation".to_owned()));
    assert!(empty.create(&header.id.sender, 0, &row.body).is_ok());
    // A body that was changed on the way, beside the checkpoint over the true one.
    let mut forge = scene.forge();
    forge.put(who, &send);
    let mut batch = forge.batch(room.number);
    let mut bytes = batch.entries.entries[0].body.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    batch.entries.entries[0].body = bytes.into();
    scene.refuses(batch, "another body");
}
