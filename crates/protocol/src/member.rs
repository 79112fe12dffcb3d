//! Frames between a member's device and its co-op. See `docs/protocol.md` for when each is sent.

use bytes::Bytes;

use crate::credential::LeafCertificate;
use crate::error::Code;
use crate::ids::{Coop, DeviceHandle, Epoch, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use crate::log::Kind;
use crate::log::checkpoint::Attestation;
use crate::log::proof::Proof;
use crate::log::provisional::Provisional;
use crate::room::SignedLeave;
use crate::sign::{Signature, Transcript};

/// Number of a request within a session; replies carry it.
pub type RequestId = u32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServer {
    Register { invite: PublicKey, invite_signature: Signature, device: PublicKey, device_signature: Signature },
    Authenticate { device: DeviceHandle, signature: Signature },
    Cursor { room: RoomNumber, next: Seq },
    Open { room: RoomNumber, from: Seq },
    Send(Send),
    Certify { request: RequestId, room: RoomId, pseudonym: Pseudonym, leaf_key: PublicKey },
    CreateRoom { request: RequestId, room: RoomId, pseudonym: Pseudonym, body: Bytes },
    FetchGroup(FetchGroup),
    Join(Join),
    FetchHeaders { request: RequestId, room: RoomNumber, from: Seq },
    Watch { request: RequestId, room: RoomNumber, size: u64, held: u32 },
}

impl ToServer {
    /// The request's number, for the answer; 0 where there is none.
    pub fn request(&self) -> RequestId {
        match self {
            Self::Certify { request, .. }
            | Self::CreateRoom { request, .. }
            | Self::FetchHeaders { request, .. }
            | Self::Watch { request, .. } => *request,
            Self::FetchGroup(fetch) => fetch.request,
            Self::Join(join) => join.request,
            Self::Register { .. } | Self::Authenticate { .. } | Self::Cursor { .. } | Self::Open { .. } | Self::Send(_) => 0,
        }
    }
}

/// An entry for a room that the session knows by number. The sender is the session's own pseudonym and device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    pub room: RoomNumber,
    pub counter: u64,
    pub epoch: Epoch,
    pub kind: Kind,
    pub body: Bytes,
    /// For a commit: the signed GroupInfo of the epoch that it makes, without tree.
    pub group_info: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchGroup {
    pub request: RequestId,
    pub room: RoomId,
    pub holder: Coop,
    pub invite: PublicKey,
    /// By the invite key, over [`crate::admission::fetch_statement`].
    pub proof: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub request: RequestId,
    pub room: RoomId,
    pub holder: Coop,
    pub pseudonym: Pseudonym,
    pub epoch: Epoch,
    pub commit: Bytes,
    pub group_info: Bytes,
    /// The size of the log that it was offered, and its term.
    pub from: Seq,
    pub term: Term,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToMember {
    Challenge {
        nonce: [u8; 32],
    },
    Registered {
        device: DeviceHandle,
        number: u16,
    },
    Ready,
    Synced,
    Entries(Entries),
    Ack {
        room: RoomNumber,
        counter: u64,
        ordered: Option<(Seq, u64)>,
    },
    Refused(Refused),
    Certificate {
        request: RequestId,
        certificate: LeafCertificate,
    },
    RoomNumber {
        request: RequestId,
        room: RoomId,
        number: RoomNumber,
    },
    Group {
        request: RequestId,
        group: Box<Group>,
    },
    Headers {
        request: RequestId,
        first: Seq,
        headers: Vec<Bytes>,
    },
    Attestation {
        room: RoomNumber,
        attestation: Attestation,
    },
    /// Messages of this co-op's members that wait for the room's hub.
    Provisionals {
        room: RoomNumber,
        entries: Vec<Provisional>,
    },
    /// Somebody broke their word in this room: nothing more is taken from that hub in that term.
    Frozen {
        room: RoomNumber,
        proof: Proof,
    },
    Draining,
}

/// A typed no. `request` or (`room`, `counter`) say to what; 0 where it does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub detail: String,
    pub request: RequestId,
    pub room: RoomNumber,
    pub counter: u64,
    pub retry_after_ms: u32,
    /// Of the entry that is refused, where one is: what was made anew since under its counter is another matter.
    pub epoch: Option<Epoch>,
}

/// Consecutive entries of one room, without what the receiver can rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    pub room: RoomNumber,
    pub first: Seq,
    pub term: Term,
    pub epoch: Epoch,
    /// Header time of the first entry, seconds since the room's creation.
    pub time: u64,
    /// Senders that the receiver may not know yet: from this index on, in order of first appearance.
    pub first_new_sender: u32,
    pub new_senders: Vec<Pseudonym>,
    pub entries: Vec<Entry>,
}

impl Entries {
    /// The size of a log that ends with them.
    pub fn end(&self) -> u64 {
        self.first.0 + self.entries.len() as u64
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sender: u32,
    pub device: u16,
    pub counter: u64,
    pub kind: Kind,
    pub epoch_delta: i64,
    pub time_delta: u64,
    pub body: Bytes,
    /// Commits and creations only.
    pub group_info_hash: Option<Hash>,
}

/// What an external commit is made from, and where the log stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub group_info: Bytes,
    /// In the form of [`crate::ratchet_tree`].
    pub short_tree: Bytes,
    /// Exact bytes of the room's creation.
    pub creation: Bytes,
    pub size: u64,
    pub term: Term,
    pub frontier: Vec<Hash>,
    pub senders: Vec<Pseudonym>,
    pub last_time: UnixSeconds,
    /// The lowest use number of the invite that nobody has taken.
    pub next_use: u32,
    pub attestation: Attestation,
    /// Of members who have left and whose leaves still stand: anybody may take them out.
    pub leaves: Vec<SignedLeave>,
    /// Body of the newest succession; empty in the first term.
    pub succession: Bytes,
    /// Of each sender's newest entry ([`crate::contest::day_of`]): it says whose complaints of a commit count.
    pub days: Vec<u32>,
}

/// What a device signs to authenticate: bound to the co-op's name and to this connection's challenge.
pub fn auth_statement(coop: &crate::ids::CoopName, nonce: &[u8; 32], device: &PublicKey) -> Transcript {
    Transcript::new(crate::sign::Label::DeviceAuth).field(coop.as_str().as_bytes()).field(nonce).field(&device.0)
}

/// What a membership invite signs to let a device in.
pub fn membership_statement(coop: &crate::ids::CoopName, nonce: &[u8; 32], device: &PublicKey) -> Transcript {
    Transcript::new(crate::sign::Label::MembershipInvite).field(coop.as_str().as_bytes()).field(nonce).field(&device.0)
}
