//! The servers under measurement: started, asked, and looked at from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kith_protocol::invite_link::MembershipLink;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;

use crate::bare;

/// How long a server may take to serve.
const START: Duration = Duration::from_secs(20);
/// Linux's USER_HZ, in which /proc counts CPU time; it is 100 on every architecture that the server runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// As many open files as this user may have: a connection is one here, and one in the server.
pub fn raise_open_files() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running process, killed when it is let go of.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// The bare broadcaster: this program as another process.
    pub fn bare() -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program).arg(bare::SUBCOMMAND).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse().context("the reference says where it listens")? })
    }

    /// A bare HTTP GET. `None`: nobody answers.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: kith\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn serves(&self) -> bool {
        self.get("/readyz").is_some_and(|answer| answer.contains("200 OK"))
    }

    /// Somebody answers at its port, in whatever tongue.
    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// One of its metrics, by its whole name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let answer = self.get("/metrics")?;
        answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// User and system time so far, seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name, which may contain anything but ends with the last bracket: utime and stime are 14 and 15 of all.
        let (_, fields) = stat.rsplit_once(')').context("no such process")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum();
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// A co-op of its own in a temporary folder, with its `kithd`.
pub struct Coop {
    pub server: Server,
    pub dir: TempDir,
    pub name: &'static str,
    link_port: u16,
}

/// KITH_BIN_DIR, or beside this program.
fn kithd() -> anyhow::Result<PathBuf> {
    let beside = || std::env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from));
    let dir = std::env::var_os("KITH_BIN_DIR").map(PathBuf::from).or_else(beside).context("no folder of binaries")?;
    let path = dir.join("kithd");
    ensure!(path.exists(), "{} is missing: run `cargo build --release -p kith-relay`", path.display());
    Ok(path)
}

/// The server of a co-op's folder, once it is ready.
fn serve(dir: &TempDir, port: u16, is_ready: fn(&Server) -> bool) -> anyhow::Result<Server> {
    let log = std::fs::File::create(dir.path().join("kithd.log"))?;
    let mut serve = Command::new(kithd()?);
    serve.arg("serve").arg(dir.path().join("coop"));
    let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
    let mut server = Server { child, port };
    let deadline = Instant::now() + START;
    while !is_ready(&server) {
        if let Some(status) = server.child.try_wait()? {
            bail!("kithd ended: {status}\n{}", std::fs::read_to_string(dir.path().join("kithd.log"))?);
        }
        ensure!(Instant::now() < deadline, "kithd does not serve");
        std::thread::yield_now();
    }
    Ok(server)
}

impl Coop {
    pub fn start() -> anyhow::Result<Self> {
        Self::named("alder.test")
    }

    pub fn named(name: &'static str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (port, link_port) = (free_port()?, free_port()?);
        let mut init = Command::new(kithd()?);
        init.arg("init").arg(dir.path().join("coop")).args(["--name", name]);
        init.args(["--listen", &format!("127.0.0.1:{port}"), "--link-listen", &format!("127.0.0.1:{link_port}")]);
        ensure!(init.stdout(Stdio::null()).status()?.success(), "kithd init failed");
        Ok(Self { server: serve(&dir, port, Server::serves)?, dir, name, link_port })
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("coop")
    }

    /// SIGTERM, and waits until everything is on disk.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.server.child.id().cast_signed()).context("a running server")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.server.child.wait()?;
        ensure!(status.success(), "kithd stopped with {status}");
        Ok(())
    }

    /// Serves again after [`Self::stop`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.server = serve(&self.dir, self.server.port, Server::serves)?;
        Ok(())
    }

    /// Serves again after [`Self::stop`], and does TLS for its members with this certificate and key (PEM).
    pub fn restart_with_tls(&mut self, certificate: &str, key: &str) -> anyhow::Result<()> {
        let folder = self.folder();
        let paths = [folder.join("certificate.pem"), folder.join("key.pem")];
        std::fs::write(&paths[0], certificate)?;
        std::fs::write(&paths[1], key)?;
        let mut config = std::fs::OpenOptions::new().append(true).open(folder.join("kithd.toml"))?;
        write!(config, "\n[tls]\ncertificate = {:?}\nkey = {:?}\n", paths[0], paths[1])?;
        self.server = serve(&self.dir, self.server.port, Server::listens)?;
        Ok(())
    }

    /// Agrees with another co-op, from this side.
    pub fn agree(&self, other: &Self) -> anyhow::Result<()> {
        let key = kithd_says(Command::new(kithd()?).args(["neighbour", "key"]).arg(other.folder()))?;
        let mut add = Command::new(kithd()?);
        add.args(["neighbour", "add"]).arg(self.folder()).args([other.name, &format!("127.0.0.1:{}", other.link_port), key.trim()]);
        kithd_says(&mut add)?;
        Ok(())
    }

    /// A link for so many members. The server commits for it, and with it whatever waited lazily to be written.
    pub fn invite(&self, uses: usize) -> anyhow::Result<MembershipLink> {
        let mut invite = Command::new(kithd()?);
        let text = kithd_says(invite.arg("invite").arg(self.folder()).args(["--uses", &uses.to_string()]))?;
        Ok(MembershipLink::parse(&text)?)
    }
}

fn kithd_says(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
