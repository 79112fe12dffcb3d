//! Checkpoints (C2SP tlog-checkpoint), cosignatures (C2SP tlog-cosignature) and `kith-held/v1`.
//!
//! The origin is `kith/<room id>/<term>`. A checkpoint's text is origin, size and base64 root, a line each. A mirror
//! cosigns what it verified as an extension; with `held` a co-op also says that it has fsynced every unerased body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{Line, Note, NoteError, SignatureType, sign_text};
use crate::ids::{Coop, CoopName, Hash, PublicKey, RoomId, Term, UnixSeconds};
use crate::sign::{BadSignature, SecretKey, Signature, verify_note};

/// What is signed: a log's origin, size and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    pub room: RoomId,
    pub term: Term,
    pub size: u64,
    pub root: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("not the text of a checkpoint of this log")]
    Text,
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("the signature of {0} does not verify")]
    Signature(Signer),
}

/// Whose signature failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    Hub,
    Cosigner,
    Holder,
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hub => "the hub",
            Self::Cosigner => "a cosigner",
            Self::Holder => "a holder",
        })
    }
}

impl Checkpoint {
    pub fn origin(&self) -> String {
        format!("kith/{}/{}", self.room, self.term)
    }

    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin(), self.size, STANDARD.encode(self.root.0))
    }

    /// Strict: only the text that [`Checkpoint::text`] gives is taken.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let parse = || {
            let mut lines = text.split('\n');
            let (_, rest) = lines.next()?.split_once('/')?;
            let (room, term) = rest.split_once('/')?;
            let size = lines.next()?.parse().ok()?;
            let root = Hash::from_slice(&STANDARD.decode(lines.next()?).ok()?).ok()?;
            Some(Self { room: room.parse().ok()?, term: Term(term.parse().ok()?), size, root })
        };
        parse().filter(|checkpoint| checkpoint.text() == text).ok_or(CheckpointError::Text)
    }

    /// The hub's signature.
    pub fn sign(&self, key: &SecretKey) -> Signature {
        sign_text(key, &self.text())
    }

    pub fn verify(&self, key: &PublicKey, signature: &Signature) -> Result<(), CheckpointError> {
        verify_note(key, self.text().as_bytes(), signature).map_err(|BadSignature| CheckpointError::Signature(Signer::Hub))
    }

    fn cosignature_text(&self, at: UnixSeconds) -> String {
        format!("cosignature/v1\ntime {}\n{}", at, self.text())
    }

    /// A cosigner's signature at a time.
    pub fn cosign(&self, key: &SecretKey, at: UnixSeconds) -> Signature {
        sign_text(key, &self.cosignature_text(at))
    }

    pub fn verify_cosignature(&self, key: &PublicKey, at: UnixSeconds, signature: &Signature) -> Result<(), CheckpointError> {
        verify_note(key, self.cosignature_text(at).as_bytes(), signature)
            .map_err(|BadSignature| CheckpointError::Signature(Signer::Cosigner))
    }

    fn held_text(&self) -> String {
        format!("kith-held/v1\n{}", self.text())
    }

    /// The signer has fsynced every unerased body of the log at this size and root.
    pub fn sign_held(&self, key: &SecretKey) -> Signature {
        sign_text(key, &self.held_text())
    }

    pub fn verify_held(&self, key: &PublicKey, signature: &Signature) -> Result<(), CheckpointError> {
        verify_note(key, self.held_text().as_bytes(), signature).map_err(|BadSignature| CheckpointError::Signature(Signer::Holder))
    }

    /// The signed note that any C2SP tool reads.
    pub fn note(&self, hub: &Coop, signature: &Signature) -> Note {
        Note { text: self.text(), lines: vec![Line::new(&hub.name, SignatureType::Ed25519, &hub.key, signature.0.to_vec())] }
    }
}

/// What one co-op says of a checkpoint beside the hub's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub coop: CoopName,
    pub cosignature: Option<(UnixSeconds, Signature)>,
    pub held: Option<Signature>,
}

/// A checkpoint, the hub's signature, and the marks over the same size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    pub checkpoint: Checkpoint,
    pub hub: CoopName,
    pub signature: Signature,
    pub marks: Vec<Mark>,
}

impl Attestation {
    /// Verifies every signature in it against the keys that `key_of` knows. One that fails, or whose co-op is unknown,
    /// fails the whole: a damaged or forged mark is never passed over in silence.
    pub fn verify(&self, key_of: impl Fn(&CoopName) -> Option<PublicKey>) -> Result<(), CheckpointError> {
        let hub = key_of(&self.hub).ok_or(CheckpointError::Signature(Signer::Hub))?;
        self.checkpoint.verify(&hub, &self.signature)?;
        for mark in &self.marks {
            if let Some((at, signature)) = &mark.cosignature {
                let key = key_of(&mark.coop).ok_or(CheckpointError::Signature(Signer::Cosigner))?;
                self.checkpoint.verify_cosignature(&key, *at, signature)?;
            }
            if let Some(signature) = &mark.held {
                let key = key_of(&mark.coop).ok_or(CheckpointError::Signature(Signer::Holder))?;
                self.checkpoint.verify_held(&key, signature)?;
            }
        }
        Ok(())
    }

    pub fn holders(&self) -> impl Iterator<Item = &CoopName> + Clone {
        self.marks.iter().filter(|mark| mark.held.is_some()).map(|mark| &mark.coop)
    }

    pub fn cosigners(&self) -> impl Iterator<Item = &CoopName> + Clone {
        self.marks.iter().filter(|mark| mark.cosignature.is_some()).map(|mark| &mark.coop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint { room: RoomId([0xab; 32]), term: Term(1), size: 42, root: Hash([7; 32]) }
    }

    #[test]
    fn golden_text() {
        assert_eq!(checkpoint().text(), format!("kith/{}/1\n42\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n", "ab".repeat(32)));
        assert_eq!(Checkpoint::parse(&checkpoint().text()), Ok(checkpoint()));
    }

    #[test]
    fn only_the_canonical_text_is_taken() {
        let text = checkpoint().text();
        for bad in [
            text.replace("\n42\n", "\n042\n"),
            text.replace("\n42\n", "\n+42\n"),
            text.replace("/1\n", "/01\n"),
            text.replace("kith/", "kit/"),
            text.replace("abab", "ABAB"),
            text.replace("BwcHBwc=", "BwcHBwd="),
            format!("{text}\n"),
            text.trim_end().to_owned(),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(CheckpointError::Text), "{bad:?}");
        }
    }

    #[test]
    fn the_three_signatures_do_not_pass_for_each_other() {
        let key = SecretKey::from_seed([1; 32]);
        let (public, at, checkpoint) = (key.public(), UnixSeconds(9), checkpoint());
        for (i, signature) in [checkpoint.sign(&key), checkpoint.cosign(&key, at), checkpoint.sign_held(&key)].into_iter().enumerate() {
            assert_eq!(checkpoint.verify(&public, &signature).is_ok(), i == 0);
            assert_eq!(checkpoint.verify_cosignature(&public, at, &signature).is_ok(), i == 1);
            assert_eq!(checkpoint.verify_held(&public, &signature).is_ok(), i == 2);
            assert!(checkpoint.verify_cosignature(&public, UnixSeconds(8), &signature).is_err());
        }
    }

    #[test]
    fn a_forged_or_unknown_mark_fails_the_attestation() {
        let (hub, mirror) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let (alder, birch): (CoopName, CoopName) = ("alder.test".parse().unwrap(), "birch.test".parse().unwrap());
        let checkpoint = checkpoint();
        let good = Attestation {
            checkpoint,
            hub: alder.clone(),
            signature: checkpoint.sign(&hub),
            marks: vec![Mark {
                coop: birch.clone(),
                cosignature: Some((UnixSeconds(5), checkpoint.cosign(&mirror, UnixSeconds(5)))),
                held: Some(checkpoint.sign_held(&mirror)),
            }],
        };
        let keys = |name: &CoopName| {
            if *name == alder { Some(hub.public()) } else { (*name == birch).then(|| mirror.public()) }
        };
        assert_eq!(good.verify(keys), Ok(()));
        let mut forged = good.clone();
        forged.marks[0].cosignature = Some((UnixSeconds(5), checkpoint.cosign(&hub, UnixSeconds(5))));
        assert_eq!(forged.verify(keys), Err(CheckpointError::Signature(Signer::Cosigner)));
        let mut unknown = good.clone();
        unknown.marks[0].coop = "cedar.test".parse().unwrap();
        assert_eq!(unknown.verify(keys), Err(CheckpointError::Signature(Signer::Cosigner)));
        let mut other_root = good;
        other_root.checkpoint.root = Hash([8; 32]);
        assert_eq!(other_root.verify(keys), Err(CheckpointError::Signature(Signer::Hub)));
    }

    /// A signed note and a cosignature line as any C2SP tool writes them.
    #[test]
    fn the_note_names_its_keys_as_c2sp_does() {
        let key = SecretKey::from_seed([1; 32]);
        let hub = Coop { name: "alder.test".parse().unwrap(), key: key.public() };
        let note = checkpoint().note(&hub, &checkpoint().sign(&key));
        let parsed = Note::parse(&note.render()).unwrap();
        assert_eq!(parsed.verify("alder.test", &hub.key), Ok(()));
        assert_eq!(Checkpoint::parse(&parsed.text), Ok(checkpoint()));
    }

    /// Made by another implementation (Python's `cryptography`, over texts that were put together there from the C2SP
    /// documents): the three texts, their signatures, and the lines of a note with the key ids in front.
    #[test]
    fn another_implementation_signs_the_same() {
        let (hub, witness) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let root: Hash = "5a09c9bca17cc3a1a1c72fd3605355366694bf8a807be49ef61fcad94ded619a".parse().unwrap();
        let checkpoint = Checkpoint { room: RoomId([1; 32]), term: Term(3), size: 1234, root };
        let at = UnixSeconds(1_700_000_000);
        let signatures = [checkpoint.sign(&hub), checkpoint.cosign(&witness, at), checkpoint.sign_held(&witness)];
        for (signature, known) in signatures.iter().zip([
            "cb6c9a1ee53908c6661e221ca6560b9752db5c57c12ba8ca1797dc37e0c43a7df8cf213463105e61838d0322837d56440a80ffa08ee56ad3b61c8136b1b05809",
            "2cd3ca24ead2a74c588aee6ff328f196db4a5ffb2bb41e89b7dc4a6e06f07c53210593a74cee9e94c39e0a81da7b35f2ed8e4e93c6ac86aaf83bdff96c42140f",
            "33b61e0cfdc5e5da70eaf419bfe38c0b298eab562026f91b113ec692a82c7fa34b2b9ac4245b33d348873770f0fd1f3baa740d2a0d2e1f728a9654eac551de09",
        ]) {
            assert_eq!(crate::ids::to_hex(&signature.0), known);
        }
        let (alder, birch): (CoopName, CoopName) = ("alder.test".parse().unwrap(), "birch.test".parse().unwrap());
        let cosigned = [at.0.to_be_bytes().as_slice(), &signatures[1].0].concat();
        let note = Note {
            text: checkpoint.text(),
            lines: vec![
                Line::new(&alder, SignatureType::Ed25519, &hub.public(), signatures[0].0.to_vec()),
                Line::new(&birch, SignatureType::Cosignature, &witness.public(), cosigned),
            ],
        };
        let lines = [
            "\u{2014} alder.test dkw+lctsmh7lOQjGZh4iHKZWC5dS21xXwSuoyheX3DfgxDp9+M8hNGMQXmGDjQMig31WRAqA/6CO5WrTthyBNrGwWAk=\n",
            "\u{2014} birch.test QQ5UZAAAAABlU/EALNPKJOrSp0xYiu5v8yjxlttKX/srtB6Jt9xKbgbwfFMhBZOnTO6elMOeCoHaezXy7Y5Ok8ashqr4O9/5bEIUDw==\n",
        ];
        assert_eq!(note.render(), format!("{}\n{}{}", checkpoint.text(), lines[0], lines[1]));
        let ids = [SignatureType::Ed25519, SignatureType::Cosignature, SignatureType::Held];
        let ids = ids.map(|kind| crate::ids::to_hex(&kind.key_id("alder.test", &PublicKey([7; 32]))));
        assert_eq!(ids, ["62f16525", "d8e6b69a", "9b935710"]);
    }
}
