//! Flipping any byte of a stored header, checkpoint or cosignature makes `verify` fail.

use kith_protocol::log::header::HEADER_LEN;
use kith_sim::World;
use kith_sim::tamper::Tamper;

/// Longer than any stored attestation of two co-ops; a flip beyond the end changes nothing.
const ATTESTATION_MAX: usize = 420;

#[test]
fn every_flipped_byte_is_noticed() {
    for member in 0..2 {
        let mut world = World::calm(5).unwrap();
        let room = world.circles[0].id;
        let stored = world.members[member].stored_headers(&room);
        let good = world.verify(member, None, stored.clone()).expect("a report");
        assert_eq!(good.problem, None);
        assert_eq!(good.cosigned_by.len(), 1, "{good:?}");
        let size = good.size;
        let holds =
            |world: &mut World, tamper| world.verify(member, Some(tamper), stored.clone()).is_some_and(|report| report.problem.is_none());
        for seq in 0..size {
            for at in 0..HEADER_LEN {
                assert!(!holds(&mut world, Tamper::Header { seq, at }), "header {seq}, byte {at}");
            }
        }
        // The room's state on disk: of the checkpoint and of the marks, as long as they are.
        let lengths = [length(&mut world, member, false), length(&mut world, member, true)];
        assert!(lengths.iter().all(|length| (100..ATTESTATION_MAX).contains(length)), "{lengths:?}");
        for at in 0..lengths[0] {
            assert!(!holds(&mut world, Tamper::Checkpoint { at }), "checkpoint, byte {at}");
        }
        for at in 0..lengths[1] {
            assert!(!holds(&mut world, Tamper::Marked { at }), "cosignature, byte {at}");
        }
        assert_eq!(world.verify(member, None, stored.clone()).expect("a report").problem, None, "and whole again");
        // What the device itself stored counts too.
        let mut damaged = stored.clone();
        damaged.last_mut().unwrap().1[100] ^= 1;
        assert!(world.verify(member, None, damaged).unwrap().problem.is_some());
    }
}

fn length(world: &mut World, member: usize, marked: bool) -> usize {
    use futures_util::FutureExt;
    use kith_storage::RoomLog;
    let store = &world.coops[world.members[member].coop].store;
    let room = store.rooms().now_or_never().unwrap().unwrap()[0].number;
    let state = store.room_state(room).now_or_never().unwrap().unwrap();
    if marked { state.marked.unwrap().len() } else { state.checkpoint.unwrap().len() }
}
