//! Table `pending`: entries on their way to a hub.

use bytes::Bytes;
use kith_protocol::ids::{Counter, EntryId, Pseudonym, RoomNumber};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::convert::{bytes, room_number};
use super::error::{damaged, on_read, on_write};
use crate::Result;
use crate::memory::UNKNOWN_ROOM;

const ID_LEN: usize = Pseudonym::LEN + 2 + 8;

/// The room is read with it, so that an unknown one shows as no row.
const PUT: &str = "INSERT INTO pending (room, id, submission) SELECT number, ?2, ?3 FROM rooms WHERE number = ?1
    ON CONFLICT (room, id) DO UPDATE SET submission = excluded.submission";
const DROP: &str = "DELETE FROM pending WHERE room = ?1 AND id = ?2";
const OF_ROOM: &str = "SELECT id, submission FROM pending WHERE room = ?1 ORDER BY pos";
const ROOMS: &str = "SELECT DISTINCT room FROM pending ORDER BY room";

pub(super) async fn put(conn: &mut SqliteConnection, room: RoomNumber, id: EntryId, submission: &[u8]) -> Result<()> {
    let query = sqlx::query(PUT).bind(room.0).bind(encode_id(id)).bind(submission);
    let done = query.execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(UNKNOWN_ROOM) }
}

pub(super) async fn drop_pending(conn: &mut SqliteConnection, room: RoomNumber, id: EntryId) -> Result<()> {
    sqlx::query(DROP).bind(room.0).bind(encode_id(id)).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn of_room(pool: &SqlitePool, room: RoomNumber) -> Result<Vec<(EntryId, Bytes)>> {
    let rows = sqlx::query(OF_ROOM).bind(room.0).fetch_all(pool).await.map_err(on_read)?;
    rows.iter().map(|row| Ok((decode_id(row)?, bytes(row, 1)?))).collect()
}

pub(super) async fn rooms(pool: &SqlitePool) -> Result<Vec<RoomNumber>> {
    let rows = sqlx::query(ROOMS).fetch_all(pool).await.map_err(on_read)?;
    rows.iter().map(|row| room_number(row, 0)).collect()
}

fn encode_id(id: EntryId) -> Vec<u8> {
    [&id.sender.0[..], &id.counter.device.to_be_bytes(), &id.counter.number.to_be_bytes()].concat()
}

fn decode_id(row: &SqliteRow) -> Result<EntryId> {
    let id: &[u8] = row.try_get(0).map_err(on_read)?;
    let id: &[u8; ID_LEN] = id.try_into().map_err(|_| damaged("a pending entry's id has the wrong length"))?;
    let (sender, counter) = id.split_first_chunk().expect("a pseudonym's length is within the id's");
    let (device, number) = counter.split_first_chunk().expect("two bytes of ten");
    let number = number.try_into().expect("the eight bytes left");
    Ok(EntryId { sender: Pseudonym(*sender), counter: Counter { device: u16::from_be_bytes(*device), number: u64::from_be_bytes(number) } })
}
