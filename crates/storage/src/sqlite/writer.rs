//! The one writer: a task with its own connection, which commits what waits as a group.
//!
//! The fsync is what a commit costs, and after it each statement's way to SQLite's thread and back; so the commits
//! that queue up while one runs share the next transaction and the statement for their log rows. If one of them breaks
//! a rule, the group is done again with a savepoint for each, and only that one is undone. Acknowledged is only what
//! COMMIT has made durable. After a failure nothing more is written: whether that transaction is on disk is unknown,
//! and a second fsync that succeeds says nothing about pages that the first one lost.

use kith_protocol::limits;
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::error::{on_write, shared};
use super::{log, members, neighbours, outbox, rooms};
use crate::memory::{append_end, check_sizes};
use crate::{Result, StoreError, Write};

/// Commits that wait for the writer; more wait for a place in the queue.
pub(super) const COMMITS_QUEUED_MAX: usize = limits::INPUTS_PER_ROUND_MAX;
/// As many commits as can wait make one transaction at most.
const COMMITS_TOGETHER: usize = COMMITS_QUEUED_MAX;
/// Pages of the write-ahead log that are moved into the database when as many wait (SQLite's own default).
const CHECKPOINT_PAGES: i64 = 1_000;
/// Groups of commits between two looks at the write-ahead log's length.
const CHECKPOINT_LOOK: u64 = 8;

/// A list of writes, and where its outcome goes.
pub(super) struct Commit {
    pub writes: Vec<Write>,
    pub done: oneshot::Sender<Result<()>>,
}

/// Until every sender is gone and what they sent is done.
pub(super) async fn run(mut conn: SqliteConnection, mut commits: mpsc::Receiver<Commit>) -> Result<()> {
    let mut failed: Option<StoreError> = None;
    let mut groups = 0u64;
    let mut waiting = Vec::new();
    while commits.recv_many(&mut waiting, COMMITS_TOGETHER).await > 0 {
        let (lists, acks): (Vec<_>, Vec<_>) = waiting.drain(..).map(|commit| (commit.writes, commit.done)).unzip();
        let outcomes = match &failed {
            Some(error) => lists.iter().map(|_| Err(shared(error))).collect(),
            None => group_outcomes(&mut conn, &lists, &mut failed).await,
        };
        for (ack, outcome) in acks.into_iter().zip(outcomes) {
            // Whoever has gone away meanwhile does not want to know.
            let _ = ack.send(outcome);
        }
        // After the acknowledgements, which need not wait for it; and not each time, for asking costs a trip of its own.
        groups += 1;
        if failed.is_none() && groups.is_multiple_of(CHECKPOINT_LOOK) {
            failed = checkpoint(&mut conn).await.err();
        }
    }
    let closed = conn.close().await.map_err(on_write);
    failed.map_or(closed, Err)
}

async fn group_outcomes(conn: &mut SqliteConnection, lists: &[Vec<Write>], failed: &mut Option<StoreError>) -> Vec<Result<()>> {
    let error = match commit_group(conn, lists).await {
        Ok(outcomes) => return outcomes,
        Err(error) => error,
    };
    // An error of its own is no news: SQLite rolls some failures back by itself.
    let _ = execute(conn, "ROLLBACK").await;
    let outcomes = lists.iter().map(|_| Err(shared(&error))).collect();
    if matches!(error, StoreError::Full) {
        tracing::warn!("the disk is full: commits are refused");
    } else {
        tracing::error!(%error, "a transaction failed: nothing more will be written");
        *failed = Some(error);
    }
    outcomes
}

/// One transaction. `Ok`: it is durable, and each list that has no error is in it. `Err`: it must be rolled back, and
/// none is.
async fn commit_group(conn: &mut SqliteConnection, lists: &[Vec<Write>]) -> Result<Vec<Result<()>>> {
    if let [list] = lists
        && let [write @ Write::Append(append)] = list.as_slice()
        && check_sizes(write).is_ok()
        && let (Some(row), Ok(end)) = (log::only_row(append), append_end(append))
    {
        return match log::commit_one(conn, append, end, row).await {
            Err(error) if !matches!(error, StoreError::Misused(_)) => Err(error),
            outcome => Ok(vec![outcome]),
        };
    }
    execute(conn, "BEGIN IMMEDIATE").await?;
    let outcomes = match apply(conn, lists.iter().flatten()).await {
        Ok(()) => lists.iter().map(|_| Ok(())).collect(),
        Err(StoreError::Misused(_)) => {
            execute(conn, "ROLLBACK").await?;
            execute(conn, "BEGIN IMMEDIATE").await?;
            apply_apart(conn, lists).await?
        }
        Err(error) => return Err(error),
    };
    execute(conn, "COMMIT").await?;
    Ok(outcomes)
}

/// Each list within a savepoint, so that the one that breaks a rule is undone alone.
async fn apply_apart(conn: &mut SqliteConnection, lists: &[Vec<Write>]) -> Result<Vec<Result<()>>> {
    let mut outcomes = Vec::with_capacity(lists.len());
    for list in lists {
        execute(conn, "SAVEPOINT list").await?;
        let outcome = apply(conn, list).await;
        match &outcome {
            Ok(()) => {}
            Err(StoreError::Misused(_)) => execute(conn, "ROLLBACK TO list").await?,
            Err(_) => return outcome.map(|()| Vec::new()),
        }
        execute(conn, "RELEASE list").await?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// In order, except that the log rows come last and together: no other write reads them but those that take rows away.
async fn apply(conn: &mut SqliteConnection, writes: impl IntoIterator<Item = &Write>) -> Result<()> {
    let mut batch = log::Batch::default();
    for write in writes {
        check_sizes(write)?;
        match write {
            Write::PutRoom { number, id, hub } => rooms::put(conn, *number, *id, hub).await?,
            Write::DropRoom { number } => {
                std::mem::take(&mut batch).insert(conn).await?;
                rooms::drop(conn, *number).await?;
            }
            Write::Append(append) => {
                rooms::advance(conn, append, append_end(append)?).await?;
                batch.push(append);
            }
            Write::ClearLog { room } => {
                std::mem::take(&mut batch).insert(conn).await?;
                rooms::clear_log(conn, *room).await?;
            }
            Write::Truncate(truncate) => {
                // What came before it in the list has its place first.
                std::mem::take(&mut batch).insert(conn).await?;
                rooms::truncate(conn, truncate).await?;
                log::truncate(conn, truncate).await?;
                members::clamp_cursors(conn, truncate.room, truncate.size).await?;
            }
            Write::PutVote { room, vote } => rooms::put_vote(conn, *room, vote).await?,
            Write::PutProof { room, proof } => rooms::put_proof(conn, *room, proof).await?,
            Write::PutMarked { room, attestation } => rooms::put_marked(conn, *room, attestation).await?,
            Write::PutPending { room, id, submission } => outbox::put(conn, *room, *id, submission).await?,
            Write::DropPending { room, id } => outbox::drop_pending(conn, *room, *id).await?,
            Write::PutInvite { key, uses_left } => members::put_invite(conn, *key, *uses_left).await?,
            Write::PutDevice(row) => members::put_device(conn, row).await?,
            Write::PutMembership(row) => members::put_membership(conn, row).await?,
            Write::SetCursor { device, room, next } => members::set_cursor(conn, *device, *room, *next).await?,
            Write::ResetCursor { device, room, next } => members::reset_cursor(conn, *device, *room, *next).await?,
            Write::PutNeighbour(row) => neighbours::put(conn, row).await?,
            Write::BeginIncarnation { number } => rooms::begin_incarnation(conn, *number).await?,
            Write::PutRefilled { room } => rooms::put_refilled(conn, *room).await?,
        }
    }
    batch.insert(conn).await
}

/// Moves a long write-ahead log into the database. SQLite's automatic checkpoint is off because it keeps its errors
/// to itself; here a failed fsync counts.
async fn checkpoint(conn: &mut SqliteConnection) -> Result<()> {
    let row = sqlx::query("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut *conn).await.map_err(on_write)?;
    let column = |at| row.try_get::<i64, _>(at).map_err(on_write);
    if column(1)? - column(2)? < CHECKPOINT_PAGES {
        return Ok(());
    }
    match execute(conn, "PRAGMA wal_checkpoint(PASSIVE)").await {
        // The write-ahead log still has everything.
        Err(StoreError::Full) => Ok(()),
        outcome => outcome.inspect_err(|error| tracing::error!(%error, "a checkpoint failed: nothing more will be written")),
    }
}

async fn execute(conn: &mut SqliteConnection, statement: &'static str) -> Result<()> {
    sqlx::query(statement).execute(conn).await.map(drop).map_err(on_write)
}
