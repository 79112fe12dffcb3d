//! Five co-ops whose lines are bad, and a room that outlives its hub: killed, or handed over in time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use kith_e2e::{Coop, World, texts, until};
use serde_json::{Value, json};

const HOMES: [&str; 5] = ["H1", "H2", "H3", "H4", "H5"];
/// What the product promises: a circle whose hub has died goes on within a minute.
const NEW_HUB: Duration = Duration::from_secs(60);
/// A message that nobody holds up has its place long before.
const SOON: Duration = Duration::from_secs(60);

/// A room of a member of each co-op, those of `voters` with a vote. The first co-op is its hub.
fn room(world: &World, voters: usize) -> String {
    let homes = &HOMES[..world.coops.len()];
    for (coop, home) in homes.iter().enumerate() {
        world.join(coop, home, &format!("of {}", world.coops[coop].name));
    }
    let room = world.kith_field("H1", &["room", "new", "Tuesday circle"], "room");
    let uses = homes.len().to_string();
    let link = world.kith_field("H1", &["room", "invite", &room, "--uses", &uses], "link");
    for home in &homes[1..] {
        assert_eq!(world.kith_field(home, &["room", "join", &link], "room"), room);
    }
    for at in 1..voters {
        let mut change = vec!["room", "voters", &room, "--add", world.coops[at].name];
        if at == 1 {
            change.extend(["--tie-breaker", world.coops[2].name]);
        }
        world.kith("H1", &change);
    }
    let shown = world.kith_lines("H1", &["room", "voters", &room]);
    let names: Vec<&str> = world.coops[..voters].iter().map(|coop| coop.name).collect();
    assert_eq!((&shown[0]["voters"], &shown[0]["tie_breaker"]), (&json!(names), &Value::Null));
    room
}

/// One member's part in a conversation.
struct Speaker<'a> {
    world: &'a World,
    room: &'a str,
    home: &'static str,
    over: &'a AtomicBool,
    /// Where it says what was acknowledged.
    acknowledged: Sender<String>,
}

impl Speaker<'_> {
    /// Says one thing after another, and stops after so many or when told to.
    fn speak(&self, at_most: usize) {
        for number in 0..at_most {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{number} of {}", self.home);
            // One that has to wait is kept, and goes out with the next.
            let output = self.world.try_kith(self.home, &["say", self.room, &text, "--timeout", "5"]);
            if output.status.success() {
                self.acknowledged.send(text).expect("somebody counts");
            }
        }
    }
}

/// So many acknowledgements, in time.
fn wait_for(count: usize, acknowledged: &Receiver<String>) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    let next = |_| acknowledged.recv_timeout(deadline.saturating_duration_since(Instant::now())).expect("members are heard");
    (0..count).map(next).collect()
}

/// Everybody's copy is the same, whole and readable, and holds exactly once what was acknowledged.
fn check(world: &World, room: &str, acknowledged: &[String], seed: u64) {
    let homes = &HOMES[..world.coops.len()];
    for home in homes {
        world.kith(home, &["say", room, &format!("the end of {home}"), "--wait", "ordered", "--timeout", "60"]);
    }
    // From here on every co-op has everything.
    world.kith("H1", &["say", room, "the end", "--wait", "held", "--timeout", "60"]);
    let (mut logs, mut roots) = (Vec::new(), Vec::new());
    for home in homes {
        let lines = world.kith_lines(home, &["read", room]);
        let unreadable: Vec<_> = lines.iter().filter(|line| line["kind"] == "unreadable").collect();
        assert!(unreadable.is_empty(), "seed {seed:#x}, {home}: {unreadable:?}");
        logs.push(texts(&lines));
        let verified = world.kith_lines(home, &["verify", room]).remove(0);
        assert_eq!(verified["ok"], json!(true), "seed {seed:#x}, {home}: {verified}");
        roots.push((verified["size"].clone(), verified["root"].clone()));
    }
    for (home, (log, root)) in homes.iter().zip(logs.iter().zip(&roots)) {
        assert_eq!((log, root), (&logs[0], &roots[0]), "seed {seed:#x}: {home} and H1 read the same");
    }
    assert!(logs[0].iter().is_sorted_by(|one, next| one.0.is_some() && one.0 < next.0), "seed {seed:#x}: one order");
    let mut times = HashMap::<&str, usize>::new();
    logs[0].iter().for_each(|(_, text)| *times.entry(text).or_default() += 1);
    for text in acknowledged {
        assert_eq!(times.get(text.as_str()), Some(&1), "seed {seed:#x}: {text} was acknowledged");
    }
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "seed {seed:#x}: {doubled:?}");
}

fn says(coop: &Coop, what: &str) -> bool {
    coop.logs().iter().any(|log| std::fs::read_to_string(log).is_ok_and(|log| log.contains(what)))
}

const ORDERS: &str = "this co-op orders the room now";

/// `kill -9` of the hub in the middle of a conversation over bad lines: the room has another hub within a minute, and
/// whatever was acknowledged by anybody is there once, also what only the dead one had once it is back.
#[test]
fn five_coops_outlive_their_hub() {
    let seed = 0x5eed_0005;
    let mut world = World::of(5);
    world.introduce_by_lines(seed);
    let room = room(&world, 5);
    world.lines.iter().for_each(|line| line.set_stormy(true));
    let mut hub = world.coops.remove(0);
    let over = AtomicBool::new(false);
    let (acknowledge, acknowledgements) = channel();
    let mut acknowledged = Vec::new();
    std::thread::scope(|scope| {
        for home in HOMES {
            let speaker = Speaker { world: &world, room: &room, home, over: &over, acknowledged: acknowledge.clone() };
            // Whose co-op is dead can say little.
            let at_most = if home == "H1" { 40 } else { 400 };
            scope.spawn(move || speaker.speak(at_most));
        }
        acknowledged.extend(wait_for(60, &acknowledgements));
        hub.kill();
        let killed = Instant::now();
        world.kith("H2", &["say", &room, "is anybody there?", "--wait", "ordered", "--timeout", "60"]);
        let took = killed.elapsed();
        assert!(took <= NEW_HUB, "{took:?}");
        println!("a message has its place {took:?} after the hub was killed");
        // Afterwards as before.
        acknowledged.extend(acknowledgements.try_iter());
        acknowledged.extend(wait_for(60, &acknowledgements));
        over.store(true, Ordering::Relaxed);
    });
    acknowledged.extend(acknowledgements.try_iter());
    let counts: Vec<_> = world.lines.iter().map(|line| line.counts()).collect();
    println!("{} messages acknowledged; on the lines: {counts:?}", acknowledged.len());
    assert!(counts.iter().map(|counts| counts.cut).sum::<u64>() > 0, "the lines were bad: {counts:?}");
    assert_eq!(world.coops.iter().filter(|coop| says(coop, ORDERS)).count(), 1, "one other hub");
    hub.start();
    world.coops.insert(0, hub);
    world.lines.iter().for_each(|line| line.set_stormy(false));
    check(&world, &room, &acknowledged, seed);
    let refused = world.coops[0].try_kithd(&["room", "handover", &room, "cedar.test"]);
    assert!(!refused.status.success(), "it is a mirror now");
}

/// A steward hands a room over, stops the server, and nobody in the room notices.
#[test]
fn a_room_is_handed_over() {
    let mut world = World::of(4);
    world.introduce();
    let room = room(&world, 3);
    let over = AtomicBool::new(false);
    let (acknowledge, acknowledgements) = channel();
    let mut acknowledged = Vec::new();
    let hand_over = |from: &Coop, to: &str| {
        let output = from.try_kithd(&["room", "handover", &room, to]);
        (output.status.success(), String::from_utf8(output.stderr).expect("text"))
    };
    // Who has no vote is not trusted with the order, and who is not the hub has nothing to hand over.
    for to in ["damson.test", "elm.test", "alder.test"] {
        let (done, error) = hand_over(&world.coops[0], to);
        assert!(!done && error.contains("only another voter") && error.contains("kith room voters"), "{to}: {error}");
    }
    let (done, error) = hand_over(&world.coops[2], "birch.test");
    assert!(!done && error.contains("alder.test"), "{error}");
    std::thread::scope(|scope| {
        for home in &HOMES[..4] {
            let speaker = Speaker { world: &world, room: &room, home, over: &over, acknowledged: acknowledge.clone() };
            scope.spawn(move || speaker.speak(200));
        }
        acknowledged.extend(wait_for(20, &acknowledgements));
        let (done, error) = hand_over(&world.coops[0], "birch.test");
        assert!(done, "{error}");
        until("the hand-over", Duration::from_secs(10), || says(&world.coops[1], ORDERS));
        acknowledged.extend(wait_for(20, &acknowledgements));
        over.store(true, Ordering::Relaxed);
    });
    acknowledged.extend(acknowledgements.try_iter());
    // Without its former hub the room goes on at once: no vote is called for, which would take 20 seconds and more.
    world.coops[0].stop();
    for home in &HOMES[1..4] {
        world.kith(home, &["say", &room, &format!("{home} goes on"), "--wait", "ordered", "--timeout", "15"]);
        acknowledged.push(format!("{home} goes on"));
    }
    world.coops[0].start();
    check(&world, &room, &acknowledged, 0);
}
