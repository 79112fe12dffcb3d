//! The servers under measurement: started, asked, and looked at from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kith_protocol::invite_link::MembershipLink;
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::bare;

/// How long a server may take to serve.
const START: Duration = Duration::from_secs(20);
/// Linux's USER_HZ, in which /proc counts CPU time; it is 100 on every architecture that the server runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const NAME: &str = "alder.test";

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
}

/// KITH_BIN_DIR, or beside this program.
fn kithd() -> anyhow::Result<PathBuf> {
    let beside = || std::env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from));
    let dir = std::env::var_os("KITH_BIN_DIR").map(PathBuf::from).or_else(beside).context("no folder of binaries")?;
    let path = dir.join("kithd");
    ensure!(path.exists(), "{} is missing: run `cargo build --release -p kith-relay`", path.display());
    Ok(path)
}

impl Coop {
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = dir.path().join("coop");
        let (port, link) = (free_port()?, free_port()?);
        let mut init = Command::new(kithd()?);
        init.arg("init").arg(&folder).args(["--name", NAME]);
        init.args(["--listen", &format!("127.0.0.1:{port}"), "--link-listen", &format!("127.0.0.1:{link}")]);
        ensure!(init.stdout(Stdio::null()).status()?.success(), "kithd init failed");
        let log = std::fs::File::create(dir.path().join("kithd.log"))?;
        let child = Command::new(kithd()?).arg("serve").arg(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut coop = Self { server: Server { child, port }, dir };
        let deadline = Instant::now() + START;
        while !is_ready(port) {
            if let Some(status) = coop.server.child.try_wait()? {
                bail!("kithd ended: {status}\n{}", std::fs::read_to_string(coop.dir.path().join("kithd.log"))?);
            }
            ensure!(Instant::now() < deadline, "kithd does not serve");
            std::thread::yield_now();
        }
        Ok(coop)
    }

    /// A link for so many members. The server commits for it, and with it whatever waited lazily to be written.
    pub fn invite(&self, uses: usize) -> anyhow::Result<MembershipLink> {
        let output = Command::new(kithd()?).arg("invite").arg(self.dir.path().join("coop")).args(["--uses", &uses.to_string()]).output()?;
        ensure!(output.status.success(), "kithd invite: {}", String::from_utf8_lossy(&output.stderr));
        Ok(MembershipLink::parse(&String::from_utf8(output.stdout)?)?)
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: kith\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("200 OK").then_some(())
    };
    ask().is_some()
}
