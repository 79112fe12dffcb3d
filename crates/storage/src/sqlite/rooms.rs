//! Tables `rooms`, `room_groups` and `room_marks`: what a restart reads of a room besides its log.

use kith_protocol::ids::{Coop, RoomId, RoomNumber, Seq};
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::convert::{coop_name, id, optional_bytes, room_number};
use super::error::{on_read, on_write};
use crate::memory::{NO_LOG, NO_ROOM, ROOM_NOT_NEW, UNKNOWN_ROOM, WRONG_CUT, WRONG_FIRST, check_incarnation};
use crate::{Append, Result, RoomRow, RoomState, Truncate};

/// Touches no row when the number or the id is taken.
const PUT: &str = "INSERT INTO rooms (number, id, hub_name, hub_key, size) VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT DO NOTHING";
/// Takes `pending` and `cursors` with it.
/// What does not go with the room by itself goes first.
const DROP: [&str; 4] = [
    "DELETE FROM entries WHERE room = ?1",
    "DELETE FROM room_groups WHERE room = ?1",
    "DELETE FROM room_marks WHERE room = ?1",
    "DELETE FROM rooms WHERE number = ?1",
];
const ALL: &str = "SELECT number, id, hub_name, hub_key FROM rooms ORDER BY number";

/// Compare and set: touches no row unless the log ends where the append begins.
const ADVANCE: &str = "UPDATE rooms SET size = ?3, snapshot = ?4, checkpoint = ?5 WHERE number = ?1 AND size = ?2";
const PUT_GROUP: &str = "INSERT INTO room_groups (room, snapshot) VALUES (?1, ?2)
    ON CONFLICT (room) DO UPDATE SET snapshot = excluded.snapshot";
/// Touches no row unless the room has an entry.
const PUT_MARKED: &str = "INSERT INTO room_marks (room, attestation) SELECT number, ?2 FROM rooms WHERE number = ?1 AND size > 0
    ON CONFLICT (room) DO UPDATE SET attestation = excluded.attestation";
/// Touches no row unless the log has as much.
const TRUNCATE: &str = "UPDATE rooms SET size = ?2, snapshot = ?3, checkpoint = ?4 WHERE number = ?1 AND size >= ?2 AND ?2 > 0";
const DROP_MARKED: &str = "DELETE FROM room_marks WHERE room = ?1";
const CLEAR: [&str; 3] = [
    "DELETE FROM entries WHERE room = ?1",
    "DELETE FROM room_groups WHERE room = ?1",
    "UPDATE rooms SET size = 0, snapshot = NULL, checkpoint = NULL WHERE number = ?1",
];
const PUT_VOTE: &str = "INSERT INTO room_votes (room, vote) SELECT number, ?2 FROM rooms WHERE number = ?1
    ON CONFLICT (room) DO UPDATE SET vote = excluded.vote";
const PUT_PROOF: &str = "INSERT INTO room_proofs (room, proof) SELECT number, ?2 FROM rooms WHERE number = ?1
    ON CONFLICT (room) DO UPDATE SET proof = excluded.proof";
const INCARNATION: &str = "SELECT coalesce(max(number), 0) FROM incarnations";
const PUT_INCARNATION: &str = "INSERT INTO incarnations (number) VALUES (?1)";
const ALL_RESTORED: &str = "INSERT INTO restored_rooms (room) SELECT number FROM rooms WHERE true ON CONFLICT DO NOTHING";
const KNOWN: &str = "SELECT count(*) FROM rooms WHERE number = ?1";
const REFILLED: &str = "DELETE FROM restored_rooms WHERE room = ?1";
/// One statement, so that all of it is of one moment.
const STATE: &str = "SELECT r.snapshot, g.snapshot, r.checkpoint, m.attestation, v.vote, p.proof, l.room IS NOT NULL FROM rooms AS r
    LEFT JOIN room_groups AS g ON g.room = r.number
    LEFT JOIN room_marks AS m ON m.room = r.number
    LEFT JOIN room_votes AS v ON v.room = r.number
    LEFT JOIN room_proofs AS p ON p.room = r.number
    LEFT JOIN restored_rooms AS l ON l.room = r.number
    WHERE r.number = ?1";

pub(super) async fn put(conn: &mut SqliteConnection, number: RoomNumber, id: RoomId, hub: &Coop) -> Result<()> {
    let query = sqlx::query(PUT).bind(number.0).bind(id.as_bytes()).bind(hub.name.as_str()).bind(hub.key.as_bytes());
    let done = query.execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(ROOM_NOT_NEW) }
}

pub(super) async fn drop(conn: &mut SqliteConnection, number: RoomNumber) -> Result<()> {
    let mut dropped = 0;
    for statement in DROP {
        dropped = sqlx::query(statement).bind(number.0).execute(&mut *conn).await.map_err(on_write)?.rows_affected();
    }
    if dropped == 1 { Ok(()) } else { Err(NO_ROOM) }
}

/// Moves the room on to `end`. The rows themselves are [`super::log`]'s.
pub(super) async fn advance(conn: &mut SqliteConnection, append: &Append, end: Seq) -> Result<()> {
    let query = sqlx::query(ADVANCE).bind(append.room.0).bind(append.first.0.cast_signed()).bind(end.0.cast_signed());
    let query = query.bind(&append.snapshot[..]).bind(&append.checkpoint[..]);
    let done = query.execute(&mut *conn).await.map_err(on_write)?;
    if done.rows_affected() != 1 {
        return Err(WRONG_FIRST);
    }
    if let Some(group) = &append.group {
        sqlx::query(PUT_GROUP).bind(append.room.0).bind(&group[..]).execute(conn).await.map_err(on_write)?;
    }
    Ok(())
}

pub(super) async fn put_marked(conn: &mut SqliteConnection, room: RoomNumber, attestation: &[u8]) -> Result<()> {
    let done = sqlx::query(PUT_MARKED).bind(room.0).bind(attestation).execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(NO_LOG) }
}

/// The room's own row; the log's rows are [`super::log`]'s.
pub(super) async fn truncate(conn: &mut SqliteConnection, cut: &Truncate) -> Result<()> {
    let query = sqlx::query(TRUNCATE).bind(cut.room.0).bind(cut.size.0.cast_signed()).bind(&cut.snapshot[..]).bind(&cut.checkpoint[..]);
    let done = query.execute(&mut *conn).await.map_err(on_write)?;
    if done.rows_affected() != 1 {
        return Err(WRONG_CUT);
    }
    sqlx::query(PUT_GROUP).bind(cut.room.0).bind(&cut.group[..]).execute(&mut *conn).await.map_err(on_write)?;
    sqlx::query(DROP_MARKED).bind(cut.room.0).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn clear_log(conn: &mut SqliteConnection, room: RoomNumber) -> Result<()> {
    sqlx::query(DROP_MARKED).bind(room.0).execute(&mut *conn).await.map_err(on_write)?;
    let mut cleared = 0;
    for statement in CLEAR {
        cleared = sqlx::query(statement).bind(room.0).execute(&mut *conn).await.map_err(on_write)?.rows_affected();
    }
    if cleared == 1 { Ok(()) } else { Err(UNKNOWN_ROOM) }
}

pub(super) async fn put_vote(conn: &mut SqliteConnection, room: RoomNumber, vote: &[u8]) -> Result<()> {
    let done = sqlx::query(PUT_VOTE).bind(room.0).bind(vote).execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(UNKNOWN_ROOM) }
}

pub(super) async fn put_proof(conn: &mut SqliteConnection, room: RoomNumber, proof: &[u8]) -> Result<()> {
    let done = sqlx::query(PUT_PROOF).bind(room.0).bind(proof).execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(UNKNOWN_ROOM) }
}

/// All rooms lack something from now on.
pub(super) async fn begin_incarnation(conn: &mut SqliteConnection, number: u64) -> Result<()> {
    let newest: i64 = sqlx::query_scalar(INCARNATION).fetch_one(&mut *conn).await.map_err(on_write)?;
    check_incarnation(newest.cast_unsigned(), number)?;
    sqlx::query(PUT_INCARNATION).bind(number.cast_signed()).execute(&mut *conn).await.map_err(on_write)?;
    sqlx::query(ALL_RESTORED).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn put_refilled(conn: &mut SqliteConnection, room: RoomNumber) -> Result<()> {
    let known: i64 = sqlx::query_scalar(KNOWN).bind(room.0).fetch_one(&mut *conn).await.map_err(on_write)?;
    if known != 1 {
        return Err(UNKNOWN_ROOM);
    }
    sqlx::query(REFILLED).bind(room.0).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn incarnation(pool: &SqlitePool) -> Result<u64> {
    let newest: i64 = sqlx::query_scalar(INCARNATION).fetch_one(pool).await.map_err(on_read)?;
    Ok(newest.cast_unsigned())
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<RoomRow>> {
    let rows = sqlx::query(ALL).fetch_all(pool).await.map_err(on_read)?;
    rows.iter()
        .map(|row| {
            let hub = Coop { name: coop_name(row, 2)?, key: id(row, 3)? };
            Ok(RoomRow { number: room_number(row, 0)?, id: id(row, 1)?, hub })
        })
        .collect()
}

pub(super) async fn state(pool: &SqlitePool, room: RoomNumber) -> Result<RoomState> {
    let row = sqlx::query(STATE).bind(room.0).fetch_optional(pool).await.map_err(on_read)?;
    let Some(row) = row else {
        return Ok(RoomState::default());
    };
    Ok(RoomState {
        snapshot: optional_bytes(&row, 0)?,
        group: optional_bytes(&row, 1)?,
        checkpoint: optional_bytes(&row, 2)?,
        marked: optional_bytes(&row, 3)?,
        vote: optional_bytes(&row, 4)?,
        proof: optional_bytes(&row, 5)?,
        is_restored: row.try_get(6).map_err(on_read)?,
    })
}
