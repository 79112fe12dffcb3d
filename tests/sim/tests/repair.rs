//! Rows that a disk lost or changed: it is found and said, and the room comes again from whoever has it.

use bytes::Bytes;
use kith_protocol::ids::{Millis, RoomId};
use kith_relay::coop::Input;
use kith_sim::stand::Stand;
use kith_sim::{Plan, World, hub_of};
use kith_storage::LogRow;

const PLAN: Plan = Plan { coops: 3, members: 6, voters: 3, rough_ms: 0, ..Plan::PAIR };
/// When a co-op has read through all that it has.
const READ_MS: u64 = 75_000;

fn room(world: &World) -> RoomId {
    world.circles[0].id
}

fn hub(world: &World) -> usize {
    hub_of(world, &world.circles[0])
}

fn talk(world: &mut World) {
    (0..world.members.len()).for_each(|member| world.say(member, 0));
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

type Damage = (&'static str, fn(&mut Vec<LogRow>));

const DAMAGES: [Damage; 6] = [
    ("a row is lost", |rows| drop(rows.remove(9))),
    ("the last row is lost", |rows| drop(rows.pop())),
    ("all rows are lost", Vec::clear),
    ("a bit of a header", |rows| rows[8].header = flip(&rows[8].header, 60)),
    ("a bit of a body", |rows| rows[9].body = flip(&rows[9].body, 3)),
    ("a bit of a node of the tree", |rows| rows[9].nodes = flip(&rows[9].nodes, 0)),
];

fn spoil(world: &World, coop: usize, how: fn(&mut Vec<LogRow>)) {
    let number = world.coops[coop].room(&room(world)).unwrap().number;
    world.coops[coop].store.inner().spoil(number, how);
}

fn is_whole(world: &World, coop: usize) -> bool {
    let [here, there] =
        [coop, (0..world.coops.len()).find(|other| *other != coop && world.coops[*other].room(&room(world)).is_some()).unwrap()]
            .map(|coop| world.coops[coop].log(&room(world)));
    let of = world.coops[coop].room(&room(world)).unwrap();
    here == there && !of.is_restored() && of.durable() == here.len() as u64
}

fn damaged(world: &World, coop: usize) -> usize {
    world.coops[coop].machine.as_ref().unwrap().rooms_damaged()
}

/// Whatever it is, and whoever: the room is read through, the damage found, and all of it comes again. Members notice
/// nothing but perhaps another hub, and nothing is lost.
#[test]
fn fault_35_what_a_disk_lost_comes_again_from_others() {
    for (seed, (what, how)) in (1..).zip(DAMAGES) {
        for is_hub in [false, true] {
            let what = format!("seed {seed}, {what}, hub {is_hub}");
            let mut world = World::begun(seed, PLAN).unwrap();
            talk(&mut world);
            world.go_on(3_000).unwrap();
            let coop = if is_hub { hub(&world) } else { (hub(&world) + 1) % 3 };
            spoil(&world, coop, how);
            assert!(!is_whole(&world, coop), "{what}");
            let tell = |world: &World| world.trace().tail(60);
            world.go_on(READ_MS).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", tell(&world)));
            talk(&mut world);
            world.go_on(10_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", tell(&world)));
            assert!(is_whole(&world, coop) && damaged(&world, coop) == 0, "{what}\n{}", tell(&world));
            assert!(world.end().unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", tell(&world))) >= 12);
        }
    }
}

/// Where nobody else has it nothing is thrown away: what can be read goes on being read.
#[test]
fn nothing_is_thrown_away_that_nobody_else_has() {
    let mut world = World::begun(3, Plan { coops: 1, members: 3, ..PLAN }).unwrap();
    talk(&mut world);
    world.go_on(3_000).unwrap();
    let before = world.coops[0].log(&room(&world)).len();
    spoil(&world, 0, |rows| rows[5].body = flip(&rows[5].body, 3));
    world.go_on(READ_MS).unwrap();
    assert_eq!(damaged(&world, 0), 1);
    assert!(world.coops[0].log(&room(&world)).len() >= before);
}

/// A state that cannot be read when the server starts leaves that room out, and no other; it comes again all the same.
#[test]
fn a_room_that_cannot_be_opened_comes_again() {
    for seed in 1..=3 {
        let mut world = World::begun(seed, Plan { rooms: 2, ..PLAN }).unwrap();
        talk(&mut world);
        world.go_on(3_000).unwrap();
        let coop = (0..3).find(|coop| *coop != hub(&world) && world.coops[*coop].room(&room(&world)).is_some()).unwrap();
        let number = world.coops[coop].room(&room(&world)).unwrap().number;
        world.coops[coop].store.inner().spoil_state(number, |state| state.group = state.group.as_ref().map(|group| flip(group, 2)));
        world.be_absent(coop, 1_000);
        world.go_on(60_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        assert!(is_whole(&world, coop) && damaged(&world, coop) == 0, "seed {seed}\n{}", world.trace().tail(60));
        talk(&mut world);
        world.go_on(3_000).unwrap();
        world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
    }
}

/// It reads through its rooms once, and is done with that for a week.
#[test]
fn rooms_are_read_through_once_a_week() {
    let mut world = World::begun(7, Plan { rooms: 3, rough_ms: 0, ..Plan::PAIR }).unwrap();
    let mut stand = Stand::new(world.coops.remove(0));
    let rooms = stand.coop.machine.as_ref().unwrap().rooms().count();
    let week = 7 * 24 * 3_600_000;
    for round in [0, week] {
        let begun = stand.reads;
        stand.now = Millis(round);
        while let Some(at) = stand.coop.machine.as_ref().unwrap().poll_deadline().filter(|at| at.0 < round + 90_000) {
            stand.now = stand.now.max(at);
            stand.tell(Input::Tick);
        }
        assert_eq!(stand.reads - begun, rooms as u64, "a page for each room, at {round}");
    }
}
