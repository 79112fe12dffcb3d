//! Table `neighbours`: one row for each co-op's name, with the key that is pinned for it.

use kith_protocol::ids::Coop;
use kith_protocol::sign::Signature;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::convert::{coop_name, id};
use super::error::{damaged, on_read, on_write};
use crate::{NeighbourRow, Result};

const PUT: &str = "INSERT INTO neighbours (name, key, address, signature) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (name) DO UPDATE SET key = excluded.key, address = excluded.address, signature = excluded.signature";
const ALL: &str = "SELECT name, key, address, signature FROM neighbours ORDER BY name";

pub(super) async fn put(conn: &mut SqliteConnection, row: &NeighbourRow) -> Result<()> {
    let query = sqlx::query(PUT).bind(row.coop.name.as_str()).bind(row.coop.key.as_bytes()).bind(row.address.as_str());
    query.bind(row.signature.map(|signature| signature.0.to_vec())).execute(conn).await.map_err(on_write)?;
    Ok(())
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<NeighbourRow>> {
    let rows = sqlx::query(ALL).fetch_all(pool).await.map_err(on_read)?;
    rows.iter()
        .map(|row| {
            let signature: Option<&[u8]> = row.try_get(3).map_err(on_read)?;
            let signature = signature.map(Signature::from_slice).transpose().map_err(|_| damaged("a neighbour's signature"))?;
            Ok(NeighbourRow {
                coop: Coop { name: coop_name(row, 0)?, key: id(row, 1)? },
                address: row.try_get(2).map_err(on_read)?,
                signature,
            })
        })
        .collect()
}
