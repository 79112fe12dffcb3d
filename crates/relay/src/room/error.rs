//! Why a room does not begin, or does not take an entry.

use kith_protocol::error::Code;
use kith_protocol::judge::Refusal;
use kith_protocol::log::succession::SuccessionError;

use super::view::ViewError;

/// Why an entry is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("the body is not what its kind says")]
    Body,
    #[error("the room is full")]
    Full,
    #[error("too many members have left since the room's last commit")]
    Leaves,
    #[error(transparent)]
    Succession(#[from] SuccessionError),
}

impl EntryError {
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::View(ViewError::Certificate) => Code::BadCertificate,
            Self::View(ViewError::Tree) => Code::TooLarge,
            Self::View(_) => Code::InvalidCommit,
            Self::Succession(_) => Code::BadProof,
            Self::Body => Code::Malformed,
            Self::Full => Code::TooLarge,
            // The next commit takes the leaves out.
            Self::Leaves => Code::Busy,
        }
    }
}

/// The room cannot begin like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreationError {
    #[error("the room's id is not the hash of its creation")]
    Id,
    #[error("the creation's group, context or creator do not fit together")]
    Parts,
    #[error("the creator's certificate does not hold")]
    Certificate,
}
