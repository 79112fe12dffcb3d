//! Names of things: newtypes without behaviour beyond their text form.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("expected {expected} hexadecimal digits, got {got} characters")]
    Length { expected: usize, got: usize },
    #[error("not hexadecimal")]
    NotHex,
    #[error("expected {expected} bytes, got {got}")]
    Bytes { expected: usize, got: usize },
    #[error("a co-op's name is a lower-case domain name of at most 253 characters, such as alder.example")]
    CoopName,
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Strict: exactly `N` bytes, lower or upper case.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    if text.len() != N * 2 {
        return Err(IdError::Length { expected: N * 2, got: text.len() });
    }
    let mut out = [0u8; N];
    for (i, pair) in text.as_bytes().chunks_exact(2).enumerate() {
        let digit = |c: u8| (c as char).to_digit(16).ok_or(IdError::NotHex);
        out[i] = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| IdError::NotHex)?;
    }
    Ok(out)
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            pub const LEN: usize = $len;

            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Bytes { expected: $len, got: bytes.len() })
            }

            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &to_hex(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self)
            }
        }
    };
}

bytes_id!(
    /// The hash of a room's creation; it names no server.
    RoomId, 32
);
bytes_id!(
    /// A member's name for one room: random, certified by the member's co-op for that room only.
    Pseudonym, 16
);

impl Pseudonym {
    /// Nobody's: the sender of what a room's co-ops put into its log together.
    pub const ROOM: Self = Self([0; 16]);
}

bytes_id!(
    /// SHA-256.
    Hash, 32
);
bytes_id!(
    /// An Ed25519 public key, not yet checked to be a point.
    PublicKey, 32
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Place of an entry in its room's log, from 0.
    Seq, u64
);
number!(
    /// Period of one hub, from 1.
    Term, u32
);
number!(
    /// MLS epoch of a room's group.
    Epoch, u64
);
number!(
    /// Small number of a room at one server, in place of its id.
    RoomNumber, u32
);
number!(
    /// Header time or wall time, seconds since 1970 (UTC).
    UnixSeconds, u64
);
number!(
    /// A monotone clock's reading, milliseconds from an arbitrary start.
    Millis, u64
);
number!(
    /// Handle of a device at its co-op.
    DeviceHandle, u64
);
number!(
    /// Handle of an account at its co-op. Never leaves the server.
    AccountHandle, u64
);
number!(
    /// A connection, a neighbour's or a member's, while it lasts.
    ConnectionId, u64
);

impl Seq {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which of a pseudonym's entries: its devices count apart, each 1, 2, 3 … without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter {
    pub device: u16,
    pub number: u64,
}

/// Stable across resending and re-encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub sender: Pseudonym,
    pub counter: Counter,
}

/// A co-op's name: its domain, lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoopName(String);

impl CoopName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CoopName {
    type Err = IdError;

    /// Letters, digits, hyphens and dots; labels of 1–63 characters that neither start nor end with a hyphen (RFC 1123).
    fn from_str(text: &str) -> Result<Self, IdError> {
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if text.len() > limits::COOP_NAME_BYTES_MAX || !text.split('.').all(label_ok) {
            return Err(IdError::CoopName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CoopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CoopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A co-op with the root key that its neighbours pin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coop {
    pub name: CoopName,
    pub key: PublicKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_strict() {
        assert_eq!(from_hex::<2>("0aFf"), Ok([0x0a, 0xff]));
        assert_eq!(from_hex::<2>("0aF"), Err(IdError::Length { expected: 4, got: 3 }));
        assert_eq!(from_hex::<2>("0aFg"), Err(IdError::NotHex));
        assert_eq!(from_hex::<2>("+1+1"), Err(IdError::NotHex));
    }

    #[test]
    fn coop_names_are_domain_names() {
        for good in ["alder.test", "a", "x-1.example.org"] {
            assert!(good.parse::<CoopName>().is_ok(), "{good}");
        }
        for bad in ["", "Alder.test", "-a.test", "a-.test", "a..b", "a b", "é.test", "a\n.test"] {
            assert_eq!(bad.parse::<CoopName>(), Err(IdError::CoopName), "{bad:?}");
        }
    }
}
