//! An application message without what both ends know.
//!
//! A body of kind message is an MLS PrivateMessage (RFC 9420 section 6.3) with version, wire format, group id, epoch
//! and content type left out, and the 32-byte franking tag in place of the authenticated data. [`restore`] gives back the
//! very MLSMessage, so that any MLS library reads it; nothing is lost and no other bytes have the same short form.
//!
//! ```text
//! tag 32 | encrypted_sender_data<V> | ciphertext<V>
//! ```

use crate::ids::{Epoch, Hash, RoomId};

const VERSION_MLS10: [u8; 2] = [0, 1];
const WIRE_PRIVATE_MESSAGE: [u8; 2] = [0, 2];
const CONTENT_APPLICATION: u8 = 1;

/// The bytes are no application message in that form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an MLS application message of this room")]
pub struct FramingError;

/// Splits an RFC 9000-style variable-length vector (RFC 9420 section 2.1.2) off the front; minimal length only.
pub(crate) fn take_vector(bytes: &[u8]) -> Result<(&[u8], &[u8]), FramingError> {
    let first = *bytes.first().ok_or(FramingError)?;
    let width = 1usize << (first >> 6);
    if width == 8 || bytes.len() < width {
        return Err(FramingError);
    }
    let len = bytes[1..width].iter().fold(usize::from(first & 0x3f), |len, byte| (len << 8) | usize::from(*byte));
    let minimal = match width {
        1 => true,
        2 => len >= 0x40,
        _ => len >= 0x4000,
    };
    if !minimal || bytes.len() - width < len {
        return Err(FramingError);
    }
    Ok(bytes[width..].split_at(len))
}

/// The same, with its length left on.
pub(crate) fn split_vector(bytes: &[u8]) -> Result<(&[u8], &[u8]), FramingError> {
    let (_, rest) = take_vector(bytes)?;
    Ok(bytes.split_at(bytes.len() - rest.len()))
}

/// The short form of an MLSMessage of this room and epoch.
pub fn shorten(message: &[u8], room: &RoomId, epoch: Epoch) -> Result<Vec<u8>, FramingError> {
    let rest = message.strip_prefix(&VERSION_MLS10).and_then(|rest| rest.strip_prefix(&WIRE_PRIVATE_MESSAGE)).ok_or(FramingError)?;
    let (group, rest) = take_vector(rest)?;
    let rest = rest.strip_prefix(&epoch.0.to_be_bytes()).ok_or(FramingError)?;
    let rest = rest.strip_prefix(&[CONTENT_APPLICATION]).ok_or(FramingError)?;
    let (tag, rest) = take_vector(rest)?;
    if group != room.0 || tag.len() != Hash::LEN {
        return Err(FramingError);
    }
    let mut short = tag.to_vec();
    short.extend_from_slice(rest);
    check(&short)?;
    Ok(short)
}

/// The MLSMessage of a short form.
pub fn restore(short: &[u8], room: &RoomId, epoch: Epoch) -> Result<Vec<u8>, FramingError> {
    check(short)?;
    let (tag, rest) = short.split_at(Hash::LEN);
    let mut message = Vec::with_capacity(short.len() + 48);
    message.extend_from_slice(&VERSION_MLS10);
    message.extend_from_slice(&WIRE_PRIVATE_MESSAGE);
    message.push(RoomId::LEN as u8);
    message.extend_from_slice(&room.0);
    message.extend_from_slice(&epoch.0.to_be_bytes());
    message.push(CONTENT_APPLICATION);
    message.push(Hash::LEN as u8);
    message.extend_from_slice(tag);
    message.extend_from_slice(rest);
    Ok(message)
}

/// Checks a short form's shape and returns its franking tag.
pub fn check(short: &[u8]) -> Result<Hash, FramingError> {
    let (tag, rest) = short.split_first_chunk::<{ Hash::LEN }>().ok_or(FramingError)?;
    let (sender_data, rest) = take_vector(rest)?;
    let (ciphertext, rest) = take_vector(rest)?;
    if sender_data.is_empty() || ciphertext.is_empty() || !rest.is_empty() {
        return Err(FramingError);
    }
    Ok(Hash(*tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let mut short = vec![7; 32];
        short.extend_from_slice(&[1, 0xaa, 2, 0xbb, 0xcc]);
        let room = RoomId([9; 32]);
        let full = restore(&short, &room, Epoch(258)).unwrap();
        let expected = format!("0001000220{}000000000000010201{}{}01aa02bbcc", "09".repeat(32), "20", "07".repeat(32));
        assert_eq!(crate::ids::to_hex(&full), expected);
        assert_eq!(shorten(&full, &room, Epoch(258)), Ok(short));
        assert_eq!(shorten(&full, &RoomId([8; 32]), Epoch(258)), Err(FramingError));
        assert_eq!(shorten(&full, &room, Epoch(259)), Err(FramingError));
    }

    proptest! {
        #[test]
        fn what_shortens_restores(short in prop::collection::vec(any::<u8>(), 0..200)) {
            let room = RoomId([9; 32]);
            if let Ok(full) = restore(&short, &room, Epoch(1)) {
                prop_assert_eq!(shorten(&full, &room, Epoch(1)), Ok(short));
            }
        }

        #[test]
        fn long_vectors_too(sender in 1usize..100, cipher in 1usize..40_000) {
            let vector = |len: usize| {
                let head = if len < 0x40 { vec![len as u8] }
                    else if len < 0x4000 { ((len as u16) | 0x4000).to_be_bytes().to_vec() }
                    else { ((len as u32) | 0x8000_0000).to_be_bytes().to_vec() };
                [head, vec![5; len]].concat()
            };
            let short = [vec![7; 32], vector(sender), vector(cipher)].concat();
            prop_assert_eq!(check(&short), Ok(Hash([7; 32])));
        }
    }
}
