//! Each lie is told by real processes, found by the others, and proved to somebody who was not there.

use kith_e2e::{World, texts, until};
use kith_evil::{FOUND_OUT, swap_newest_bodies, two_faces};
use serde_json::Value;

/// What a member's own device says of the room's being frozen.
fn frozen(world: &World, home: &str) -> Option<String> {
    world.kith_lines(home, &["rooms"])[0]["frozen"].as_str().map(ToOwned::to_owned)
}

fn said(world: &World, home: &str, room: &str) -> Vec<String> {
    texts(&world.kith_lines(home, &["read", room])).into_iter().map(|(_, text)| text).collect()
}

/// A steward runs two copies of one folder, and shows each neighbour another. The neighbours compare what the hub signed: the
/// room freezes, its members are told why, and a stranger can check the proof offline.
#[test]
fn fault_34_a_hub_with_two_faces_is_convicted() {
    let mut world = World::of(3);
    world.introduce();
    let room = world.shared_room();
    world.join(2, "H3", "third");
    let link = world.kith_field("H1", &["room", "invite", &room], "link");
    world.kith("H3", &["room", "join", &link]);
    world.kith("H3", &["say", &room, "all of us", "--wait", "held"]);
    assert_eq!(frozen(&world, "H2"), None);

    let twin = two_faces(&mut world);
    world.kith("H2", &["say", &room, "only birch sees this", "--wait", "ordered"]);
    world.kith("H3", &["say", &room, "only cedar sees this", "--wait", "ordered"]);
    for home in ["H2", "H3"] {
        until("the discovery", FOUND_OUT, || frozen(&world, home).is_some());
        let words = frozen(&world, home).unwrap();
        assert!(words.contains("alder.test signed two different histories"), "{words}");
        let verified = world.try_kith(home, &["verify", &room]);
        assert!(!verified.status.success(), "a frozen room is not in order");
    }

    // Nobody is silenced: members of one co-op go on hearing each other, and nothing goes to the liar.
    world.kith("H2", &["say", &room, "what now?"]);
    let ordered = world.try_kith("H2", &["say", &room, "is it ordered?", "--wait", "ordered", "--timeout", "2"]);
    assert!(!ordered.status.success(), "nothing more is ordered by that hub");
    assert!(said(&world, "H2", &room).contains(&"what now?".to_owned()));
    assert!(!said(&world, "H3", &room).contains(&"only birch sees this".to_owned()));

    // A stranger, without any server or home of its own.
    let proof = world.home("proof.txt");
    let path = proof.to_str().unwrap();
    world.kith("H2", &["proof", "save", &room, path]);
    let verdict: Value = serde_json::from_str(&world.kith("nobody", &["proof", "check", path, "--json"])).unwrap();
    let key = world.coops[0].kithd(&["neighbour", "key"]);
    assert_eq!(verdict["ok"], true);
    assert_eq!(format!("{} {}", verdict["convicted"].as_str().unwrap(), verdict["key"].as_str().unwrap()), key);
    assert!(!world.home("nobody").exists(), "checking needs no home");
    let text = std::fs::read_to_string(&proof).unwrap();
    let at = text.len() / 2;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    std::fs::write(&proof, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    assert!(!world.try_kith("nobody", &["proof", "check", path]).status.success(), "a changed proof proves nothing");
    drop(twin);
}

/// A mirror's steward changes what was said in the past: two messages change places in its database. Its members' devices hold
/// what they are sent against what the hub signed, and show none of it as the room's.
#[test]
fn fault_35_a_mirror_that_swaps_messages_is_found_out() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.kith("H2", &["say", &room, "here", "--wait", "held"]);
    for text in ["I am leaving him", "I am happy"] {
        world.kith("H1", &["say", &room, text, "--wait", "held"]);
    }
    world.coops[1].stop();
    swap_newest_bodies(&world.coops[1].folder);
    world.coops[1].start();

    let read = world.try_kith("H2", &["read", &room, "--timeout", "5"]);
    let error = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(!read.status.success(), "{}", String::from_utf8_lossy(&read.stdout));
    assert!(error.contains("your co-op sent another history than the one that the room's hub signed"), "{error}");
    assert!(!world.try_kith("H2", &["verify", &room, "--timeout", "5"]).status.success());
    // Whoever reads elsewhere is not touched by it.
    let as_said = ["here", "I am leaving him", "I am happy"];
    assert_eq!(said(&world, "H1", &room), as_said);
    world.kith("H1", &["verify", &room]);

    // Put right again, nothing is lost to those who were lied to.
    world.coops[1].stop();
    swap_newest_bodies(&world.coops[1].folder);
    world.coops[1].start();
    assert_eq!(said(&world, "H2", &room), as_said);
    world.kith("H2", &["verify", &room]);
}
