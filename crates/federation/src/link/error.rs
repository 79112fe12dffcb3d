//! Why a link does not come up, or ends.

use kith_protocol::error::Code;

/// By blame: the stranger or the neighbour at the other end, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("nobody of that name is a neighbour")]
    Stranger,
    #[error("the name is a neighbour's, but the root key is not the pinned one")]
    WrongPin,
    #[error("the link key is not certified by the root key, or its certificate has expired")]
    LinkKey,
    #[error("the neighbour's signature under the agreement does not verify")]
    Agreement,
    #[error("the neighbour speaks version {0}, this co-op speaks {version}", version = kith_protocol::link::VERSION)]
    Version(u32),
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
            Self::WrongPin | Self::LinkKey => Code::UnknownNeighbour,
            Self::Agreement => Code::NoAgreement,
            Self::Version(_) => Code::Version,
            Self::OutOfTurn => Code::Malformed,
            Self::TooMuch => Code::Busy,
            Self::Told(code, _) => *code,
            Self::Silent => Code::Draining,
        }
    }
}
