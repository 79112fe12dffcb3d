//! The only place where bytes become domain types, and the way back.
//!
//! Every decoder takes any bytes: the answer is a value within its bounds or a [`DecodeError`], never a panic, and what is
//! allocated is bounded by a small multiple of the frame: lists are counted on the wire before their items are made.
//! Unknown fields are dropped (so nothing is signed over a re-encoding); unknown frames are errors.

mod agreement;
mod content;
mod contest;
mod convert;
mod link;
mod log;
mod member;
mod proof;
mod scan;

pub use agreement::{decode_agreement_record, encode_agreement_record};
pub use content::{OpenedContent, decode_content, decode_franked, encode_content, encode_franked};
pub use contest::{decode_docket, encode_docket};
pub use link::{decode_link, encode_link};
pub use log::{
    decode_admission, decode_attestation, decode_certificate, decode_context, decode_creation, decode_creation_body, decode_group_snapshot,
    decode_room_snapshot, decode_succession, decode_vote, encode_admission, encode_attestation, encode_certificate, encode_context,
    encode_creation, encode_creation_body, encode_group_snapshot, encode_room_snapshot, encode_succession, encode_vote,
};
pub use member::{Encoding, decode_to_member, decode_to_server, encode_to_member, encode_to_server, of_room};
pub use proof::{decode_proof, encode_proof};

use crate::error::Code;

/// The bytes are nothing that this version speaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not a message of the schema")]
    Schema,
    #[error("the frame is empty or of a newer version")]
    UnknownFrame,
    #[error("{0} is missing or out of its bounds")]
    Field(&'static str),
    #[error("{0} is larger than its limit")]
    TooLarge(&'static str),
}

impl DecodeError {
    pub fn code(&self) -> Code {
        match self {
            Self::Schema | Self::UnknownFrame | Self::Field(_) => Code::Malformed,
            Self::TooLarge(_) => Code::TooLarge,
        }
    }
}
