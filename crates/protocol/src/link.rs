//! Frames on the link between two co-ops. See `docs/protocol.md` for when each is sent.

use bytes::Bytes;

use crate::agreement::LinkCertificate;
use crate::error::Code;
use crate::ids::{Coop, EntryId, Epoch, Hash, RoomId, RoomNumber, Seq, Term};
use crate::log::Kind;
use crate::log::checkpoint::{Attestation, Mark};
use crate::log::proof::Proof;
use crate::log::succession::Vote;
use crate::member::{Entries, FetchGroup, Group, RequestId};
use crate::sign::Signature;

/// Spoken here.
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFrame {
    Hello {
        version: u32,
        coop: Coop,
        certificate: LinkCertificate,
    },
    Agreement {
        document: Bytes,
        signature: Signature,
    },
    Follow {
        room: RoomNumber,
        id: RoomId,
        from: Seq,
        /// The newest term that the follower knows.
        term: Term,
    },
    Unfollow {
        room: RoomNumber,
    },
    Batch(Box<Batch>),
    Attest {
        room: RoomNumber,
        size: u64,
        mark: Mark,
    },
    Attested {
        room: RoomNumber,
        attestation: Attestation,
    },
    Submit {
        id: u64,
        submission: Submission,
    },
    Submitted {
        id: u64,
        outcome: Result<(), (Code, String)>,
    },
    FetchGroup(FetchGroup),
    Group {
        request: RequestId,
        group: Box<Group>,
    },
    /// The invite is closed, or the room is not ordered there.
    NoGroup {
        request: RequestId,
    },
    /// How far a holder has a room that both hold, and the hub's newest word for it in that term.
    Status {
        room: RoomId,
        term: Term,
        size: u64,
        attestation: Option<Attestation>,
    },
    /// A candidate asks a voter for its vote; with `probe`, whether it would give it.
    Call {
        room: RoomId,
        term: Term,
        candidate: Coop,
        probe: bool,
    },
    Willing {
        room: RoomId,
        term: Term,
    },
    Vote(Box<Vote>),
    /// That somebody broke their word in a room that both hold.
    Proof(Proof),
    Error {
        code: Code,
        detail: String,
    },
    Ping {
        id: u64,
    },
    Pong {
        id: u64,
    },
}

/// Part of a room's log with what a mirror needs to verify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub entries: Entries,
    /// Of the commits in it: index in the batch, exact bytes.
    pub group_infos: Vec<(u32, Bytes)>,
    /// Over the log right after the last entry, or over more of the same term.
    pub attestation: Attestation,
    /// RFC 9162 consistency proof from the size after the last entry to the attestation's; empty where they are the same.
    pub proof: Vec<Hash>,
}

/// An entry on its way to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub room: RoomId,
    pub id: EntryId,
    pub epoch: Epoch,
    pub kind: Kind,
    pub body: Bytes,
    pub group_info: Bytes,
}
