//! The root's word for a link key.

use crate::ids::{Coop, PublicKey, UnixSeconds};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// Shown in the first frame of a link, and made anew for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkCertificate {
    pub not_after: UnixSeconds,
    pub signature: Signature,
}

fn statement(coop: &Coop, link_key: &PublicKey, not_after: UnixSeconds) -> Transcript {
    Transcript::new(Label::LinkKey).field(coop.name.as_str().as_bytes()).field(&link_key.0).number(not_after.0)
}

impl LinkCertificate {
    pub fn issue(root: &SecretKey, coop: &Coop, link_key: &PublicKey, not_after: UnixSeconds) -> Self {
        Self { not_after, signature: root.sign(&statement(coop, link_key, not_after)) }
    }

    /// `link_key` is the key with which the peer authenticated in TLS.
    pub fn verify(&self, coop: &Coop, link_key: &PublicKey, now: UnixSeconds) -> Result<(), BadSignature> {
        if now > self.not_after {
            return Err(BadSignature);
        }
        verify(&coop.key, &statement(coop, link_key, self.not_after), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coop(seed: u8, name: &str) -> (SecretKey, Coop) {
        let root = SecretKey::from_seed([seed; 32]);
        let coop = Coop { name: name.parse().unwrap(), key: root.public() };
        (root, coop)
    }

    #[test]
    fn a_link_key_is_certified_until_it_expires() {
        let (root, alder) = coop(1, "alder.test");
        let link_key = PublicKey([5; 32]);
        let certificate = LinkCertificate::issue(&root, &alder, &link_key, UnixSeconds(100));
        assert_eq!(certificate.verify(&alder, &link_key, UnixSeconds(100)), Ok(()));
        assert_eq!(certificate.verify(&alder, &link_key, UnixSeconds(101)), Err(BadSignature));
        assert_eq!(certificate.verify(&alder, &PublicKey([6; 32]), UnixSeconds(1)), Err(BadSignature));
        let (_, birch) = coop(2, "birch.test");
        assert_eq!(certificate.verify(&birch, &link_key, UnixSeconds(1)), Err(BadSignature));
    }
}
