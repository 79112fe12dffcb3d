//! One face for every encoded type, with the names of its variants.

use std::fmt::Debug;

use kith_protocol::admission::Admission;
use kith_protocol::agreement::Record;
use kith_protocol::codec::{self, DecodeError, Encoding, OpenedContent};
use kith_protocol::content::Content;
use kith_protocol::contest::Docket;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::RoomId;
use kith_protocol::link::LinkFrame;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::proof::Proof;
use kith_protocol::log::succession::{Succession, Vote};
use kith_protocol::member::{ToMember, ToServer};
use kith_protocol::room::{Creation, CreationBody, RoomContext};
use kith_protocol::snapshot::{GroupSnapshot, RoomSnapshot};

/// The room of every stored attestation here: its id is not in the bytes.
pub const ATTESTED_ROOM: RoomId = RoomId([0xab; 32]);

pub type Decoded<T> = Result<T, DecodeError>;

pub trait Form: Sized + Clone + Debug + PartialEq + 'static {
    /// Every variant's name; a type that is no enum has its own.
    const NAMES: &'static [&'static str];

    fn name(&self) -> &'static str;
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Decoded<Self>;
}

/// A form that is also spoken as JSON.
pub trait JsonForm: Form {
    fn to_json(&self) -> String;
    fn from_json(json: &[u8]) -> Decoded<Self>;
}

/// The match is exhaustive and the list is made of the same names, so none can be forgotten.
macro_rules! form {
    ($type:ty { $($pattern:pat => $name:literal),+ $(,)? }, $encode:expr, $decode:expr) => {
        impl Form for $type {
            const NAMES: &'static [&'static str] = &[$($name),+];

            fn name(&self) -> &'static str {
                match self { $($pattern => $name),+ }
            }

            fn encode(&self) -> Vec<u8> {
                let encode: fn(&$type) -> _ = $encode;
                Vec::from(encode(self))
            }

            fn decode(bytes: &[u8]) -> Decoded<Self> {
                let decode: fn(&[u8]) -> Decoded<Self> = $decode;
                decode(bytes)
            }
        }
    };
}

form!(ToServer {
    Self::Register { .. } => "register",
    Self::Authenticate { .. } => "authenticate",
    Self::Cursor { .. } => "cursor",
    Self::Open { .. } => "open",
    Self::Send(_) => "send",
    Self::Certify { .. } => "certify",
    Self::CreateRoom { .. } => "create_room",
    Self::FetchGroup(_) => "fetch_group",
    Self::Join(_) => "join",
    Self::FetchHeaders { .. } => "fetch_headers",
    Self::Watch { .. } => "watch",
}, |frame| codec::encode_to_server(frame, Encoding::Binary), |bytes| codec::decode_to_server(bytes.to_vec().into(), Encoding::Binary));

form!(ToMember {
    Self::Challenge { .. } => "challenge",
    Self::Registered { .. } => "registered",
    Self::Ready => "ready",
    Self::Synced => "synced",
    Self::Entries(_) => "entries",
    Self::Ack { .. } => "ack",
    Self::Refused(_) => "refused",
    Self::Certificate { .. } => "certificate",
    Self::RoomNumber { .. } => "room_number",
    Self::Group { .. } => "group",
    Self::Headers { .. } => "headers",
    Self::Attestation { .. } => "attestation",
    Self::Draining => "draining",
    Self::Frozen { .. } => "frozen",
    Self::Provisionals { .. } => "provisionals",
}, |frame| codec::encode_to_member(frame, Encoding::Binary), |bytes| codec::decode_to_member(bytes.to_vec().into(), Encoding::Binary));

form!(LinkFrame {
    Self::Hello { .. } => "hello",
    Self::Agreement { .. } => "agreement",
    Self::Standing(_) => "standing",
    Self::Follow { .. } => "follow",
    Self::Unfollow { .. } => "unfollow",
    Self::Batch(_) => "batch",
    Self::Attest { .. } => "attest",
    Self::Attested { .. } => "attested",
    Self::Submit { .. } => "submit",
    Self::Submitted { .. } => "submitted",
    Self::FetchGroup(_) => "fetch_group",
    Self::Group { .. } => "group",
    Self::NoGroup { .. } => "no_group",
    Self::Status { .. } => "status",
    Self::Proof(_) => "proof",
    Self::Call { .. } => "call",
    Self::Willing { .. } => "willing",
    Self::Vote(_) => "vote",
    Self::Error { .. } => "error",
    Self::Ping { .. } => "ping",
    Self::Pong { .. } => "pong",
}, codec::encode_link, |bytes| codec::decode_link(bytes.to_vec().into()));

form!(Content {
    Self::Text(_) => "text",
    Self::CheckIn(_) => "check_in",
    Self::Profile { .. } => "profile",
    Self::InviteNotice { .. } => "invite_notice",
    Self::Withdrawn => "withdrawn",
    Self::Unknown => "unknown",
}, codec::encode_content, codec::decode_content);

form!(OpenedContent { _ => "franked" }, codec::encode_franked, codec::decode_franked);
form!(RoomContext { _ => "room_context" }, codec::encode_context, codec::decode_context);
form!(Creation { _ => "creation" }, codec::encode_creation, codec::decode_creation);
form!(CreationBody { _ => "creation_body" }, codec::encode_creation_body, codec::decode_creation_body);
form!(Admission { _ => "admission" }, codec::encode_admission, codec::decode_admission);
form!(LeafCertificate { _ => "leaf_certificate" }, codec::encode_certificate, codec::decode_certificate);
form!(RoomSnapshot { _ => "room_snapshot" }, codec::encode_room_snapshot, codec::decode_room_snapshot);
form!(Docket { _ => "docket" }, codec::encode_docket, codec::decode_docket);
form!(GroupSnapshot { _ => "group_snapshot" }, codec::encode_group_snapshot, |bytes| codec::decode_group_snapshot(ATTESTED_ROOM, bytes));
form!(Record { _ => "agreement_record" }, codec::encode_agreement_record, codec::decode_agreement_record);
form!(Vote { _ => "stored_vote" }, codec::encode_vote, codec::decode_vote);
form!(Proof { Self::Fork(_) => "fork", Self::DoubleVote(_) => "double_vote" }, codec::encode_proof, codec::decode_proof);
form!(Succession { _ => "succession" }, codec::encode_succession, codec::decode_succession);
form!(Attestation { _ => "stored_attestation" }, codec::encode_attestation, |bytes| codec::decode_attestation(ATTESTED_ROOM, bytes));

fn text(json: impl AsRef<[u8]>) -> String {
    String::from_utf8(json.as_ref().to_vec()).unwrap()
}

impl JsonForm for ToServer {
    fn to_json(&self) -> String {
        text(codec::encode_to_server(self, Encoding::Json))
    }

    fn from_json(json: &[u8]) -> Decoded<Self> {
        codec::decode_to_server(json.to_vec().into(), Encoding::Json)
    }
}

impl JsonForm for ToMember {
    fn to_json(&self) -> String {
        text(codec::encode_to_member(self, Encoding::Json))
    }

    fn from_json(json: &[u8]) -> Decoded<Self> {
        codec::decode_to_member(json.to_vec().into(), Encoding::Json)
    }
}
