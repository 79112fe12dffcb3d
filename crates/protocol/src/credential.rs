//! The certificate in a leaf: "member of good standing of co-op C, until T", for one room only.
//!
//! It is the identity of the leaf's BasicCredential. Only the co-op can map the pseudonym to an account, and no value in
//! it stands in another room too, but the co-op's own name and key.

use crate::ids::{Coop, Pseudonym, PublicKey, RoomId, UnixSeconds};
use crate::limits::LEAF_CERTIFICATE_LIFETIME_S;
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

const DAY_S: u64 = 24 * 3600;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafCertificate {
    pub pseudonym: Pseudonym,
    pub device: u16,
    pub coop: Coop,
    pub not_after: UnixSeconds,
    pub signature: Signature,
}

/// The certificate says nothing for this leaf. An attacker who got past this would sit in rooms without a co-op's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate has expired")]
    Expired,
    #[error("the co-op's signature does not verify for this room and leaf key")]
    Signature,
}

fn statement(room: &RoomId, leaf_key: &PublicKey, pseudonym: &Pseudonym, device: u16, coop: &Coop, not_after: UnixSeconds) -> Transcript {
    Transcript::new(Label::LeafCertificate)
        .field(&room.0)
        .field(&leaf_key.0)
        .field(&pseudonym.0)
        .number(u64::from(device))
        .field(coop.name.as_str().as_bytes())
        .number(not_after.0)
}

impl LeafCertificate {
    /// Issues one; its end is rounded up to a day.
    pub fn issue(
        root: &SecretKey,
        coop: Coop,
        room: &RoomId,
        leaf_key: &PublicKey,
        pseudonym: Pseudonym,
        device: u16,
        now: UnixSeconds,
    ) -> Self {
        let not_after = UnixSeconds((now.0 + LEAF_CERTIFICATE_LIFETIME_S).next_multiple_of(DAY_S));
        let signature = root.sign(&statement(room, leaf_key, &pseudonym, device, &coop, not_after));
        Self { pseudonym, device, coop, not_after, signature }
    }

    /// Checks it against the key that it names. Whether that key is the co-op's is for the room's records to say.
    pub fn verify(&self, room: &RoomId, leaf_key: &PublicKey, at: UnixSeconds) -> Result<(), CertificateError> {
        if at > self.not_after {
            return Err(CertificateError::Expired);
        }
        let statement = statement(room, leaf_key, &self.pseudonym, self.device, &self.coop, self.not_after);
        verify(&self.coop.key, &statement, &self.signature).map_err(|BadSignature| CertificateError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_its_room_and_leaf_only() {
        let root = SecretKey::from_seed([1; 32]);
        let coop = Coop { name: "alder.test".parse().unwrap(), key: root.public() };
        let (room, leaf) = (RoomId([2; 32]), PublicKey([3; 32]));
        let good = LeafCertificate::issue(&root, coop, &room, &leaf, Pseudonym([4; 16]), 0, UnixSeconds(1_000_000));
        let now = UnixSeconds(1_000_001);
        assert_eq!(good.not_after.0 % DAY_S, 0);
        assert_eq!(good.verify(&room, &leaf, now), Ok(()));
        assert_eq!(good.verify(&RoomId([9; 32]), &leaf, now), Err(CertificateError::Signature));
        assert_eq!(good.verify(&room, &PublicKey([9; 32]), now), Err(CertificateError::Signature));
        assert_eq!(good.verify(&room, &leaf, UnixSeconds(good.not_after.0 + 1)), Err(CertificateError::Expired));
        let mut other = good.clone();
        other.pseudonym = Pseudonym([5; 16]);
        assert_eq!(other.verify(&room, &leaf, now), Err(CertificateError::Signature));
        let mut device = good.clone();
        device.device = 1;
        assert_eq!(device.verify(&room, &leaf, now), Err(CertificateError::Signature));
    }
}
