//! Table `entries`: the rooms' logs, all in one, in the order in which they were written.
//!
//! The rows of one group of commits go in with one statement: a JSON array says where in one blob each field lies. A statement
//! a row costs several times as much.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::TryStreamExt;
use kith_protocol::ids::{Hash, RoomNumber, Seq};
use kith_protocol::limits::STATEMENT_BYTES_MAX;
use kith_protocol::log::merkle::NodeId;
use sqlx::sqlite::SqliteRow;
use sqlx::{Either, Executor, Row, SqliteConnection, SqlitePool};

use super::convert::{bytes, unsigned};
use super::error::{damaged, on_read, on_write};
use crate::memory::{WRONG_FIRST, node_at, stored_at};
use crate::{Append, LogRow, Result, Truncate};

const INSERT_ONE: &str = "INSERT INTO entries (room, seq, header, nodes, body, group_info) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// ?1: an array of [room, seq, place of the header, its length, the nodes', the body's, the GroupInfo's length]; the
/// four fields lie side by side in ?2.
const INSERT_MANY: &str = "INSERT INTO entries (room, seq, header, nodes, body, group_info)
    SELECT value ->> 0, value ->> 1,
        substr(?2, value ->> 2, value ->> 3),
        substr(?2, (value ->> 2) + (value ->> 3), value ->> 4),
        substr(?2, (value ->> 2) + (value ->> 3) + (value ->> 4), value ->> 5),
        substr(?2, (value ->> 2) + (value ->> 3) + (value ->> 4) + (value ->> 5), value ->> 6)
    FROM json_each(?1)";
const TRUNCATE: &str = "DELETE FROM entries WHERE room = ?1 AND seq >= ?2";
/// A transaction of one row that changes nothing else, in one go: on a quiet server the way to SQLite's thread and back
/// costs more than the statements do. The row goes in only if the room was moved on (as by [`super::rooms::advance`]).
const COMMIT_ONE: &str = "BEGIN IMMEDIATE;
    UPDATE rooms SET size = ?3, snapshot = ?4, checkpoint = ?5 WHERE number = ?1 AND size = ?2;
    INSERT INTO entries (room, seq, header, nodes, body, group_info) SELECT ?1, ?2, ?6, ?7, ?8, ?9 WHERE changes() = 1;
    COMMIT";
/// The place of the UPDATE in it.
const COMMIT_ONE_ADVANCE: usize = 1;
const FROM: &str = "SELECT seq, header, nodes, body, group_info FROM entries WHERE room = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3";
const HEADERS: &str = "SELECT seq, header FROM entries WHERE room = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3";
/// CROSS JOIN keeps the order of the loops: one indexed look-up for each leaf that is asked for.
pub(super) const LEAVES: &str = "SELECT wanted.key, e.header, e.nodes FROM json_each(?2) AS wanted
    CROSS JOIN entries AS e WHERE e.room = ?1 AND e.seq = wanted.value";

/// A row with its place.
type Placed<'a> = (RoomNumber, Seq, &'a LogRow);

/// Rows of one transaction that are on their way to the table.
#[derive(Default)]
pub(super) struct Batch<'a> {
    rows: Vec<Placed<'a>>,
}

impl<'a> Batch<'a> {
    pub(super) fn push(&mut self, append: &'a Append) {
        self.rows.extend(append.rows.iter().zip(append.first.0..).map(|(row, seq)| (append.room, Seq(seq), row)));
    }

    /// The caller has checked, by [`super::rooms::advance`], that the places are free.
    pub(super) async fn insert(self, conn: &mut SqliteConnection) -> Result<()> {
        let mut rows = self.rows.as_slice();
        while !rows.is_empty() {
            let (chunk, rest) = rows.split_at(chunk_len(rows));
            match chunk {
                [(room, seq, row)] => insert_one(conn, *room, *seq, row).await?,
                _ => insert_many(conn, chunk).await?,
            }
            rows = rest;
        }
        Ok(())
    }
}

pub(super) async fn truncate(conn: &mut SqliteConnection, cut: &Truncate) -> Result<()> {
    sqlx::query(TRUNCATE).bind(cut.room.0).bind(cut.size.0.cast_signed()).execute(conn).await.map_err(on_write)?;
    Ok(())
}

/// The row of an append that is one message and nothing else.
pub(super) fn only_row(append: &Append) -> Option<&LogRow> {
    match append.rows.as_slice() {
        [row] if append.group.is_none() => Some(row),
        _ => None,
    }
}

/// One transaction of its own. `Misused`: nothing has changed. Any other error: it must be rolled back.
pub(super) async fn commit_one(conn: &mut SqliteConnection, append: &Append, end: Seq, row: &LogRow) -> Result<()> {
    let query = sqlx::query(COMMIT_ONE).bind(append.room.0).bind(append.first.0.cast_signed()).bind(end.0.cast_signed());
    let query = query.bind(&append.snapshot[..]).bind(&append.checkpoint[..]);
    let query = query.bind(&row.header[..]).bind(&row.nodes[..]).bind(&row.body[..]).bind(&row.group_info[..]);
    let done: Vec<_> = conn.fetch_many(query).try_collect().await.map_err(on_write)?;
    match done.get(COMMIT_ONE_ADVANCE) {
        Some(Either::Left(advanced)) if advanced.rows_affected() == 1 => Ok(()),
        _ => Err(WRONG_FIRST),
    }
}

/// Rows that go into the next statement, at least one.
fn chunk_len(rows: &[Placed<'_>]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take_while(|(_, _, row)| {
        bytes += row_len(row);
        bytes <= STATEMENT_BYTES_MAX
    });
    fits.count().max(1)
}

fn row_len(row: &LogRow) -> usize {
    row.header.len() + row.nodes.len() + row.body.len() + row.group_info.len()
}

async fn insert_one(conn: &mut SqliteConnection, room: RoomNumber, seq: Seq, row: &LogRow) -> Result<()> {
    let query = sqlx::query(INSERT_ONE).bind(room.0).bind(seq.0.cast_signed());
    let query = query.bind(&row.header[..]).bind(&row.nodes[..]).bind(&row.body[..]).bind(&row.group_info[..]);
    query.execute(conn).await.map_err(on_write)?;
    Ok(())
}

async fn insert_many(conn: &mut SqliteConnection, rows: &[Placed<'_>]) -> Result<()> {
    let mut blob = Vec::with_capacity(rows.iter().map(|(_, _, row)| row_len(row)).sum());
    let mut places = String::with_capacity(rows.len() * 48);
    for (room, seq, row) in rows {
        places.push(if places.is_empty() { '[' } else { ',' });
        // SQLite counts bytes from 1.
        let at = blob.len() + 1;
        let (header, nodes, body, group_info) = (row.header.len(), row.nodes.len(), row.body.len(), row.group_info.len());
        write!(places, "[{room},{seq},{at},{header},{nodes},{body},{group_info}]").expect("a String takes everything");
        for field in [&row.header, &row.nodes, &row.body, &row.group_info] {
            blob.extend_from_slice(field);
        }
    }
    places.push(']');
    sqlx::query(INSERT_MANY).bind(places).bind(blob).execute(conn).await.map_err(on_write)?;
    Ok(())
}

/// Bounds of a page as SQLite's integers; `None` where no log reaches.
fn bounds(from: Seq, max: usize) -> Option<(i64, i64)> {
    Some((i64::try_from(from.0).ok()?, i64::try_from(max).unwrap_or(i64::MAX)))
}

/// A log has no holes: the row must be the one that comes next.
fn check_seq(row: &SqliteRow, expected: u64) -> Result<()> {
    if unsigned(row, 0)? == expected { Ok(()) } else { Err(damaged("a log has a hole")) }
}

pub(super) async fn entries(pool: &SqlitePool, room: RoomNumber, from: Seq, rows_max: usize, bytes_max: usize) -> Result<Vec<LogRow>> {
    let Some((first, limit)) = bounds(from, rows_max) else {
        return Ok(Vec::new());
    };
    // A stream, since only the bodies tell where the page ends.
    let mut rows = sqlx::query(FROM).bind(room.0).bind(first).bind(limit).fetch(pool);
    let mut page = Vec::new();
    let mut page_bytes = 0;
    while let Some(row) = rows.try_next().await.map_err(on_read)? {
        check_seq(&row, from.0 + page.len() as u64)?;
        let entry = LogRow { header: bytes(&row, 1)?, nodes: bytes(&row, 2)?, body: bytes(&row, 3)?, group_info: bytes(&row, 4)? };
        page_bytes += entry.body.len();
        page.push(entry);
        if page_bytes >= bytes_max {
            break;
        }
    }
    Ok(page)
}

pub(super) async fn headers(pool: &SqlitePool, room: RoomNumber, from: Seq, max: usize) -> Result<Vec<Bytes>> {
    let Some((first, limit)) = bounds(from, max) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query(HEADERS).bind(room.0).bind(first).bind(limit).fetch_all(pool).await.map_err(on_read)?;
    let header = |(row, seq): (&SqliteRow, u64)| check_seq(row, seq).and_then(|()| bytes(row, 1));
    rows.iter().zip(from.0..).map(header).collect()
}

pub(super) async fn nodes(pool: &SqlitePool, room: RoomNumber, ids: &[NodeId]) -> Result<Vec<Option<Hash>>> {
    let wanted: Vec<_> = ids.iter().map(|id| stored_at(*id)).collect();
    let leaves = wanted.iter().map(|place| place.map_or("null".to_owned(), |(leaf, _)| leaf.to_string()));
    let leaves = format!("[{}]", leaves.collect::<Vec<_>>().join(","));
    let rows = sqlx::query(LEAVES).bind(room.0).bind(leaves).fetch_all(pool).await.map_err(on_read)?;
    let mut found = vec![None; ids.len()];
    for row in &rows {
        // The key is the place in the array.
        let at = usize::try_from(unsigned(row, 0)?).expect("a place in a list in memory");
        let (_, place) = wanted[at].expect("null equals no sequence number");
        let header: &[u8] = row.try_get(1).map_err(on_read)?;
        found[at] = Some(node_at(header, row.try_get(2).map_err(on_read)?, place)?);
    }
    Ok(found)
}
