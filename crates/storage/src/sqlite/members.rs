//! Tables `invites`, `devices`, `memberships` and `cursors`: who belongs to this co-op and where they read on.

use kith_protocol::ids::{AccountHandle, DeviceHandle, PublicKey, RoomNumber, Seq};
use sqlx::{SqliteConnection, SqlitePool};

use super::convert::{id, room_number, unsigned};
use super::error::{damaged, on_read, on_write};
use crate::memory::{OTHER_ACCOUNT, UNKNOWN_ROOM, check_place};
use crate::{DeviceRow, MembershipRow, Result};

const PUT_INVITE: &str = "INSERT INTO invites (key, uses_left) VALUES (?1, ?2)
    ON CONFLICT (key) DO UPDATE SET uses_left = excluded.uses_left";
const INVITES: &str = "SELECT key, uses_left FROM invites ORDER BY key";

const PUT_DEVICE: &str = "INSERT INTO devices (handle, account, number, key) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (handle) DO UPDATE SET account = excluded.account, number = excluded.number, key = excluded.key";
const DEVICES: &str = "SELECT handle, account, number, key FROM devices";

/// Touches no row when the pseudonym is another account's.
const PUT_MEMBERSHIP: &str = "INSERT INTO memberships (room, pseudonym, account) VALUES (?1, ?2, ?3)
    ON CONFLICT (room, pseudonym) DO UPDATE SET account = excluded.account WHERE account = excluded.account";
const MEMBERSHIPS: &str = "SELECT account, room, pseudonym FROM memberships";

const SET_CURSOR: &str = "INSERT INTO cursors (device, room, next) SELECT ?1, number, ?3 FROM rooms WHERE number = ?2
    ON CONFLICT (device, room) DO UPDATE SET next = max(next, excluded.next)";
const RESET_CURSOR: &str = "INSERT INTO cursors (device, room, next) SELECT ?1, number, ?3 FROM rooms WHERE number = ?2
    ON CONFLICT (device, room) DO UPDATE SET next = excluded.next";
/// One statement for all devices of a room.
const CLAMP_CURSORS: &str = "UPDATE cursors SET next = min(next, ?2) WHERE room = ?1";
const CURSORS: &str = "SELECT room, next FROM cursors WHERE device = ?1 ORDER BY room";

pub(super) async fn put_invite(conn: &mut SqliteConnection, key: PublicKey, uses_left: u32) -> Result<()> {
    sqlx::query(PUT_INVITE).bind(key.as_bytes()).bind(uses_left).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn put_device(conn: &mut SqliteConnection, row: &DeviceRow) -> Result<()> {
    let query = sqlx::query(PUT_DEVICE).bind(row.handle.0.cast_signed()).bind(row.account.0.cast_signed());
    query.bind(row.number).bind(row.key.as_bytes()).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn put_membership(conn: &mut SqliteConnection, row: &MembershipRow) -> Result<()> {
    let query = sqlx::query(PUT_MEMBERSHIP).bind(row.room.as_bytes()).bind(row.pseudonym.as_bytes());
    let done = query.bind(row.account.0.cast_signed()).execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(OTHER_ACCOUNT) }
}

pub(super) async fn set_cursor(conn: &mut SqliteConnection, device: DeviceHandle, room: RoomNumber, next: Seq) -> Result<()> {
    put_cursor(conn, SET_CURSOR, device, room, next).await
}

pub(super) async fn reset_cursor(conn: &mut SqliteConnection, device: DeviceHandle, room: RoomNumber, next: Seq) -> Result<()> {
    put_cursor(conn, RESET_CURSOR, device, room, next).await
}

/// No cursor of the room stands beyond its log.
pub(super) async fn clamp_cursors(conn: &mut SqliteConnection, room: RoomNumber, size: Seq) -> Result<()> {
    sqlx::query(CLAMP_CURSORS).bind(room.0).bind(size.0.cast_signed()).execute(conn).await.map_err(on_write)?;
    Ok(())
}

async fn put_cursor(conn: &mut SqliteConnection, statement: &'static str, device: DeviceHandle, room: RoomNumber, next: Seq) -> Result<()> {
    check_place(next)?;
    let query = sqlx::query(statement).bind(device.0.cast_signed()).bind(room.0).bind(next.0.cast_signed());
    let done = query.execute(conn).await.map_err(on_write)?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(UNKNOWN_ROOM) }
}

pub(super) async fn invites(pool: &SqlitePool) -> Result<Vec<(PublicKey, u32)>> {
    let rows = sqlx::query(INVITES).fetch_all(pool).await.map_err(on_read)?;
    rows.iter()
        .map(|row| {
            let uses_left = u32::try_from(unsigned(row, 1)?).map_err(|_| damaged("an invite's uses"))?;
            Ok((id(row, 0)?, uses_left))
        })
        .collect()
}

pub(super) async fn devices(pool: &SqlitePool) -> Result<Vec<DeviceRow>> {
    let rows = sqlx::query(DEVICES).fetch_all(pool).await.map_err(on_read)?;
    let row_of = |row| {
        Ok(DeviceRow {
            handle: DeviceHandle(unsigned(row, 0)?),
            account: AccountHandle(unsigned(row, 1)?),
            number: u16::try_from(unsigned(row, 2)?).map_err(|_| damaged("a device's number"))?,
            key: id(row, 3)?,
        })
    };
    let mut devices = rows.iter().map(row_of).collect::<Result<Vec<_>>>()?;
    // Here rather than in the statement, which would take the upper half of the handles for negative.
    devices.sort_by_key(|device| device.handle);
    Ok(devices)
}

pub(super) async fn memberships(pool: &SqlitePool) -> Result<Vec<MembershipRow>> {
    let rows = sqlx::query(MEMBERSHIPS).fetch_all(pool).await.map_err(on_read)?;
    let row_of = |row| Ok(MembershipRow { account: AccountHandle(unsigned(row, 0)?), room: id(row, 1)?, pseudonym: id(row, 2)? });
    let mut memberships = rows.iter().map(row_of).collect::<Result<Vec<_>>>()?;
    memberships.sort();
    Ok(memberships)
}

pub(super) async fn cursors(pool: &SqlitePool, device: DeviceHandle) -> Result<Vec<(RoomNumber, Seq)>> {
    let rows = sqlx::query(CURSORS).bind(device.0.cast_signed()).fetch_all(pool).await.map_err(on_read)?;
    rows.iter().map(|row| Ok((room_number(row, 0)?, Seq(unsigned(row, 1)?)))).collect()
}
