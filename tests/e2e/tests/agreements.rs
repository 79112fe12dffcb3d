//! Agreements as stewards handle them: terms, suspension, new keys, and what `status` says of it all.

use std::process::Command;
use std::time::{Duration, Instant};

use kith_e2e::{Coop, World, program};
use serde_json::{Value, json};

/// How long two servers may take to hear of each other.
const HEAR: Duration = Duration::from_secs(20);

/// Asks until the answer is right, and says how long that took.
fn until(coop: &Coop, arguments: &[&str], holds: impl Fn(&Value) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = coop.kithd_json(arguments);
        if holds(&answer) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < HEAR, "{}: {answer}", coop.name);
    }
}

fn is_up(answer: &Value) -> bool {
    answer["neighbours"][0]["up"] == true
}

#[test]
fn a_suspension_stops_everything_and_says_why() {
    let world = World::two_coops();
    let room = world.shared_room();
    let link = world.kith_field("H1", &["room", "invite", &room], "link");
    let [alder, birch] = world.coops.as_slice() else { panic!("two") };
    let suspended = alder.kithd_json(&["neighbour", "suspend", "birch.test", "--reason", "too much spam"]);
    assert_eq!((&suspended["name"], &suspended["done"]), (&json!("birch.test"), &json!("suspended")));
    assert!(suspended["state"] == "suspended" && suspended["effective"].is_string(), "{suspended}");
    let seen = until(birch, &["neighbour", "show", "alder.test"], |shown| shown["state"] == "suspended");
    // Each look is a program that starts; the act itself is on the wire at once.
    assert!(seen < Duration::from_secs(1), "the other side saw it after {seen:?}");
    let shown = birch.kithd_json(&["neighbour", "show", "alder.test"]);
    assert_eq!((&shown["notice_there"]["reason"], &shown["up"]), (&json!("too much spam"), &json!(false)));

    // Members: what they say is kept, nobody joins through it, and they are told why: at once, and when time is up.
    world.kith("H2", &["say", &room, "are you there?"]);
    world.join(1, "H3", "third");
    for (home, command) in [("H2", &["say", &room, "hello?", "--wait", "ordered"][..]), ("H3", &["room", "join", &link][..])] {
        let output = world.try_kith(home, &[command, &["--timeout", "2"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert_eq!(said.matches("Not yet: the agreement with alder.test is suspended by alder.test.").count(), 1, "{said}");
        assert_eq!(said.matches("not come about in time: the agreement with alder.test is suspended by alder.test.").count(), 1, "{said}");
        assert!(!said.contains("spam"), "what stewards say to each other is theirs: {said}");
    }
    let status = birch.kithd_json(&["status"]);
    assert_eq!(status["neighbours"][0]["waiting_entries"], 2, "{status}");
    assert!(!birch.try_kithd(&["neighbour", "resume", "alder.test"]).status.success(), "only who suspended it can take it back");

    let resumed = alder.kithd_json(&["neighbour", "resume", "birch.test"]);
    assert_eq!(resumed, json!({ "name": "birch.test", "done": "resumed", "state": "active", "effective": null }));
    world.kith("H2", &["say", &room, "good that you are back", "--wait", "held"]);
    assert_eq!(world.kith_field("H3", &["room", "join", &link], "room"), room);
    let ended = alder.kithd_json(&["neighbour", "end", "birch.test", "--reason", "we close"]);
    assert!(ended["done"] == "ended" && ended["state"] == "ended" && ended["effective"].is_string(), "{ended}");
    until(birch, &["neighbour", "show", "alder.test"], |shown| shown["state"] == "ended");
}

#[test]
fn keys_change_while_rooms_go_on() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    let old = world.coops[0].kithd_json(&["neighbour", "key"])["key"].clone();
    let rotated = world.coops[0].kithd_json(&["key", "rotate"]);
    assert!(rotated["key"] != old && rotated["overlap_end"].is_string(), "{rotated}");
    let took = until(&world.coops[1], &["neighbour", "show", "alder.test"], |shown| shown["key"] == rotated["key"] && shown["up"] == true);
    println!("pinned anew after {took:?}");
    assert_eq!(world.coops[1].kithd_json(&["neighbour", "show", "alder.test"])["rooms_key"], old);
    world.kith("H2", &["say", &room, "under the new key", "--wait", "held"]);
    let linked = world.coops[0].kithd_json(&["key", "rotate", "--link"]);
    assert_eq!((&linked["key"], &linked["overlap_end"]), (&rotated["key"], &Value::Null));
    world.kith("H2", &["say", &room, "and the new link key", "--wait", "held"]);
    // The mirror's keys too, and all of it after a start.
    world.coops[1].kithd(&["key", "rotate"]);
    for coop in &mut world.coops {
        coop.kill();
        coop.start();
    }
    world.kith("H1", &["say", &room, "after a start", "--wait", "held"]);
    world.join(0, "H4", "fourth");
    let link = world.kith_field("H1", &["room", "invite", &room, "--uses", "2"], "link");
    assert_eq!(world.kith_field("H4", &["room", "join", &link], "room"), room);
    world.join(1, "H3", "third");
    assert_eq!(world.kith_field("H3", &["room", "join", &link], "room"), room);
    for home in ["H1", "H2"] {
        assert_eq!(world.kith_lines(home, &["verify", &room])[0]["ok"], json!(true));
    }
    assert_eq!(world.kith_lines("H2", &["members", &room]).len(), 4);
}

#[test]
fn terms_are_proposed_accepted_and_verified_by_anybody() {
    let world = World::two_coops();
    let [alder, birch] = world.coops.as_slice() else { panic!("two") };
    until(alder, &["status"], is_up);
    let file = world.dir.path().join("terms.toml");
    let path = file.to_str().unwrap();
    // As a script does it.
    std::fs::write(&file, "conduct = \"1a\"\n").unwrap();
    let proposed = alder.kithd_json(&["neighbour", "propose", "birch.test", "--terms", path]);
    assert_eq!(proposed, json!({ "name": "birch.test", "done": "proposed", "state": "active", "effective": null }));
    until(birch, &["neighbour", "show", "alder.test"], |shown| shown["proposed_there"].is_string());
    let accepted = birch.kithd_json(&["neighbour", "accept", "alder.test"]);
    assert_eq!((&accepted["name"], &accepted["done"]), (&json!("alder.test"), &json!("accepted")), "{accepted}");
    until(alder, &["neighbour", "show", "birch.test"], |shown| shown["proposed_here"].is_null() && shown["up"] == true);
    let accepted = birch.kithd_json(&["neighbour", "accept", "alder.test"]);
    assert_eq!(accepted, json!({ "name": "alder.test", "done": "nothing_to_accept", "state": "active", "effective": null }));
    let shown = birch.kithd_json(&["neighbour", "show", "alder.test"]);
    let [address, key] = ["address", "key"].map(|field| shown[field].as_str().expect("text"));
    let added = birch.kithd_json(&["neighbour", "add", "alder.test", address, key]);
    assert_eq!(added, json!({ "name": "alder.test", "done": "added", "state": "active", "effective": null }));

    std::fs::write(&file, "conduct = \"2\"\ncrisis = \"ring 112\"\nreview = \"2020-01-31\"\nnotice_days = 30\n").unwrap();
    alder.kithd(&["neighbour", "propose", "birch.test", "--terms", path]);
    until(birch, &["neighbour", "show", "alder.test"], |shown| shown["proposed_there"].is_string());
    let said = birch.kithd(&["neighbour", "accept", "alder.test"]);
    assert!(said.contains("+ crisis ring 112") && said.contains("- notice-days 0") && said.contains("Accepted"), "{said}");
    until(alder, &["neighbour", "show", "birch.test"], |shown| shown["state"] == "due_for_review" && shown["up"] == true);
    assert!(alder.kithd(&["status"]).contains("review date has passed"));

    let shown = alder.kithd(&["neighbour", "show", "birch.test", "--json"]);
    let verify = |text: &str| {
        let file = world.dir.path().join("shown.json");
        std::fs::write(&file, text).unwrap();
        Command::new(program("kithd")).args(["neighbour", "verify"]).arg(&file).output().unwrap()
    };
    assert!(verify(&shown).status.success());
    assert!(!verify(&shown.replace("ring 112", "ring 113")).status.success());
    std::fs::write(&file, "notice_days = \"soon\"\n").unwrap();
    assert!(!alder.try_kithd(&["neighbour", "propose", "birch.test", "--terms", path]).status.success());
}

#[test]
fn status_says_how_the_co_op_is() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.kith("H1", &["say", &room, "to be held", "--wait", "held"]);
    let status = world.coops[0].kithd_json(&["status"]);
    let (neighbour, shared) = (&status["neighbours"][0], &status["rooms"][0]);
    assert_eq!((&status["coop"], &status["running"], &status["frozen"]), (&json!("alder.test"), &json!(true), &json!([])));
    assert_eq!((&neighbour["state"], &neighbour["up"], &neighbour["behind_entries"]), (&json!("active"), &json!(true), &json!(0)));
    assert!(neighbour["bytes_in"].as_u64() > Some(0) && neighbour["bytes_out"].as_u64() > Some(0), "{neighbour}");
    assert_eq!((&shared["room"], &shared["role"], &shared["term"]), (&json!(room), &json!("hub"), &json!(1)));
    assert_eq!((&shared["held"]["birch.test"], &shared["certified"]), (&shared["size"], &shared["size"]));
    assert_eq!(world.coops[1].kithd_json(&["status"])["rooms"][0]["role"], "mirror");
    // The mirror is away: it is behind, and its link says why it is down.
    world.coops[1].kill();
    world.kith("H1", &["say", &room, "nobody else has this", "--wait", "ordered"]);
    until(&world.coops[0], &["status"], |status| {
        let neighbour = &status["neighbours"][0];
        neighbour["behind_entries"] == 1
            && neighbour["up"] == false
            && neighbour["last_error"].as_str().is_some_and(|why| why.contains("connect"))
    });
    world.coops[0].kill();
    let stopped = world.coops[0].kithd_json(&["status"]);
    assert_eq!((&stopped["running"], &stopped["neighbours"][0]["behind_entries"]), (&json!(false), &json!(1)));
    for member in ["first", "second"] {
        assert!(!stopped.to_string().contains(member), "names of members stand nowhere");
    }
}
