//! Killed servers and clients, tampered stores, and lines that come and go.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kith_e2e::door::Door;
use kith_e2e::{Dice, World, http, lines_of, stderr_of, texts, until};
use kith_protocol::member::ToServer;
use serde_json::json;

/// `kill -9` of either server and of `kith` itself during 200 sends from both sides, at moments that a seed draws.
#[test]
fn fault_39_nothing_acknowledged_is_lost_or_doubled() {
    kill_at_random(0x5eed_0001);
}

/// The same at other moments each time. A seed that fails goes beside the one above.
#[test]
fn fault_39_nor_at_moments_that_nobody_chose() {
    let seed = std::collections::hash_map::RandomState::new().build_hasher().finish() | 1;
    println!("seed {seed:#x}");
    kill_at_random(seed);
}

fn kill_at_random(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::two_coops();
    world.doors = world.coops.iter().map(|coop| Door::to(coop.port)).collect();
    let room = world.shared_room();
    let mut acknowledged = Vec::new();
    // Of either server, and of either side's command while it ran.
    let mut kills = [0; 4];
    let mut said = HashSet::new();
    for i in 0..100u32 {
        // Both sides at once.
        let mut children = ["H1", "H2"].map(|home| {
            let text = format!("message {i} of {home}");
            let mut command = world.command(home, &["say", &room, &text, "--timeout", "20"]);
            let child = command.stderr(Stdio::null()).spawn().unwrap();
            said.insert(text.clone());
            (child, text)
        });
        // A command takes up to a quarter of a second, or on a fast machine a quarter of that: every stage of it may be hit.
        // Whatever the seed, each server is hit once, and each side's command.
        let due = [10, 20].iter().position(|at| i % 50 == *at);
        let half = i as usize / 50;
        match due.map_or_else(|| dice.roll(6), |due| due as u64) {
            0 => {
                let coop = due.map_or_else(|| dice.roll(2) as usize, |_| half);
                wait(Duration::from_millis(dice.roll(250)));
                world.coops[coop].kill();
                world.coops[coop].start();
                kills[coop] += 1;
            }
            1 => {
                let longest = due.map_or_else(|| [60, 250][dice.roll(2) as usize], |_| 10);
                wait(Duration::from_millis(dice.roll(longest)));
                let side = due.map_or_else(|| dice.roll(2) as usize, |_| half);
                // One that has ended by itself was not killed.
                let runs = matches!(children[side].0.try_wait(), Ok(None));
                let _ = children[side].0.kill();
                kills[2 + side] += u32::from(runs);
            }
            _ => {}
        }
        for (mut child, text) in children {
            if child.wait().unwrap().success() {
                acknowledged.push(text);
            }
        }
    }
    for (door, home) in ["H1", "H2"].into_iter().enumerate() {
        kill_between_sending_and_hearing(&world, door, home, &room);
    }
    no_key_twice(&world, seed);
    println!("seed {seed:#x}: killed alder {}, birch {}, the first's commands {}, the second's {}", kills[0], kills[1], kills[2], kills[3]);
    assert!(kills.iter().all(|kills| *kills > 0), "seed {seed:#x}: {kills:?}");
    assert!(acknowledged.len() > 150, "seed {seed:#x}: {} acknowledged", acknowledged.len());
    // The outboxes go out, and both sides come to the same end.
    for home in ["H1", "H2", "H1", "H2"] {
        world.kith(home, &["say", &room, &format!("the end of {home}"), "--wait", "ordered"]);
    }
    let read = ["H1", "H2"].map(|home| texts(&world.kith_lines(home, &["read", &room])));
    let order =
        read.clone().map(|lines| lines.into_iter().map(|(seq, text)| (seq.expect("everything has its place"), text)).collect::<Vec<_>>());
    assert_eq!(order[0], order[1], "seed {seed:#x}: one history");
    let mut sorted = order[0].clone();
    sorted.sort();
    assert_eq!(sorted, order[0]);
    for text in &acknowledged {
        let times = order[0].iter().filter(|(_, other)| other == text).count();
        assert_eq!(times, 1, "seed {seed:#x}: {text}");
    }
    let again = order[0].iter().filter(|(_, text)| text == "said by one that was killed").count();
    assert_eq!(again, 2, "seed {seed:#x}: once by each");
    for (_, text) in order[0].iter().filter(|(_, text)| text.starts_with("message")) {
        assert!(said.contains(text), "nobody said {text}");
        assert_eq!(order[0].iter().filter(|(_, other)| other == text).count(), 1, "seed {seed:#x}: {text} is doubled");
    }
    for home in ["H1", "H2"] {
        // A ratchet that was used twice would leave a line that cannot be opened.
        let lines = world.kith_lines(home, &["read", &room]);
        let unreadable: Vec<_> = lines.iter().filter(|line| line["kind"] == "unreadable").collect();
        assert!(unreadable.is_empty(), "seed {seed:#x}: {unreadable:?}");
    }
    let verified = ["H1", "H2"].map(|home| world.kith_lines(home, &["verify", &room]).remove(0));
    for report in &verified {
        assert_eq!((&report["ok"], &report["root"]), (&json!(true), &verified[0]["root"]), "seed {seed:#x}");
        assert!(report["cosigned_by"].as_array().is_some_and(|by| !by.is_empty()), "seed {seed:#x}: {report}");
    }
}

/// An entry has left the device, and no server has it: with the next command it is sent again.
fn kill_between_sending_and_hearing(world: &World, door: usize, home: &str, room: &str) {
    // What waits from before goes first.
    world.kith(home, &["say", room, "before it is killed", "--wait", "ordered"]);
    let door = &world.doors[door];
    door.swallow();
    let mut child = world.command(home, &["say", room, "said by one that was killed"]).stderr(Stdio::null()).spawn().unwrap();
    until("an entry on its way", Duration::from_secs(20), || door.has_swallowed());
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    world.kith(home, &["say", room, "after it was killed", "--wait", "ordered"]);
}

/// A device whose memory went back would make something else under a number, with keys, that it has used. Of all that left
/// the devices there is one form for each number in an epoch, however often it was sent.
fn no_key_twice(world: &World, seed: u64) {
    for (door, home) in world.doors.iter().zip(["H1", "H2"]) {
        let (mut forms, mut sends) = (HashMap::new(), 0);
        for frame in door.frames().into_iter().flatten() {
            let ToServer::Send(send) = frame else { continue };
            sends += 1;
            let form = forms.entry((send.room, send.counter, send.epoch)).or_insert_with(|| send.body.clone());
            assert_eq!(*form, send.body, "seed {seed:#x}: {home} made two things under {} in epoch {}", send.counter, send.epoch.0);
        }
        assert!(sends > forms.len(), "seed {seed:#x}: {home} sent nothing again");
        println!("seed {seed:#x}: {home} sent {sends} entries, {} of them again", sends - forms.len());
        // A command that was killed before it had stored anything sent nothing.
        assert!(forms.len() >= 50, "seed {seed:#x}: {home} sent {}", forms.len());
    }
}

fn wait(duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

/// A mirror without its hub keeps what its members say, and hands it on when the hub is back, soon.
#[test]
fn a_hub_that_was_away_gets_what_was_said() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.coops[0].kill();
    world.kith("H2", &["say", &room, "are you there?"]);
    let waiting = world.kith_lines("H2", &["read", &room]);
    let last = waiting.last().unwrap();
    assert_eq!((&last["seq"], &last["state"]), (&json!(null), &json!("stored")));
    let ordered = world.try_kith("H2", &["say", &room, "hello?", "--wait", "ordered", "--timeout", "2"]);
    assert!(!ordered.status.success(), "it was not ordered, and says so");
    world.coops[0].start();
    let back = Instant::now();
    world.kith("H2", &["say", &room, "good that you are back", "--wait", "ordered"]);
    assert!(back.elapsed() < Duration::from_secs(10));
    let said: Vec<String> = texts(&world.kith_lines("H1", &["read", &room])).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["are you there?", "hello?", "good that you are back"]);
}

/// A lost link is dialled again at once, however little was said over it, and is back soon after the neighbour is.
#[test]
fn fault_43_a_lost_link_comes_back() {
    let mut world = World::two_coops();
    let (dialler, metrics) = (world.coops[0].logs().remove(0), world.coops[0].port);
    let links = |up: u8| http(metrics, "/metrics").is_some_and(|text| text.contains(&format!("kith_links {up}\n")));
    until("the link", Duration::from_secs(5), || links(1));
    let retries = |log: &str| -> Vec<u64> {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter_map(|line| line["fields"]["wait_ms"].as_u64()).collect()
    };
    let before = retries(&std::fs::read_to_string(&dialler).unwrap()).len();
    world.coops[1].kill();
    // Whoever comes to the neighbour's port now comes to this test.
    let port = TcpListener::bind(("127.0.0.1", world.coops[1].link_port)).unwrap();
    port.set_nonblocking(true).unwrap();
    until("the first retry", Duration::from_secs(1), || port.accept().is_ok());
    drop(port);
    let waits = retries(&std::fs::read_to_string(&dialler).unwrap());
    assert!(waits[before] <= 250, "the first of {waits:?}");
    until("the loss", Duration::from_secs(1), || links(0));
    world.coops[1].start();
    let took = until("the link", Duration::from_secs(2), || links(1));
    println!("the link was back {took:?} after the neighbour");
}

/// Neither who does not read nor who never says anything holds up a stop.
#[test]
fn a_drain_does_not_wait_for_a_client_that_does_not_close() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    let mut reader = world.command("H1", &["read", &room, "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    world.kith("H2", &["say", &room, "are you there?", "--wait", "ordered"]);
    let mut lines = BufReader::new(reader.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("are you there?")));
    assert!(Command::new("kill").arg("-STOP").arg(reader.id().to_string()).status().unwrap().success());
    let mut silent = TcpStream::connect(("127.0.0.1", world.coops[0].port)).unwrap();
    let head = "GET /kith/v1 HTTP/1.1\r\nHost: kith\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: kith.v1\r\n\r\n";
    silent.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    silent.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    let took = world.coops[0].stop();
    assert!(took <= Duration::from_secs(5), "{took:?}");
    println!("the drain took {took:?}");
    reader.kill().unwrap();
    reader.wait().unwrap();
}

/// What cannot be sent stays in the outbox, can be taken back, and goes out with the next command.
#[test]
fn an_outbox_waits_for_its_server() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.coops[1].kill();
    for text in ["first thought", "second thought"] {
        let output = world.try_kith("H2", &["say", &room, text, "--timeout", "1"]);
        assert!(!output.status.success());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("kept in the outbox") && !error.contains("try again"), "{error}");
        assert_eq!(error.matches("cannot be reached").count(), 1, "{error}");
    }
    // What was not taken is not said to be kept.
    for arguments in [&["say", "ffff", "lost words"][..], &["outbox", "cancel", "999"], &["read", &room, "--timeout", "1"]] {
        let output = world.try_kith("H2", arguments);
        assert!(!output.status.success() && !stderr_of(&output).contains("kept"), "{arguments:?}: {}", stderr_of(&output));
    }
    // One's name may still be on its way to the room, too.
    let mut items = world.kith_lines("H2", &["outbox", "list"]);
    items.retain(|item| item["kind"] == "text");
    assert_eq!(items.len(), 2);
    world.kith("H2", &["outbox", "cancel", &items[0]["item"].to_string()]);
    assert!(!world.try_kith("H2", &["outbox", "cancel", "999"]).status.success());
    world.coops[1].start();
    world.kith("H2", &["say", &room, "third thought", "--wait", "ordered"]);
    let said: Vec<String> = texts(&world.kith_lines("H1", &["read", &room])).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["second thought", "third thought"]);
}

/// Whoever does not wait any longer hears how far it came, and does not write it twice. What is there is read all the same.
#[test]
fn a_hub_that_is_away_is_waited_for() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.kith("H2", &["say", &room, "before", "--wait", "ordered"]);
    world.coops[0].kill();
    let output = world.try_kith("H2", &["say", &room, "meanwhile", "--wait", "ordered", "--timeout", "2"]);
    assert!(!output.status.success() && stderr_of(&output).contains("stored at your co-op"), "{}", stderr_of(&output));
    assert!(!world.try_kith("H2", &["room", "leave", &room, "--timeout", "1"]).status.success());
    let output = world.try_kith("H2", &["read", &room, "--json", "--timeout", "2"]);
    let lines = lines_of(&output);
    assert!(!output.status.success(), "what waits could not be sent");
    assert_eq!(texts(&lines).into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["before", "meanwhile"]);
}

/// Leaving is final for the device, and the room goes on.
#[test]
fn a_member_leaves() {
    let world = World::two_coops();
    let room = world.shared_room();
    world.kith("H2", &["say", &room, "goodbye", "--wait", "ordered"]);
    world.kith("H2", &["room", "leave", &room]);
    let refused = world.try_kith("H2", &["say", &room, "still here?"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("left"));
    assert_eq!(world.kith_lines("H1", &["members", &room]).len(), 1);
    world.kith("H1", &["say", &room, "farewell", "--wait", "ordered"]);
    let lines = world.kith_lines("H1", &["read", &room]);
    assert!(lines.iter().any(|line| line["kind"] == "left"));
    assert!(texts(&world.kith_lines("H2", &["read", &room])).iter().all(|(_, text)| text != "farewell"));
}

/// A link that names a room nobody opened, an invite used up, a co-op without an agreement.
#[test]
fn refusals_say_what_to_do() {
    let mut world = World::strangers();
    world.join(0, "H1", "first");
    world.join(1, "H2", "second");
    let room = world.kith_field("H1", &["room", "new", "Tuesday circle"], "room");
    let link = world.kith_field("H1", &["room", "invite", &room], "link");
    let stranger = world.try_kith("H2", &["room", "join", &link, "--timeout", "2"]);
    assert!(!stranger.status.success());
    world.introduce();
    world.kith("H2", &["room", "join", &link]);
    world.join(1, "H3", "third");
    let used_up = world.try_kith("H3", &["room", "join", &link, "--timeout", "5"]);
    assert!(!used_up.status.success());
    assert!(String::from_utf8_lossy(&used_up.stderr).contains("fresh link"), "{}", String::from_utf8_lossy(&used_up.stderr));
    // A failed join uses nothing up, and the room goes on.
    let link = world.kith_field("H1", &["room", "invite", &room], "link");
    world.kith("H3", &["room", "join", &link]);
    world.kith("H3", &["say", &room, "made it", "--wait", "held"]);
    assert_eq!(texts(&world.kith_lines("H1", &["read", &room])).last().unwrap().1, "made it");
}
