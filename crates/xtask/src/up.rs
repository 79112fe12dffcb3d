//! A co-op on this machine, with a first room: to look at, or to work against.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::setup::{cargo, root, run, target_dir};

struct Coop {
    name: &'static str,
    listen: u16,
    link: u16,
}

const COOPS: [Coop; 2] = [Coop { name: "alder.test", listen: 7401, link: 7411 }, Coop { name: "birch.test", listen: 7402, link: 7412 }];

/// A server that ends with this process.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn up(coops: u8, dir: &Path) -> Result<()> {
    run(&mut cargo(&["build", "--release", "-p", "kith-relay", "-p", "kith-cli", "--bins"]))?;
    let dir = root().join(dir);
    std::fs::create_dir_all(&dir)?;
    let coops = &COOPS[..usize::from(coops)];
    let mut servers = Vec::new();
    for coop in coops {
        servers.push(start(&dir, coop)?);
    }
    if let [one, other] = coops {
        introduce(&dir, one, other)?;
        introduce(&dir, other, one)?;
    }
    let home = dir.join("first");
    let room = first_room(&dir, &home)?;
    let kith = program("kith");
    println!("\nRunning. Your first member's device is {}, in the room {room}.", home.display());
    for coop in coops {
        let link = last_line(kithd(&dir, &["invite", coop.name, "--json"]), "link")?;
        let invite = last_line(Command::new(&kith).arg("--home").arg(&home).args(["room", "invite", &room, "--json"]), "link")?;
        println!("\nAnother member at {} (paste both):", coop.name);
        println!("  {} --home {}/second-{} join '{link}' --name second", kith.display(), dir.display(), coop.name);
        println!("  {} --home {}/second-{} room join '{invite}'", kith.display(), dir.display(), coop.name);
    }
    println!("\nSay and read:");
    println!("  {} --home {} checkin {room} --pleasant 1 --words hopeful", kith.display(), home.display());
    println!("  {} --home {} read {room} --follow", kith.display(), home.display());
    println!(
        "\nOpen http://127.0.0.1:{}/readyz to see that it serves. Ctrl-C stops it; everything is kept in {}.",
        coops[0].listen,
        dir.display()
    );
    let first = servers.first_mut().context("there is a server")?;
    let status = first.0.wait()?;
    bail!("{} has stopped ({status})", coops[0].name)
}

fn program(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

fn kithd(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("kithd"));
    command.current_dir(dir).args(arguments);
    command
}

fn start(dir: &Path, coop: &Coop) -> Result<Server> {
    if !dir.join(coop.name).exists() {
        let (listen, link) = (format!("127.0.0.1:{}", coop.listen), format!("127.0.0.1:{}", coop.link));
        run(&mut kithd(dir, &["init", coop.name, "--name", coop.name, "--listen", &listen, "--link-listen", &link]))?;
    }
    let log = std::fs::File::create(dir.join(format!("{}.log", coop.name)))?;
    let server = Server(kithd(dir, &["serve", coop.name]).stdin(Stdio::null()).stderr(log).spawn()?);
    let socket = dir.join(coop.name).join("admin.sock");
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        if Instant::now() > deadline {
            bail!("{} does not start; look at {}/{}.log", coop.name, dir.display(), coop.name);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

/// `to` adds `other`.
fn introduce(dir: &Path, to: &Coop, other: &Coop) -> Result<()> {
    let key = last_line(&mut kithd(dir, &["neighbour", "key", other.name, "--json"]), "key")?;
    let address = format!("127.0.0.1:{}", other.link);
    run(&mut kithd(dir, &["neighbour", "add", to.name, other.name, &address, &key]))
}

/// The first member and room, unless they are there from the last time.
fn first_room(dir: &Path, home: &Path) -> Result<String> {
    let kith = |arguments: &[&str]| {
        let mut command = Command::new(program("kith"));
        command.arg("--home").arg(home).args(arguments);
        command
    };
    if !home.exists() {
        let link = last_line(&mut kithd(dir, &["invite", COOPS[0].name, "--json"]), "link")?;
        run(&mut kith(&["join", &link, "--name", "first"]))?;
    }
    if let Ok(room) = last_line(&mut kith(&["rooms", "--json"]), "room") {
        return Ok(room);
    }
    last_line(&mut kith(&["room", "new", "First room", "--json"]), "room")
}

/// A field of the JSON object on the last line of what a command prints.
fn last_line(command: impl std::borrow::BorrowMut<Command>, field: &str) -> Result<String> {
    let mut command = command;
    let output = command.borrow_mut().stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().context("it printed nothing")?;
    let value: Value = serde_json::from_str(line)?;
    Ok(value[field].as_str().context("the field is missing")?.to_owned())
}
