//! Every target over its seeds, without libFuzzer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    if !folder.exists() {
        return Vec::new();
    }
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

/// Each seed, cut at every place, and with every byte changed in two ways.
fn relatives(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..seed.len()).map(|at| seed[..at].to_vec());
    let changed = (0..seed.len()).flat_map(|at| {
        [0x01, 0x80].map(|bit| {
            let mut changed = seed.to_vec();
            changed[at] ^= bit;
            changed
        })
    });
    cut.chain(changed)
}

#[test]
fn seeds_and_their_relatives() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty() || name == "device_group", "{name} has no seeds");
        for (_, seed) in seeds {
            target(&seed);
            // Groups verify signatures, which takes its time.
            if !name.ends_with("group") && name != "group_view" {
                relatives(&seed).for_each(|relative| target(&relative));
            }
        }
    }
}

#[test]
fn every_target_has_a_binary() {
    let listed: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let binaries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(binaries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect::<BTreeSet<_>>(), listed);
    let manifest = include_str!("../Cargo.toml");
    assert!(listed.iter().all(|name| manifest.contains(&format!("name = \"{name}\"\n"))));
}

/// Otherwise that fuzzer would only ever see what is refused at the door.
#[test]
fn the_seeds_of_groups_are_real() {
    let view = real_group();
    let seed = |name: &str| seeds("group_view").into_iter().find(|(found, _)| found == name).unwrap().1;
    assert!(view.stage(&seed("commit")[1..]).unwrap().facts.author.is_some());
    assert!(view.stage(&seed("join")[1..]).unwrap().facts.join.is_some());
    let pair = seed("open");
    let (group_info, tree) = pair[3..].split_at(u16::from_be_bytes([pair[1], pair[2]]).into());
    assert_eq!(GroupView::open(group_info, tree).unwrap().group_id(), view.group_id());
}

/// Every frame and record that has golden bytes is among what the fuzzers begin from, and it decodes.
#[test]
fn golden_bytes_are_seeds() {
    let seeds = golden::seeds();
    for (target, name, bytes) in &seeds {
        let decodes = match *target {
            "link" => codec::decode_link(Bytes::from(bytes.clone())).is_ok(),
            "to_member" => codec::decode_to_member(Bytes::from(bytes.clone()), Encoding::Binary).is_ok(),
            "to_server" => codec::decode_to_server(Bytes::from(bytes.clone()), Encoding::Binary).is_ok(),
            "content" => codec::decode_content(bytes).is_ok() || codec::decode_franked(bytes).is_ok(),
            "proof" => codec::decode_proof(bytes).is_ok(),
            _ => {
                let is_record = codec::decode_vote(bytes).is_ok() || codec::decode_succession(bytes).is_ok();
                is_record || codec::decode_room_snapshot(bytes).is_ok()
            }
        };
        assert!(decodes, "{target} {name}");
        let target = TARGETS.iter().find(|(name, _)| name == target).unwrap().1;
        target(bytes);
        relatives(bytes).for_each(|relative| target(&relative));
    }
    let of = |target: &str| seeds.iter().filter(|(of, ..)| *of == target).count();
    assert!(of("link") >= 20 && of("to_member") >= 12 && of("to_server") >= 10, "{seeds:?}");
}

/// The fuzzer of devices begins from what a device takes.
#[test]
fn the_seeds_of_devices_are_real() {
    let mut device = device::Device::real();
    let [(_, join), (_, commit), (_, message)] = device.seeds.clone();
    let (info, tree) = join[3..].split_at(u16::from_be_bytes([join[1], join[2]]).into());
    assert_eq!(device.join(info, tree).unwrap().members.len(), 2);
    assert_eq!(device.open(&message[1..]).unwrap().plaintext, b"hello");
    assert!(device.stage(&commit[1..]).is_ok());
    for seed in [join, commit, message] {
        device_group(&seed);
        (0..seed.len()).step_by(7).for_each(|at| {
            let mut changed = seed.clone();
            changed[at] ^= 0x10;
            device_group(&changed);
        });
    }
}
