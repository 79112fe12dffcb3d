//! Each check is seen failing: a world in which it holds is broken in one place, and the check says so.

use kith_client::core::machine::row_key;
use kith_client::core::state::{RowState, RowWhat};
use kith_protocol::ids::{RoomId, Seq};
use kith_protocol::log::{Header, Kind};
use kith_sim::checks::{Check, all, one};
use kith_sim::member::Member;
use kith_sim::mutant::Mutant;
use kith_sim::script::said_in;
use kith_sim::tamper::Tamper;
use kith_sim::{Plan, World, run};

const PLAN: Plan = Plan { coops: 2, members: 3, ..Plan::PAIR };

/// What a few seeds fail with, if a world is broken that way.
fn fails_with(mutant: Mutant) -> Vec<Check> {
    (1..=6)
        .filter_map(|seed| run(seed, Plan { mutant: Some(mutant), acts: 60, ..PLAN }).err())
        .map(|failure| failure.violation.check)
        .collect()
}

/// A world at rest in which everything holds.
fn world() -> (World, RoomId) {
    let mut world = World::after_all(5, PLAN).unwrap();
    all(&mut world).unwrap();
    let room = world.circles[0].id;
    (world, room)
}

fn hub(world: &World) -> usize {
    world.members[world.circles[0].creator].coop
}

fn place_of(world: &World, room: &RoomId, wanted: impl Fn(&Header) -> bool) -> u64 {
    let log = world.coops[hub(world)].log(room);
    log.iter().map(|row| Header::decode(&row.header).unwrap()).find(wanted).expect("such an entry").seq.0
}

/// Everybody's row of two things that one member said.
fn two_of_one_member(world: &mut World, room: &RoomId) -> [u64; 2] {
    for member in 0..world.members.len() {
        let me = world.members[member].core.room_state(room).unwrap().pseudonym;
        let rows = world.members[member].timeline(room);
        let mine: Vec<u64> = rows
            .iter()
            .filter(|row| row.sender.0 == me && said_in(&row.content).is_some())
            .filter_map(|row| row.seq)
            .map(|seq| seq.0)
            .collect();
        if let [first, .., last] = mine[..] {
            return [first, last];
        }
    }
    panic!("nobody said two things");
}

fn breaks(check: Check, spoil: impl FnOnce(&mut World, &RoomId)) {
    let (mut world, room) = world();
    assert_eq!(one(&mut world, check), Ok(()));
    spoil(&mut world, &room);
    assert_eq!(one(&mut world, check).map_err(|violation| violation.check), Err(check));
}

#[test]
fn one_log_is_checked() {
    breaks(Check::OneLog, |world, _| world.coops[0].tamper = Some(Tamper::Swapped { seq: 2 }));
    breaks(Check::OneLog, |world, _| world.coops[1].tamper = Some(Tamper::Missing { seq: 3 }));
    // The same wrong order everywhere: a sender's entries no longer follow each other.
    breaks(Check::OneLog, |world, _| world.coops.iter_mut().for_each(|coop| coop.tamper = Some(Tamper::Missing { seq: 3 })));
    assert!(fails_with(Mutant::OtherHeaders).contains(&Check::OneLog));
}

#[test]
fn one_commit_an_epoch_is_checked() {
    breaks(Check::OneCommit, |world, room| {
        let seq = place_of(world, room, |header| header.kind == Kind::Commit && header.epoch.0 == 1);
        let hub = hub(world);
        world.coops[hub].tamper = Some(Tamper::Epoch { seq });
    });
}

#[test]
fn checkpoints_are_checked() {
    breaks(Check::Checkpoints, |world, _| world.coops[1].tamper = Some(Tamper::Swapped { seq: 2 }));
    assert!(fails_with(Mutant::OldCheckpoint).contains(&Check::Checkpoints));
}

#[test]
fn plaintext_is_found() {
    breaks(Check::NothingReadable, |world, _| world.coops[0].tamper = Some(Tamper::Text { seq: 2 }));
    assert!(fails_with(Mutant::StoresText).contains(&Check::NothingReadable));
}

#[test]
fn histories_are_compared() {
    // A row that a member forgot.
    breaks(Check::SameHistory, |world, room| {
        let seq = two_of_one_member(world, room)[0];
        world.members[1].disk.remove(&row_key(room, Seq(seq))).expect("a row");
    });
    // A row in which a member reads something else.
    breaks(Check::SameHistory, |world, room| {
        let [one, other] = two_of_one_member(world, room);
        let text = world.members[1].disk[&row_key(room, Seq(one))].clone();
        world.members[1].disk.insert(row_key(room, Seq(other)), text);
    });
}

#[test]
fn lost_doubled_and_reordered_messages_are_found() {
    breaks(Check::NothingLost, |world, room| {
        let seq = two_of_one_member(world, room)[0];
        world.members.iter_mut().for_each(|member| drop(member.disk.remove(&row_key(room, Seq(seq)))));
    });
    breaks(Check::NothingLost, |world, room| rewrite(world, room, |[first, second]| [second, first]));
    breaks(Check::NothingLost, |world, room| rewrite(world, room, |[first, _]| [first.clone(), first]));
}

/// Everybody reads something else at two places.
fn rewrite(world: &mut World, room: &RoomId, change: impl Fn([RowWhat; 2]) -> [RowWhat; 2]) {
    let keys = two_of_one_member(world, room).map(|seq| row_key(room, Seq(seq)));
    for member in &mut world.members {
        // Whoever came later has neither.
        let stored = keys.each_ref().map(|key| member.disk.get(key).cloned());
        let [Some(one), Some(other)] = stored else { continue };
        let rows = [one, other].map(|row| postcard::from_bytes::<RowState>(&row).unwrap());
        let read = change(rows.each_ref().map(|row| row.what.clone()));
        for ((key, row), what) in keys.iter().zip(rows).zip(read) {
            member.disk.insert(key.clone(), postcard::to_stdvec(&RowState { what, ..row }).unwrap());
        }
    }
}

#[test]
fn a_disk_that_loses_writes_is_found() {
    let found = fails_with(Mutant::LosesWrites);
    assert!(found.contains(&Check::Held), "{found:?}");
}

#[test]
fn a_world_that_does_not_come_to_rest_is_found() {
    assert!(fails_with(Mutant::StaysCut).contains(&Check::Converges));
}

#[test]
fn a_member_that_is_served_something_else_says_so() {
    let mut world = World::calm(5).unwrap();
    let violation = world.read_tampered(1, |seq| Tamper::Body { seq }).unwrap_err();
    assert_eq!(violation.check, Check::Trust, "{violation}");
}

/// A device in the group that nobody has: another member's state is taken away.
#[test]
fn ghosts_are_found() {
    breaks(Check::NoGhosts, |world, _| {
        let (room, creator) = (world.circles[0].id, world.circles[0].creator);
        let is_in = |member: &usize| *member != creator && world.members[*member].core.phase_name(&room) == "active";
        let ghost = (0..world.members.len()).find(is_in).expect("another member");
        world.members[ghost] = Member::new(0, [9; 32], 0);
    });
}
