//! The codes that travel in a refusal, one place for the mapping to and from the wire.

/// Why a co-op refused a frame. The connection, the room and the data live on unless the code says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// The bytes are no frame of the schema, or a field is out of its bounds.
    Malformed = 1,
    /// A frame or a part of it is larger than its limit.
    TooLarge = 2,
    /// The session must authenticate first.
    NotAuthenticated = 3,
    /// The signature or the key is not the one that is expected. Ends the session.
    BadAuthentication = 4,
    /// No such invite, or it is used up or expired. The same answer for all three.
    InviteClosed = 5,
    /// More frames than the rate allows; try again after the time given.
    RateLimited = 6,
    /// The room does not exist here, or this account is not in it. The same answer for both.
    NoSuchRoom = 7,
    /// The entry belongs to another epoch; catch up and make it anew.
    WrongEpoch = 8,
    /// The sender's counter is not the next one; `counter` tells the last that is known.
    OutOfOrder = 9,
    /// The room's rules do not let this sender do that.
    Forbidden = 10,
    /// The MLS message does not verify against the public view of the group.
    InvalidCommit = 11,
    /// A bounded queue is full; try again after the time given.
    Busy = 12,
    /// The neighbour that holds the room cannot be reached now.
    HolderUnreachable = 13,
    /// This co-op has no active agreement with that one.
    NoAgreement = 14,
    /// The name or the key is not the pinned one.
    UnknownNeighbour = 15,
    /// The signatures or proofs over the log do not verify.
    BadProof = 16,
    /// The protocol version is not spoken here.
    Version = 17,
    /// The server is about to stop; reconnect soon.
    Draining = 18,
    /// The server failed; nothing was acknowledged.
    Internal = 19,
    /// The room id is not the hash of its creation, or the room exists already.
    BadCreation = 20,
    /// The certificate in the leaf is missing, expired or not signed by its co-op.
    BadCertificate = 21,
    /// A commit is waiting to be certified; try again.
    EpochBusy = 22,
    /// The co-op's disk is full: it serves what it has, and takes nothing new until there is room.
    DiskFull = 23,
}

impl Code {
    const ALL: [Self; 23] = [
        Self::Malformed,
        Self::TooLarge,
        Self::NotAuthenticated,
        Self::BadAuthentication,
        Self::InviteClosed,
        Self::RateLimited,
        Self::NoSuchRoom,
        Self::WrongEpoch,
        Self::OutOfOrder,
        Self::Forbidden,
        Self::InvalidCommit,
        Self::Busy,
        Self::HolderUnreachable,
        Self::NoAgreement,
        Self::UnknownNeighbour,
        Self::BadProof,
        Self::Version,
        Self::Draining,
        Self::Internal,
        Self::BadCreation,
        Self::BadCertificate,
        Self::EpochBusy,
        Self::DiskFull,
    ];

    pub fn from_wire(code: u32) -> Self {
        Self::ALL.into_iter().find(|known| *known as u32 == code).unwrap_or(Self::Internal)
    }

    /// Worth trying the same thing again later, without changing it.
    pub fn is_transient(self) -> bool {
        use Code::{Busy, DiskFull, Draining, EpochBusy, HolderUnreachable, NoAgreement, RateLimited};
        matches!(self, RateLimited | Busy | HolderUnreachable | Draining | EpochBusy | NoAgreement | DiskFull)
    }

    /// What a person can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Malformed | Self::Version => "Update this program, or ask your co-op's steward to update the server.",
            Self::TooLarge => "Make it shorter and send it again.",
            Self::NotAuthenticated | Self::BadAuthentication => {
                "This device is not known to the co-op. Join again with a fresh membership link."
            }
            Self::InviteClosed => "Ask for a fresh link: this one is used up, expired or mistyped.",
            Self::RateLimited | Self::Busy | Self::Draining | Self::EpochBusy => "Wait a moment and try again.",
            Self::NoSuchRoom => "Check the room with `kith rooms`, or ask for a link to it.",
            Self::WrongEpoch | Self::OutOfOrder => "Run `kith read` to catch up, then try again.",
            Self::Forbidden => "Ask a facilitator of the room to do it.",
            Self::InvalidCommit | Self::BadCreation | Self::BadCertificate => "Run `kith read` to catch up and try again.",
            Self::HolderUnreachable => "The other co-op cannot be reached now. Try again later.",
            Self::NoAgreement => "Your co-op shares no rooms with that one now. Your steward's `kithd neighbour show` says why.",
            Self::UnknownNeighbour => "Compare `kithd neighbour key` on both sides and add the neighbour again.",
            Self::BadProof => "Do not trust this copy of the room. Run `kith verify` and tell your steward.",
            Self::DiskFull => "Tell your steward that the server's disk is full. You can go on reading.",
            Self::Internal => "Tell your steward; their server's log says more.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for code in Code::ALL {
            assert_eq!(Code::from_wire(code as u32), code);
        }
        assert_eq!(Code::from_wire(9999), Code::Internal);
    }
}
