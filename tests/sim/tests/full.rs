//! A disk without room: members are told, go on reading, and lose nothing.

use kith_client::core::ItemState;
use kith_protocol::error::Code;
use kith_sim::World;

/// The newest thing that a member said, and how far it has come.
fn state(world: &World, member: usize) -> ItemState {
    let said = world.members[member].said.last().unwrap();
    world.members[member].core.item_state(&said.room, said.item)
}

/// The hub, a co-op that is not, and a member of each.
struct Places {
    hub: usize,
    mirror: usize,
    at_hub: usize,
    at_mirror: usize,
}

fn places(world: &World) -> Places {
    let hub = world.members[world.circles[0].creator].coop;
    let of = |is_hub: bool| world.members.iter().position(|member| (member.coop == hub) == is_hub).unwrap();
    let (at_hub, at_mirror) = (of(true), of(false));
    Places { hub, mirror: world.members[at_mirror].coop, at_hub, at_mirror }
}

fn entries(world: &World, coop: usize) -> usize {
    world.coops[coop].log(&world.circles[0].id).len()
}

#[test]
fn fault_41_a_full_disk_of_the_hub_is_told_and_passes() {
    let mut world = World::calm(41).unwrap();
    let Places { hub, at_hub, at_mirror, .. } = places(&world);
    let before = entries(&world, hub);
    world.coops[hub].full_until = u64::MAX;
    // The first is decided when the disk is found full, the second is refused.
    for _ in 0..2 {
        world.members[at_hub].put_off.clear();
        world.say(at_hub, 0);
        world.go_on(3_000).unwrap();
        assert!(world.members[at_hub].put_off.contains(&Code::DiskFull), "the member is told why");
        assert_eq!(state(&world, at_hub), ItemState::Waiting);
    }
    // The neighbour has room: it keeps what its member says until the hub has too.
    world.say(at_mirror, 0);
    world.go_on(3_000).unwrap();
    assert_eq!(state(&world, at_mirror), ItemState::Stored);
    assert_eq!(entries(&world, hub), before, "nothing was written");
    assert!(world.coops[hub].machine.as_ref().unwrap().takes_input());
    // Reading goes on, for a session that begins now too.
    world.cut_member(at_hub);
    world.go_on(3_000).unwrap();
    assert!(world.members[at_hub].core.is_synced());
    let stored = world.members[at_hub].stored_headers(&world.circles[0].id);
    assert_eq!(world.audit(at_hub, stored).map(|report| report.problem), Some(None));
    world.end().unwrap();
    assert_eq!(entries(&world, hub), before + 3);
}

#[test]
fn fault_41_a_full_disk_of_a_mirror_is_told_and_passes() {
    let mut world = World::calm(42).unwrap();
    let Places { hub, mirror, at_hub, at_mirror } = places(&world);
    world.coops[mirror].full_until = u64::MAX;
    world.say(at_mirror, 0);
    world.go_on(3_000).unwrap();
    assert!(world.members[at_mirror].put_off.contains(&Code::DiskFull));
    assert_eq!(state(&world, at_mirror), ItemState::Waiting);
    // The hub goes on, and the mirror takes up what it could not take.
    let before = entries(&world, hub);
    for _ in 0..19 {
        world.say(at_hub, 0);
        world.go_on(500).unwrap();
    }
    assert_eq!(entries(&world, hub), before + 19);
    world.end().unwrap();
    assert_eq!(entries(&world, hub), before + 20);
}
