//! What a co-op remembers of a room beside its log, so that a restart reads one row instead of the log.

use bytes::Bytes;

use crate::contest::{Activity, Docket};
use crate::ids::{Coop, CoopName, Epoch, Hash, Pseudonym, PublicKey, Seq, Term, UnixSeconds};
use crate::judge::Standing;
use crate::log::checkpoint::Attestation;
use crate::log::voters::Voters;
use crate::room::SignedLeave;

/// Small; rewritten with each append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSnapshot {
    pub size: u64,
    pub frontier: Vec<Hash>,
    pub term: Term,
    pub epoch: Epoch,
    pub created: UnixSeconds,
    pub last_time: UnixSeconds,
    /// Last counters by device, by index of the sender.
    pub counters: Vec<Vec<u64>>,
    /// By index of the sender.
    pub activity: Vec<Activity>,
}

/// Rewritten when the group or a standing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSnapshot {
    pub creation: Bytes,
    /// GroupInfo and tree of the current epoch, one pair.
    pub group_info: Bytes,
    pub tree: Bytes,
    pub last_commit: Seq,
    /// Pseudonyms that ever wrote, by first appearance in the log.
    pub senders: Vec<Sender>,
    pub invite_uses: Vec<(PublicKey, Vec<u32>)>,
    /// Root keys of the co-ops that ever had members here, as first seen.
    pub coops: Vec<Coop>,
    /// The co-op that orders the room now.
    pub hub: Coop,
    /// Before the newest commit.
    pub voters_before: Voters,
    /// The last checkpoint of each term that has ended, oldest first.
    pub ended: Vec<Attestation>,
    /// Exact body of the newest succession; empty in the first term.
    pub succession: Bytes,
    pub docket: Docket,
    /// The states to which the docket's commits may be undone, in the order of its `kept`.
    pub befores: Vec<Before>,
}

/// What a commit changes, as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    pub epoch: Epoch,
    pub group_info: Bytes,
    pub tree: Bytes,
    pub invite_uses: Vec<(PublicKey, Vec<u32>)>,
    /// By index of the sender.
    pub standings: Vec<Standing>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub pseudonym: Pseudonym,
    pub standing: Standing,
    pub coop: CoopName,
    /// While it has left and its leaf still stands.
    pub leave: Option<SignedLeave>,
    /// The commit that last took its leaf out.
    pub out_at: Option<Seq>,
}
