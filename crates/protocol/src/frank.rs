//! Message franking (design section 7): a committing tag over the content, which stands in the log, and the sender's
//! signature over it inside the encryption. A report opens content and salt; the tag in the header proves the text.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::ids::{Counter, Epoch, Hash, Pseudonym, PublicKey, RoomId};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// Bytes of the salt.
pub const SALT_LEN: usize = 16;

/// The tag or the signature is not of this content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrankError {
    #[error("the franking tag is not of this content")]
    Tag,
    #[error("the sender's franking signature does not verify")]
    Signature,
}

/// HMAC-SHA256(salt, content), over the content before packing.
pub fn tag(salt: &[u8; SALT_LEN], content: &[u8]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes keys of any length");
    mac.update(content);
    Hash(mac.finalize().into_bytes().into())
}

/// Where a message stands and what it commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Franking<'a> {
    pub room: &'a RoomId,
    pub epoch: Epoch,
    /// The message's id is its entry's counter: unique to the pseudonym, stable across re-encryption.
    pub message: Counter,
    pub sender: &'a Pseudonym,
    pub tag: &'a Hash,
}

impl Franking<'_> {
    fn statement(&self) -> Transcript {
        Transcript::new(Label::Franking)
            .field(&self.room.0)
            .number(self.epoch.0)
            .number(u64::from(self.message.device))
            .number(self.message.number)
            .field(&self.sender.0)
            .field(&self.tag.0)
    }

    pub fn sign(&self, leaf: &SecretKey) -> Signature {
        leaf.sign(&self.statement())
    }

    /// Checks the tag in constant time, then the signature.
    pub fn verify(&self, leaf_key: &PublicKey, salt: &[u8; SALT_LEN], content: &[u8], signature: &Signature) -> Result<(), FrankError> {
        if !bool::from(tag(salt, content).0.ct_eq(&self.tag.0)) {
            return Err(FrankError::Tag);
        }
        verify(leaf_key, &self.statement(), signature).map_err(|BadSignature| FrankError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_37_an_edited_or_moved_message_fails() {
        let leaf = SecretKey::from_seed([1; 32]);
        let (room, sender, salt) = (RoomId([2; 32]), Pseudonym([3; 16]), [4; SALT_LEN]);
        let tag = tag(&salt, b"as it was");
        let place = Franking { room: &room, epoch: Epoch(5), message: Counter { device: 0, number: 6 }, sender: &sender, tag: &tag };
        let signature = place.sign(&leaf);
        let check = |place: Franking<'_>, text: &[u8]| place.verify(&leaf.public(), &salt, text, &signature);
        assert_eq!(check(place, b"as it was"), Ok(()));
        assert_eq!(check(place, b"as it was not"), Err(FrankError::Tag));
        assert_eq!(check(Franking { epoch: Epoch(6), ..place }, b"as it was"), Err(FrankError::Signature));
        assert_eq!(check(Franking { sender: &Pseudonym([9; 16]), ..place }, b"as it was"), Err(FrankError::Signature));
        let other = Counter { device: 0, number: 7 };
        assert_eq!(check(Franking { message: other, ..place }, b"as it was"), Err(FrankError::Signature));
    }
}
