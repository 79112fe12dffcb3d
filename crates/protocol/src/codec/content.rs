//! Opened content and its franking envelope: what stands inside the encryption.

use bytes::Bytes;
use prost::Message;

use super::convert::{self as c, Result, bytes_of};
use super::{DecodeError, scan};
use crate::content::{CheckIn, Content, Support, Visibility};
use crate::frank::SALT_LEN;
use crate::ids::UnixSeconds;
use crate::limits;
use crate::sign::Signature;
use crate::wire::content as w;

/// The plaintext of an application message: franking and the packed content. `packing` says how it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedContent {
    pub salt: [u8; SALT_LEN],
    pub signature: Signature,
    pub message_id: u64,
    pub packed: Bytes,
    pub packing: u32,
}

pub fn encode_franked(franked: &OpenedContent) -> Vec<u8> {
    w::Franked {
        salt: bytes_of(&franked.salt),
        signature: bytes_of(&franked.signature.0),
        packed: franked.packed.clone(),
        packing: franked.packing,
        message_id: franked.message_id,
    }
    .encode_to_vec()
}

pub fn decode_franked(bytes: &[u8]) -> Result<OpenedContent> {
    let wire = w::Franked::decode(Bytes::copy_from_slice(bytes)).map_err(|_| DecodeError::Schema)?;
    Ok(OpenedContent {
        salt: c::array(&wire.salt, "salt")?,
        signature: c::signature(&wire.signature, "franking signature")?,
        message_id: c::number(wire.message_id, "message id")?,
        packed: c::blob(wire.packed, "content", limits::CONTENT_BYTES_MAX)?,
        packing: wire.packing,
    })
}

pub fn encode_content(content: &Content) -> Vec<u8> {
    use w::content::Kind as K;
    let kind = match content {
        Content::Text(text) => Some(K::Text(w::Text { text: text.clone() })),
        Content::CheckIn(x) => Some(K::CheckIn(w::CheckIn {
            pleasant: x.pleasant.map(i32::from),
            energy: x.energy.map(i32::from),
            words: x.words.clone(),
            note: x.note.clone(),
            about: x.about.clone(),
            support: x.support.map_or(0, |support| support as i32),
            visibility: x.visibility as i32,
            expires_s: x.expires.map_or(0, |at| at.0),
        })),
        Content::Profile { name } => Some(K::Profile(w::Profile { name: name.clone() })),
        Content::InviteNotice { key, uses, expires } => {
            Some(K::Invite(w::InviteNotice { key: bytes_of(&key.0), uses: *uses, expires_s: expires.0 }))
        }
        Content::Withdrawn => Some(K::Withdrawn(w::Withdrawn {})),
        Content::Unknown => None,
    };
    w::Content { kind }.encode_to_vec()
}

/// Unknown kinds are content too; values out of bounds are errors.
pub fn decode_content(bytes: &[u8]) -> Result<Content> {
    use w::content::Kind as K;
    scan::check(bytes, &scan::CONTENT)?;
    let wire = w::Content::decode(bytes).map_err(|_| DecodeError::Schema)?;
    let scale = |value: Option<i32>| value.map(i8::try_from).transpose().map_err(|_| DecodeError::Field("scale"));
    let content = match wire.kind {
        None => Content::Unknown,
        Some(K::Text(x)) => Content::Text(x.text),
        Some(K::CheckIn(x)) => Content::CheckIn(CheckIn {
            pleasant: scale(x.pleasant)?,
            energy: scale(x.energy)?,
            words: x.words,
            note: x.note,
            about: x.about,
            support: Support::ALL.into_iter().find(|support| *support as i32 == x.support),
            visibility: if x.visibility == Visibility::Room as i32 { Visibility::Room } else { Visibility::Folded },
            expires: Some(c::number(x.expires_s, "expiry")?).filter(|at| *at != 0).map(UnixSeconds),
        }),
        Some(K::Profile(x)) => Content::Profile { name: x.name },
        Some(K::Invite(x)) => Content::InviteNotice {
            key: c::key(&x.key, "invite key")?,
            uses: x.uses,
            expires: UnixSeconds(c::number(x.expires_s, "expiry")?),
        },
        Some(K::Withdrawn(_)) => Content::Withdrawn,
    };
    content.check().map_err(|_| DecodeError::Field("content"))?;
    Ok(content)
}
