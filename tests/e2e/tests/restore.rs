//! A co-op that comes back with yesterday's disk.

use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use kith_e2e::{World, texts};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

fn copy(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs").success());
}

/// The hub's folder is put back as it was earlier. What it ordered since comes back from its mirror before it orders anything,
/// so that no place is given twice, and nothing that anybody was told is stored is lost.
#[test]
fn fault_49_a_hub_restored_from_an_old_backup_is_refilled() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.kith("H1", &["say", &room, "before the backup", "--wait", "held"]);
    world.coops[0].stop();
    let backup = world.home("backup");
    copy(&world.coops[0].folder, &backup);
    world.coops[0].start();
    world.kith("H2", &["say", &room, "after the backup", "--wait", "held"]);
    world.kith("H1", &["say", &room, "and an answer", "--wait", "held"]);

    world.coops[0].kill();
    std::fs::remove_dir_all(&world.coops[0].folder).unwrap();
    copy(&backup, &world.coops[0].folder);
    let known = world.coops[0].kithd_json(&["restored"]);
    assert_eq!((&known["name"], &known["refilling"]), (&"alder.test".into(), &1.into()));
    world.coops[0].start();
    world.kith("H2", &["say", &room, "are you all right?", "--wait", "held"]);
    world.kith("H1", &["say", &room, "again, yes", "--wait", "held"]);

    let all = ["before the backup", "after the backup", "and an answer", "are you all right?", "again, yes"];
    for home in ["H1", "H2"] {
        let said: Vec<String> = texts(&world.kith_lines(home, &["read", &room])).into_iter().map(|(_, text)| text).collect();
        assert_eq!(said, all, "{home}");
        world.kith(home, &["verify", &room]);
    }
    let [here, there] = [0, 1].map(|coop| world.coops[coop].kithd_json(&["status"]));
    assert_eq!((&here["restored"], &here["rooms"][0]["refilling"]), (&known["restored"], &false.into()), "{here}");
    assert!(here["rooms"][0]["term"].as_u64() > Some(1), "it orders in a term of its own: {here}");
    assert_eq!(there["neighbours"][0]["restored"], known["restored"], "the neighbour was told: {there}");
    let frozen = world.kith_lines("H2", &["rooms"]).remove(0);
    assert!(frozen["frozen"].is_null(), "it gave no place twice: {frozen}");
}

/// A table is gone from a mirror's database. It says so, fetches the room again from the hub, and serves it as before.
#[test]
fn fault_35_a_deleted_table_comes_again() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    for text in ["one", "two", "three"] {
        world.kith("H2", &["say", &room, text, "--wait", "held"]);
    }
    world.coops[1].stop();
    let database = world.coops[1].folder.join("kith.db");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options = SqliteConnectOptions::from_str(database.to_str().unwrap()).unwrap();
        let mut conn = options.foreign_keys(false).connect().await.unwrap();
        sqlx::query("DROP TABLE entries").execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    });
    world.coops[1].start();
    assert!(!world.try_kith("H2", &["verify", &room]).status.success(), "what is not there cannot be verified");
    let until = Instant::now() + Duration::from_secs(30);
    while !world.try_kith("H2", &["verify", &room]).status.success() {
        assert!(Instant::now() < until, "it never came again: {}", world.coops[1].kithd(&["status"]));
    }
    let status = world.coops[1].kithd_json(&["status"]);
    assert_eq!((&status["damaged"], &status["rooms"][0]["refilling"]), (&serde_json::json!([]), &false.into()), "{status}");
    assert!(status["restored"].is_string(), "a disk that lost rows may have lost anything");
    world.kith("H2", &["say", &room, "four", "--wait", "held"]);
    for home in ["H1", "H2"] {
        let said: Vec<String> = texts(&world.kith_lines(home, &["read", &room])).into_iter().map(|(_, text)| text).collect();
        assert_eq!(said, ["one", "two", "three", "four"], "{home}");
    }
}
