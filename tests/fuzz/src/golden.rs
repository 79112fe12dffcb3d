//! The golden bytes of the protocol's tests as seeds: every frame has some, and they never go stale unnoticed.

/// Targets that take such bytes as they are, and the files that have them.
const FILES: [(&str, &str); 9] = [
    ("link", include_str!("../../../crates/protocol/tests/frames/golden/link.txt")),
    ("to_member", include_str!("../../../crates/protocol/tests/frames/golden/to_member.txt")),
    ("to_server", include_str!("../../../crates/protocol/tests/frames/golden/to_server.txt")),
    ("content", include_str!("../../../crates/protocol/tests/frames/golden/content.txt")),
    ("content", include_str!("../../../crates/protocol/tests/frames/golden/franked.txt")),
    ("proof", include_str!("../../../crates/protocol/tests/frames/golden/proof.txt")),
    ("snapshots", include_str!("../../../crates/protocol/tests/frames/golden/room_snapshot.txt")),
    ("snapshots", include_str!("../../../crates/protocol/tests/frames/golden/stored_vote.txt")),
    ("snapshots", include_str!("../../../crates/protocol/tests/frames/golden/succession.txt")),
];

/// Target, name and bytes of each.
pub fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds: Vec<(&str, &str, Vec<u8>)> = Vec::new();
    for (target, file) in FILES {
        for line in file.lines().filter(|line| !line.starts_with("json ")) {
            match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(name) => seeds.push((target, name, Vec::new())),
                None => {
                    let tokens = line.split('#').next().unwrap_or_default().split_whitespace();
                    let bytes = seeds.last_mut().map(|(_, _, bytes)| bytes);
                    bytes.into_iter().for_each(|bytes| tokens.clone().for_each(|token| bytes.extend(run(token))));
                }
            }
        }
    }
    seeds
}

/// `XX…` or `XX*N`.
fn run(token: &str) -> Vec<u8> {
    let (hex, times) = token.split_once('*').map_or((token, 1), |(hex, times)| (hex, times.parse().unwrap_or(0)));
    let once = (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok());
    once.collect::<Vec<u8>>().repeat(times)
}
