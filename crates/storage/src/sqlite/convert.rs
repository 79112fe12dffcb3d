//! Columns to domain types. What does not fit was not written by this program: the database is damaged.

use bytes::Bytes;
use kith_protocol::ids::{CoopName, IdError, Pseudonym, PublicKey, RoomId, RoomNumber};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::{damaged, on_read};
use crate::Result;

/// An id of fixed length, kept as its bytes.
pub(super) trait Id: Sized {
    fn parse(bytes: &[u8]) -> std::result::Result<Self, IdError>;
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl Id for $name {
            fn parse(bytes: &[u8]) -> std::result::Result<Self, IdError> {
                Self::from_slice(bytes)
            }
        }
    )*};
}

ids!(Pseudonym, PublicKey, RoomId);

pub(super) fn id<T: Id>(row: &SqliteRow, column: usize) -> Result<T> {
    let bytes: &[u8] = row.try_get(column).map_err(on_read)?;
    T::parse(bytes).map_err(|error| damaged(&error.to_string()))
}

pub(super) fn bytes(row: &SqliteRow, column: usize) -> Result<Bytes> {
    row.try_get::<Vec<u8>, _>(column).map(Bytes::from).map_err(on_read)
}

pub(super) fn optional_bytes(row: &SqliteRow, column: usize) -> Result<Option<Bytes>> {
    row.try_get::<Option<Vec<u8>>, _>(column).map(|bytes| bytes.map(Bytes::from)).map_err(on_read)
}

/// All 64 bits.
pub(super) fn unsigned(row: &SqliteRow, column: usize) -> Result<u64> {
    row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(on_read)
}

pub(super) fn room_number(row: &SqliteRow, column: usize) -> Result<RoomNumber> {
    u32::try_from(unsigned(row, column)?).map(RoomNumber).map_err(|_| damaged("a room's number"))
}

pub(super) fn coop_name(row: &SqliteRow, column: usize) -> Result<CoopName> {
    let name: &str = row.try_get(column).map_err(on_read)?;
    name.parse().map_err(|_| damaged("a co-op's name"))
}
