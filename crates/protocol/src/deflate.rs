//! Raw DEFLATE (RFC 1951) with a preset dictionary that both ends have, and an inflater that knows its bound beforehand.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// How far back DEFLATE refers, bytes: of a longer dictionary only the end counts.
const WINDOW_BYTES: usize = 32 * 1024;
/// What incompressible bytes may grow by: five a block, and the end.
const SLACK_BYTES: usize = 64;

/// The packed bytes are damaged, are followed by others, or unpack to more than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not unpack within its limit")]
pub struct InflateError;

fn reachable(dictionary: &[u8]) -> Option<&[u8]> {
    let end = &dictionary[dictionary.len().saturating_sub(WINDOW_BYTES)..];
    (!end.is_empty()).then_some(end)
}

/// As small as DEFLATE makes it.
pub fn deflate(bytes: &[u8], dictionary: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    if let Some(dictionary) = reachable(dictionary) {
        compress.set_dictionary(dictionary).expect("a raw stream takes a dictionary before its first byte");
    }
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1024 + SLACK_BYTES);
    loop {
        let rest = &bytes[usize::try_from(compress.total_in()).expect("no more than there is")..];
        let status = compress.compress_vec(rest, &mut out, FlushCompress::Finish).expect("a fresh stream is in no wrong state");
        if status == Status::StreamEnd {
            return out;
        }
        out.reserve(SLACK_BYTES);
    }
}

/// Never unpacks more than `bytes_max`, and never asks for more memory than that.
pub fn inflate(packed: &[u8], dictionary: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    let mut decompress = Decompress::new(false);
    if let Some(dictionary) = reachable(dictionary) {
        decompress.set_dictionary(dictionary).map_err(|_| InflateError)?;
    }
    let mut out = Vec::with_capacity(bytes_max);
    match decompress.decompress_vec(packed, &mut out, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) if decompress.total_in() == packed.len() as u64 => Ok(out),
        _ => Err(InflateError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_stops_at_its_bound() {
        let packed = deflate(&vec![0; 1_000_000], b"");
        assert!(packed.len() < 2_000);
        assert_eq!(inflate(&packed, b"", 999_999), Err(InflateError));
        assert_eq!(inflate(&packed, b"", 1_000_000).map(|bytes| bytes.len()), Ok(1_000_000));
        assert_eq!(inflate(&[packed, vec![0]].concat(), b"", 1_000_000), Err(InflateError), "bytes that nobody reads");
        assert_eq!(inflate(b"\xff\xff", b"", 10), Err(InflateError));
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks(bytes in prop::collection::vec(any::<u8>(), 0..5_000), long in 0usize..50_000) {
            for dictionary in [vec![], bytes.clone(), [bytes.clone(), vec![7; long]].concat()] {
                let packed = deflate(&bytes, &dictionary);
                let unpacked = inflate(&packed, &dictionary, bytes.len());
                prop_assert_eq!(unpacked.as_ref(), Ok(&bytes));
            }
        }
    }
}
