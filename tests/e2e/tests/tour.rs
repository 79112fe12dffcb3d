//! The README's tour, as it stands there: a person pastes it into a shell.

use std::process::{Command, Stdio};

use kith_e2e::{free_port, program};

#[test]
fn the_tour_is_a_script() {
    let readme = include_str!("../../../README.md");
    let tour = readme.split("## A tour of two minutes").nth(1).unwrap().split("```").nth(1).unwrap();
    assert!(tour.lines().count() > 12, "{tour}");
    let dir = tempfile::tempdir().unwrap();
    // Ports of this test's own; nothing else is changed.
    let tour = ["7401", "7402", "7411", "7412"]
        .iter()
        .fold(tour.to_owned(), |tour, port| tour.replace(&format!(":{port}"), &format!(":{}", free_port())));
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n{tour}");
    let bins = program("kith").parent().unwrap().to_owned();
    let path = format!("{}:{}", bins.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).env("PATH", path).stdin(Stdio::null()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    for shown in [
        "alder.test ed25519:",
        "first",
        "slept badly",
        "tired, hopeful",
        "I am here  (held 2/2)",
        "entries are whole",
        "Cosigned by: birch.test",
    ] {
        assert!(said.contains(shown), "{shown:?} is not in\n{said}");
    }
}
