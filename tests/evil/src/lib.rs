//! Stewards who lie, with the real programs: what a co-op's owner can do with its keys and its database.

use std::time::{Duration, Instant};

use kith_e2e::{Coop, World};

/// How long the others may take to find out.
pub const FOUND_OUT: Duration = Duration::from_secs(30);

/// Polls until it is so.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < FOUND_OUT, "{what} did not come about in {FOUND_OUT:?}");
        std::thread::yield_now();
    }
}

/// A hub with two faces: its twin has the same keys and the same past. One is seen by birch only, the other by cedar only.
pub fn two_faces(world: &mut World) -> Coop {
    world.coops[0].stop();
    let mut twin = world.coops[0].twin();
    // Nobody listens there.
    let nowhere = kith_e2e::free_port();
    world.coops[0].add(&world.coops[2], nowhere);
    twin.add(&world.coops[1], nowhere);
    world.coops[2].add(&twin, twin.link_port);
    world.coops[0].start();
    twin.start();
    twin
}
