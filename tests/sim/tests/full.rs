//! A disk without room: members are told, go on reading, and lose nothing.

use kith_client::core::ItemState;
use kith_protocol::error::Code;
use kith_sim::{World, checks};

/// The newest thing that a member said, and how far it has come.
fn state(world: &World, member: usize) -> ItemState {
    let said = world.members[member].said.last().unwrap();
    world.members[member].core.item_state(&world.room.unwrap(), said.item)
}

#[test]
fn fault_41_a_full_disk_of_the_hub_is_told_and_passes() {
    let mut world = World::calm(41).unwrap();
    let before = checks::trace(&world);
    world.coops[0].disk_full = true;
    // The first is decided when the disk is found full, the second is refused.
    for number in [10, 11] {
        world.say(0, number);
        world.pass(3_000);
        assert!(world.members[0].put_off.contains(&Code::DiskFull), "the member is told why");
        assert_eq!(state(&world, 0), ItemState::Waiting);
        world.members[0].put_off.clear();
    }
    // The neighbour has room: it keeps what its member says until the hub has too.
    world.say(1, 12);
    world.pass(3_000);
    assert_eq!(state(&world, 1), ItemState::Stored);
    assert_eq!(checks::trace(&world), before, "nothing was written");
    assert!(world.coops[0].machine.as_ref().unwrap().takes_input());
    // Reading goes on, for a session that begins now too.
    world.cut_member(0);
    world.pass(3_000);
    assert!(world.members[0].core.is_synced());
    let stored = world.members[0].stored_headers(&world.room.unwrap());
    assert_eq!(world.audit(0, stored).map(|report| report.problem), Some(None));
    world.coops[0].disk_full = false;
    world.calm_down().unwrap();
    assert_eq!(checks::trace(&world).len(), before.len() + 3);
    checks::check(&mut world).unwrap();
}

#[test]
fn fault_41_a_full_disk_of_a_mirror_is_told_and_passes() {
    let mut world = World::calm(42).unwrap();
    world.coops[1].disk_full = true;
    world.say(1, 20);
    world.pass(3_000);
    assert!(world.members[1].put_off.contains(&Code::DiskFull));
    assert_eq!(state(&world, 1), ItemState::Waiting);
    // The hub goes on, and the mirror takes up what it could not take.
    let before = checks::trace(&world).len();
    for number in 21..40 {
        world.say(0, number);
        world.pass(500);
    }
    assert_eq!(checks::trace(&world).len(), before + 19);
    world.coops[1].disk_full = false;
    world.calm_down().unwrap();
    assert_eq!(checks::trace(&world).len(), before + 20);
    checks::check(&mut world).unwrap();
}
