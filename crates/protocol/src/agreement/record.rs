//! What a co-op remembers of its agreement with one neighbour.

use super::standing::Notice;
use super::terms::Terms;
use crate::ids::{PublicKey, UnixSeconds};
use crate::sign::Signature;

/// An agreement with both signatures: whoever has it can verify it without either co-op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Exact bytes.
    pub document: Vec<u8>,
    pub ours: Signature,
    pub theirs: Signature,
    /// When the second signature was seen here.
    pub since: UnixSeconds,
}

/// What the neighbour has signed and this co-op has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub terms: Terms,
    pub signature: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// What this co-op's steward said yes to, by revision: at most one in force and one proposed.
    pub accepted: Vec<Terms>,
    pub offer: Option<Offer>,
    /// The newest that both signed, in force or not.
    pub signed: Option<Signed>,
    pub our_notice: Option<Notice>,
    pub their_notice: Option<Notice>,
    /// The key that the neighbour signs with in rooms, once it has shown it.
    pub rooms_key: Option<PublicKey>,
}
