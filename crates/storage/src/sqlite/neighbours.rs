//! Table `neighbours`: one row for each co-op's name, with the key that is pinned for it.

use kith_protocol::ids::Coop;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::convert::{bytes, coop_name, id};
use super::error::{on_read, on_write};
use crate::{NeighbourRow, Result};

const PUT: &str = "INSERT INTO neighbours (name, key, address, agreement) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (name) DO UPDATE SET key = excluded.key, address = excluded.address, agreement = excluded.agreement";
const ALL: &str = "SELECT name, key, address, agreement FROM neighbours ORDER BY name";

pub(super) async fn put(conn: &mut SqliteConnection, row: &NeighbourRow) -> Result<()> {
    let query = sqlx::query(PUT).bind(row.coop.name.as_str()).bind(row.coop.key.as_bytes()).bind(row.address.as_str());
    query.bind(row.agreement.as_ref()).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<NeighbourRow>> {
    let rows = sqlx::query(ALL).fetch_all(pool).await.map_err(on_read)?;
    rows.iter()
        .map(|row| {
            Ok(NeighbourRow {
                coop: Coop { name: coop_name(row, 0)?, key: id(row, 1)? },
                address: row.try_get(2).map_err(on_read)?,
                agreement: bytes(row, 3)?,
            })
        })
        .collect()
}
