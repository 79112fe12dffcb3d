//! Frames on the link between two co-ops. See `docs/protocol.md` for when each is sent.

use bytes::Bytes;

use crate::agreement::{LinkCertificate, Notice, RootSuccession};
use crate::error::Code;
use crate::ids::{Coop, EntryId, Epoch, Hash, RoomId, RoomNumber, Seq, Term};
use crate::log::Kind;
use crate::log::checkpoint::{Attestation, Mark};
use crate::log::proof::Proof;
use crate::log::succession::Vote;
use crate::member::{Entries, FetchGroup, Group, Join, RequestId};
use crate::sign::Signature;

/// The versions of the link's protocol that a co-op speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub oldest: u32,
    pub newest: u32,
}

/// Spoken here.
pub const VERSIONS: Versions = Versions { oldest: 1, newest: 1 };

impl Versions {
    /// What two co-ops speak with each other: the newest version that both know.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.oldest == self.newest {
            write!(f, "version {}", self.newest)
        } else {
            write!(f, "versions {} to {}", self.oldest, self.newest)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFrame {
    Hello {
        versions: Versions,
        coop: Coop,
        certificate: LinkCertificate,
        /// From the co-op's first root key to its present one.
        successions: Vec<RootSuccession>,
        /// How often its store was put back from a backup: what it said before it may have forgotten.
        incarnation: u64,
    },
    /// A document that the sender has signed: what is in force, or a proposal.
    Agreement {
        document: Bytes,
        signature: Signature,
    },
    /// Whether the sender keeps to the agreement.
    Standing(Notice),
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
    /// The invite is closed, or the room is not held there.
    NoGroup {
        request: RequestId,
    },
    /// How far a holder has a room that both hold, and the hub's newest word for it in that term.
    Status {
        room: RoomId,
        term: Term,
        size: u64,
        /// The newest term in which it has voted, if it knows no hub of it yet; else 0.
        fence: Term,
        attestation: Option<Attestation>,
        /// What began its term, for one that asked with a term that this holder never had; else empty.
        succession: Bytes,
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
    /// A join's: term and size of the log that the joiner was offered. It reads on from there.
    pub base: Option<(Term, Seq)>,
}

impl Submission {
    /// What a member's co-op hands in for it. A device of an older version does not say of which term it was offered the log.
    pub fn of_join(join: &Join, id: EntryId) -> Self {
        let base = (join.term > Term(0)).then_some((join.term, join.from));
        let (body, group_info) = (join.commit.clone(), join.group_info.clone());
        Self { room: join.room, id, epoch: join.epoch, kind: Kind::Commit, body, group_info, base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let spoken = |a: (u32, u32), b: (u32, u32)| {
            let [a, b] = [a, b].map(|(oldest, newest)| Versions { oldest, newest });
            assert_eq!(a.common(b), b.common(a), "both come to the same");
            a.common(b)
        };
        assert_eq!(spoken((1, 1), (1, 1)), Some(1));
        assert_eq!(spoken((1, 3), (2, 5)), Some(3));
        assert_eq!(spoken((1, 9), (4, 4)), Some(4));
        assert_eq!(spoken((1, 1), (2, 3)), None);
        assert_eq!(spoken((3, 2), (1, 9)), None, "nothing is between these");
    }
}
