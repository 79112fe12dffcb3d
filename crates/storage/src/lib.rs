//! What is remembered: narrow traits, and the backends behind them.
//!
//! All changes go through [`Writer::commit`]: one list of [`Write`]s is one transaction, durable (fsynced) when it
//! returns. So log rows, the neighbours' outbox and whatever else belongs together appear together or not at all.
//! Values that only the rules of a room understand (snapshots, attestations, submissions) are opaque bytes here.
//!
//! Backends: [`memory`] (the model that the others are held against) and [`sqlite`] (the embedded default). Both pass
//! [`conformance`]; [`fault`] wraps any of them and fails on command.

pub mod conformance;
pub mod fault;
pub mod memory;
pub mod sqlite;

use async_trait::async_trait;
use bytes::Bytes;
use kith_protocol::ids::{AccountHandle, Coop, DeviceHandle, EntryId, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::log::merkle::NodeId;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database failed; whether the transaction became durable is unknown. The process must stop
    /// before it acknowledges anything else.
    #[error("the database failed: {0}")]
    Failed(String),
    /// The disk is full. Nothing was written.
    #[error("the disk is full")]
    Full,
    /// A row is missing or damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The caller broke a rule of the store, such as appending at the wrong place. Nothing was written.
    #[error("the store was misused: {0}")]
    Misused(&'static str),
    /// The library is older than the oldest safe one.
    #[error("SQLite {found} is too old; {needed} is the oldest that does not lose data")]
    TooOld { found: String, needed: &'static str },
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// One entry of a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Canonical header, exact bytes.
    pub header: Bytes,
    /// Interior Merkle nodes that this leaf completes, lowest level first, 32 bytes each.
    pub nodes: Bytes,
    /// Empty once erased.
    pub body: Bytes,
    /// Of commits; empty otherwise.
    pub group_info: Bytes,
}

/// Consecutive entries for the end of a room's log, with what else changes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub room: RoomNumber,
    /// Must be the log's size.
    pub first: Seq,
    pub rows: Vec<LogRow>,
    /// The room's small snapshot after the last row.
    pub snapshot: Bytes,
    /// The group's snapshot, if it changed.
    pub group: Option<Bytes>,
    /// The checkpoint over the log after the last row.
    pub checkpoint: Bytes,
}

/// A room's log up to `size`, and its state there. Cursors beyond it go back to it; marks go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    pub room: RoomNumber,
    /// At least 1, and not more than the log has.
    pub size: Seq,
    pub snapshot: Bytes,
    pub group: Bytes,
    pub checkpoint: Bytes,
}

/// A change. A list of them is one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A room that this co-op will hold. The number and the id must be new.
    PutRoom {
        number: RoomNumber,
        id: RoomId,
        hub: Coop,
    },
    /// Forgets a room with its log and everything else that belongs to it: nobody here has a part in it. Its number and id are
    /// free again.
    DropRoom {
        number: RoomNumber,
    },
    Append(Append),
    /// Takes a room's whole log away, with its state and its marks: it is damaged, and comes again from elsewhere. Its number,
    /// cursors, votes, proofs and what is pending stay.
    ClearLog {
        room: RoomNumber,
    },
    /// Takes the end of a room's log away: what was never certified, and a newer term goes on before it.
    Truncate(Truncate),
    /// This co-op's newest vote for a hub of the room. Durable before it is sent.
    PutVote {
        room: RoomNumber,
        vote: Bytes,
    },
    /// The newest proof that somebody broke their word in the room.
    PutProof {
        room: RoomNumber,
        proof: Bytes,
    },
    /// The newest checkpoint that other co-ops marked, with their marks.
    PutMarked {
        room: RoomNumber,
        attestation: Bytes,
    },
    /// An entry on its way to the hub; replaces one of the same id in its old place.
    PutPending {
        room: RoomNumber,
        id: EntryId,
        submission: Bytes,
    },
    DropPending {
        room: RoomNumber,
        id: EntryId,
    },
    /// A membership invite with the uses that are left.
    PutInvite {
        key: PublicKey,
        uses_left: u32,
    },
    PutDevice(DeviceRow),
    /// Which account stands behind a pseudonym. Never leaves this co-op.
    PutMembership(MembershipRow),
    /// Where a device reads on. Never goes back.
    SetCursor {
        device: DeviceHandle,
        room: RoomNumber,
        next: Seq,
    },
    /// Sets a cursor wherever it stood.
    ResetCursor {
        device: DeviceHandle,
        room: RoomNumber,
        next: Seq,
    },
    PutNeighbour(NeighbourRow),
    /// This store was put back from a backup: what this co-op did since is not in it. The number must be greater than the one
    /// before. All rooms are marked as lacking something.
    BeginIncarnation {
        number: u64,
    },
    /// A room lacks nothing any longer that others know of.
    PutRefilled {
        room: RoomNumber,
    },
}

/// A room as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRow {
    pub number: RoomNumber,
    pub id: RoomId,
    /// The co-op that gives the sequence numbers.
    pub hub: Coop,
}

/// What a restart of one room reads. All `None` while the room has no entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomState {
    pub snapshot: Option<Bytes>,
    pub group: Option<Bytes>,
    pub checkpoint: Option<Bytes>,
    pub marked: Option<Bytes>,
    pub vote: Option<Bytes>,
    pub proof: Option<Bytes>,
    /// It was put back from a backup, and has not been refilled since.
    pub is_restored: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    pub handle: DeviceHandle,
    pub account: AccountHandle,
    /// Within the account, from 0.
    pub number: u16,
    pub key: PublicKey,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MembershipRow {
    pub account: AccountHandle,
    pub room: RoomId,
    pub pseudonym: Pseudonym,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourRow {
    pub coop: Coop,
    /// HOST:PORT of its link.
    pub address: String,
    /// What is remembered of the agreement with it. Empty: it was added before agreements had terms.
    pub agreement: Bytes,
}

/// The one way to change anything.
#[async_trait]
pub trait Writer: Send + Sync {
    /// All or nothing; durable when it returns `Ok`.
    async fn commit(&self, writes: Vec<Write>) -> Result<()>;
}

#[async_trait]
pub trait RoomLog: Send + Sync {
    /// By number.
    async fn rooms(&self) -> Result<Vec<RoomRow>>;
    async fn room_state(&self, room: RoomNumber) -> Result<RoomState>;
    /// Consecutive entries from `from`: at most `rows_max`, and no further one once `bytes_max` of bodies are reached
    /// (so at least one, if there is one).
    async fn entries(&self, room: RoomNumber, from: Seq, rows_max: usize, bytes_max: usize) -> Result<Vec<LogRow>>;
    /// Exact headers from `from`, at most `max`.
    async fn headers(&self, room: RoomNumber, from: Seq, max: usize) -> Result<Vec<Bytes>>;
    /// Merkle nodes, each `None` where the log does not reach. O(1) look-ups a node.
    async fn nodes(&self, room: RoomNumber, ids: Vec<NodeId>) -> Result<Vec<Option<Hash>>>;
}

#[async_trait]
pub trait Outbox: Send + Sync {
    /// In the order in which they were first put.
    async fn pending(&self, room: RoomNumber) -> Result<Vec<(EntryId, Bytes)>>;
    /// Rooms with something pending.
    async fn pending_rooms(&self) -> Result<Vec<RoomNumber>>;
}

#[async_trait]
pub trait Members: Send + Sync {
    /// How often this store was put back from a backup, as far as it knows.
    async fn incarnation(&self) -> Result<u64>;
    async fn invites(&self) -> Result<Vec<(PublicKey, u32)>>;
    async fn devices(&self) -> Result<Vec<DeviceRow>>;
    async fn memberships(&self) -> Result<Vec<MembershipRow>>;
    async fn cursors(&self, device: DeviceHandle) -> Result<Vec<(RoomNumber, Seq)>>;
}

#[async_trait]
pub trait Neighbours: Send + Sync {
    async fn neighbours(&self) -> Result<Vec<NeighbourRow>>;
}

/// Everything that a co-op's server needs.
pub trait Store: Writer + RoomLog + Outbox + Members + Neighbours {}

impl<T: Writer + RoomLog + Outbox + Members + Neighbours> Store for T {}
