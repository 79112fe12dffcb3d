//! Clocks that are wrong, or are set: what is said keeps its order, and nothing waits for them.

use kith_protocol::log::Header;
use kith_sim::{Plan, World, hub_of};

/// Half a day apart and set by a day, forwards and back. Places go by the hub's count, header times never go back, and links
/// and sessions, which go by monotone clocks, stay as they are.
#[test]
fn fault_44_order_is_by_sequence_and_timers_are_monotone() {
    for seed in 1..=4 {
        let mut world = World::begun(seed, Plan { members: 4, rough_ms: 0, skew_s_max: 12 * 3_600, ..Plan::PAIR }).unwrap();
        let room = world.circles[0].id;
        let hub = hub_of(&world, &world.circles[0]);
        let mut said = Vec::new();
        for by in [86_400, -172_800, 3_600, -1, 0] {
            world.coops[hub].skew_s += by;
            world.coops[1 - hub].skew_s -= by;
            world.members[0].skew_s -= 2 * by;
            let links: Vec<usize> = world.coops.iter().map(|coop| coop.machine.as_ref().unwrap().links_up()).collect();
            let connections: Vec<_> = world.members.iter().map(|member| member.connection).collect();
            for member in 0..world.members.len() {
                world.say(member, 0);
                world.go_on(400).unwrap();
                said.push(world.members[member].said.last().unwrap().text.clone());
            }
            world.go_on(3_000).unwrap();
            assert_eq!(world.coops.iter().map(|coop| coop.machine.as_ref().unwrap().links_up()).collect::<Vec<_>>(), links, "seed {seed}");
            assert_eq!(world.members.iter().map(|member| member.connection).collect::<Vec<_>>(), connections, "seed {seed}");
        }
        world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let times: Vec<u64> = world.coops[hub].log(&room).iter().map(|row| Header::decode(&row.header).unwrap().time.0).collect();
        assert!(times.is_sorted(), "seed {seed}: {times:?}");
        for member in 0..world.members.len() {
            let rows = world.members[member].timeline(&room);
            let read: Vec<String> = rows.iter().filter_map(|row| kith_sim::script::said_in(&row.content)).map(str::to_owned).collect();
            assert_eq!(read[read.len() - said.len()..], said, "seed {seed}, member {member}");
        }
    }
}
