//! The agreement between two neighbours and the certificate of a link key.
//!
//! No agreement, no traffic. The document is a text that both co-ops build alike from what they pinned, so that each
//! signs its own bytes and never bytes that the other supplied.

use crate::ids::{Coop, PublicKey, UnixSeconds};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// What two co-ops agree on. The parties stand in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    parties: [Coop; 2],
}

impl Agreement {
    pub fn between(one: Coop, other: Coop) -> Self {
        let mut parties = [one, other];
        parties.sort();
        Self { parties }
    }

    /// The exact bytes that both sign.
    pub fn document(&self) -> Vec<u8> {
        let [first, second] = &self.parties;
        format!(
            "kith-agreement/v1\nparty {} ed25519:{}\nparty {} ed25519:{}\nrooms shared\n",
            first.name, first.key, second.name, second.key
        )
        .into_bytes()
    }

    pub fn sign(&self, root: &SecretKey) -> Signature {
        root.sign(&Transcript::new(Label::Agreement).field(&self.document()))
    }

    pub fn verify(&self, key: &PublicKey, signature: &Signature) -> Result<(), BadSignature> {
        verify(key, &Transcript::new(Label::Agreement).field(&self.document()), signature)
    }
}

/// The root's word for a link key, shown in the first frame of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkCertificate {
    pub not_after: UnixSeconds,
    pub signature: Signature,
}

fn link_statement(coop: &Coop, link_key: &PublicKey, not_after: UnixSeconds) -> Transcript {
    Transcript::new(Label::LinkKey).field(coop.name.as_str().as_bytes()).field(&link_key.0).number(not_after.0)
}

impl LinkCertificate {
    pub fn issue(root: &SecretKey, coop: &Coop, link_key: &PublicKey, not_after: UnixSeconds) -> Self {
        Self { not_after, signature: root.sign(&link_statement(coop, link_key, not_after)) }
    }

    /// `link_key` is the key with which the peer authenticated in TLS.
    pub fn verify(&self, coop: &Coop, link_key: &PublicKey, now: UnixSeconds) -> Result<(), BadSignature> {
        if now > self.not_after {
            return Err(BadSignature);
        }
        verify(&coop.key, &link_statement(coop, link_key, self.not_after), &self.signature)
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
    fn both_sides_build_the_same_document() {
        let ((a, alder), (b, birch)) = (coop(1, "alder.test"), coop(2, "birch.test"));
        let (here, there) = (Agreement::between(alder.clone(), birch.clone()), Agreement::between(birch.clone(), alder.clone()));
        assert_eq!(here.document(), there.document());
        assert_eq!(there.verify(&alder.key, &here.sign(&a)), Ok(()));
        assert_eq!(here.verify(&alder.key, &there.sign(&b)), Err(BadSignature));
        let wrong_pin = Coop { key: PublicKey([9; 32]), ..birch };
        assert_eq!(Agreement::between(alder.clone(), wrong_pin).verify(&alder.key, &here.sign(&a)), Err(BadSignature));
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
