//! The programs as a person meets them: what is said when something is in the way, and what scripts lean on.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use kith_e2e::{World, lines_of, program, stderr_of, texts};
use serde_json::json;

/// One co-op, one member, one room.
fn alone() -> (World, String) {
    let world = World::of(1);
    world.join(0, "H1", "first");
    let room = world.kith_field("H1", &["room", "new", "Quiet room"], "room");
    (world, room)
}

/// In a new room one co-op of one holds what is said; who has not said its name has none; one's own invitations are there.
#[test]
fn small_promises_are_kept() {
    let (world, room) = alone();
    let held = world.kith_lines("H1", &["say", &room, "only me", "--wait", "held"]);
    assert_eq!(held[0]["state"], json!("held 1/1"));
    world.kith("H1", &["say", &room, "-2 degrees, and no heating"]);
    let link = world.kith_field("H1", &["room", "invite", &room, "--uses", "2"], "link");
    let lines = world.kith_lines("H1", &["read", &room]);
    assert!(lines.iter().any(|line| line["kind"] == "invite"), "{lines:?}");
    // A membership link for two.
    let invite = world.coops[0].kithd(&["invite", "--uses", "2"]);
    for home in ["H2", "H3"] {
        world.kith(home, &["join", &invite, "--name", "somebody"]);
        world.kith(home, &["room", "join", &link]);
    }
    assert!(!world.try_kith("H4", &["join", &invite, "--name", "third", "--timeout", "5"]).status.success());
    let members = world.kith_lines("H1", &["members", &room]);
    assert_eq!(members.len(), 3);
    // A joiner cannot know the name of who spoke before it came.
    let read = world.kith_lines("H3", &["read", &room]);
    let joined = read.iter().find(|line| line["kind"] == "joined").expect("a join");
    assert!(joined["name"].is_null() || joined["name"].is_string(), "{joined}");
    assert!(world.kith_lines("H3", &["members", &room]).iter().any(|member| member["name"].is_null()));
}

/// Whoever reads a program's output may stop reading.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (world, room) = alone();
    world.kith("H1", &["say", &room, "hello"]);
    let folder = world.coops[0].folder.clone();
    let kithd = |arguments: &[&str]| {
        let mut command = Command::new(program("kithd"));
        command.arg(arguments[0]).arg(&folder).args(&arguments[1..]);
        command
    };
    for mut command in [world.command("H1", &["rooms"]), world.command("H1", &["read", &room, "--json"]), kithd(&["status"])] {
        let mut child = command.env("RUST_BACKTRACE", "1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(child.wait().unwrap().success() && error.is_empty(), "{command:?}: {error}");
    }
}

/// Errors are a sentence, whatever the environment says about traces.
#[test]
fn errors_are_for_people() {
    let (world, _) = alone();
    let folder = world.coops[0].folder.to_str().unwrap().to_owned();
    let init = ["init", &folder, "--name", "alder.test"];
    let output = Command::new(program("kithd")).args(init).env("RUST_BACKTRACE", "1").output().unwrap();
    let error = stderr_of(&output);
    assert!(!output.status.success() && error.lines().count() == 1 && error.contains("Choose another folder"), "{error}");
    // Each says what to do next.
    let at = |name: &str| world.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(at("wrong")).unwrap();
    std::fs::write(at("wrong/kithd.toml"), "name = 3").unwrap();
    std::fs::write(at("file"), "").unwrap();
    let (nowhere, wrong, below) = (at("nowhere"), at("wrong"), at("file/below"));
    let servers: [(&[&str], &str); 4] = [
        (&["serve", &nowhere], "Make a co-op there first: kithd init"),
        (&["serve", &wrong], "deploy/kithd.example.toml explains every option"),
        (&["init", &below, "--name", "alder.test"], "Look at the disk and the folder"),
        (&["init", "/proc/kith", "--name", "alder.test"], "Look whether the path is right"),
    ];
    for (arguments, advice) in servers {
        let output = Command::new(program("kithd")).args(arguments).output().unwrap();
        assert!(!output.status.success() && stderr_of(&output).contains(advice), "{arguments:?}: {}", stderr_of(&output));
    }
    let members: [(&str, &[&str], &str); 4] = [
        ("H8", &["rooms"], "kith join LINK"),
        ("H1", &["read", "ffff"], "`kith rooms` lists yours"),
        ("H1", &["outbox", "cancel", "999"], "`kith outbox list` shows them"),
        ("H8", &["join", "kith:nothing", "--name", "first"], "link"),
    ];
    for (home, arguments, advice) in members {
        let output = world.try_kith(home, arguments);
        assert!(!output.status.success() && stderr_of(&output).contains(advice), "{arguments:?}: {}", stderr_of(&output));
    }
}

/// A second server on one folder would sign a second history.
#[test]
fn one_server_works_in_a_folder() {
    let (world, _) = alone();
    let coop = &world.coops[0];
    let config = coop.folder.join("kithd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let moved = text.replace(&format!(":{}\"", coop.port), ":0\"").replace(&format!(":{}\"", coop.link_port), ":0\"");
    std::fs::write(&config, moved).unwrap();
    let second = Command::new(program("kithd")).arg("serve").arg(&coop.folder).output().unwrap();
    assert!(!second.status.success() && stderr_of(&second).contains("another kithd"), "{}", stderr_of(&second));
    std::fs::write(&config, text).unwrap();
    assert!(coop.kithd(&["invite"]).starts_with("http://127.0.0.1"), "the first one still answers");
}

/// Without its server a device shows what it has, and says that it could not be brought up to date.
#[test]
fn what_is_there_is_shown_first() {
    let (mut world, room) = alone();
    world.kith("H1", &["say", &room, "before the cut", "--wait", "ordered"]);
    world.coops[0].kill();
    let output = world.try_kith("H1", &["read", &room, "--json", "--timeout", "1"]);
    let lines = lines_of(&output);
    assert!(!output.status.success() && stderr_of(&output).contains("what the device had"), "{}", stderr_of(&output));
    assert_eq!(texts(&lines).last().unwrap().1, "before the cut");
    assert!(!stderr_of(&output).contains("outbox"), "nothing waits there");
}

/// Whoever stays with a room hears when the connection goes and when it is back, and sees how far its own words have come.
#[test]
fn following_says_how_it_is() {
    let (mut world, room) = alone();
    world.kith("H1", &["say", &room, "here", "--wait", "ordered"]);
    let mut follow = world.command("H1", &["read", &room, "--follow"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (heard, said) = mpsc::channel();
    for source in [Box::new(follow.stdout.take().unwrap()) as Box<dyn Read + Send>, Box::new(follow.stderr.take().unwrap())] {
        let heard = heard.clone();
        std::thread::spawn(move || BufReader::new(source).lines().map_while(Result::ok).for_each(|line| drop(heard.send(line))));
    }
    let hear = |what: &str| {
        let mut lines = Vec::new();
        while let Ok(line) = said.recv_timeout(Duration::from_secs(20)) {
            lines.push(line);
            if lines.last().is_some_and(|line| line.contains(what)) {
                return;
            }
        }
        panic!("{what:?} is not among {lines:?}");
    };
    hear("here");
    world.coops[0].kill();
    hear("No connection");
    world.coops[0].start();
    hear("Connected again");
    world.kith("H1", &["say", &room, "all is well"]);
    hear("all is well  (held 1/1)");
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// The steward's socket takes requests of a size that stewards' requests have.
#[test]
fn the_stewards_socket_is_bounded() {
    use std::io::Write;
    let (world, _) = alone();
    let coop = &world.coops[0];
    let mut socket = std::os::unix::net::UnixStream::connect(coop.folder.join("admin.sock")).unwrap();
    let len = kith_protocol::limits::STEWARD_REQUEST_BYTES_MAX + 1;
    write!(socket, "POST / HTTP/1.1\r\nHost: kithd\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n").unwrap();
    // It may answer before it has read all.
    let _ = socket.write_all(&vec![b'1'; len]);
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert!(answer.contains("length limit exceeded"), "{answer}");
    assert!(coop.kithd(&["invite"]).starts_with("http://"), "it goes on answering");
}

/// Strangers who hold places at the links' port are bounded, and let go in time: the neighbour's link comes up.
#[test]
fn strangers_at_the_links_port_are_bounded() {
    use std::net::TcpStream;
    let mut world = World::strangers();
    let port = world.coops[1].link_port;
    let held: Vec<TcpStream> =
        (0..kith_protocol::limits::LINK_STRANGERS_MAX).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let mut one_more = TcpStream::connect(("127.0.0.1", port)).unwrap();
    one_more.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(one_more.read(&mut [0; 8]).unwrap_or(0), 0, "turned away at once");
    drop(held);
    world.introduce();
    let up = || kith_e2e::http(world.coops[0].port, "/metrics").is_some_and(|text| text.contains("kith_links 1\n"));
    kith_e2e::until("the link", Duration::from_secs(10), up);
}

/// Colours are for terminals; what others wrote steers none.
#[test]
fn a_terminal_gets_colours_and_nobody_elses_orders() {
    const ORDERS: &str = "calm \u{1b}[31m\u{7}\u{9b}2J and clear";
    const SHOWN: &str = "calm \u{fffd}[31m\u{fffd}\u{fffd}2J and clear";
    let (world, room) = alone();
    world.kith("H1", &["say", &room, ORDERS]);
    let plain = world.kith("H1", &["read", &room]);
    assert!(plain.contains(SHOWN) && !plain.contains('\u{1b}'), "{plain:?}");
    // `script` gives the program a terminal of its own, and passes on what it writes there.
    let at_a_terminal = |is_coloured: bool| {
        let line = format!("'{}' --home '{}' read {room}", program("kith").display(), world.home("H1").display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null()).env_remove("NO_COLOR");
        if !is_coloured {
            script.env("NO_COLOR", "1");
        }
        let output = script.output().expect("`script` of util-linux runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let coloured = at_a_terminal(true);
    assert!(coloured.contains(SHOWN), "{coloured:?}");
    let codes: std::collections::BTreeSet<&str> =
        coloured.split('\u{1b}').skip(1).map(|rest| rest.split_inclusive('m').next().unwrap_or(rest)).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["[0m", "[1m", "[2m"], "colours, and nothing else");
    assert!(!at_a_terminal(false).contains('\u{1b}'));
}
