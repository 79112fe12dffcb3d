//! One bit of what a co-op stored is not as it was: whoever verifies is told, and where a neighbour has the room, it comes
//! again. (Every byte of every header is flipped in the simulator's store: `tests/sim/tests/tamper.rs`.)

use std::path::Path;
use std::time::Duration;

use kith_e2e::{World, lines_of, texts, until};
use serde_json::json;
use sqlx::{Connection, SqliteConnection};

/// Every so many bytes, from a place of its own in each row: fewer would miss a field, more take minutes.
const STRIDE: usize = 19;

/// A stored blob: what it is, and its only row in a room of one log.
struct Stored {
    what: &'static str,
    table: &'static str,
    column: &'static str,
    row: i64,
}

/// A stopped co-op's own database.
struct Disk {
    runtime: tokio::runtime::Runtime,
    conn: SqliteConnection,
}

impl Disk {
    fn open(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("kith.db"));
        let conn = runtime.block_on(SqliteConnection::connect_with(&options)).unwrap();
        Self { runtime, conn }
    }

    fn all(&mut self) -> Vec<Stored> {
        let rows: Vec<(i64,)> = self.runtime.block_on(sqlx::query_as("SELECT pos FROM entries").fetch_all(&mut self.conn)).unwrap();
        assert!(rows.len() >= 6);
        let header = |(row,)| Stored { what: "header", table: "entries", column: "header", row };
        let mut all: Vec<Stored> = rows.into_iter().map(header).collect();
        all.push(Stored { what: "checkpoint", table: "rooms", column: "checkpoint", row: 1 });
        all.push(Stored { what: "cosignature", table: "room_marks", column: "attestation", row: 1 });
        all
    }

    fn read(&mut self, Stored { table, column, row, .. }: &Stored) -> Vec<u8> {
        let query = format!("SELECT {column} FROM {table} WHERE rowid = ?1");
        let query = sqlx::query_as::<_, (Vec<u8>,)>(sqlx::AssertSqlSafe(query)).bind(row);
        self.runtime.block_on(query.fetch_one(&mut self.conn)).unwrap().0
    }

    fn write(&mut self, Stored { table, column, row, .. }: &Stored, bytes: &[u8]) {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE {table} SET {column} = ?2 WHERE rowid = ?1")));
        let done = self.runtime.block_on(query.bind(row).bind(bytes).execute(&mut self.conn)).unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    fn close(self) {
        self.runtime.block_on(self.conn.close()).unwrap();
    }
}

fn talk(world: &World) -> String {
    let room = world.shared_room();
    for text in ["one", "two", "three"] {
        world.kith("H1", &["say", &room, text, "--wait", "held"]);
        world.kith("H2", &["say", &room, text, "--wait", "held"]);
    }
    for home in ["H1", "H2"] {
        let report = world.kith_lines(home, &["verify", &room]).remove(0);
        assert_eq!((&report["ok"], &report["cosigned_by"]), (&json!(true), &json!(["birch.test"])));
    }
    room
}

/// Alone, a co-op can mend nothing: each flip must be told of, at the hub and at the mirror, and with the bit put back all is
/// well again.
#[test]
fn a_flipped_bit_on_the_disk_fails_the_verification() {
    let mut world = World::two_coops();
    let room = talk(&world);
    for coop in &mut world.coops {
        coop.stop();
    }
    let mut flips = 0;
    for (coop, home) in [(0, "H1"), (1, "H2")] {
        let mut disk = Disk::open(&world.coops[coop].folder);
        let all = disk.all();
        disk.close();
        for (index, stored) in all.iter().enumerate() {
            let mut disk = Disk::open(&world.coops[coop].folder);
            let good = disk.read(stored);
            disk.close();
            // A header a flip, each at another place; of what there is one of, every so many bytes.
            let step = if stored.what == "header" { good.len() } else { STRIDE };
            for at in (index * STRIDE % step..good.len()).step_by(step) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                let mut disk = Disk::open(&world.coops[coop].folder);
                disk.write(stored, &bad);
                disk.close();
                world.coops[coop].start();
                let verified = world.try_kith(home, &["verify", &room, "--json", "--timeout", "3"]);
                assert!(!verified.status.success(), "{home}: {} of row {}, byte {at} of {}", stored.what, stored.row, good.len());
                world.coops[coop].kill();
                let mut disk = Disk::open(&world.coops[coop].folder);
                disk.write(stored, &good);
                disk.close();
                flips += 1;
            }
        }
        world.coops[coop].start();
        let report = world.kith_lines(home, &["verify", &room]).remove(0);
        assert_eq!(report["ok"], json!(true), "and whole again");
        world.coops[coop].kill();
    }
    assert!(flips >= 30, "{flips} flips");
    println!("{flips} flips");
}

/// With its neighbour there the co-op says that its room is damaged, and has it again from there: whoever read on at the damaged
/// place gets what was said there.
#[test]
fn a_flipped_bit_is_told_of_and_comes_again_from_a_neighbour() {
    let mut world = World::two_coops();
    let room = talk(&world);
    for text in ["four", "five", "six"] {
        world.kith("H1", &["say", &room, text, "--wait", "held"]);
    }
    world.coops[1].stop();
    let mut disk = Disk::open(&world.coops[1].folder);
    let rows = disk.all();
    let headers: Vec<&Stored> = rows.iter().filter(|stored| stored.what == "header").collect();
    // Of the three that are read next one that is read after its neighbour in the tree.
    let damaged = (headers.len() - 2) | 1;
    let good = disk.read(headers[damaged]);
    let mut bad = good.clone();
    bad[60] ^= 1;
    disk.write(headers[damaged], &bad);
    disk.close();
    world.coops[1].start();
    let six = || texts(&lines_of(&world.try_kith("H2", &["read", &room, "--json", "--timeout", "3"]))).last().unwrap().1 == "six";
    until("the last line", Duration::from_secs(30), six);
    let log = std::fs::read_to_string(world.coops[1].logs().pop().unwrap()).unwrap();
    assert!(log.contains("a room's rows are lost or damaged here"), "a steward is told");
    assert_eq!(world.kith_lines("H2", &["verify", &room])[0]["ok"], json!(true));
    world.coops[1].stop();
    let mut disk = Disk::open(&world.coops[1].folder);
    let stored = disk.all();
    let again: Vec<Vec<u8>> = stored.iter().filter(|stored| stored.what == "header").map(|stored| disk.read(stored)).collect();
    assert_eq!((again.len(), &again[damaged]), (headers.len(), &good));
    disk.close();
}
