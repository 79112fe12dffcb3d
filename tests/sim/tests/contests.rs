//! A member commits what nobody can follow. The others say so, the room goes on from before it, and whoever did it is out.

use kith_protocol::ids::{Pseudonym, RoomId};
use kith_protocol::judge::{RoomFacts, Standing};
use kith_protocol::log::Kind;
use kith_sim::network::{LINK_DELAY_MS_MAX, SESSION_DELAY_MS_MAX};
use kith_sim::nonsense::Nonsense;
use kith_sim::{Plan, World, hub_of};

const PLAN: Plan = Plan { coops: 3, members: 6, voters: 3, rough_ms: 0, ..Plan::PAIR };

/// At most, from a device by its co-op to the hub and back.
const ROUND_TRIP_MS: u64 = 2 * (SESSION_DELAY_MS_MAX + LINK_DELAY_MS_MAX);

fn room(world: &World) -> RoomId {
    world.circles[0].id
}

fn talk(world: &mut World) {
    (0..world.members.len()).for_each(|member| world.say(member, 0));
}

fn begun(seed: u64) -> World {
    let mut world = World::begun(seed, PLAN).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    talk(&mut world);
    world.go_on(3_000).unwrap();
    world
}

fn kinds(world: &World, kind: Kind) -> usize {
    let log = world.coops[hub_of(world, &world.circles[0])].log(&room(world));
    log.iter().filter(|row| kith_protocol::log::Header::decode(&row.header).unwrap().kind == kind).count()
}

#[test]
fn fault_23_a_commit_that_nobody_can_follow_is_void() {
    let kinds_of = [Nonsense::Confirmation, Nonsense::Membership];
    for (seed, nonsense) in (1..=6).flat_map(|seed| kinds_of.map(|nonsense| (seed, nonsense))) {
        let mut world = begun(seed);
        let room = room(&world);
        let mad = world.circles[0].creator;
        let who = Pseudonym(world.members[mad].core.room_state(&room).unwrap().pseudonym);
        let epoch = world.coops[hub_of(&world, &world.circles[0])].room(&room).unwrap().log().unwrap().epoch();
        world.members[mad].mad_in = Some((room, nonsense));
        world.open_invite(mad, 0).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert_eq!(world.members[mad].nonsense.len(), 1, "seed {seed}");
        let tell = |world: &World| world.trace().tail(60);
        world.go_on(5_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", tell(&world)));
        assert!(kinds(&world, Kind::Complaint) >= 3, "seed {seed}\n{}", tell(&world));
        for coop in &world.coops {
            let Some(log) = coop.room(&room).and_then(|room| room.log()) else { continue };
            assert_eq!(log.standing(&who), Standing::Removed, "seed {seed}\n{}", tell(&world));
            assert_eq!(log.epoch().0, epoch.0 + 1, "seed {seed}: only the commit that takes it out");
        }
        assert_eq!(world.members[mad].core.phase_name(&room), "left", "seed {seed}");
        // The others go on, and so they do after a restart of everything.
        talk(&mut world);
        world.go_on(3_000).unwrap();
        (0..3).for_each(|coop| world.be_absent(coop, 500));
        world.go_on(60_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", tell(&world)));
        talk(&mut world);
        world.go_on(5_000).unwrap();
        assert!(world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", tell(&world))) >= 12);
    }
}

/// The room goes on within two round trips of the complaint that decides: from device to hub and back by way of the device's
/// own co-op.
#[test]
fn the_room_goes_on_within_two_round_trips() {
    for seed in 11..=18 {
        let mut world = begun(seed);
        let room = room(&world);
        let mad = world.circles[0].creator;
        let who = Pseudonym(world.members[mad].core.room_state(&room).unwrap().pseudonym);
        world.members[mad].mad_in = Some((room, Nonsense::Confirmation));
        let standing = |world: &World| {
            let hub = &world.coops[hub_of(world, &world.circles[0])];
            hub.room(&room).and_then(|room| room.log()).map(|log| log.standing(&who))
        };
        world.open_invite(mad, 0).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let mut reached = |wanted: Standing| {
            let mut rounds = 0;
            while standing(&world) != Some(wanted) {
                assert!(rounds < 500, "seed {seed}\n{}", world.trace().tail(60));
                world.go_on(5).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
                rounds += 1;
            }
            world.now()
        };
        let (decided, taken_out) = (reached(Standing::Convicted), reached(Standing::Removed));
        assert!(taken_out - decided <= 2 * ROUND_TRIP_MS, "seed {seed}: {} ms", taken_out - decided);
    }
}

fn blind(world: &mut World, who: &[usize], seed: u8) {
    for member in who {
        world.members[*member].take_effects(false);
        world.members[*member].blind(seed + *member as u8);
    }
}

/// Most cannot follow, some can: these go back, too, and everybody is in one place again.
#[test]
fn who_could_follow_goes_back_with_the_others() {
    for seed in 1..=4 {
        let mut world = begun(seed);
        let (room, creator) = (room(&world), world.circles[0].creator);
        let others: Vec<usize> = (0..6).filter(|at| *at != creator).collect();
        let (blinded, sees) = (&others[..4], others[4]);
        let author = Pseudonym(world.members[creator].core.room_state(&room).unwrap().pseudonym);
        let before = world.members[sees].core.room_state(&room).unwrap().epoch;
        blind(&mut world, blinded, 10);
        world.open_invite(creator, 0).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        // Before anything is made of the verdict they see again.
        let is_over = |world: &World| kinds(world, Kind::Complaint) >= 4;
        let mut rounds = 0;
        while !is_over(&world) {
            assert!(rounds < 500, "seed {seed}\n{}", world.trace().tail(60));
            world.go_on(10).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
            rounds += 1;
        }
        blind(&mut world, blinded, 20);
        world.go_on(5_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        assert_eq!(world.members[creator].core.phase_name(&room), "left", "seed {seed}");
        let state = world.members[sees].core.room_state(&room).unwrap();
        assert_eq!((state.epoch, state.removed.contains(&author.0)), (before + 1, true), "seed {seed}: one commit, which took it out");
        talk(&mut world);
        world.go_on(5_000).unwrap();
        assert!(world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60))) >= 10);
    }
}

/// Fewer than half of them change nothing, whatever they say; and the room goes on.
#[test]
fn a_minority_that_complains_changes_nothing() {
    for seed in 1..=4 {
        let mut world = begun(seed);
        let (room, creator) = (room(&world), world.circles[0].creator);
        let others: Vec<usize> = (0..6).filter(|at| *at != creator).collect();
        let author = Pseudonym(world.members[creator].core.room_state(&room).unwrap().pseudonym);
        let epoch = world.members[creator].core.room_state(&room).unwrap().epoch;
        blind(&mut world, &others[..3], 10);
        world.open_invite(creator, 0).unwrap();
        world.go_on(5_000).unwrap();
        blind(&mut world, &others[..3], 20);
        assert_eq!(kinds(&world, Kind::Complaint), 3, "seed {seed}: three of six are no majority");
        for coop in &world.coops {
            let Some(log) = coop.room(&room).and_then(|room| room.log()) else { continue };
            assert_eq!((log.standing(&author), log.epoch().0), (Standing::Member, epoch + 1), "seed {seed}");
        }
        let before = kinds(&world, Kind::Message);
        talk(&mut world);
        world.go_on(5_000).unwrap();
        assert_eq!(kinds(&world, Kind::Message), before + 6, "seed {seed}: who is behind is heard, too");
        let size = world.coops[hub_of(&world, &world.circles[0])].room(&room).unwrap().size();
        for member in [creator, others[3], others[4]] {
            let state = world.members[member].core.room_state(&room).unwrap();
            assert_eq!((state.epoch, state.size, state.contests.convicted.len()), (epoch + 1, size, 0), "seed {seed}");
        }
    }
}

/// What was said in an epoch that is void, at a co-op that had not heard of the verdict, is said again where all can read it.
#[test]
fn what_waits_in_a_void_epoch_is_said_again() {
    for seed in 1..=6 {
        let plan = Plan { members: 9, ..PLAN };
        let mut world = World::begun(seed, plan).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        talk(&mut world);
        world.go_on(3_000).unwrap();
        let (room, creator) = (room(&world), world.circles[0].creator);
        let (hub, home) = (hub_of(&world, &world.circles[0]), world.members[creator].coop);
        let Some(far) = (0..3).find(|coop| *coop != hub && *coop != home) else { continue };
        let (away, blinded): (Vec<usize>, Vec<usize>) = (0..9).filter(|at| *at != creator).partition(|at| world.members[*at].coop == far);
        assert!(2 * blinded.len() > 9 && !away.is_empty(), "seed {seed}");
        let epoch = world.members[creator].core.room_state(&room).unwrap().epoch;
        blind(&mut world, &blinded, 10);
        world.open_invite(creator, 0).unwrap();
        let follows = |world: &World| away.iter().all(|at| world.members[*at].core.room_state(&room).unwrap().epoch > epoch);
        for _ in 0..2_000 {
            if follows(&world) {
                break;
            }
            world.go_on(1).unwrap();
        }
        assert!(follows(&world), "seed {seed}\n{}", world.trace().tail(60));
        (0..3).filter(|coop| *coop != far).for_each(|coop| world.part(far, coop));
        away.iter().for_each(|at| world.say(*at, 0));
        while kinds(&world, Kind::Complaint) < 5 {
            world.go_on(10).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        }
        blind(&mut world, &blinded, 20);
        // Its author is out by a commit of the very epoch for which those who are away have encrypted.
        world.go_on(5_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        let there = world.coops[hub_of(&world, &world.circles[0])].room(&room).unwrap().log().unwrap().epoch();
        assert_eq!(there.0, epoch + 1, "seed {seed}");
        (0..3).filter(|coop| *coop != far).for_each(|coop| world.join_again(far, coop));
        world.go_on(10_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        talk(&mut world);
        world.go_on(5_000).unwrap();
        let acknowledged = world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        assert!(acknowledged >= 9 + away.len() + 8, "seed {seed}: {acknowledged}");
    }
}

/// Whoever is out keeps what was read, and no keys: neither of the group as it was, nor of the states that it could have gone
/// back to.
#[test]
fn who_has_left_keeps_no_keys() {
    let mut world = begun(3);
    let (room, creator) = (room(&world), world.circles[0].creator);
    let keys = |world: &World, member: usize| {
        // By how they begin: states to go back to, and what OpenMLS keeps of a group.
        let of_room = |key: &&Vec<u8>| matches!(key[0], b'b' | b'm') && key.windows(32).any(|part| part == room.0);
        world.members[member].disk.keys().filter(of_room).map(|key| key[0]).collect::<std::collections::BTreeSet<u8>>()
    };
    let leaver = (0..6).find(|member| *member != creator && keys(&world, *member).contains(&b'b')).expect("a member that could go back");
    assert!(keys(&world, leaver).contains(&b'm'));
    world.leave(leaver, 0);
    world.go_on(5_000).unwrap();
    assert_eq!(world.members[leaver].core.phase_name(&room), "left");
    assert_eq!(keys(&world, leaver), Default::default());
    assert!(world.members[leaver].stored(&room).next().is_some());
}

/// Who is behind cannot judge a complaint of a later commit, and servers can: it counts for one of its sender's entries all the
/// same. Else a device would take nothing more of that member but messages.
#[test]
fn who_was_behind_goes_on_with_whoever_complained_meanwhile() {
    for seed in 1..=4 {
        let mut world = begun(seed);
        let (room, creator) = (room(&world), world.circles[0].creator);
        let others: Vec<usize> = (0..6).filter(|at| *at != creator).collect();
        let (behind, late, quiet) = (&others[..3], others[3], others[4]);
        let tell = |world: &World| world.trace().tail(60);
        blind(&mut world, behind, 10);
        world.open_invite(creator, 0).unwrap();
        world.go_on(5_000).unwrap();
        blind(&mut world, &[late], 10);
        world.open_invite(creator, 0).unwrap();
        world.go_on(5_000).unwrap();
        assert_eq!(kinds(&world, Kind::Complaint), 4, "seed {seed}: three of the first, one of the second\n{}", tell(&world));
        blind(&mut world, &others[..4], 20);
        // Without one of those who could follow, three are more than half.
        world.leave(quiet, 0);
        world.go_on(1_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", tell(&world)));
        // What it says is to be read after its commit, which takes the author out.
        world.say(late, 0);
        world.go_on(5_000).unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", tell(&world)));
        assert_eq!(world.members[creator].core.phase_name(&room), "left", "seed {seed}\n{}", tell(&world));
        for member in behind {
            world.say(*member, 0);
        }
        world.go_on(5_000).unwrap();
        let epochs: Vec<u64> = others[..4].iter().map(|at| world.members[*at].core.room_state(&room).unwrap().epoch).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {epochs:?}\n{}", tell(&world));
        world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", tell(&world)));
    }
}
