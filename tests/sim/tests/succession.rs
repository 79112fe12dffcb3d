//! A room outlives its hub: the other voters seat another, nothing acknowledged is lost, and the old hub comes back as a
//! mirror and hands in what had no place.

use kith_sim::{Plan, World, hub_of};

const PLAN: Plan = Plan { coops: 3, members: 6, voters: 3, rough_ms: 0, ..Plan::PAIR };

fn world(seed: u64) -> World {
    World::begun(seed, PLAN).expect("a world in calm weather")
}

fn talk(world: &mut World) {
    (0..world.members.len()).for_each(|member| world.say(member, 0));
}

#[test]
fn a_room_outlives_its_hub() {
    for seed in 1..=6 {
        let mut world = world(seed);
        let hub = hub_of(&world, &world.circles[0]);
        talk(&mut world);
        world.go_on(150).unwrap();
        world.be_absent(hub, 600_000);
        let since = world.now();
        let mut seated = None;
        while seated.is_none() && world.now() < since + 60_000 {
            world.go_on(500).unwrap();
            talk_sometimes(&mut world, since);
            seated = Some(hub_of(&world, &world.circles[0])).filter(|now| *now != hub);
        }
        assert!(seated.is_some(), "seed {seed}: nobody was seated within a minute");
        talk(&mut world);
        world.go_on(5_000).unwrap();
        let acknowledged = world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(acknowledged >= 12, "seed {seed}: {acknowledged}");
    }
}

fn talk_sometimes(world: &mut World, since: u64) {
    if (world.now() - since) % 7_000 < 500 {
        talk(world);
    }
}
