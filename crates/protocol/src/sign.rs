//! Domain-separated Ed25519 (RFC 8032): every statement that Kith itself signs begins with a label that no other has.
//!
//! The transcript is `label || 0x00 || (length as u32 big-endian || bytes)*`, so that no two sequences of fields share
//! an encoding, and no statement of one kind is one of another (a signature that is valid in two contexts is how one
//! protocol is played against another). Notes of the log (C2SP) bring their own first lines, and MLS its own labels.
//! Verification is strict: small-order keys and malleable signatures are refused.

use ed25519_dalek::{Signature as DalekSignature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::ids::PublicKey;

/// What a signature says. One label a statement, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// A device answers a server's challenge.
    DeviceAuth,
    /// A membership invite lets a device in.
    MembershipInvite,
    /// A co-op certifies a leaf key for a room.
    LeafCertificate,
    /// A room invite admits a leaf.
    RoomInvite,
    /// A room invite lets a co-op fetch what a joiner needs.
    FetchGroup,
    /// A member leaves a room.
    Leave,
    /// A sender commits to the content of a message.
    Franking,
    /// A co-op's root certifies its link key.
    LinkKey,
    /// A co-op agrees to an agreement.
    Agreement,
    /// A co-op says whether it keeps to an agreement.
    AgreementStanding,
    /// A co-op's root key passes to a new one.
    RootSuccession,
    /// A voter seats a hub.
    Vote,
    /// A mirror has taken a member's message that has no place yet.
    Provisional,
    /// A member cannot follow a commit.
    Complaint,
}

impl Label {
    pub const ALL: [Self; 14] = [
        Self::DeviceAuth,
        Self::MembershipInvite,
        Self::LeafCertificate,
        Self::RoomInvite,
        Self::FetchGroup,
        Self::Leave,
        Self::Franking,
        Self::LinkKey,
        Self::Agreement,
        Self::AgreementStanding,
        Self::RootSuccession,
        Self::Vote,
        Self::Provisional,
        Self::Complaint,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeviceAuth => "kith/device-auth/v1",
            Self::MembershipInvite => "kith/membership-invite/v1",
            Self::LeafCertificate => "kith/leaf-certificate/v1",
            Self::RoomInvite => "kith/room-invite/v1",
            Self::FetchGroup => "kith/fetch-group/v1",
            Self::Leave => "kith/leave/v1",
            Self::Franking => "kith/franking/v1",
            Self::LinkKey => "kith/link-key/v1",
            Self::Agreement => "kith/agreement/v1",
            Self::AgreementStanding => "kith/agreement-standing/v1",
            Self::RootSuccession => "kith/root-succession/v1",
            Self::Vote => "kith/vote/v1",
            Self::Provisional => "kith/provisional/v1",
            Self::Complaint => "kith/complaint/v1",
        }
    }
}

/// The bytes of one statement.
#[derive(Debug, Clone)]
pub struct Transcript(Vec<u8>);

impl Transcript {
    pub fn new(label: Label) -> Self {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(label.as_str().as_bytes());
        bytes.push(0);
        Self(bytes)
    }

    pub fn field(mut self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("fields are bounded far below 4 GiB");
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn number(self, value: u64) -> Self {
        self.field(&value.to_be_bytes())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({}…)", crate::ids::to_hex(&self.0[..4]))
    }
}

impl Signature {
    pub fn from_slice(bytes: &[u8]) -> Result<Self, BadSignature> {
        bytes.try_into().map(Self).map_err(|_| BadSignature)
    }
}

/// The signature does not verify under that key, or one of the two is no encoding of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// A private key, from its 32-byte seed only: a public key is never taken from outside beside it
/// (the double-key oracle of RUSTSEC-2022-0093). Computed once, since signing needs it each time. Boxed, so that moving it leaves
/// no copy behind. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(Box<SigningKey>);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl SecretKey {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(Box::new(SigningKey::from_bytes(&seed)))
    }

    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self, transcript: &Transcript) -> Signature {
        self.sign_note(transcript.as_bytes())
    }

    /// For formats that bring their own separation (C2SP notes). Never for bytes that a peer supplied.
    pub(crate) fn sign_note(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// For MLS, whose labels (RFC 9420 section 5.1.2) separate it from every statement above.
    pub fn sign_mls(&self, message: &[u8]) -> Signature {
        self.sign_note(message)
    }
}

/// Strict verification of a statement.
pub fn verify(key: &PublicKey, transcript: &Transcript, signature: &Signature) -> Result<(), BadSignature> {
    verify_note(key, transcript.as_bytes(), signature)
}

pub(crate) fn verify_note(key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    VerifyingKey::from_bytes(&key.0)
        .and_then(|key| key.verify_strict(message, &DalekSignature::from_bytes(&signature.0)))
        .map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_03_a_signature_holds_in_one_context_only() {
        let key = SecretKey::from_seed([7; 32]);
        for signed in Label::ALL {
            let signature = key.sign(&Transcript::new(signed).field(b"same").number(1));
            for read in Label::ALL {
                let ok = verify(&key.public(), &Transcript::new(read).field(b"same").number(1), &signature).is_ok();
                assert_eq!(ok, signed == read, "{signed:?} read as {read:?}");
            }
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        let split = Transcript::new(Label::Leave).field(b"ab").field(b"c");
        let other = Transcript::new(Label::Leave).field(b"a").field(b"bc");
        assert_ne!(split.as_bytes(), other.as_bytes());
    }

    #[test]
    fn fault_29_small_order_keys_are_refused() {
        // The identity point signs everything under lax verification: R = identity, s = 0.
        let mut identity = [0u8; 32];
        identity[0] = 1;
        let mut forged = [0u8; 64];
        forged[0] = 1;
        let statement = Transcript::new(Label::DeviceAuth).field(b"any");
        assert_eq!(verify(&PublicKey(identity), &statement, &Signature(forged)), Err(BadSignature));
    }

    /// A comparison that ends at the first difference tells how far a guess was right. If a key had one, the call would
    /// be ambiguous, and this would not compile.
    #[test]
    fn fault_18_a_secret_key_has_no_equality() {
        trait Neither<Marker> {
            fn holds() {}
        }
        struct HasEquality;
        impl<T: ?Sized> Neither<()> for T {}
        impl<T: ?Sized + PartialEq> Neither<HasEquality> for T {}
        <SecretKey as Neither<_>>::holds();
        <crate::invite_link::MembershipLink as Neither<_>>::holds();
        <crate::invite_link::RoomLink as Neither<_>>::holds();
    }

    #[test]
    fn rfc_8032_test_1() {
        let seed = crate::ids::from_hex::<32>("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SecretKey::from_seed(seed);
        assert_eq!(key.public().to_string(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(
            crate::ids::to_hex(&key.sign_note(b"").0),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        );
    }
}
