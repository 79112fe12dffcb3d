//! Faults that a build can bring back: old libraries, switches that turn a check off, secrets compared byte by byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/tidy").to_owned()
}

/// Rust files below a folder, without their tests.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let is_tests = path.ends_with("tests") || path.ends_with("tests.rs");
            if path.is_dir() && !is_tests {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !is_tests {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), code));
            }
        }
    }
    assert!(found.len() > 20, "{below}");
    found
}

/// Lines of code, each with its number.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// Name, the oldest that may be used, and why.
const OLDEST: [(&str, &str, &str); 12] = [
    ("rustls", "0.23.18", "endless loops and panics on what a peer sends (CVE-2024-32650, RUSTSEC-2024-0399)"),
    ("rustls-webpki", "0.103.0", "CPU burnt by chains of certificates (RUSTSEC-2023-0053)"),
    ("ring", "0.17.12", "a panic in AES (RUSTSEC-2025-0009)"),
    ("tungstenite", "0.30.0", "headers without bound (CVE-2023-43669)"),
    ("tokio-tungstenite", "0.30.0", "the same"),
    ("hyper", "1.0.0", "old parsers of requests"),
    ("ed25519-dalek", "2.0.0", "the double-key oracle (RUSTSEC-2022-0093)"),
    ("curve25519-dalek", "4.1.3", "timing (RUSTSEC-2024-0344)"),
    ("sqlx", "0.9.0", "truncated values (RUSTSEC-2024-0363)"),
    ("libsqlite3-sys", "0.37.0", "SQLite before 3.51.3 can lose committed data"),
    ("openmls", "0.9.0", "fixes of the audit; decoders that panicked"),
    ("tokio", "1.43.1", "an unsound broadcast channel (RUSTSEC-2025-0023)"),
];

#[test]
fn fault_28_29_30_and_40_no_library_is_older_than_its_fixes() {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut locked: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let value = |key: &str| package.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
        locked.entry(value("name = ").unwrap()).or_default().push(value("version = ").unwrap());
    }
    for (name, oldest, why) in OLDEST {
        let versions = locked.get(name).unwrap_or_else(|| panic!("{name} is not used any more: take it out of this list"));
        for found in versions {
            assert!(version(found) >= version(oldest), "{name} {found} is older than {oldest}: {why}");
        }
    }
    assert!(!locked.contains_key("openssl") && !locked.contains_key("native-tls"), "one TLS library");
    // The same bounds hold where dependencies are chosen, not only where they are locked.
    let bans = std::fs::read_to_string(root().join(".deny.toml")).unwrap();
    for name in ["rustls", "rustls-webpki", "ring", "tungstenite", "ed25519-dalek", "sqlx", "libsqlite3-sys", "openmls"] {
        assert!(bans.contains(&format!("name = \"{name}\", version = \"<")), ".deny.toml does not ban old versions of {name}");
    }
}

/// Whoever can be asked to turn a check off will one day be asked to.
#[test]
fn fault_14_no_switch_turns_a_check_off() {
    for (path, code) in sources("crates") {
        let path = path.to_str().unwrap();
        for (number, line) in lines(&code) {
            let lower = line.to_lowercase();
            // Raw public keys need a verifier of one's own: it stands in that file and is tested there.
            let is_link_tls = path == "crates/federation/src/link/tls.rs";
            for word in ["dangerous", "skip_", "no_verify", "noverify", "allow_unsigned", "disable_", "trust_all", "accept_any", "bypass"] {
                let is_known = (word == "dangerous" && is_link_tls)
                    || lower.contains("disable_statement_logging")
                    || lower.contains("skip_serializing_if");
                assert!(is_known || !lower.contains(word), "{path}:{number} mentions {word}");
            }
            // Nothing that decides is read from the environment, and no check is left out of a build.
            let reads_environment = lower.contains("env::var") || lower.contains("try_from_env(");
            let is_known = lower.contains("try_from_env(\"kith") || path.starts_with("crates/xtask/") || path.ends_with("/build.rs");
            let is_home = path == "crates/client/src/native/home.rs" || path.starts_with("crates/cli/");
            assert!(!reads_environment || is_known || is_home, "{path}:{number} reads the environment");
            let gated = lower.contains("cfg(feature") || lower.contains("debug_assertions");
            assert!(!gated, "{path}:{number}: what is checked depends on the build");
        }
    }
}

/// Keys have no equality (that they have none is checked where they are defined); tags are compared in constant time, and
/// all else that a stranger could guess at is checked by a signature.
#[test]
fn fault_18_nothing_secret_is_compared_byte_by_byte() {
    let secrets = ["seed", "secret", "salt", "nonce", ".mac", "tag(", "private"];
    for (path, code) in sources("crates") {
        for (number, line) in lines(&code) {
            let compares = line.contains(" == ") || line.contains(" != ");
            let line = line.to_lowercase();
            let is_secret = secrets.iter().any(|word| line.contains(word));
            // Both sides are this device's own, and nobody can time it: is a join under way the one by this link?
            let is_local = line.contains("old.invite_seed == joining.invite_seed");
            assert!(!compares || !is_secret || is_local, "{}:{number} compares a secret: {line}", path.display());
        }
    }
    let frank = std::fs::read_to_string(root().join("crates/protocol/src/frank.rs")).unwrap();
    assert!(frank.contains("tag(salt, content).0.ct_eq("), "the franking tag is compared in constant time");
}
