//! Hubs that are there and get nothing done.

use kith_client::core::timeline::RowContent;
use kith_protocol::content::Content;
use kith_protocol::limits::HUB_SILENCE_MS;
use kith_sim::{Plan, World, hub_of};

const PLAN: Plan = Plan { coops: 3, members: 6, voters: 3, rough_ms: 0, ..Plan::PAIR };

fn hub(world: &World) -> usize {
    hub_of(world, &world.circles[0])
}

fn term(world: &World, coop: usize) -> u32 {
    world.coops[coop].room(&world.circles[0].id).map_or(0, |room| room.term().0)
}

fn of(world: &World, coop: usize) -> Vec<usize> {
    (0..world.members.len()).filter(|member| world.members[*member].coop == coop).collect()
}

fn reads(world: &mut World, member: usize, text: &str) -> bool {
    let room = world.circles[0].id;
    let rows = [world.members[member].core.unordered(&room), world.members[member].timeline(&room)].concat();
    rows.iter().any(|row| matches!(&row.content, RowContent::Content(Content::Text(said)) if said == text))
}

/// It keeps its links and takes no entry. Members of a co-op read each other after seconds, and within a minute the voters
/// have another hub, also one that has nothing to hand in and hears the hub well.
#[test]
fn a_hub_that_takes_nothing_is_replaced() {
    for seed in 1..=6 {
        let mut world = World::begun(seed, PLAN).unwrap();
        world.go_on(HUB_SILENCE_MS).unwrap();
        let old = hub(&world);
        let [one, other] = [1, 2].map(|step| (old + step) % 3);
        world.coops[old].is_deaf = true;
        let speaker = of(&world, one)[0];
        world.say(speaker, 0);
        world.go_on(HUB_SILENCE_MS / 2).unwrap();
        let text = world.members[speaker].said.last().unwrap().text.clone();
        let neighbour = of(&world, one)[1];
        assert!(reads(&mut world, neighbour, &text), "seed {seed}: who is at the same co-op reads it at once");
        assert_eq!(term(&world, one), 1, "seed {seed}: not so soon");
        world.go_on(50_000).unwrap();
        assert!(hub(&world) != old, "seed {seed}: it was never replaced\n{}", world.trace().tail(60));
        for member in of(&world, other) {
            assert!(reads(&mut world, member, &text), "seed {seed}");
        }
        world.coops[old].is_deaf = false;
        world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
    }
}

/// One voter alone says that the hub gets nothing done. Where others see the room grow, nobody believes it.
#[test]
fn a_hub_that_works_for_others_stays() {
    for seed in 1..=3 {
        let mut world = World::begun(seed, PLAN).unwrap();
        let old = hub(&world);
        let [one, other] = [1, 2].map(|step| (old + step) % 3);
        let (speaker, busy) = (of(&world, one)[0], of(&world, other)[0]);
        // Nothing of what the hub orders reaches that co-op, not even by others.
        world.coops[one].hears_nothing_from = Some(old);
        world.part(one, other);
        world.say(speaker, 0);
        for _ in 0..15 {
            world.say(busy, 0);
            world.go_on(4_000).unwrap();
        }
        world.join_again(one, other);
        for _ in 0..3 {
            world.say(busy, 0);
            world.go_on(2_000).unwrap();
        }
        assert_eq!((hub(&world), term(&world, other)), (old, 1), "seed {seed}");
        world.coops[one].hears_nothing_from = None;
        world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
    }
}

/// A hub that keeps its link to a mirror and sends it nothing: the mirror takes the log from another holder.
#[test]
fn fault_35_what_the_hub_keeps_back_comes_from_others() {
    for seed in 1..=6 {
        let mut world = World::begun(seed, PLAN).unwrap();
        let old = hub(&world);
        let [one, other] = [1, 2].map(|step| (old + step) % 3);
        world.coops[one].hears_nothing_from = Some(old);
        let (busy, reader) = (of(&world, other)[0], of(&world, one)[0]);
        let mut texts = Vec::new();
        for _ in 0..10 {
            world.say(busy, 0);
            texts.push(world.members[busy].said.last().unwrap().text.clone());
            world.go_on(3_000).unwrap();
        }
        world.go_on(15_000).unwrap();
        for text in texts {
            assert!(reads(&mut world, reader, &text), "seed {seed}: {text}\n{}", world.trace().tail(60));
        }
        world.coops[one].hears_nothing_from = None;
        world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
    }
}
