//! A co-op that comes back with an old backup: it is refilled by the others, signs nothing twice, and orders nothing on what
//! is stale.

use futures_util::FutureExt;
use kith_protocol::ids::{DeviceHandle, Term};
use kith_protocol::limits::RESTORED_WAIT_MS;
use kith_protocol::link::LinkFrame;
use kith_relay::coop::Input;
use kith_relay::coop::steward::Request;
use kith_sim::stand::Stand;
use kith_sim::{Plan, World, hub_of};
use kith_storage::fault::Faulty;
use kith_storage::memory::Memory;
use kith_storage::{Members, RoomLog};

const PLAN: Plan = Plan { coops: 3, members: 6, voters: 3, rough_ms: 0, ..Plan::PAIR };

fn talk(world: &mut World) {
    (0..world.members.len()).for_each(|member| world.say(member, 0));
}

fn end(mut world: World, what: &str) -> usize {
    world.end().unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)))
}

fn is_refilled(world: &World, coop: usize) -> bool {
    world.coops[coop].room(&world.circles[0].id).is_some_and(|room| !room.is_restored() && room.size() == room.durable())
}

/// Says something, backs up, says more, and puts the backup back.
fn restored(seed: u64, plan: Plan, is_announced: bool, pick: impl Fn(&World) -> usize) -> (World, usize) {
    let mut world = World::begun(seed, plan).expect("a world in calm weather");
    talk(&mut world);
    world.go_on(6_000).unwrap();
    let coop = pick(&world);
    world.back_up(coop);
    for _ in 0..3 {
        talk(&mut world);
        world.go_on(2_000).unwrap();
    }
    world.put_back(coop, is_announced);
    (world, coop)
}

fn hub(world: &World) -> usize {
    hub_of(world, &world.circles[0])
}

fn term(world: &World) -> u32 {
    let room = world.circles[0].id;
    world.coops.iter().filter_map(|coop| coop.room(&room)).map(|room| room.term().0).max().unwrap_or(0)
}

/// Said by its steward, or found out by its own signatures that others show it: either way the hub is refilled, and goes on
/// in a term of its own.
#[test]
fn fault_49_a_hub_from_a_backup_is_refilled_and_begins_another_term() {
    for seed in 1..=6 {
        for is_announced in [true, false] {
            let what = format!("seed {seed}, announced {is_announced}");
            let (mut world, coop) = restored(seed, PLAN, is_announced, hub);
            let before = term(&world);
            talk(&mut world);
            world.go_on(60_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
            assert!(term(&world) > before, "{what}: nobody began another term\n{}", world.trace().tail(80));
            assert!(is_refilled(&world, coop), "{what}");
            talk(&mut world);
            world.go_on(5_000).unwrap();
            assert!(end(world, &what) >= 30, "{what}");
        }
    }
}

/// What it ordered for its own members alone, and no neighbour has, its members' devices have: it gives none of those places
/// to anything else in that term.
#[test]
fn fault_49_a_hub_from_a_backup_gives_no_place_twice() {
    for seed in 1..=6 {
        let what = format!("seed {seed}");
        let mut world = World::begun(seed, PLAN).unwrap();
        talk(&mut world);
        world.go_on(6_000).unwrap();
        let coop = hub(&world);
        let others: Vec<usize> = (0..3).filter(|other| *other != coop).collect();
        others.iter().for_each(|other| world.part(coop, *other));
        world.go_on(1_000).unwrap();
        world.back_up(coop);
        talk(&mut world);
        world.go_on(2_000).unwrap();
        world.put_back(coop, true);
        others.iter().for_each(|other| world.join_again(coop, *other));
        world.go_on(10_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
        talk(&mut world);
        world.go_on(5_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
        assert!(end(world, &what) >= 12, "{what}");
    }
}

/// Any other co-op is refilled, and the room's term stays.
#[test]
fn fault_49_a_mirror_from_a_backup_is_refilled_and_nothing_else_changes() {
    for seed in 1..=6 {
        let what = format!("seed {seed}");
        let (mut world, coop) = restored(seed, PLAN, true, |world| (0..3).find(|coop| *coop != hub(world)).unwrap());
        talk(&mut world);
        world.go_on(30_000).unwrap();
        assert_eq!(term(&world), 1, "{what}");
        assert!(is_refilled(&world, coop), "{what}");
        assert!(end(world, &what) >= 30, "{what}");
    }
}

/// The only voter takes back what its mirror has, and then begins another term.
#[test]
fn fault_49_a_sole_voter_from_a_backup_asks_its_mirrors() {
    for seed in 1..=6 {
        let what = format!("seed {seed}");
        let (mut world, coop) = restored(seed, Plan { members: 4, ..Plan::PAIR }, true, hub);
        let room = world.circles[0].id;
        let size = world.coops[1 - coop].room(&room).unwrap().durable();
        world.go_on(30_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
        assert!(is_refilled(&world, coop) && term(&world) > 1, "{what}\n{}", world.trace().tail(80));
        assert_eq!(world.coops[coop].room(&room).unwrap().log().unwrap().end_of(Term(1)).unwrap().checkpoint.size, size);
        talk(&mut world);
        world.go_on(5_000).unwrap();
        assert!(end(world, &what) >= 16, "{what}");
    }
}

/// Where nobody else has a copy, members' devices do: what was said since the backup comes back from them.
#[test]
fn fault_49_a_co_op_by_itself_is_refilled_by_its_members() {
    for seed in 1..=4 {
        let what = format!("seed {seed}");
        let (mut world, coop) = restored(seed, Plan { coops: 1, members: 3, ..Plan::PAIR }, true, |_| 0);
        world.go_on(30_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
        assert!(is_refilled(&world, coop) && term(&world) > 1, "{what}\n{}", world.trace().tail(80));
        talk(&mut world);
        world.go_on(5_000).unwrap();
        assert!(end(world, &what) >= 12, "{what}");
    }
}

/// Twice from one backup, with nobody to ask: what stood in the first of the terms that came of it is not contradicted in the
/// second.
#[test]
fn fault_49_two_restores_of_one_backup_have_two_terms() {
    for seed in 1..=4 {
        let what = format!("seed {seed}");
        let mut world = World::begun(seed, Plan { coops: 1, members: 3, ..Plan::PAIR }).unwrap();
        talk(&mut world);
        world.go_on(6_000).unwrap();
        world.back_up(0);
        let backup = world.coops[0].store.inner().fork();
        let mut terms = vec![term(&world)];
        for _ in 0..2 {
            world.coops[0].backup = Some(backup.fork());
            world.put_back(0, true);
            world.go_on(20_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
            talk(&mut world);
            world.go_on(5_000).unwrap_or_else(|violation| panic!("{what}: {violation}\n{}", world.trace().tail(80)));
            terms.push(term(&world));
        }
        assert!(terms[1] > terms[0] && terms[2] > terms[0] && terms[1] != terms[2], "{what}: {terms:?}");
        assert!(end(world, &what) >= 9, "{what}");
    }
}

/// A voter alone, and how it was before whatever a test does to it.
fn voter() -> (World, Stand, usize, Memory) {
    let mut world = World::begun(5, PLAN).unwrap();
    let at = (0..3).find(|coop| *coop != hub(&world)).unwrap();
    let hub = hub(&world);
    let voter = Stand::new(world.coops.remove(at));
    let before = voter.coop.store.inner().fork();
    (world, voter, if hub > at { hub - 1 } else { hub }, before)
}

fn put_back(stand: &mut Stand, backup: Memory) {
    stand.coop.crash();
    stand.coop.store = Faulty::new(backup);
    stand.restart();
    stand.tell(Input::Steward { id: 1, request: Request::Restored });
}

/// Whom its store says that it voted for.
fn vote(stand: &Stand) -> Option<kith_protocol::log::succession::Vote> {
    let state = stand.coop.store.room_state(stand.room().number).now_or_never().unwrap().unwrap();
    state.vote.map(|vote| kith_protocol::codec::decode_vote(&vote).unwrap())
}

/// A vote is forgotten with the disk that it stood on. Who was put back from a backup gives none for another before so many
/// others have been heard that one of them must know of it.
#[test]
fn fault_49_a_forgotten_vote_is_not_given_again() {
    let (world, mut voter, hub, before) = voter();
    let (room, hub_id, root) = (world.circles[0].id, world.coops[hub].id.clone(), world.coops[hub].root());
    let other = world.coops[1 - hub].id.clone();
    let asked = |voter: &mut Stand, candidate| {
        let (link, said) = voter.link(&hub_id, &root);
        // The hub has what the voter has: it says the same of the room.
        said.into_iter().filter(|frame| matches!(frame, LinkFrame::Status { .. })).for_each(|same| drop(voter.link_frame(link, same)));
        voter.link_frame(link, LinkFrame::Call { room, term: Term(2), candidate, probe: false });
        vote(voter)
    };
    let given = asked(&mut voter, other.clone()).expect("the hub hands the room over to the other");
    assert_eq!((given.term, &given.candidate), (Term(2), &other));
    put_back(&mut voter, before);
    let me = voter.coop.id.clone();
    assert_eq!(asked(&mut voter, me), None, "the hub alone cannot know");
}

/// What a co-op numbers by itself after a restore does not mean what it meant before.
#[test]
fn fault_49_numbers_are_not_given_twice() {
    let (_world, mut voter, _, before) = voter();
    let devices = |stand: &Stand| -> Vec<DeviceHandle> {
        stand.coop.store.devices().now_or_never().unwrap().unwrap().into_iter().map(|device| device.handle).collect()
    };
    let old = devices(&voter);
    voter.newcomer(50);
    let lost: Vec<DeviceHandle> = devices(&voter).into_iter().filter(|device| !old.contains(device)).collect();
    put_back(&mut voter, before);
    assert_eq!(devices(&voter), old);
    voter.newcomer(51);
    voter.restart();
    voter.newcomer(52);
    let new: Vec<DeviceHandle> = devices(&voter).into_iter().filter(|device| !old.contains(device)).collect();
    assert_eq!((lost.len(), new.len()), (1, 2));
    assert!(!new.contains(&lost[0]), "{lost:?} {new:?}");
    assert_eq!(voter.coop.store.incarnation().now_or_never().unwrap().unwrap(), voter.wall().0);
}

/// A mirror that never answers holds up its room's only voter for so long, and no longer.
#[test]
fn fault_49_a_mirror_that_is_away_is_waited_for_within_bounds() {
    let (mut world, coop) = {
        let mut world = World::begun(2, Plan { members: 4, ..Plan::PAIR }).unwrap();
        talk(&mut world);
        world.go_on(6_000).unwrap();
        let coop = hub(&world);
        world.back_up(coop);
        world.part(0, 1);
        world.put_back(coop, true);
        (world, coop)
    };
    world.go_on(RESTORED_WAIT_MS - 10_000).unwrap();
    assert!(!is_refilled(&world, coop), "it goes on without having asked");
    world.go_on(20_000).unwrap();
    assert!(is_refilled(&world, coop) && term(&world) > 1);
    world.join_again(0, 1);
    end(world, "joined again");
}
