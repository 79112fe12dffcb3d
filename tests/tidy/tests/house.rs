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
        "crates/relay/src/coop/",
        "crates/federation/src/agreement/",
        "crates/federation/src/link/greeting.rs",
        "crates/relay/src/room/",
        "crates/relay/src/session/",
        "crates/federation/src/link/machine.rs",
        "crates/federation/src/mirror.rs",
        "crates/client/src/core/",
        "crates/protocol/src/",
    ];
    let drivers = ["crates/relay/src/coop/driver.rs"];
    let mut looked_at = 0;
    for (path, text) in sources("crates") {
        let path_text = path.to_str().unwrap();
        if drivers.contains(&path_text) || !machines.iter().any(|machine| path_text.starts_with(machine)) {
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

/// Functions are a ratchet, too. Each is from its signature to the brace that stands below its beginning, as rustfmt puts it.
#[test]
fn functions_are_short() {
    let reasons: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::from([
        (("crates/client/src/core/joining.rs", "offer_join"), (78, "one look at an offer, from every side, in order")),
        (("crates/relay/src/coop/driver.rs", "apply"), (72, "one arm for each effect")),
        (("crates/relay/src/coop/machine.rs", "new"), (89, "one line for each part of the machine's state")),
        (("crates/protocol/src/codec/link.rs", "decode_link"), (98, "one arm for each frame of a link")),
        (("crates/protocol/src/codec/link.rs", "encode_link"), (73, "one arm for each frame of a link")),
    ]);
    let (mut looked_at, mut too_long) = (0, Vec::new());
    for (path, text) in sources("crates") {
        if path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines: Vec<&str> = code.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let beginning = line.trim_start();
            let words: Vec<&str> = beginning.split([' ', '(', '<']).collect();
            let Some(named) = words.iter().position(|word| *word == "fn").filter(|at| *at <= 4) else { continue };
            let is_declared =
                words[..named].iter().all(|word| word.starts_with("pub") || ["async", "const", "unsafe", "super)"].contains(word));
            if !is_declared {
                continue;
            }
            let indent = &line[..line.len() - beginning.len()];
            let end = format!("{indent}}}");
            let Some(length) = lines[at..].iter().position(|line| *line == end) else { continue };
            looked_at += 1;
            let bound = reasons.get(&(path.to_str().unwrap(), words[named + 1])).map_or(70, |(bound, _)| *bound);
            if length + 1 > bound {
                too_long.push(format!("{}: {} has {} lines, more than {bound}", path.display(), words[named + 1], length + 1));
            }
        }
    }
    assert!(looked_at > 1_000, "{looked_at}");
    assert!(too_long.is_empty(), "{too_long:#?}");
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

/// Every bound stands in one file.
#[test]
fn limits_stand_in_one_file() {
    for (path, text) in sources("crates") {
        // The store that fails on command is a tool of tests.
        if path.ends_with("protocol/src/limits.rs") || path.ends_with("storage/src/fault.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_bound =
            |line: &&str| line.contains("const ") && (line.contains("_MAX:") || line.contains("_BURST:")) && !line.contains("= limits::");
        let found: Vec<&str> = code.lines().filter(is_bound).collect();
        let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        assert!(is_test || found.is_empty(), "{}: {found:?} belongs into limits.rs", path.display());
    }
}

/// What happens when a bound is reached is tested: each has a test that names it, or a reason here why it has none.
#[test]
fn every_limit_is_reached_by_a_test() {
    let reasons = BTreeMap::from([
        ("AGREEMENT_BYTES_PER_DAY", "a default; the bound that it sets is reached in tests/sim/tests/agreements.rs"),
        ("AGREEMENT_ENTRIES_PER_DAY", "a default; as above"),
        ("AGREEMENT_ROOMS", "a default; as above"),
        ("CANDIDACY_MS", "a time; elections that run out of it are in tests/sim/tests/succession.rs"),
        ("COMPARE_EVERY_MS", "a time; what comes of it is in tests/evil"),
        ("CONTROL_FRAMES_PER_SECOND_MILLI", "how fast CONTROL_FRAMES_BURST, which is reached, comes back"),
        ("DRAIN_MS_MAX", "a time beneath a real process; tests/e2e/tests/failures.rs measures the drain"),
        ("FOLLOWED_LINES_MAX", "how far back a terminal looks for lines that have changed; older ones change no more"),
        ("HUB_SILENCE_MS", "a time; tests/sim/tests/succession.rs waits for what it leads to"),
        ("INPUTS_PER_ROUND_MAX", "how much is taken before a commit is looked for; nothing is refused by it"),
        ("INPUTS_QUEUED_MAX", "the size of a channel of tokio's, whose senders wait"),
        ("INVITE_LIFETIME_S", "a default"),
        ("LEAF_CERTIFICATE_LIFETIME_S", "a default; that certificates end is tested beside them"),
        ("LINK_FETCH_WORK", "a price; the budget that it is paid from is reached"),
        ("LINK_FOLLOW_WORK", "a price; as above"),
        ("LINK_KEY_LIFETIME_S", "a default; that certificates end is tested beside them"),
        ("LINK_PING_MS", "a time; LINK_DEAD_MS, after it, is reached"),
        ("LINK_RETRY_FIRST_MS", "a time; tests/e2e/tests/failures.rs measures the first retry"),
        ("LINK_STOPPED_RETRY_MS", "a time; a link that the steward stopped is dialled seldom"),
        ("RECONNECT_MS_MAX", "a time; tests/e2e/tests/terminal.rs waits for a device that is back"),
        ("ROOT_OVERLAP_S", "a default; ROOT_OVERLAP_S_MAX is reached"),
        ("STATEMENT_BYTES_MAX", "where one statement ends and the next begins, in one transaction; nothing is refused by it"),
        ("STEWARD_ANSWER_BYTES_MAX", "a bound on what one's own server says; a hundred thousand rooms stay below"),
    ]);
    let limits = std::fs::read_to_string(root().join("crates/protocol/src/limits.rs")).unwrap();
    let names = limits.lines().filter_map(|line| line.strip_prefix("pub const ")).filter_map(|line| line.split(':').next());
    let mut tests = String::new();
    for (path, text) in sources("crates").into_iter().chain(sources("tests")) {
        let is_test = path.starts_with("tests")
            || path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "conformance")
            || path.ends_with("tests.rs")
            || path.ends_with("conformance.rs");
        let code = if is_test { text.as_str() } else { text.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests) };
        if !path.ends_with("tidy/tests/house.rs") {
            tests.push_str(code);
        }
    }
    let is_named = |name: &str| tests.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
    let missing: Vec<&str> = names.filter(|name| !is_named(name) && !reasons.contains_key(name)).collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
}
