//! `kithd status`: how the co-op is.

use std::path::Path;

use anyhow::bail;
use kith_relay::admin::{Answer, NeighbourStatusView, RoomStatusView, StatusView, Wire};

use super::ask;

pub async fn run(folder: &Path, json: bool) -> anyhow::Result<()> {
    let Answer::Status(status) = ask(folder, Wire::Status).await? else { bail!("the server gave no status") };
    if json {
        crate::commands::line!("{}", serde_json::to_string(&status)?);
    } else {
        crate::commands::text!("{}", render(&status));
    }
    Ok(())
}

fn render(status: &StatusView) -> String {
    let run = if status.running { format!("up for {}", span(status.uptime_s)) } else { "not running".to_owned() };
    let mut text = format!("{}  kithd {}  {run}\n", status.coop, status.version);
    if let Some(at) = &status.restored {
        text += &format!("put back from a backup at {at}\n");
    }
    let mut rows = vec![["NEIGHBOUR", "AGREEMENT", "LINK", "SINCE", "BEHIND", "WAITING", "IN", "OUT"].map(str::to_owned)];
    rows.extend(status.neighbours.iter().map(neighbour));
    section(&mut text, "no neighbours", &rows);
    for neighbour in &status.neighbours {
        match neighbour.state.as_str() {
            "due_for_review" => text += &format!("! {}: the agreement's review date has passed\n", neighbour.name),
            "proposed" => text += &format!("! {0}: not both have signed the same; see kithd neighbour show … {0}\n", neighbour.name),
            _ => {}
        }
        if let Some(at) = &neighbour.restored {
            text += &format!("! {} was put back from a backup at {at}\n", neighbour.name);
        }
        if let Some(error) = neighbour.last_error.as_ref().filter(|_| !neighbour.up) {
            text += &format!("! {}: {error}\n", neighbour.name);
        }
    }
    let mut rows = vec![["ROOM", "ROLE", "HUB", "SIZE", "TERM", "CERTIFIED", "PENDING", "HELD"].map(str::to_owned)];
    rows.extend(status.rooms.iter().map(room));
    section(&mut text, "no rooms", &rows);
    for room in status.rooms.iter().filter(|room| room.refilling) {
        text += &format!("! {:.8} waits for other co-ops' copies: this one was put back from a backup\n", room.room);
    }
    for room in &status.damaged {
        text += &format!("! {room:.8} is damaged on this disk. It comes again from another co-op that has it, if there is one\n");
    }
    for frozen in &status.frozen {
        text += &format!("! {:.8} is frozen: {}. kithd proof save … {:.8} FILE writes the proof\n", frozen.room, frozen.why, frozen.room);
    }
    text
}

fn neighbour(neighbour: &NeighbourStatusView) -> [String; 8] {
    let bytes = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), size);
    let behind = match neighbour.behind_entries {
        0 => "-".to_owned(),
        entries => format!("{entries} ({})", span(neighbour.behind_s)),
    };
    [
        neighbour.name.clone(),
        neighbour.state.replace('_', " "),
        if neighbour.up { "up" } else { "down" }.to_owned(),
        neighbour.since.clone().unwrap_or_else(|| "-".to_owned()),
        behind,
        neighbour.waiting_entries.to_string(),
        bytes(neighbour.bytes_in),
        bytes(neighbour.bytes_out),
    ]
}

fn room(room: &RoomStatusView) -> [String; 8] {
    let held: Vec<String> = room.held.iter().map(|(name, size)| format!("{name} {size}")).collect();
    [
        format!("{} {}", room.number, &room.room[..8]),
        room.role.clone(),
        room.hub.clone(),
        room.size.to_string(),
        room.term.map_or_else(|| "-".to_owned(), |term| term.to_string()),
        room.certified.to_string(),
        room.pending.to_string(),
        held.join(", "),
    ]
}

/// A table, or what to say if it has no row but its head.
fn section<const N: usize>(text: &mut String, empty: &str, rows: &[[String; N]]) {
    text.push('\n');
    if rows.len() == 1 {
        text.push_str(empty);
        text.push('\n');
        return;
    }
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use kith_relay::admin::FrozenView;

    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let neighbour = |name: &str, up, behind| NeighbourStatusView {
            name: name.to_owned(),
            address: "127.0.0.1:1".to_owned(),
            state: if up { "active" } else { "due_for_review" }.to_owned(),
            up,
            since: Some("2026-11-23T00:00:00Z".to_owned()),
            last_error: (!up).then(|| "cannot connect".to_owned()),
            restored: up.then(|| "2026-11-22T00:00:00Z".to_owned()),
            behind_entries: behind,
            behind_s: 300,
            waiting_entries: 0,
            bytes_in: up.then_some(12_345),
            bytes_out: up.then_some(99),
        };
        let held = [("alder.test".to_owned(), 12), ("birch.test".to_owned(), 9)].into();
        let room = RoomStatusView {
            room: "ab".repeat(32),
            number: 1,
            role: "hub".to_owned(),
            hub: "alder.test".to_owned(),
            size: 12,
            term: Some(1),
            certified: 12,
            pending: 0,
            held,
            refilling: true,
        };
        let status = StatusView {
            coop: "alder.test".to_owned(),
            key: String::new(),
            version: "0.1.0".to_owned(),
            running: true,
            uptime_s: 7_300,
            restored: Some("2026-11-21T00:00:00Z".to_owned()),
            neighbours: vec![neighbour("birch.test", true, 0), neighbour("a-longer-name.test", false, 3)],
            rooms: vec![room],
            frozen: vec![FrozenView { room: "ab".repeat(32), by: "alder.test".to_owned(), why: "it did".to_owned(), proof: String::new() }],
            damaged: vec!["cd".repeat(32)],
        };
        let expected = "\
alder.test  kithd 0.1.0  up for 2 h
put back from a backup at 2026-11-21T00:00:00Z

NEIGHBOUR           AGREEMENT       LINK  SINCE                 BEHIND     WAITING  IN     OUT
birch.test          active          up    2026-11-23T00:00:00Z  -          0        12 kB  99 B
a-longer-name.test  due for review  down  2026-11-23T00:00:00Z  3 (5 min)  0        -      -
! birch.test was put back from a backup at 2026-11-22T00:00:00Z
! a-longer-name.test: the agreement's review date has passed
! a-longer-name.test: cannot connect

ROOM        ROLE  HUB         SIZE  TERM  CERTIFIED  PENDING  HELD
1 abababab  hub   alder.test  12    1     12         0        alder.test 12, birch.test 9
! abababab waits for other co-ops' copies: this one was put back from a backup
! cdcdcdcd is damaged on this disk. It comes again from another co-op that has it, if there is one
! abababab is frozen: it did. kithd proof save … abababab FILE writes the proof
";
        assert_eq!(render(&status), expected);
    }
}
