//! The tables, as numbered migrations: each runs once, in order, and is never edited after a release.

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use super::error::{on_read, on_write};
use crate::{Result, StoreError};

/// Name and statements; the number is the place, from 1.
pub(super) const MIGRATIONS: &[(&str, &str)] =
    &[("initial", INITIAL), ("votes", VOTES), ("agreements", AGREEMENTS), ("proofs", PROOFS), ("restores", RESTORES)];

const VOTES: &str = "
CREATE TABLE room_votes (
    room INTEGER PRIMARY KEY REFERENCES rooms (number) ON DELETE CASCADE,
    vote BLOB NOT NULL
) STRICT;
";

const PROOFS: &str = "
CREATE TABLE room_proofs (
    room  INTEGER PRIMARY KEY REFERENCES rooms (number) ON DELETE CASCADE,
    proof BLOB NOT NULL
) STRICT;
";

const RESTORES: &str = "
CREATE TABLE incarnations (
    number INTEGER PRIMARY KEY
) STRICT;
CREATE TABLE restored_rooms (
    room INTEGER PRIMARY KEY REFERENCES rooms (number) ON DELETE CASCADE
) STRICT;
";

/// `entries` is appended to at one place (`pos`) whatever the room, so a batch touches few pages; a table ordered by
/// (room, seq) was a quarter as fast. What an append overwrites stands in `rooms`; what is large and changes seldom
/// (the group's snapshot, the marks) stands apart, since SQLite rewrites whole rows.
///
/// Numbers that are unsigned in the program keep their 64 bits. An entry's id is sender | device | number, big-endian.
const INITIAL: &str = "
CREATE TABLE rooms (
    number     INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    hub_name   TEXT NOT NULL,
    hub_key    BLOB NOT NULL,
    size       INTEGER NOT NULL,
    snapshot   BLOB,
    checkpoint BLOB
) STRICT;
CREATE TABLE room_groups (
    room     INTEGER PRIMARY KEY REFERENCES rooms (number),
    snapshot BLOB NOT NULL
) STRICT;
CREATE TABLE room_marks (
    room        INTEGER PRIMARY KEY REFERENCES rooms (number),
    attestation BLOB NOT NULL
) STRICT;
CREATE TABLE entries (
    pos        INTEGER PRIMARY KEY,
    room       INTEGER NOT NULL REFERENCES rooms (number),
    seq        INTEGER NOT NULL,
    header     BLOB NOT NULL,
    nodes      BLOB NOT NULL,
    body       BLOB NOT NULL,
    group_info BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_room_seq ON entries (room, seq);
CREATE TABLE pending (
    pos        INTEGER PRIMARY KEY,
    room       INTEGER NOT NULL REFERENCES rooms (number) ON DELETE CASCADE,
    id         BLOB NOT NULL,
    submission BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX pending_room_id ON pending (room, id);
CREATE TABLE invites (
    key       BLOB PRIMARY KEY,
    uses_left INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE devices (
    handle  INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    key     BLOB NOT NULL
) STRICT;
CREATE TABLE memberships (
    room      BLOB NOT NULL,
    pseudonym BLOB NOT NULL,
    account   INTEGER NOT NULL,
    PRIMARY KEY (room, pseudonym)
) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (
    device INTEGER NOT NULL,
    room   INTEGER NOT NULL REFERENCES rooms (number) ON DELETE CASCADE,
    next   INTEGER NOT NULL,
    PRIMARY KEY (device, room)
) STRICT, WITHOUT ROWID;
CREATE INDEX cursors_room ON cursors (room);
CREATE TABLE neighbours (
    name      TEXT PRIMARY KEY,
    key       BLOB NOT NULL,
    address   TEXT NOT NULL,
    signature BLOB
) STRICT, WITHOUT ROWID;
";

/// A signature under a document without terms says nothing any more: both sides sign anew when they next meet.
const AGREEMENTS: &str = "
ALTER TABLE neighbours ADD COLUMN agreement BLOB NOT NULL DEFAULT x'';
ALTER TABLE neighbours DROP COLUMN signature;
";

const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT";
const NEWEST_MIGRATION: &str = "SELECT coalesce(max(number), 0) FROM migrations";
const OBJECTS: &str = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid";
const OBJECT: &str = "SELECT count(*) FROM sqlite_master WHERE name = ?1";
const PUT_MIGRATION: &str = "INSERT INTO migrations (number, name) VALUES (?1, ?2)";

/// Brings the database to this program's schema, in one transaction. Refuses one that a newer program wrote, and
/// leaves it as it was.
pub(super) async fn migrate(conn: &mut SqliteConnection) -> Result<()> {
    // IMMEDIATE: of two processes that start at once, one waits for the other.
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await.map_err(on_read)?;
    sqlx::query(CREATE_MIGRATIONS).execute(&mut *transaction).await.map_err(on_write)?;
    let newest: i64 = sqlx::query(NEWEST_MIGRATION).fetch_one(&mut *transaction).await.and_then(|row| row.try_get(0)).map_err(on_read)?;
    let done = usize::try_from(newest).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Misused("a newer version of the program wrote this database; run that version"));
    }
    for (number, (name, statements)) in (1i64..).zip(MIGRATIONS).skip(done) {
        sqlx::raw_sql(*statements).execute(&mut *transaction).await.map_err(on_write)?;
        sqlx::query(PUT_MIGRATION).bind(number).bind(*name).execute(&mut *transaction).await.map_err(on_write)?;
    }
    complete(&mut transaction).await?;
    transaction.commit().await.map_err(on_write)
}

/// A table or an index that is gone is made again, empty: what stood in it is lost rows like others.
async fn complete(conn: &mut SqliteConnection) -> Result<()> {
    let mut whole = SqliteConnection::connect("sqlite::memory:").await.map_err(on_read)?;
    for (_, statements) in MIGRATIONS {
        sqlx::raw_sql(*statements).execute(&mut whole).await.map_err(on_read)?;
    }
    for row in sqlx::query(OBJECTS).fetch_all(&mut whole).await.map_err(on_read)? {
        let (name, statement): (String, String) = (row.try_get(0).map_err(on_read)?, row.try_get(1).map_err(on_read)?);
        let known: i64 = sqlx::query_scalar(OBJECT).bind(&name).fetch_one(&mut *conn).await.map_err(on_read)?;
        if known == 0 {
            tracing::error!(name, "the database lacks a table or an index; it is made again");
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await.map_err(on_write)?;
        }
    }
    whole.close().await.map_err(on_read)
}
