//! What only SQLite can get wrong: files, versions, plans, groups of commits, and a disk that fails.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::task::{Context, Poll, Waker};

use kith_protocol::ids::{AccountHandle, Coop, RoomId};
use kith_protocol::log::merkle::Frontier;
use sqlx::AssertSqlSafe;

use super::*;
use crate::conformance::{everything, rows};
use crate::{Append, Write};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("kith.db")
    }

    async fn open(&self) -> Sqlite {
        Sqlite::open(&self.path()).await.unwrap()
    }

    /// Another program with the same file.
    async fn run(&self, statement: &'static str) {
        let mut conn = options(&self.path()).connect().await.unwrap();
        sqlx::query(statement).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }
}

fn invite(key: u8) -> Write {
    Write::PutInvite { key: PublicKey([key; 32]), uses_left: 1 }
}

fn misuse() -> Write {
    Write::DropRoom { number: RoomNumber(99) }
}

fn put_room() -> Write {
    let hub = Coop { name: "alder.example".parse().unwrap(), key: PublicKey([1; 32]) };
    Write::PutRoom { number: RoomNumber(1), id: RoomId([1; 32]), hub }
}

fn append(frontier: &mut Frontier, count: usize, body_bytes: usize) -> Write {
    let first = Seq(frontier.size());
    let rows = rows(frontier, count, |_| Bytes::from(vec![7; body_bytes]));
    Write::Append(Append { room: RoomNumber(1), first, rows, snapshot: Bytes::new(), group: None, checkpoint: Bytes::new() })
}

#[test]
fn old_libraries_are_refused() {
    for good in ["3.51.3", "3.51.10", "3.52.0", "4.0.0", "3.53"] {
        assert!(check_version(good).is_ok(), "{good}");
    }
    for bad in ["3.51.2", "3.40.1", "3.6.23", "2.99.99", "3.51", "", "three"] {
        assert!(matches!(check_version(bad), Err(StoreError::TooOld { .. })), "{bad}");
    }
}

#[tokio::test]
async fn committed_data_outlives_the_store() {
    let place = Place::new();
    let store = place.open().await;
    let mut frontier = Frontier::default();
    store.commit(vec![put_room(), append(&mut frontier, 3, 10), invite(1)]).await.unwrap();
    let before = everything(&store).await;
    store.close().await.unwrap();
    assert!(!beside(&place.path(), "-wal").exists(), "closing moves the write-ahead log into the database");

    let store = place.open().await;
    assert_eq!(everything(&store).await, before);
    store.commit(vec![append(&mut frontier, 2, 10)]).await.unwrap();
    let before = everything(&store).await;
    drop(store);
    assert_eq!(everything(&place.open().await).await, before);
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_is_done() {
    let place = Place::new();
    let store = place.open().await;
    {
        let mut commit = std::pin::pin!(store.commit(vec![invite(1)]));
        assert!(matches!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    }
    store.close().await.unwrap();
    assert_eq!(place.open().await.invites().await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_file_is_the_owners_alone() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o666)).unwrap();
    let store = place.open().await;
    store.commit(vec![invite(1)]).await.unwrap();
    for file in [place.path(), beside(&place.path(), "-wal"), beside(&place.path(), "-shm")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn fault_38_the_writer_waits_for_the_disk() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    let mut conn = writer_options(&place.path()).connect().await.unwrap();
    for (pragma, expected) in [
        ("PRAGMA synchronous", 2),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA wal_autocheckpoint", 0),
        ("PRAGMA temp_store", 2),
        ("PRAGMA busy_timeout", 5_000),
    ] {
        let value: i64 = sqlx::query(pragma).fetch_one(&mut conn).await.unwrap().get(0);
        assert_eq!(value, expected, "{pragma}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new();
    place.open().await.close().await.unwrap();
    place.run("INSERT INTO migrations (number, name) VALUES (99, 'from the future')").await;
    let before = fs::read(place.path()).unwrap();
    assert!(matches!(Sqlite::open(&place.path()).await, Err(StoreError::Misused(_))));
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_database_is_damaged() {
    let place = Place::new();
    fs::write(place.path(), "not a database ".repeat(1_000)).unwrap();
    assert!(matches!(Sqlite::open(&place.path()).await, Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_hole_in_a_log_is_damage() {
    let place = Place::new();
    let store = place.open().await;
    store.commit(vec![put_room(), append(&mut Frontier::default(), 4, 10)]).await.unwrap();
    place.run("DELETE FROM entries WHERE seq = 1").await;
    for from in [0, 1] {
        assert!(matches!(store.entries(RoomNumber(1), Seq(from), 9, 99).await, Err(StoreError::Damaged(_))));
        assert!(matches!(store.headers(RoomNumber(1), Seq(from), 9).await, Err(StoreError::Damaged(_))));
    }
}

#[tokio::test]
async fn a_table_that_is_gone_is_made_again() {
    let place = Place::new();
    let store = place.open().await;
    store.commit(vec![put_room(), append(&mut Frontier::default(), 4, 10), invite(1)]).await.unwrap();
    store.close().await.unwrap();
    place.run("DROP TABLE entries").await;
    place.run("DROP INDEX pending_room_id").await;
    let store = place.open().await;
    let read = store.entries(RoomNumber(1), Seq(0), 9, 99).await;
    assert!(matches!(&read, Err(StoreError::Damaged(_))) || read.unwrap().is_empty());
    assert_eq!(store.invites().await.unwrap().len(), 1, "what is there stays");
    store.commit(vec![Write::ClearLog { room: RoomNumber(1) }, append(&mut Frontier::default(), 4, 10)]).await.unwrap();
    assert_eq!(store.entries(RoomNumber(1), Seq(0), 9, 9_999).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_node_is_one_look_up_in_the_index() {
    let place = Place::new();
    let store = place.open().await;
    store.commit(vec![put_room(), append(&mut Frontier::default(), 40, 10)]).await.unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", log::LEAVES));
    let rows = sqlx::query(explain).bind(1).bind("[3,5]").fetch_all(&store.readers).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    assert_eq!(plan.len(), 2, "{plan:?}");
    assert!(plan[0].starts_with("SCAN wanted VIRTUAL TABLE"), "{plan:?}");
    assert_eq!(plan[1], "SEARCH e USING INDEX entries_room_seq (room=? AND seq=?)");
}

#[tokio::test]
async fn a_misuse_does_not_poison_its_group() {
    let place = Place::new();
    let store = place.open().await;
    // All are queued before the writer gets its turn, so they are one group.
    let (first, bad, last) =
        tokio::join!(store.commit(vec![invite(1)]), store.commit(vec![invite(2), misuse()]), store.commit(vec![invite(3)]));
    first.unwrap();
    assert!(matches!(bad, Err(StoreError::Misused(_))));
    last.unwrap();
    let keys: Vec<_> = store.invites().await.unwrap().iter().map(|(key, _)| key.0[0]).collect();
    assert_eq!(keys, [1, 3]);
}

#[tokio::test]
async fn a_full_disk_refuses_and_then_works_again() {
    let place = Place::new();
    let store = Sqlite::open_with(&place.path(), |options| options.pragma("max_page_count", "100")).await.unwrap();
    let mut frontier = Frontier::default();
    store.commit(vec![put_room(), append(&mut frontier, 3, 100)]).await.unwrap();
    let before = everything(&store).await;
    let large = || append(&mut frontier.clone(), 20, 60_000);
    let (one, other) = tokio::join!(store.commit(vec![large()]), store.commit(vec![invite(1)]));
    assert!(matches!((one, other), (Err(StoreError::Full), Err(StoreError::Full))), "one transaction, one fate");
    assert_eq!(everything(&store).await, before);
    store.commit(vec![append(&mut frontier, 3, 100)]).await.unwrap();
    assert!(matches!(store.commit(vec![append(&mut frontier.clone(), 20, 60_000)]).await, Err(StoreError::Full)));
    store.commit(vec![invite(1)]).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn fault_38_nothing_is_written_after_a_failure() {
    let place = Place::new();
    let store = place.open().await;
    place.run("DROP TABLE invites").await;
    assert!(matches!(store.commit(vec![invite(1)]).await, Err(StoreError::Failed(_))));
    let device = DeviceRow { handle: DeviceHandle(1), account: AccountHandle(1), number: 0, key: PublicKey([1; 32]) };
    assert!(matches!(store.commit(vec![Write::PutDevice(device)]).await, Err(StoreError::Failed(_))));
    assert_eq!(store.devices().await.unwrap(), []);
    assert!(matches!(store.close().await, Err(StoreError::Failed(_))));
}

#[tokio::test]
async fn the_write_ahead_log_stays_bounded() {
    let place = Place::new();
    let store = place.open().await;
    let mut frontier = Frontier::default();
    store.commit(vec![put_room()]).await.unwrap();
    // 12 MB; some 1,000 pages of 4 KiB are checkpointed at a time, and the log begins anew.
    for _ in 0..40 {
        store.commit(vec![append(&mut frontier, 5, 60_000)]).await.unwrap();
    }
    let wal_bytes = fs::metadata(beside(&place.path(), "-wal")).unwrap().len();
    assert!(wal_bytes < 6_000_000, "{wal_bytes}");
}

#[tokio::test]
async fn a_commit_larger_than_one_statement_is_still_one() {
    let place = Place::new();
    let store = place.open().await;
    let Write::Append(append) = append(&mut Frontier::default(), 300, 65_000) else { unreachable!() };
    store.commit(vec![put_room(), Write::Append(append.clone())]).await.unwrap();
    assert_eq!(store.entries(RoomNumber(1), Seq(0), 999, usize::MAX).await.unwrap(), append.rows);
}

/// A database from before agreements had terms keeps its neighbours; what they had signed says nothing any more.
#[tokio::test]
async fn neighbours_of_the_first_schema_stay() {
    let place = Place::new();
    let mut conn = options(&place.path()).create_if_missing(true).connect().await.unwrap();
    let (name, first) = schema::MIGRATIONS[0];
    sqlx::raw_sql(first).execute(&mut conn).await.unwrap();
    let rest = "CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
        INSERT INTO neighbours VALUES ('birch.example', zeroblob(32), 'birch.example:7411', zeroblob(64));";
    sqlx::raw_sql(rest).execute(&mut conn).await.unwrap();
    sqlx::query("INSERT INTO migrations VALUES (1, ?1)").bind(name).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let coop = Coop { name: "birch.example".parse().unwrap(), key: PublicKey([0; 32]) };
    let row = NeighbourRow { coop, address: "birch.example:7411".into(), agreement: Bytes::new() };
    let store = place.open().await;
    assert_eq!(store.neighbours().await.unwrap(), [row]);
    store.close().await.unwrap();
}
