//! A lying co-op, and a lying member, against a member's device.

use kith_client::core::timeline::RowContent;
use kith_protocol::ids::{Pseudonym, RoomNumber, Seq};
use kith_protocol::log::Kind;
use kith_protocol::member::{Send, ToMember};
use kith_sim::World;
use kith_sim::stand::Stand;

use crate::forge::{Forge, pseudonym, say, shown, text};

struct Scene {
    world: World,
    hub: Stand,
    forge: Forge,
}

/// The hub tells member 0 what it likes. Member 2 is of the same co-op, member 1 of another.
fn scene() -> Scene {
    let mut world = World::calm_circle(23, 3).unwrap();
    let hub = Stand::new(world.coops.remove(0));
    let forge = Forge::new(&hub, hub.coop.id.clone(), hub.coop.root());
    Scene { world, hub, forge }
}

impl Scene {
    fn number(&self) -> RoomNumber {
        self.hub.room().number
    }

    /// Member 0 hears what was put into the log; what it then shows at that place.
    fn hear(&mut self, seq: Seq) -> Option<RowContent> {
        let frame = ToMember::Entries(self.forge.entries(self.number()));
        self.world.members[0].core.handle_frame(self.hub.wall(), frame);
        shown(&mut self.world, 0, seq)
    }

    fn put(&mut self, who: Pseudonym, send: &Send) -> Option<RowContent> {
        let seq = self.forge.put(who, send).seq;
        self.hear(seq)
    }
}

fn unreadable(why: &str) -> Option<RowContent> {
    Some(RowContent::Unreadable(why.to_owned()))
}

#[test]
fn fault_02_credential_envelope_and_header_agree_or_nothing_is_shown() {
    let (one, two) = (pseudonym(&scene().world, 1), pseudonym(&scene().world, 2));
    let said = |scene: &mut Scene| say(&mut scene.world, 1, "mine");
    let mut scene = self::scene();
    let send = said(&mut scene);
    assert_eq!(scene.put(one, &send), text("mine"));
    // In another member's name.
    let mut scene = self::scene();
    let send = said(&mut scene);
    assert_eq!(scene.put(two, &send), unreadable("its sender is not the one that the log names"));
    // Under another number.
    let mut scene = self::scene();
    let send = said(&mut scene);
    let moved = Send { counter: send.counter + 1, ..send };
    assert_eq!(scene.put(one, &moved), unreadable("its id is not the one that the log names"));
    // With another franking tag: what the encryption covers does not open.
    let mut scene = self::scene();
    let send = said(&mut scene);
    let mut body = send.body.to_vec();
    body[0] ^= 1;
    assert!(matches!(scene.put(one, &Send { body: body.into(), ..send }), Some(RowContent::Unreadable(_))));
    // In another epoch.
    let mut scene = self::scene();
    let send = said(&mut scene);
    let epoch = kith_protocol::ids::Epoch(send.epoch.0 - 1);
    assert!(matches!(scene.put(one, &Send { epoch, ..send }), None | Some(RowContent::Unreadable(_))));
}

#[test]
fn fault_22_what_is_replayed_is_shown_once_and_changes_nothing() {
    let mut scene = scene();
    let one = pseudonym(&scene.world, 1);
    let send = say(&mut scene.world, 1, "once");
    let seq = scene.forge.put(one, &send).seq;
    let frame = ToMember::Entries(scene.forge.entries(scene.number()));
    for _ in 0..3 {
        scene.world.members[0].core.handle_frame(scene.hub.wall(), frame.clone());
        assert_eq!(shown(&mut scene.world, 0, seq), text("once"));
    }
    // The same message in the log again: its key is gone.
    for again in [send.clone(), Send { counter: send.counter + 1, ..send }] {
        assert!(matches!(scene.put(one, &again), Some(RowContent::Unreadable(_))));
    }
    // A commit of an epoch that is over, as its author's and as this member's own: nobody is added, no epoch goes by.
    let room = scene.world.circles[0].id;
    let (header, row) = scene.hub.log().into_iter().rev().find(|(header, _)| header.kind == Kind::Commit).unwrap();
    let before = (scene.world.members[0].core.room_state(&room).unwrap().epoch, scene.world.members[0].core.members(&room).unwrap());
    for (who, epoch) in [(header.id.sender, header.epoch.0), (header.id.sender, before.0), (pseudonym(&scene.world, 0), before.0)] {
        let (epoch, counter) = (kith_protocol::ids::Epoch(epoch), 1_000);
        let (body, group_info) = (row.body.clone(), row.group_info.clone());
        let commit = Send { room: scene.number(), counter, epoch, kind: Kind::Commit, body, group_info };
        let seq = scene.forge.put(who, &commit).seq;
        let attestation = scene.forge.attest();
        let frame = ToMember::Entries(scene.forge.entries(scene.number()));
        scene.world.members[0].core.handle_frame(scene.hub.wall(), frame);
        // Certified, so that it is looked at.
        let certificate = ToMember::Attestation { room: scene.number(), attestation };
        scene.world.members[0].core.handle_frame(scene.hub.wall(), certificate);
        assert_eq!(shown(&mut scene.world, 0, seq), None, "{who} {epoch}");
        assert_eq!(scene.world.members[0].core.room_state(&room).unwrap().size, seq.0 + 1, "and the device reads on");
    }
    let core = &mut scene.world.members[0].core;
    assert_eq!((core.room_state(&room).unwrap().epoch, core.members(&room).unwrap()), before);
    // Answers to requests that nobody made, or that were answered before.
    let events = |world: &mut World| world.members[0].take_effects(false).sends.len();
    events(&mut scene.world);
    let member = &scene.world.members[0].core;
    let number = RoomNumber(member.room_state(&room).unwrap().number.unwrap());
    let certificate = kith_protocol::codec::decode_certificate(member.room_state(&room).unwrap().certificate.as_ref().unwrap()).unwrap();
    for frame in [ToMember::Certificate { request: 1, certificate }, ToMember::RoomNumber { request: 1, room, number }] {
        scene.world.members[0].core.handle_frame(scene.hub.wall(), frame);
        assert_eq!(events(&mut scene.world), 0);
    }
    // And the room goes on.
    let send = say(&mut scene.world, 1, "on we go");
    assert_eq!(scene.put(one, &send), text("on we go"));
}

/// A commit of an epoch before its own join, whoever is said to have made it, takes no keys from a device: what has gone back is
/// told by its co-op, and then nothing is forgotten either.
#[test]
fn fault_23_a_commit_of_before_its_join_takes_nothing_from_a_device() {
    let mut scene = scene();
    let room = scene.world.circles[0].id;
    let author = pseudonym(&scene.world, 1);
    let state = |world: &World| world.members[2].core.room_state(&room).map(|state| (state.epoch, state.joined_epoch)).unwrap();
    let before = state(&scene.world);
    assert!(before.1 > 0, "it joined");
    let body = bytes::Bytes::from_static(b"no commit at all");
    let (epoch, group_info) = (kith_protocol::ids::Epoch(0), bytes::Bytes::from_static(b"nor one of these"));
    let junk = Send { room: scene.number(), counter: 1_000, epoch, kind: Kind::Commit, body, group_info };
    let seq = scene.forge.put(author, &junk).seq;
    let attestation = scene.forge.attest();
    for frame in [ToMember::Entries(scene.forge.entries(scene.number())), ToMember::Attestation { room: scene.number(), attestation }] {
        scene.world.members[2].core.handle_frame(scene.hub.wall(), frame);
    }
    let core = &mut scene.world.members[2].core;
    assert_eq!(core.room_state(&room).unwrap().size, seq.0 + 1, "it was looked at");
    assert_eq!((core.phase_name(&room), core.members(&room).map(|members| members.len())), ("active", Ok(3)));
    assert_eq!(state(&scene.world), before);
}
