//! C2SP signed-note: a text, a blank line, and signature lines.
//!
//! Source: C2SP `signed-note` v1. Strict: base64 without slack bits, one encoding of every line, bounded length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::ids::{CoopName, PublicKey};
use crate::limits::{MARKS_MAX, NOTE_BYTES_MAX};
use crate::sign::{BadSignature, SecretKey, Signature, verify_note};

/// What kind of signature a line carries; it is hashed into the key id, so that one kind never passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureType {
    /// Ed25519 over the text.
    Ed25519,
    /// C2SP tlog-cosignature: a timestamp and Ed25519 over `cosignature/v1`.
    Cosignature,
    /// Kith: the signer has also fsynced every body that is not erased.
    Held,
}

impl SignatureType {
    fn key_id_bytes(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => &[0x01],
            Self::Cosignature => &[0x04],
            // 0xff introduces a type that C2SP does not number, by name.
            Self::Held => b"\xffkith-held/v1",
        }
    }

    /// First four bytes of SHA-256(name || '\n' || type || public key).
    pub fn key_id(self, name: &str, key: &PublicKey) -> [u8; 4] {
        let hash = Sha256::new().chain_update(name).chain_update(b"\n").chain_update(self.key_id_bytes()).chain_update(key.0).finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("the note is longer than {NOTE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the note has no signatures or too many")]
    Signatures,
    #[error("a line of the note is malformed")]
    Line,
    #[error("no signature by that key")]
    NoSignature,
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
}

/// One signature line: key name, key id, and the bytes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub key_id: [u8; 4],
    pub bytes: Vec<u8>,
}

/// A note with its signatures, none of them verified yet. `text` ends in a newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub text: String,
    pub lines: Vec<Line>,
}

impl Line {
    pub fn new(name: &CoopName, kind: SignatureType, key: &PublicKey, bytes: Vec<u8>) -> Self {
        Self { name: name.to_string(), key_id: kind.key_id(name.as_str(), key), bytes }
    }

    fn render(&self) -> String {
        let mut bytes = self.key_id.to_vec();
        bytes.extend_from_slice(&self.bytes);
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }

    fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix("\u{2014} ").ok_or(NoteError::Line)?;
        let (name, encoded) = rest.split_once(' ').ok_or(NoteError::Line)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err(NoteError::Line);
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Line)?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>().ok_or(NoteError::Line)?;
        if bytes.is_empty() {
            return Err(NoteError::Line);
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }
}

impl Note {
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", self.text);
        self.lines.iter().for_each(|line| out.push_str(&line.render()));
        out
    }

    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Line);
        }
        let at = note.rfind("\n\n").ok_or(NoteError::Signatures)?;
        let (text, signatures) = (&note[..=at], &note[at + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Signatures)?;
        let lines = signatures.split('\n').map(Line::parse).collect::<Result<Vec<_>, _>>()?;
        if lines.len() > MARKS_MAX {
            return Err(NoteError::Signatures);
        }
        Ok(Self { text: text.to_owned(), lines })
    }

    /// The line of that key and kind, unverified.
    pub fn line(&self, name: &str, kind: SignatureType, key: &PublicKey) -> Option<&Line> {
        let id = kind.key_id(name, key);
        self.lines.iter().find(|line| line.name == name && line.key_id == id)
    }

    /// Checks the plain Ed25519 signature of `name` under `key`.
    pub fn verify(&self, name: &str, key: &PublicKey) -> Result<(), NoteError> {
        let line = self.line(name, SignatureType::Ed25519, key).ok_or(NoteError::NoSignature)?;
        verify_note(key, self.text.as_bytes(), &Signature::from_slice(&line.bytes)?)?;
        Ok(())
    }
}

/// Signs a text with a plain Ed25519 note signature.
pub(crate) fn sign_text(key: &SecretKey, text: &str) -> Signature {
    key.sign_note(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the format's reference implementation (golang.org/x/mod/sumdb/note).
    const PUBLISHED: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const PUBLISHED_KEY: &str = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn published_key() -> PublicKey {
        let bytes = STANDARD.decode(PUBLISHED_KEY).unwrap();
        assert_eq!(bytes[0], 1);
        PublicKey::from_slice(&bytes[1..]).unwrap()
    }

    #[test]
    fn published_note_verifies() {
        let note = Note::parse(PUBLISHED).unwrap();
        assert_eq!(crate::ids::to_hex(&SignatureType::Ed25519.key_id("PeterNeumann", &published_key())), "c74f20a3");
        assert_eq!(note.verify("PeterNeumann", &published_key()), Ok(()));
        assert_eq!(note.render(), PUBLISHED);
    }

    #[test]
    fn flipping_any_byte_of_a_note_is_noticed() {
        for at in 0..PUBLISHED.len() {
            for bit in [1u8, 0x20] {
                let mut bytes = PUBLISHED.as_bytes().to_vec();
                bytes[at] ^= bit;
                let verified = String::from_utf8(bytes)
                    .ok()
                    .and_then(|text| Note::parse(&text).ok())
                    .is_some_and(|note| note.verify("PeterNeumann", &published_key()).is_ok());
                assert!(!verified, "byte {at} ^ {bit}");
            }
        }
    }
}
