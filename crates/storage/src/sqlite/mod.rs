//! The embedded default: SQLite in WAL mode with `synchronous = FULL`, one writer and a few readers.
//!
//! ```text
//! commit() ──bounded queue──▶ writer task ── its own connection ──▶ database + WAL
//! queries  ───────────────────────────────── pool of readers ─────▶     (0600)
//! ```
//!
//! One module a group of tables holds its statements; [`schema`] holds the tables, [`writer`] the transactions. Knows
//! nothing of what the bytes mean.

mod convert;
mod error;
mod log;
mod members;
mod neighbours;
mod outbox;
mod rooms;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kith_protocol::ids::{DeviceHandle, EntryId, Hash, PublicKey, RoomNumber, Seq};
use kith_protocol::log::merkle::NodeId;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::error::on_read;
use self::writer::Commit;
use crate::{
    DeviceRow, LogRow, Members, MembershipRow, NeighbourRow, Neighbours, Outbox, Result, RoomLog, RoomRow, RoomState, StoreError, Write,
    Writer,
};

/// Older ones can lose committed data: a checkpoint and a commit at the same time could damage the database
/// (<https://www.sqlite.org/wal.html#walresetbug>).
const OLDEST_VERSION: &str = "3.51.3";
/// Connections that read at once.
const READERS_MAX: u32 = 4;
/// How long a statement waits for another process, such as a backup.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// The WAL file is cut back to this after a burst, bytes.
const WAL_BYTES_KEPT_MAX: &str = "16777216";
/// Read and written by the owner: the database names the accounts behind the pseudonyms.
const MODE: u32 = 0o600;

/// An open database. Best shared behind an `Arc`.
///
/// Dropping it without [`Sqlite::close`] loses nothing that was acknowledged; commits already queued are still
/// finished as long as the runtime lives.
#[derive(Debug)]
pub struct Sqlite {
    commits: mpsc::Sender<Commit>,
    readers: SqlitePool,
    writer: JoinHandle<Result<()>>,
}

impl Sqlite {
    /// Opens or creates the database, and brings its tables up to date. Needs a Tokio runtime.
    ///
    /// Errors: `TooOld` before anything is touched; `Misused` for a database of a newer version of the program;
    /// `Damaged` for a file that is no database; `Failed` and `Full` from the disk.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, |options| options).await
    }

    /// `adjust` changes the writer's options.
    async fn open_with(path: &Path, adjust: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions) -> Result<Self> {
        check_version(&linked_version().await?)?;
        restrict(path).map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))?;
        let mut conn = adjust(writer_options(path)).connect().await.map_err(on_read)?;
        if let Err(error) = prepare(&mut conn).await {
            // The refusal is what counts.
            let _ = conn.close().await;
            return Err(error);
        }
        let (commits, queue) = mpsc::channel(writer::COMMITS_QUEUED_MAX);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options(path).pragma("query_only", "ON"));
        Ok(Self { commits, readers, writer: tokio::spawn(writer::run(conn, queue)) })
    }

    /// Finishes what is queued and closes the database, which moves the write-ahead log into it. An error is one that
    /// a commit or a checkpoint met before, or the last one meets.
    pub async fn close(self) -> Result<()> {
        let Self { commits, readers, writer } = self;
        readers.close().await;
        drop(commits);
        writer.await.unwrap_or_else(|error| Err(StoreError::Failed(format!("the writer ended: {error}"))))
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_WAIT)
        // Spilled savepoints stay out of the temporary folder.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES_KEPT_MAX)
        .pragma("wal_autocheckpoint", "0")
}

async fn prepare(conn: &mut SqliteConnection) -> Result<()> {
    let row = sqlx::query("PRAGMA journal_mode").fetch_one(&mut *conn).await.map_err(on_read)?;
    // SQLite keeps to another mode, without an error, where WAL cannot work.
    if row.try_get::<&str, _>(0).map_err(on_read)? != "wal" {
        return Err(StoreError::Failed("this file system cannot hold the database: it has no shared memory (WAL)".into()));
    }
    schema::migrate(conn).await
}

async fn linked_version() -> Result<String> {
    let mut conn = SqliteConnectOptions::new().in_memory(true).connect().await.map_err(on_read)?;
    let row = sqlx::query("SELECT sqlite_version()").fetch_one(&mut conn).await.map_err(on_read)?;
    let version = row.try_get(0).map_err(on_read)?;
    SqliteConnection::close(conn).await.map_err(on_read)?;
    Ok(version)
}

/// Whether the library has the fix without which WAL can lose data. What cannot be read as a version is too old.
fn check_version(found: &str) -> Result<()> {
    let parse = |version: &str| version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>();
    let needed = parse(OLDEST_VERSION).expect("a version");
    match parse(found) {
        Some(version) if version >= needed => Ok(()),
        _ => Err(StoreError::TooOld { found: found.to_owned(), needed: OLDEST_VERSION }),
    }
}

/// Makes the file if there is none, and gives it and its companions [`MODE`] whatever the umask says. SQLite gives
/// new companions the mode of the database.
fn restrict(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    for companion in [beside(path, "-wal"), beside(path, "-shm")] {
        match std::fs::set_permissions(companion, Permissions::from_mode(MODE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[async_trait]
impl Writer for Sqlite {
    /// Waits for a place in the queue, then for the disk. Dropping the future after it was queued does not undo the
    /// commit.
    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        let gone = || StoreError::Failed("the writer has ended".into());
        let (done, outcome) = oneshot::channel();
        self.commits.send(Commit { writes, done }).await.map_err(|_| gone())?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }
}

#[async_trait]
impl RoomLog for Sqlite {
    async fn rooms(&self) -> Result<Vec<RoomRow>> {
        rooms::all(&self.readers).await
    }

    async fn room_state(&self, room: RoomNumber) -> Result<RoomState> {
        rooms::state(&self.readers, room).await
    }

    async fn entries(&self, room: RoomNumber, from: Seq, rows_max: usize, bytes_max: usize) -> Result<Vec<LogRow>> {
        log::entries(&self.readers, room, from, rows_max, bytes_max).await
    }

    async fn headers(&self, room: RoomNumber, from: Seq, max: usize) -> Result<Vec<Bytes>> {
        log::headers(&self.readers, room, from, max).await
    }

    async fn nodes(&self, room: RoomNumber, ids: Vec<NodeId>) -> Result<Vec<Option<Hash>>> {
        log::nodes(&self.readers, room, &ids).await
    }
}

#[async_trait]
impl Outbox for Sqlite {
    async fn pending(&self, room: RoomNumber) -> Result<Vec<(EntryId, Bytes)>> {
        outbox::of_room(&self.readers, room).await
    }

    async fn pending_rooms(&self) -> Result<Vec<RoomNumber>> {
        outbox::rooms(&self.readers).await
    }
}

#[async_trait]
impl Members for Sqlite {
    async fn incarnation(&self) -> Result<u64> {
        rooms::incarnation(&self.readers).await
    }

    async fn invites(&self) -> Result<Vec<(PublicKey, u32)>> {
        members::invites(&self.readers).await
    }

    async fn devices(&self) -> Result<Vec<DeviceRow>> {
        members::devices(&self.readers).await
    }

    async fn memberships(&self) -> Result<Vec<MembershipRow>> {
        members::memberships(&self.readers).await
    }

    async fn cursors(&self, device: DeviceHandle) -> Result<Vec<(RoomNumber, Seq)>> {
        members::cursors(&self.readers, device).await
    }
}

#[async_trait]
impl Neighbours for Sqlite {
    async fn neighbours(&self) -> Result<Vec<NeighbourRow>> {
        neighbours::all(&self.readers).await
    }
}
