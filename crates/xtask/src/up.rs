//! A co-op on this machine, with a first room: to look at, or to work against.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::setup::{cargo, run, target_dir};

const NAMES: [&str; 2] = ["alder.test", "birch.test"];
/// A server drains within five seconds.
const DRAIN: Duration = Duration::from_secs(6);
/// Between two looks at what has no handle to wait for.
const LOOK: Duration = Duration::from_millis(50);

struct Coop {
    name: &'static str,
    listen: u16,
    link: u16,
}

/// The programs, and where everything of this run lies.
struct Place {
    bins: PathBuf,
    dir: PathBuf,
}

/// Servers that end with this process.
#[derive(Default)]
struct Servers(Vec<(&'static str, Child)>);

impl Servers {
    /// Tells all to drain, and waits for them. What does not end in time is killed.
    fn stop(&mut self) -> Result<()> {
        for (_, server) in &self.0 {
            // It has not been waited for, so the number is still its own.
            Command::new("kill").arg("-TERM").arg(server.id().to_string()).stderr(Stdio::null()).status()?;
        }
        let deadline = Instant::now() + DRAIN;
        let mut failed = Vec::new();
        for (name, mut server) in self.0.drain(..) {
            let status = loop {
                match server.try_wait()? {
                    Some(status) => break status,
                    None if Instant::now() < deadline => std::thread::sleep(LOOK),
                    None => {
                        server.kill()?;
                        break server.wait()?;
                    }
                }
            };
            if !status.success() {
                failed.push(format!("{name} stopped with {status}"));
            }
        }
        if failed.is_empty() { Ok(()) } else { bail!(failed.join(", ")) }
    }

    /// Until somebody says stop, or one ends by itself.
    fn watch(&mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            for (name, server) in &mut self.0 {
                if let Some(status) = server.try_wait()? {
                    bail!("{name} has stopped ({status})");
                }
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("xtask: {error:#}");
        }
    }
}

pub fn up(coops: u8, dir: Option<PathBuf>, port: u16) -> Result<()> {
    let place =
        Place { bins: programs()?, dir: dir.map_or_else(|| Ok(target_dir()?.join("up")), |dir| anyhow::Ok(std::path::absolute(dir)?))? };
    std::fs::create_dir_all(&place.dir)?;
    let coops: Vec<Coop> =
        NAMES.into_iter().zip(port..).take(coops.into()).map(|(name, listen)| Coop { name, listen, link: listen + 10 }).collect();
    // From here on there is something to end.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut servers = Servers::default();
    for coop in &coops {
        place.start(coop, &mut servers, &stop)?;
    }
    if let [one, other] = coops.as_slice() {
        place.introduce(one, other)?;
        place.introduce(other, one)?;
    }
    if !stop.load(Ordering::Relaxed) {
        place.show(&coops)?;
    }
    servers.watch(&stop)?;
    servers.stop()
}

/// Where the programs are, built if nobody has.
fn programs() -> Result<PathBuf> {
    if let Some(bins) = std::env::var_os("KITH_BIN_DIR") {
        return Ok(std::path::absolute(bins)?);
    }
    run(&mut cargo(&["build", "--release", "-p", "kith-relay", "-p", "kith-cli", "--bins"]))?;
    Ok(target_dir()?.join("release"))
}

impl Place {
    fn kithd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bins.join("kithd"));
        command.current_dir(&self.dir).args(arguments);
        command
    }

    fn first_member(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bins.join("kith"));
        command.arg("--home").arg(self.dir.join("first")).args(arguments);
        command
    }

    fn start(&self, coop: &Coop, servers: &mut Servers, stop: &AtomicBool) -> Result<()> {
        let (listen, link) = (format!("127.0.0.1:{}", coop.listen), format!("127.0.0.1:{}", coop.link));
        let folder = self.dir.join(coop.name);
        if !folder.exists() {
            run(&mut self.kithd(&["init", coop.name, "--name", coop.name, "--listen", &listen, "--link-listen", &link]))?;
        }
        let config = std::fs::read_to_string(folder.join("kithd.toml"))?;
        if ![&listen, &link].into_iter().all(|address| config.contains(&format!("\"{address}\""))) {
            bail!("{} was made with other ports: give the same --port again, or another --dir", folder.display());
        }
        let log = self.dir.join(format!("{}.log", coop.name));
        let server = self.kithd(&["serve", coop.name]).stdin(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
        servers.0.push((coop.name, server));
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(folder.join("admin.sock")).is_err() {
            let ended = servers.0.last_mut().map(|(_, server)| server.try_wait()).transpose()?.flatten();
            if Instant::now() > deadline || ended.is_some() || stop.load(Ordering::Relaxed) {
                bail!("{} does not start; look at {}", coop.name, log.display());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// `to` adds `other`.
    fn introduce(&self, to: &Coop, other: &Coop) -> Result<()> {
        let key = last_line(self.kithd(&["neighbour", "key", other.name, "--json"]), "key")?;
        let address = format!("127.0.0.1:{}", other.link);
        run(&mut self.kithd(&["neighbour", "add", to.name, other.name, &address, &key]))
    }

    /// The first member and room, unless they are there from the last time.
    fn first_room(&self) -> Result<String> {
        if !self.dir.join("first").exists() {
            let link = last_line(self.kithd(&["invite", NAMES[0], "--json"]), "link")?;
            run(&mut self.first_member(&["join", &link, "--name", "first"]))?;
        }
        if let Ok(room) = last_line(self.first_member(&["rooms", "--json"]), "room") {
            return Ok(room);
        }
        last_line(self.first_member(&["room", "new", "First room", "--json"]), "room")
    }

    /// Prints what to paste next.
    fn show(&self, coops: &[Coop]) -> Result<()> {
        let room = self.first_room()?;
        let (kith, dir) = (self.bins.join("kith").display().to_string(), self.dir.display());
        println!("\nRunning. Your first member's device is {dir}/first, in the room {room}.");
        for Coop { name, .. } in coops {
            let link = last_line(self.kithd(&["invite", name, "--json"]), "link")?;
            let invite = last_line(self.first_member(&["room", "invite", &room, "--json"]), "link")?;
            println!("\nAnother member at {name} (paste both):");
            println!("  {kith} --home {dir}/second-{name} join '{link}' --name second");
            println!("  {kith} --home {dir}/second-{name} room join '{invite}'");
        }
        println!("\nSay and read:");
        println!("  {kith} --home {dir}/first checkin {room} --pleasant 1 --words hopeful");
        println!("  {kith} --home {dir}/first read {room} --follow");
        let port = coops[0].listen;
        println!("\nOpen http://127.0.0.1:{port}/readyz to see that it serves. Ctrl-C stops it; everything is kept in {dir}.");
        Ok(())
    }
}

/// A field of the JSON object on the last line of what a command prints.
fn last_line(mut command: Command, field: &str) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().context("it printed nothing")?;
    let value: Value = serde_json::from_str(line)?;
    Ok(value[field].as_str().context("the field is missing")?.to_owned())
}
