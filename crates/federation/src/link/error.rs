//! Why a link does not come up, or ends.

use kith_protocol::error::Code;
use kith_protocol::link::{VERSIONS, Versions};

/// By blame: the stranger or the neighbour at the other end, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("nobody of that name is a neighbour")]
    Stranger,
    #[error("the name is a neighbour's, but the root key is not the pinned one")]
    WrongPin,
    #[error("the link key is not certified by the root key, or its certificate has expired")]
    LinkKey,
    #[error(
        "the neighbour's root key has changed while this co-op was away, and the time in which the old one led to it is over. Compare \
         `kithd neighbour key` with its steward, then: kithd neighbour add … --replace"
    )]
    OverlapOver,
    #[error("the neighbour's signature under the agreement does not verify")]
    Agreement,
    #[error("the agreement is suspended or has ended")]
    NotOpen,
    #[error("the neighbour speaks {0} of the link's protocol, this co-op {VERSIONS}: update the older of the two")]
    Version(Versions),
    #[error("a frame came before its time")]
    OutOfTurn,
    #[error("too many rooms, requests or entries at once")]
    TooMuch,
    #[error("the other end said: {1}")]
    Told(Code, String),
    #[error("the other end has been silent for too long")]
    Silent,
}

impl Refusal {
    pub fn code(&self) -> Code {
        match self {
            Self::Stranger => Code::NoAgreement,
            Self::WrongPin | Self::OverlapOver | Self::LinkKey => Code::UnknownNeighbour,
            Self::Agreement | Self::NotOpen => Code::NoAgreement,
            Self::Version(_) => Code::Version,
            Self::OutOfTurn => Code::Malformed,
            Self::TooMuch => Code::Busy,
            Self::Told(code, _) => *code,
            Self::Silent => Code::Draining,
        }
    }
}
