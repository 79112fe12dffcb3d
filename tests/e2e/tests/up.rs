//! `cargo xtask up`, as somebody uses it who sees Kith for the first time.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kith_e2e::{free_port, program};

/// Ports for two co-ops from one first port.
fn first_port() -> u16 {
    for _ in 0..1_000 {
        let port = free_port();
        let ports = [port, port.saturating_add(1), port.saturating_add(10), port.saturating_add(11)];
        if port < 65_000 && ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
    panic!("no free ports");
}

/// It stops its servers when it is asked to: also where a test fails.
struct Up(Child);

impl Up {
    fn ask_to_stop(&self, signal: &str) {
        assert!(Command::new("kill").arg(signal).arg(self.0.id().to_string()).status().unwrap().success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.ask_to_stop("-TERM");
            drop(self.0.wait());
        }
    }
}

/// Starts it, and waits until it has printed everything.
fn up(dir: &Path, port: u16) -> (Up, Vec<String>) {
    let kithd = program("kithd");
    let mut command = Command::new(program("kith-xtask"));
    command.env("KITH_BIN_DIR", kithd.parent().unwrap()).args(["up", "--coops", "2", "--port", &port.to_string()]).arg("--dir").arg(dir);
    let mut up = Up(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap());
    let mut lines = Vec::new();
    for line in BufReader::new(up.0.stdout.as_mut().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains("Ctrl-C stops it") {
            return (up, lines);
        }
    }
    panic!("it ended with {}: {lines:#?}", up.0.wait().unwrap());
}

/// Processes that work in the folder: its servers.
fn servers(dir: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == dir)).count()
}

fn stop(mut up: Up, signal: &str, dir: &Path) {
    assert_eq!(servers(dir), 2);
    up.ask_to_stop(signal);
    assert!(up.0.wait().unwrap().success(), "it ends well, and so did its servers");
    assert_eq!(servers(dir), 0, "nothing of it is left");
    for coop in ["alder.test", "birch.test"] {
        let log = std::fs::read_to_string(dir.join(format!("{coop}.log"))).unwrap();
        assert!(log.contains("\"stopped\""), "{coop} drained: {log}");
    }
}

/// Runs what was printed to be pasted.
fn paste(lines: &[String], what: &str) -> String {
    let line = lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in {lines:#?}"));
    sh(line)
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it prints works, a signal ends it with everything that it started, and the next start has it all.
#[test]
fn up_stops_cleanly_and_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, port) = (folder.path().canonicalize().unwrap(), first_port());
    let (child, lines) = up(&dir, port);
    paste(&lines, "second-birch.test join ");
    paste(&lines, "second-birch.test room join ");
    paste(&lines, "checkin ");
    let read = lines.iter().find(|line| line.contains(" read ")).unwrap().replace("--follow", "");
    let before = sh(&read);
    assert!(before.contains("hopeful"), "{before}");
    stop(child, "-TERM", &dir);

    let (child, again) = up(&dir, port);
    assert_eq!(again.iter().find(|line| line.contains("in the room")), lines.iter().find(|line| line.contains("in the room")));
    // It has opened fresh links since; all that was there is there.
    let after = sh(&read);
    assert!(after.starts_with(&before), "{after} is not {before} and more");
    // A device from before the restart is still a member, of the neighbour's co-op, with its room.
    let other = read.replace("/first ", "/second-birch.test ");
    assert!(sh(&other).contains("hopeful"));
    stop(child, "-INT", &dir);
}
