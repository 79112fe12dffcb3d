//! Which crate may know which, where names may appear, and how long things may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/tidy").to_owned()
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// protocol ← storage ← federation ← relay, protocol ← client ← cli, web. Tests may know everything.
#[test]
fn crates_know_only_what_is_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("kith-protocol", &[][..]),
        ("kith-storage", &["kith-protocol"]),
        ("kith-federation", &["kith-protocol", "kith-storage"]),
        ("kith-relay", &["kith-protocol", "kith-storage", "kith-federation"]),
        ("kith-client", &["kith-protocol"]),
        ("kith-cli", &["kith-protocol", "kith-client"]),
        ("kith-web", &["kith-protocol", "kith-client"]),
        ("kith-xtask", &[]),
    ]);
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec().unwrap();
    let mut seen = BTreeSet::new();
    for package in metadata.packages.iter().filter(|package| package.manifest_path.as_str().contains("/crates/")) {
        let edges = allowed.get(package.name.as_str()).unwrap_or_else(|| panic!("{} is new: add it here", package.name));
        for dependency in package.dependencies.iter().filter(|dependency| dependency.name.starts_with("kith-")) {
            assert!(edges.contains(&dependency.name.as_str()), "{} must not know {}", package.name, dependency.name);
        }
        seen.insert(package.name.to_string());
    }
    assert_eq!(seen.len(), allowed.len());
}

#[test]
fn libraries_stay_where_they_belong() {
    for (word, allowed) in [
        ("sqlx::", &["crates/storage/"][..]),
        ("openmls::", &["crates/client/src/mls/", "crates/relay/src/room/view.rs"]),
        (
            "anyhow",
            &[
                "crates/relay/src/main.rs",
                "crates/relay/src/server.rs",
                "crates/relay/src/admin/",
                "crates/relay/src/commands/",
                "crates/relay/src/coop/driver.rs",
                "crates/cli/",
                "crates/xtask/",
            ],
        ),
        ("redb::", &["crates/client/src/native/home.rs"]),
        ("crate::wire", &["crates/protocol/src/codec/"]),
        ("unbounded_channel", &[]),
    ] {
        for (path, text) in sources("crates") {
            let is_allowed = allowed.iter().any(|prefix| path.to_str().unwrap().starts_with(prefix));
            assert!(is_allowed || !text.contains(word), "{} must not mention {word}", path.display());
        }
    }
}

/// No clock, task, randomness or lock in a machine.
#[test]
fn machines_are_pure() {
    let machines = [
        "crates/relay/src/coop/full.rs",
        "crates/relay/src/coop/machine.rs",
        "crates/relay/src/coop/members.rs",
        "crates/relay/src/coop/links.rs",
        "crates/relay/src/coop/feed.rs",
        "crates/relay/src/coop/outbox.rs",
        "crates/relay/src/coop/steward.rs",
        "crates/relay/src/coop/agreements.rs",
        "crates/relay/src/coop/status.rs",
        "crates/federation/src/agreement/",
        "crates/federation/src/link/greeting.rs",
        "crates/relay/src/room/",
        "crates/relay/src/session/",
        "crates/federation/src/link/machine.rs",
        "crates/federation/src/mirror.rs",
        "crates/client/src/core/",
        "crates/protocol/src/",
    ];
    let mut looked_at = 0;
    for (path, text) in sources("crates") {
        if !machines.iter().any(|machine| path.to_str().unwrap().starts_with(machine)) {
            continue;
        }
        looked_at += 1;
        for word in ["tokio", "SystemTime", "Instant::now", "getrandom", "OsRng", "thread_rng", "Mutex", "async fn", ".await"] {
            let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            assert!(!code.contains(word), "{} is a machine and mentions {word}", path.display());
        }
    }
    assert!(looked_at > 40, "{looked_at}");
}

/// Files are a ratchet: none passes its bound without a reason here.
#[test]
fn files_are_short() {
    let reasons = BTreeMap::from([
        ("crates/protocol/src/log/merkle.rs", (560, "one noun: the tree of RFC 9162, its proofs and their vectors")),
        ("crates/protocol/tests/frames/arbitrary.rs", (560, "one strategy for each frame, in the frames' order")),
    ]);
    for (path, text) in sources("crates") {
        let without_tests = text.split("#[cfg(test)]").next().unwrap().lines().count();
        let bound = reasons.get(path.to_str().unwrap()).map_or(500, |(bound, _)| *bound);
        assert!(without_tests <= bound, "{} has {without_tests} lines without its tests, more than {bound}", path.display());
    }
}

/// Every file says first what it is for.
#[test]
fn files_begin_with_what_they_are_for() {
    for (path, text) in sources("crates").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}

/// Only what belongs at the top stands there.
#[test]
fn the_top_level_is_tidy() {
    let allowed = ["Cargo.toml", "Cargo.lock", "crates", "proto", "deploy", "tests", "docs", "README.md", "LICENSE", "target"];
    for entry in std::fs::read_dir(root()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} does not belong at the top");
    }
}
