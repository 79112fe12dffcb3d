//! Fields: wire to domain with their bounds, and back.

use bytes::Bytes;

use super::DecodeError;
use crate::ids::{Coop, CoopName, Hash, Pseudonym, PublicKey, RoomId};
use crate::log::Kind;
use crate::sign::Signature;

pub type Result<T> = std::result::Result<T, DecodeError>;

pub fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| DecodeError::Field(field))
}

pub fn hash(bytes: &[u8], field: &'static str) -> Result<Hash> {
    array(bytes, field).map(Hash)
}

pub fn hashes(list: &[Bytes], field: &'static str, max: usize) -> Result<Vec<Hash>> {
    bounded(list, field, max)?.iter().map(|bytes| hash(bytes, field)).collect()
}

pub fn room_id(bytes: &[u8]) -> Result<RoomId> {
    array(bytes, "room id").map(RoomId)
}

pub fn pseudonym(bytes: &[u8]) -> Result<Pseudonym> {
    array(bytes, "pseudonym").map(Pseudonym)
}

pub fn key(bytes: &[u8], field: &'static str) -> Result<PublicKey> {
    array(bytes, field).map(PublicKey)
}

pub fn signature(bytes: &[u8], field: &'static str) -> Result<Signature> {
    array(bytes, field).map(Signature)
}

pub fn coop_name(text: &str) -> Result<CoopName> {
    text.parse().map_err(|_| DecodeError::Field("co-op name"))
}

pub fn coop(name: &str, root: &[u8]) -> Result<Coop> {
    Ok(Coop { name: coop_name(name)?, key: key(root, "root key")? })
}

pub fn device(number: u32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(device) if usize::from(device) < crate::limits::DEVICES_MAX => Ok(device),
        _ => Err(DecodeError::Field("device")),
    }
}

pub fn kind(number: u32) -> Result<Kind> {
    Kind::from_number(number).ok_or(DecodeError::Field("kind"))
}

/// Times and counters that arithmetic is done on stay far from the ends of their range.
pub fn number(value: u64, field: &'static str) -> Result<u64> {
    if value >> 48 == 0 { Ok(value) } else { Err(DecodeError::Field(field)) }
}

pub fn bounded<'a, T>(list: &'a [T], field: &'static str, max: usize) -> Result<&'a [T]> {
    if list.len() <= max { Ok(list) } else { Err(DecodeError::TooLarge(field)) }
}

pub fn blob(bytes: Bytes, field: &'static str, max: usize) -> Result<Bytes> {
    if bytes.len() <= max { Ok(bytes) } else { Err(DecodeError::TooLarge(field)) }
}

pub fn bytes_of(array: &[u8]) -> Bytes {
    Bytes::copy_from_slice(array)
}

pub fn list_of<const N: usize>(items: impl IntoIterator<Item = [u8; N]>) -> Vec<Bytes> {
    items.into_iter().map(|item| bytes_of(&item)).collect()
}
