//! How content is made small and then all alike: raw DEFLATE with a dictionary (RFC 1951), then padding to buckets.
//!
//! No context is shared across messages or senders. What stands outside the padding has a fixed length.

use kith_protocol::deflate::{deflate, inflate};
use kith_protocol::limits::CONTENT_BYTES_MAX;

/// Dictionary 1: frequent last, as DEFLATE finds near matches cheapest. It may never change; a better one gets a new number.
const DICTIONARY_1: &[u8] = include_bytes!("dictionary_1.txt");
const BUCKETS: [usize; 10] = [32, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/// The packed bytes are damaged, or unpack to more than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    #[error("the content's packing is unknown")]
    Unknown,
    #[error("the content does not unpack within its limit")]
    Damaged,
}

/// How a content is packed.
pub const PLAIN: u32 = 0;
pub const DEFLATE_1: u32 = 1;

/// Packs content by whichever way is shorter.
pub fn pack(content: &[u8]) -> (u32, Vec<u8>) {
    let packed = deflate(content, DICTIONARY_1);
    if packed.len() < content.len() { (DEFLATE_1, packed) } else { (PLAIN, content.to_vec()) }
}

/// Never unpacks more than [`CONTENT_BYTES_MAX`].
pub fn unpack(packing: u32, packed: &[u8]) -> Result<Vec<u8>, PackError> {
    match packing {
        PLAIN if packed.len() <= CONTENT_BYTES_MAX => Ok(packed.to_vec()),
        PLAIN => Err(PackError::Damaged),
        DEFLATE_1 => inflate(packed, DICTIONARY_1, CONTENT_BYTES_MAX).map_err(|_| PackError::Damaged),
        _ => Err(PackError::Unknown),
    }
}

/// The padded length of content: a bucket, and above the largest Padmé (at most 12 % more; arXiv 1806.03160).
pub fn padded_len(len: usize) -> usize {
    if let Some(bucket) = BUCKETS.into_iter().find(|bucket| len <= *bucket) {
        return bucket;
    }
    let exponent = usize::BITS - 1 - len.leading_zeros();
    let significant = u32::BITS - exponent.leading_zeros();
    let mask = (1usize << (exponent - significant)) - 1;
    (len + mask) & !mask
}

/// Pads with one 0x80 and zeros.
pub fn pad(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = padded_len(bytes.len() + 1);
    bytes.push(0x80);
    bytes.resize(len, 0);
    bytes
}

/// Takes the padding off.
pub fn unpad(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().rposition(|byte| *byte != 0)?;
    (bytes[end] == 0x80).then(|| &bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        for text in ["", "a", "I am here", "slept badly, could not stop thinking about work", &"é".repeat(2_000)] {
            let (packing, packed) = pack(text.as_bytes());
            assert_eq!(unpack(packing, &packed).as_deref(), Ok(text.as_bytes()));
            assert!(packed.len() <= text.len());
        }
    }

    #[test]
    fn fault_16_a_bomb_is_refused() {
        let packed = deflate(&vec![0; CONTENT_BYTES_MAX * 100], DICTIONARY_1);
        assert!(packed.len() < 4_096);
        assert_eq!(unpack(DEFLATE_1, &packed), Err(PackError::Damaged));
        assert_eq!(unpack(DEFLATE_1, b"\xff\xff"), Err(PackError::Damaged));
        assert_eq!(unpack(9, b""), Err(PackError::Unknown));
        let (packing, mut trailing) = pack(b"I am here for you, and I am listening");
        assert_eq!(packing, DEFLATE_1);
        trailing.push(0);
        assert_eq!(unpack(packing, &trailing), Err(PackError::Damaged));
    }

    #[test]
    fn lengths_come_in_buckets() {
        for (len, padded) in [(0, 32), (32, 32), (33, 64), (1024, 1024), (1025, 1088), (5_000, 5_120)] {
            assert_eq!(padded_len(len), padded);
        }
        for len in 0..3_000 {
            let bytes = vec![0x80; len];
            let padded = pad(bytes.clone());
            assert_eq!(padded.len(), padded_len(len + 1));
            assert_eq!(unpad(&padded), Some(bytes.as_slice()));
        }
        assert_eq!(unpad(&[0, 0]), None);
        assert_eq!(unpad(&[1, 0]), None);
    }
}
