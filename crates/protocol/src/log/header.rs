//! The canonical header of an entry: the bytes that the Merkle tree hashes.
//!
//! Fixed layout, big-endian, so that one header has one encoding:
//!
//! ```text
//! version 1 | room 32 | seq 8 | term 4 | epoch 8 | kind 1 | sender 16 | device 2 | counter 8 | time_s 8 | body_hash 32 | extra 32
//! ```
//!
//! `extra` is the franking tag of a message, the hash of the GroupInfo of a commit or a creation, and zero otherwise.

use sha2::{Digest, Sha256};

use crate::ids::{Counter, EntryId, Epoch, Hash, Pseudonym, RoomId, Seq, Term, UnixSeconds};

/// Bytes of an encoded header.
pub const HEADER_LEN: usize = 1 + 32 + 8 + 4 + 8 + 1 + 16 + 2 + 8 + 8 + 32 + 32;
const VERSION: u8 = 1;

/// What the body of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// An MLS PrivateMessage with application data.
    Message = 0,
    /// An MLS PublicMessage with a commit.
    Commit = 1,
    /// The first entry of a room.
    Creation = 2,
    /// A member leaves; the next commit removes its leaf.
    Leave = 3,
    /// The first entry of a term: the votes that seated its hub.
    Succession = 4,
    /// A member cannot follow a commit, and says so.
    Complaint = 5,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Message, Self::Commit, Self::Creation, Self::Leave, Self::Succession, Self::Complaint];

    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// What members hand in, once they are in a room.
    pub fn is_members(self) -> bool {
        matches!(self, Self::Message | Self::Commit | Self::Leave | Self::Complaint)
    }

    /// Handshakes and control records are never erased.
    pub fn is_erasable(self) -> bool {
        self == Self::Message
    }
}

/// An entry's header. `extra` depends on the kind: see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub room: RoomId,
    pub seq: Seq,
    pub term: Term,
    pub epoch: Epoch,
    pub kind: Kind,
    pub id: EntryId,
    pub time: UnixSeconds,
    pub body_hash: Hash,
    pub extra: Hash,
}

/// The bytes are no canonical header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a header has {HEADER_LEN} bytes")]
    Length,
    #[error("unknown header version")]
    Version,
    #[error("unknown kind of entry")]
    Kind,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Writer { bytes: [0; HEADER_LEN], at: 0 };
        out.put(&[VERSION]);
        out.put(&self.room.0);
        out.put(&self.seq.0.to_be_bytes());
        out.put(&self.term.0.to_be_bytes());
        out.put(&self.epoch.0.to_be_bytes());
        out.put(&[self.kind as u8]);
        out.put(&self.id.sender.0);
        out.put(&self.id.counter.device.to_be_bytes());
        out.put(&self.id.counter.number.to_be_bytes());
        out.put(&self.time.0.to_be_bytes());
        out.put(&self.body_hash.0);
        out.put(&self.extra.0);
        out.bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_LEN] = bytes.try_into().map_err(|_| HeaderError::Length)?;
        let mut r = Reader { bytes, at: 0 };
        if r.take::<1>() != [VERSION] {
            return Err(HeaderError::Version);
        }
        Ok(Self {
            room: RoomId(r.take()),
            seq: Seq(u64::from_be_bytes(r.take())),
            term: Term(u32::from_be_bytes(r.take())),
            epoch: Epoch(u64::from_be_bytes(r.take())),
            kind: Kind::from_number(u32::from(r.take::<1>()[0])).ok_or(HeaderError::Kind)?,
            id: EntryId {
                sender: Pseudonym(r.take()),
                counter: Counter { device: u16::from_be_bytes(r.take()), number: u64::from_be_bytes(r.take()) },
            },
            time: UnixSeconds(u64::from_be_bytes(r.take())),
            body_hash: Hash(r.take()),
            extra: Hash(r.take()),
        })
    }
}

struct Writer {
    bytes: [u8; HEADER_LEN],
    at: usize,
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}

struct Reader<'a> {
    bytes: &'a [u8; HEADER_LEN],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes[self.at..self.at + N].try_into().expect("the fields add up to HEADER_LEN");
        self.at += N;
        field
    }
}

/// SHA-256 of a body or a GroupInfo as it is stored.
pub fn hash_bytes(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header {
            room: RoomId([1; 32]),
            seq: Seq(2),
            term: Term(3),
            epoch: Epoch(4),
            kind: Kind::Commit,
            id: EntryId { sender: Pseudonym([5; 16]), counter: Counter { device: 6, number: 7 } },
            time: UnixSeconds(8),
            body_hash: Hash([9; 32]),
            extra: Hash([10; 32]),
        }
    }

    #[test]
    fn golden_bytes() {
        let expected = [
            "01".to_owned(),
            "01".repeat(32),
            "0000000000000002".into(),
            "00000003".into(),
            "0000000000000004".into(),
            "01".into(),
            "05".repeat(16),
            "0006".into(),
            "0000000000000007".into(),
            "0000000000000008".into(),
            "09".repeat(32),
            "0a".repeat(32),
        ]
        .concat();
        assert_eq!(crate::ids::to_hex(&sample().encode()), expected);
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let good = sample().encode();
        assert_eq!(Header::decode(&good[1..]), Err(HeaderError::Length));
        let mut version = good;
        version[0] = 2;
        assert_eq!(Header::decode(&version), Err(HeaderError::Version));
        let mut kind = good;
        kind[53] = 200;
        assert_eq!(Header::decode(&kind), Err(HeaderError::Kind));
    }

    proptest! {
        #[test]
        fn decoding_then_encoding_gives_the_same_bytes(mut bytes in prop::collection::vec(any::<u8>(), HEADER_LEN)) {
            bytes[0] = VERSION;
            bytes[53] %= 6;
            let header = Header::decode(&bytes).unwrap();
            prop_assert_eq!(header.encode().to_vec(), bytes);
        }
    }
}
