//! The walk: two co-ops, one encrypted room, from one member's hand to another's eye. Word for word what the README shows.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use kith_e2e::{World, files, http, texts};
use kith_protocol::ids::to_hex;
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use serde_json::{Value, json};

/// What the members are called: words that stand nowhere by chance.
const FIRST: &str = "Wren of the reeds";
const SECOND: &str = "Marsh harrier";
const CHECK_IN: [&str; 11] =
    ["--pleasant", "1", "--energy", "-1", "--words", "tired,hopeful", "--note", "slept badly", "--support", "please_listen", "--wait"];

#[test]
fn a_check_in_travels() {
    let mut world = World::two_coops();
    for coop in &world.coops {
        assert!(http(coop.port, "/healthz").is_some_and(|answer| answer.contains("200 OK")));
    }
    let line = world.coops[0].kithd(&["neighbour", "key"]);
    assert!(line.starts_with("alder.test ed25519:"));
    let key: Value = serde_json::from_str(&world.coops[0].kithd(&["neighbour", "key", "--json"])).unwrap();
    assert_eq!(format!("{} {}", key["name"].as_str().unwrap(), key["key"].as_str().unwrap()), line);
    assert_eq!(mode(&world.coops[0].folder.join("keys.toml")), 0o600);
    let link_of_a = world.coops[0].kithd(&["invite"]);
    let link_of_b: Value = serde_json::from_str(&world.coops[1].kithd(&["invite", "--uses", "2", "--json"])).unwrap();
    world.kith("H1", &["join", &link_of_a, "--name", FIRST]);
    world.kith("H2", &["join", link_of_b["link"].as_str().unwrap(), "--name", SECOND]);
    assert_eq!((world.kith_lines("H1", &["rooms"]), mode(&world.home("H1"))), (vec![], 0o700));
    let used_up = world.try_kith("H9", &["join", &link_of_a, "--name", "third"]);
    assert!(!used_up.status.success() && String::from_utf8_lossy(&used_up.stderr).contains("fresh link"));

    let room = world.kith("H1", &["room", "new", "Tuesday circle"]);
    let room_link = world.kith("H1", &["room", "invite", &room]);
    // What a device deletes when it has used it is looked for all the same.
    let mut keys = BTreeMap::new();
    keep_secrets(&world, &mut keys);
    assert_eq!(world.kith("H2", &["room", "join", &room_link]), room);
    keep_secrets(&world, &mut keys);
    let check_in: Vec<&str> = [&["checkin", room.as_str()], &CHECK_IN[..10]].concat();
    world.kith("H1", &check_in);
    keep_secrets(&world, &mut keys);
    world.kith("H2", &["say", &room, "I am here", "--wait", "held"]);
    keep_secrets(&world, &mut keys);

    let read = world.kith_lines("H2", &["read", &room]);
    let shown: Vec<&Value> = read.iter().filter(|line| line["kind"] == "checkin" || line["kind"] == "text").collect();
    assert_eq!(shown.len(), 2);
    let (check_in, text) = (shown[0], shown[1]);
    let content = json!({ "pleasant": 1, "energy": -1, "words": ["tired", "hopeful"], "note": "slept badly", "about": null, "support": "please_listen" });
    assert_eq!((&check_in["content"], &check_in["name"]), (&content, &json!(FIRST)));
    assert_eq!((&text["content"]["text"], &text["name"], &text["state"]), (&json!("I am here"), &json!(SECOND), &json!("held 2/2")));
    for line in &shown {
        assert!(line["seq"].is_u64() && line["sender"].as_str().is_some_and(|sender| sender.len() == 32));
        assert!(line["at"].as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z')), "{line}");
    }
    let after = check_in["seq"].to_string();
    assert_eq!(texts(&world.kith_lines("H2", &["read", &room, "--since", &after])).len(), 1);
    assert!(world.kith_lines("H2", &["read", &room, "--since", &text["seq"].to_string()]).is_empty());

    assert_eq!(world.kith_lines("H1", &["rooms"])[0]["room"], json!(room));
    let members = world.kith_lines("H1", &["members", &room]);
    assert_eq!(members.iter().map(|m| m["name"].as_str().unwrap()).collect::<Vec<_>>(), [FIRST, SECOND]);
    for home in ["H1", "H2"] {
        let verify = &world.kith_lines(home, &["verify", &room])[0];
        assert_eq!((&verify["ok"], &verify["cosigned_by"]), (&json!(true), &json!(["birch.test"])), "{verify}");
        assert!(verify["size"].as_u64().is_some_and(|size| size >= 5) && verify["root"].as_str().is_some_and(|root| root.len() == 64));
    }
    nobody_on_call(&world, &room);
    follow_beside_say(&world, &room);
    let metrics: Vec<String> = world.coops.iter().map(|coop| http(coop.port, "/metrics").unwrap()).collect();
    let early = keys.len();
    keep_secrets(&world, &mut keys);
    println!("{} secrets of devices, {early} before the last talk", keys.len());
    let secrets = secrets(&keys, &[&link_of_a, link_of_b["link"].as_str().unwrap()], &room_link);
    // While they run there is a write-ahead log, afterwards the database is whole without one.
    canaries(&world, &metrics, &secrets, true);
    for coop in &mut world.coops {
        assert!(coop.stop() <= Duration::from_secs(5));
    }
    canaries(&world, &metrics, &secrets, false);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// The most urgent request is answered truthfully.
fn nobody_on_call(world: &World, room: &str) {
    let output = world.try_kith("H1", &["checkin", room, "--support", "need_someone_now"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Nobody is on call"));
}

/// Two processes on one home at once.
fn follow_beside_say(world: &World, room: &str) {
    let mut follow = world.command("H2", &["read", room, "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines =
        BufReader::new(follow.stdout.take().unwrap()).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert!(lines.by_ref().take(1_000).any(|line| line["content"]["text"] == "I am here"));
    world.kith("H2", &["say", room, "while I follow"]);
    world.kith("H1", &["say", room, "so do I", "--wait", "held"]);
    for text in ["while I follow", "so do I"] {
        let held = lines.by_ref().take(1_000).any(|line| line["content"]["text"] == text && line["state"] == "held 2/2");
        assert!(held, "a line is printed again when its state changes: {text}");
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// The secrets that devices have now, beside those that they had.
fn keep_secrets(world: &World, keys: &mut BTreeMap<Vec<u8>, String>) {
    for home in ["H1", "H2"] {
        keys.extend(device_secrets(world, home).into_iter().map(|(name, key)| (key, name)));
    }
}

/// What nobody but members may know.
fn secrets(keys: &BTreeMap<Vec<u8>, String>, membership: &[&str], room_link: &str) -> Vec<(String, Vec<u8>)> {
    let mut secrets: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| secrets.push((name.to_owned(), bytes.to_vec()));
    for text in ["I am here", "slept badly", "tired", "hopeful", "Tuesday circle", "please_listen", "while I follow", FIRST, SECOND] {
        add(text, text.as_bytes());
    }
    for link in membership {
        add("a membership invite", MembershipLink::parse(link).unwrap().invite.seed());
    }
    add("a room invite", RoomLink::parse(room_link).unwrap().invite.seed());
    for home in ["H1", "H2"] {
        for kind in ["device key", "leaf key", "an epoch secret", "a message secret", "a resumption secret", "a private key"] {
            assert!(keys.values().any(|name| name.contains(kind) && name.contains(home)), "{home} has {kind}");
        }
    }
    secrets.extend(keys.iter().map(|(key, name)| (name.clone(), key.clone())));
    secrets
}

/// No server file, log or metric holds what is said, who says it, or a key of a member.
fn canaries(world: &World, metrics: &[String], secrets: &[(String, Vec<u8>)], is_running: bool) {
    let mut haystacks: Vec<_> = world.coops.iter().flat_map(|coop| files(&coop.folder)).collect();
    haystacks.extend(world.coops.iter().flat_map(kith_e2e::Coop::logs));
    assert!(haystacks.len() >= 8);
    let logs = haystacks.iter().filter(|file| file.ends_with("kith.db-wal")).count();
    assert_eq!(logs, if is_running { world.coops.len() } else { 0 }, "write-ahead logs");
    let mut texts: Vec<(String, Vec<u8>)> =
        haystacks.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap())).collect();
    texts.extend(metrics.iter().map(|text| ("/metrics".to_owned(), text.clone().into_bytes())));
    for (place, bytes) in texts {
        for (name, secret) in secrets {
            for form in forms(secret) {
                assert!(!contains(&bytes, &form), "{place} holds {name}");
            }
        }
    }
}

/// As it is, in hex, and in base64 wherever it begins in what was encoded.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = to_hex(secret);
    let mut forms = vec![secret.to_vec(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes()];
    for before in 0..3 {
        let shifted = [&[0; 2][..before], secret].concat();
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            // A sextet that it shares with a neighbour is not its own.
            let own = usize::from(before > 0) + before..text.len() - usize::from(shifted.len() % 3 > 0);
            forms.push(text.as_bytes()[own].to_vec());
        }
    }
    forms
}

#[test]
fn a_canary_is_found_in_every_form() {
    let secret = b"a canary that sings";
    for before in 0..4 {
        let text = [&b"xyz"[..before], secret, b"and what comes behind"].concat();
        for encoded in [text.clone(), STANDARD.encode(&text).into_bytes(), URL_SAFE_NO_PAD.encode(&text).into_bytes()] {
            assert!(forms(secret).iter().any(|form| contains(&encoded, form)), "{before} bytes before it");
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // Most places do not begin like it: that is a quick look.
    haystack.windows(needle.len()).any(|window| window[0] == needle[0] && window == needle)
}

/// What the device's MLS store calls the secrets that messages are read and written by, those that a later group may begin
/// with, the secrets of a group's epoch, the private HPKE keys of its leaf and path, and those of leaves without a group.
const MESSAGE_SECRETS: u8 = 9;
const RESUMPTION_SECRETS: u8 = 10;
const EPOCH_SECRETS: u8 = 12;
const EPOCH_KEY_PAIRS: u8 = 13;
const LEAF_KEY_PAIR: u8 = 15;

/// Every 32-byte secret of a device's memory: seeds of keys, and the values of its MLS store.
fn device_secrets(world: &World, home: &str) -> Vec<(String, Vec<u8>)> {
    use kith_client::core::state::{Account, RoomState};
    use redb::{ReadableDatabase, ReadableTable};
    let db = redb::Database::open(world.home(home).join("kith.redb")).unwrap();
    let read = db.begin_read().unwrap();
    let table = read.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("state")).unwrap();
    let mut secrets = Vec::new();
    for item in table.iter().unwrap() {
        let (key, value) = item.unwrap();
        match key.value() {
            b"a" => {
                let account: Account = postcard::from_bytes(value.value()).unwrap();
                secrets.push((format!("{home}'s device key"), account.device_seed.to_vec()));
            }
            [b'r', ..] => {
                let room: RoomState = postcard::from_bytes(value.value()).unwrap();
                secrets.push((format!("{home}'s leaf key"), room.leaf_seed.to_vec()));
            }
            // Each 32-byte value stands behind its length.
            [b'm', rest @ ..] => {
                let values = behind_lengths(value.value());
                let label = match rest {
                    [b'g', rest @ ..] => rest.get(33),
                    _ => rest.get(1),
                };
                let (what, found): (&str, Vec<Vec<u8>>) = match label {
                    Some(&MESSAGE_SECRETS) => ("a message secret", message_secrets(value.value(), &rest[2..34])),
                    Some(&RESUMPTION_SECRETS) => ("a resumption secret", values),
                    Some(&EPOCH_SECRETS) => ("an epoch secret", values),
                    // Beside each private key stands its public one, which is for everybody.
                    Some(&EPOCH_KEY_PAIRS | &LEAF_KEY_PAIR) => {
                        ("a private key", values.iter().filter(|value| values.contains(&public_half(value))).cloned().collect())
                    }
                    _ => continue,
                };
                secrets.extend(found.into_iter().map(|secret| (format!("{what} of {home}"), secret)));
            }
            _ => {}
        }
    }
    secrets
}

/// Of each epoch there are three secrets, then the group's context, then the tree of secrets; of epochs that are over also
/// the leaves. Context and leaves are for everybody. The present epoch comes last.
fn message_secrets(value: &[u8], group: &[u8]) -> Vec<Vec<u8>> {
    // A GroupContext begins with version, ciphersuite and group (RFC 9420 section 8.1).
    let context = [&[0, 1, 0, 3, 32], group].concat();
    let contexts: Vec<usize> = (0..value.len() - context.len()).filter(|at| value[*at..].starts_with(&context)).collect();
    let mut found = Vec::new();
    for at in &contexts {
        // Its length is a number of two bytes, seven bits in each.
        for secret in value[at - 2 - 3 * 33..at - 2].chunks(33) {
            assert_eq!(secret[0], 32, "three secrets before a context");
            found.push(secret[1..].to_vec());
        }
    }
    let last = *contexts.last().expect("the present epoch");
    let length = usize::from(value[last - 2] & 0x7f) + (usize::from(value[last - 1]) << 7);
    let tree = behind_lengths(&value[last + length..]);
    assert!(!tree.is_empty(), "a tree of secrets");
    found.extend(tree);
    found
}

fn behind_lengths(value: &[u8]) -> Vec<Vec<u8>> {
    let at = 0..value.len().saturating_sub(32);
    let is_key = |at: &usize| value[*at] == 32 && value[at + 1..at + 33].iter().filter(|byte| **byte != 0).count() > 24;
    at.filter(is_key).map(|at| value[at + 1..at + 33].to_vec()).collect()
}

/// Of an X25519 key (RFC 7748).
fn public_half(private: &[u8]) -> Vec<u8> {
    let private: [u8; 32] = private.try_into().unwrap();
    x25519_dalek::x25519(private, x25519_dalek::X25519_BASEPOINT_BYTES).to_vec()
}
