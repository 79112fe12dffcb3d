//! Real binaries, as a person or a script uses them: co-ops and their members in a temporary folder, on loopback.

pub mod door;
pub mod proxy;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::door::Door;
use crate::proxy::Line;

/// How long a server may take to serve.
const START: Duration = Duration::from_secs(20);

/// What the co-ops of a test are called, the first first.
const NAMES: [&str; 5] = ["alder.test", "birch.test", "cedar.test", "damson.test", "elm.test"];

static USED_PORTS: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of this machine that nobody listens on now, and that this process has not handed out before.
pub fn free_port() -> u16 {
    let mut used = USED_PORTS.lock().expect("no test panics while it holds this");
    let used = used.get_or_insert_with(HashSet::new);
    for _ in 0..1_000 {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback has ports").port();
        if used.insert(port) {
            return port;
        }
    }
    panic!("no free port");
}

/// Where the binaries are: KITH_BIN_DIR, or beside this test.
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("KITH_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("this test has a path");
        test.ancestors().nth(2).expect("target/debug/deps/test").to_owned()
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --bins`, or the tests by `cargo xtask test`", path.display());
    path
}

/// A small generator, so that a failing run can be repeated by its seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The seed must not be nought.
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0);
        Self(seed)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Polls until it is so, and says how long that took.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "{what} did not come about in {limit:?}");
        std::thread::yield_now();
    }
    begun.elapsed()
}

/// A co-op's folder, and its server while it runs.
pub struct Coop {
    pub name: &'static str,
    pub folder: PathBuf,
    pub port: u16,
    pub link_port: u16,
    server: Option<Child>,
    starts: u32,
}

/// Everything of one test.
pub struct World {
    pub dir: TempDir,
    pub coops: Vec<Coop>,
    /// Ways in for members, one for each co-op, if the test wants to look.
    pub doors: Vec<Door>,
    /// Bad lines between them, if the test wants any.
    pub lines: Vec<Line>,
}

impl Drop for Coop {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Coop {
    pub fn start(&mut self) {
        self.starts += 1;
        let log =
            std::fs::File::create(self.folder.with_extension(format!("{}.log", self.starts))).expect("the test's folder can be written");
        let server = Command::new(program("kithd"))
            .arg("serve")
            .arg(&self.folder)
            .env("KITHD_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("kithd starts");
        self.server = Some(server);
        let deadline = Instant::now() + START;
        while http(self.port, "/readyz").is_none_or(|answer| !answer.contains("200 OK")) {
            assert!(Instant::now() < deadline, "{} does not serve", self.name);
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            std::thread::yield_now();
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// SIGTERM, and how long the drain took.
    pub fn stop(&mut self) -> Duration {
        let mut server = self.server.take().expect("it runs");
        let begun = Instant::now();
        let kill = Command::new("kill").arg("-TERM").arg(server.id().to_string()).status().expect("kill runs");
        assert!(kill.success());
        let status = server.wait().expect("it is our child");
        assert!(status.success(), "{} stopped with {status}", self.name);
        begun.elapsed()
    }

    pub fn kithd(&self, arguments: &[&str]) -> String {
        let output = self.try_kithd(arguments);
        assert!(output.status.success(), "kithd {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Makes another co-op a neighbour, to be dialled at that port.
    pub fn add(&self, other: &Self, link_port: u16) {
        let key = other.kithd(&["neighbour", "key"]);
        let key = key.split_whitespace().last().expect("name and key").to_owned();
        self.kithd(&["neighbour", "add", other.name, &format!("127.0.0.1:{link_port}"), &key]);
    }

    /// A copy of its folder, keys and all, that listens at ports of its own. Its server must be stopped.
    pub fn twin(&self) -> Self {
        assert!(self.server.is_none(), "a copy of a database that is written to is none");
        let folder = self.folder.with_extension("twin");
        let copied = Command::new("cp").arg("-a").arg(&self.folder).arg(&folder).status().expect("cp runs");
        assert!(copied.success());
        let twin = Self { name: self.name, folder, port: free_port(), link_port: free_port(), server: None, starts: 0 };
        let config = twin.folder.join("kithd.toml");
        let text = std::fs::read_to_string(&config).expect("a configuration");
        let moved = [(self.port, twin.port), (self.link_port, twin.link_port)];
        let text = moved.iter().fold(text, |text, (old, new)| text.replace(&format!(":{old}\""), &format!(":{new}\"")));
        std::fs::write(config, text).expect("it can be written");
        twin
    }

    pub fn try_kithd(&self, arguments: &[&str]) -> Output {
        let words = if matches!(arguments[0], "neighbour" | "key" | "room") { 2 } else { 1 };
        let (verb, rest) = arguments.split_at(arguments.len().min(words));
        Command::new(program("kithd")).args(verb).arg(&self.folder).args(rest).output().expect("kithd runs")
    }

    /// The JSON on the last line of what a command prints.
    pub fn kithd_json(&self, arguments: &[&str]) -> Value {
        let text = self.kithd(&[arguments, &["--json"]].concat());
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    }

    /// Memory that its server's pages take up now (VmRSS).
    pub fn resident_bytes(&self) -> u64 {
        let id = self.server.as_ref().expect("it runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Everything that its server wrote on standard error so far.
    pub fn logs(&self) -> Vec<PathBuf> {
        (1..=self.starts).map(|start| self.folder.with_extension(format!("{start}.log"))).collect()
    }
}

/// A bare HTTP GET. `None`: nobody listens.
pub fn http(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: kith\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

impl World {
    /// Two co-ops that serve and know each other.
    pub fn two_coops() -> Self {
        let mut world = Self::strangers();
        world.introduce();
        world
    }

    /// Two co-ops that serve.
    pub fn strangers() -> Self {
        Self::of(2)
    }

    /// So many co-ops that serve.
    pub fn of(count: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let coops = NAMES[..count].iter().map(|name| {
            let coop = Coop { name, folder: dir.path().join(name), port: free_port(), link_port: free_port(), server: None, starts: 0 };
            let (listen, link) = (format!("127.0.0.1:{}", coop.port), format!("127.0.0.1:{}", coop.link_port));
            coop.kithd(&["init", "--name", name, "--listen", &listen, "--link-listen", &link]);
            coop
        });
        let coops = coops.collect();
        let mut world = Self { dir, coops, doors: Vec::new(), lines: Vec::new() };
        world.coops.iter_mut().for_each(Coop::start);
        world
    }

    /// Each agrees with each.
    pub fn introduce(&mut self) {
        self.introduce_at(|_, there| there.link_port);
    }

    /// Each agrees with each, and has a line of its own to each: clear, until it is told otherwise.
    pub fn introduce_by_lines(&mut self, seed: u64) {
        let mut lines = Vec::new();
        self.introduce_at(|here, there| {
            // Of two neighbours the one whose name comes first dials.
            if here.name > there.name {
                return there.link_port;
            }
            let line = Line::to(there.link_port, seed + lines.len() as u64);
            let port = line.port;
            lines.push(line);
            port
        });
        self.lines = lines;
    }

    fn introduce_at(&self, mut port: impl FnMut(&Coop, &Coop) -> u16) {
        for here in &self.coops {
            for there in self.coops.iter().filter(|there| there.name != here.name) {
                here.add(there, port(here, there));
            }
        }
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of a member, ready to run.
    pub fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("kith"));
        command.arg("--home").arg(self.home(home)).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn try_kith(&self, home: &str, arguments: &[&str]) -> Output {
        self.command(home, arguments).output().expect("kith runs")
    }

    /// Runs it, and gives what it printed.
    pub fn kith(&self, home: &str, arguments: &[&str]) -> String {
        let output = self.try_kith(home, arguments);
        assert!(output.status.success(), "kith {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// A field of the JSON on the last line.
    pub fn kith_field(&self, home: &str, arguments: &[&str], field: &str) -> String {
        let text = self.kith(home, &[arguments, &["--json"]].concat());
        let value: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        value[field].as_str().unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
    }

    /// JSON objects, one a line.
    pub fn kith_lines(&self, home: &str, arguments: &[&str]) -> Vec<Value> {
        self.kith(home, &[arguments, &["--json"]].concat()).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// A member of a co-op by its number.
    pub fn join(&self, coop: usize, home: &str, name: &str) {
        let invite: Value = serde_json::from_str(&self.coops[coop].kithd(&["invite", "--json"])).expect("JSON");
        let mut link = invite["link"].as_str().expect("a link").to_owned();
        if let Some(door) = self.doors.get(coop) {
            let [there, here] = [self.coops[coop].port, door.port].map(|port| format!("127.0.0.1:{port}"));
            assert!(link.contains(&there), "{link}");
            link = link.replace(&there, &here);
        }
        self.kith(home, &["join", &link, "--name", name]);
    }

    /// A room of `first` at the first co-op with `second` of the second in it.
    pub fn shared_room(&self) -> String {
        self.join(0, "H1", "first");
        self.join(1, "H2", "second");
        let room = self.kith_field("H1", &["room", "new", "Tuesday circle"], "room");
        let link = self.kith_field("H1", &["room", "invite", &room], "link");
        assert_eq!(self.kith_field("H2", &["room", "join", &link], "room"), room);
        room
    }
}

/// What a command said of what went wrong.
pub fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of JSON that a command printed, whether it came about or not.
pub fn lines_of(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Texts of a room in the order of its log, with their sequence numbers.
pub fn texts(lines: &[Value]) -> Vec<(Option<u64>, String)> {
    let of_kind = lines.iter().filter(|line| line["kind"] == "text");
    of_kind.map(|line| (line["seq"].as_u64(), line["content"]["text"].as_str().expect("text").to_owned())).collect()
}

/// All files below a folder.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path))
        } else if path.is_file() {
            found.push(path)
        }
    }
    found
}
