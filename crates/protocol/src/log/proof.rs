//! Proofs that a co-op's root key broke its word: portable, self-contained, and checked offline by anybody.
//!
//! A proof convicts the key that stands in it. That this key is the co-op's is known to whoever pinned it, has it in a
//! room's records, or asks the co-op's neighbours; the proof itself does not say so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::Checkpoint;
use super::merkle::verify_consistency;
use super::succession::Vote;
use crate::codec;
use crate::ids::{Coop, Hash, RoomId, Term};
use crate::limits::PROOF_BYTES_MAX;
use crate::sign::Signature;

/// First line of a proof's file.
const FILE_HEAD: &str = "kith-proof/v1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    Fork(Box<Fork>),
    DoubleVote(Box<DoubleVote>),
}

/// A checkpoint's numbers with the hub's signature. Room and term stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedRoot {
    pub size: u64,
    pub root: Hash,
    pub signature: Signature,
}

/// One hub signed two histories in one term: the log behind the longer checkpoint has, at the shorter one's size, another
/// root than the shorter one says. An RFC 9162 consistency proof ties that root to the longer checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub room: RoomId,
    pub term: Term,
    pub hub: Coop,
    pub shorter: SignedRoot,
    pub longer: SignedRoot,
    /// Of the longer one's log at the shorter one's size.
    pub prefix_root: Hash,
    pub consistency: Vec<Hash>,
}

/// One voter voted for two hubs in one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleVote {
    pub voter: Coop,
    pub first: Vote,
    pub second: Vote,
}

/// It proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("this is no proof of Kith's: its first line must be kith-proof/v1, and one line of base64 follows")]
    File,
    #[error("a signature in it does not verify under the key in it")]
    Signature,
    #[error("both sides of it agree: nobody broke their word")]
    Agree,
    #[error("the two checkpoints are not tied to one log")]
    Consistency,
}

impl Fork {
    fn checkpoint(&self, of: &SignedRoot) -> Checkpoint {
        Checkpoint { room: self.room, term: self.term, size: of.size, root: of.root }
    }

    pub fn verify(&self) -> Result<(), ProofError> {
        for signed in [&self.shorter, &self.longer] {
            self.checkpoint(signed).verify(&self.hub.key, &signed.signature).map_err(|_| ProofError::Signature)?;
        }
        if self.prefix_root == self.shorter.root {
            return Err(ProofError::Agree);
        }
        verify_consistency(self.shorter.size, self.longer.size, &self.prefix_root, &self.longer.root, &self.consistency)
            .map_err(|_| ProofError::Consistency)
    }
}

impl DoubleVote {
    pub fn verify(&self) -> Result<(), ProofError> {
        if [&self.first, &self.second].iter().any(|vote| vote.voter != self.voter.name || !vote.is_signed_by(&self.voter.key)) {
            return Err(ProofError::Signature);
        }
        if self.first.contradicts(&self.second) { Ok(()) } else { Err(ProofError::Agree) }
    }
}

impl Proof {
    /// Whether it convicts [`Proof::convicted`], by what stands in it alone.
    pub fn verify(&self) -> Result<(), ProofError> {
        match self {
            Self::Fork(fork) => fork.verify(),
            Self::DoubleVote(votes) => votes.verify(),
        }
    }

    pub fn room(&self) -> &RoomId {
        match self {
            Self::Fork(fork) => &fork.room,
            Self::DoubleVote(votes) => &votes.first.room,
        }
    }

    /// The term in which it happened.
    pub fn term(&self) -> Term {
        match self {
            Self::Fork(fork) => fork.term,
            Self::DoubleVote(votes) => votes.first.term,
        }
    }

    /// Whose key signed both.
    pub fn convicted(&self) -> &Coop {
        match self {
            Self::Fork(fork) => &fork.hub,
            Self::DoubleVote(votes) => &votes.voter,
        }
    }

    /// In plain words, what it shows.
    pub fn words(&self) -> String {
        let who = &self.convicted().name;
        match self {
            Self::Fork(fork) => format!(
                "{who} signed two different histories of one room: what it showed some as the first {} entries is not what it showed others",
                fork.shorter.size
            ),
            Self::DoubleVote(votes) => {
                format!("{who} voted for two hubs at once: for {} and for {}", votes.first.candidate.name, votes.second.candidate.name)
            }
        }
    }

    /// As it is handed around.
    pub fn to_file(&self) -> String {
        format!("{FILE_HEAD}\n{}\n", STANDARD.encode(codec::encode_proof(self)))
    }

    /// Reads what [`Proof::to_file`] wrote. Whether it proves anything is for [`Proof::verify`].
    pub fn from_file(text: &str) -> Result<Self, ProofError> {
        let body = text.trim().strip_prefix(FILE_HEAD).ok_or(ProofError::File)?.trim();
        if body.len() > PROOF_BYTES_MAX * 4 / 3 + 4 {
            return Err(ProofError::File);
        }
        let bytes = STANDARD.decode(body).map_err(|_| ProofError::File)?;
        codec::decode_proof(&bytes).map_err(|_| ProofError::File)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::checkpoint::Attestation;
    use crate::log::merkle::{Frontier, NodeId, consistency_proof, leaf_hash};
    use crate::sign::SecretKey;

    const ROOM: RoomId = RoomId([7; 32]);

    fn key() -> SecretKey {
        SecretKey::from_seed([1; 32])
    }

    fn hub() -> Coop {
        Coop { name: "alder.test".parse().unwrap(), key: key().public() }
    }

    fn signed(size: u64, root: Hash) -> SignedRoot {
        let checkpoint = Checkpoint { room: ROOM, term: Term(3), size, root };
        SignedRoot { size, root, signature: checkpoint.sign(&key()) }
    }

    #[derive(Default)]
    struct Tree {
        frontier: Frontier,
        leaves: Vec<Hash>,
        rows: Vec<Vec<Hash>>,
    }

    impl Tree {
        fn push(&mut self, leaf: Hash) {
            self.leaves.push(leaf);
            self.rows.push(self.frontier.push(leaf));
        }

        fn root(&self) -> Hash {
            self.frontier.root()
        }

        fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
            let node = |id: NodeId| {
                let (leaf, place) = id.stored_at();
                match place {
                    None => self.leaves.get(leaf as usize).copied(),
                    Some(place) => self.rows.get(leaf as usize)?.get(place).copied(),
                }
            };
            consistency_proof(&node, old, new).unwrap()
        }
    }

    /// Logs that are alike up to entry 4, and differ from there.
    fn tree(size: u64, version: u8) -> Tree {
        let mut tree = Tree::default();
        (0..size).for_each(|seq| tree.push(leaf_hash(&[seq as u8, if seq < 4 { 0 } else { version }])));
        tree
    }

    fn fork(shorter: u64, longer: u64) -> Fork {
        let (one, other) = (tree(shorter, 1), tree(longer, 2));
        Fork {
            room: ROOM,
            term: Term(3),
            hub: hub(),
            shorter: signed(shorter, one.root()),
            longer: signed(longer, other.root()),
            prefix_root: tree(shorter, 2).root(),
            consistency: other.consistency(shorter, longer),
        }
    }

    #[test]
    fn fault_34_two_histories_of_one_term_convict_their_hub() {
        for (shorter, longer) in [(5, 5), (5, 6), (6, 13), (8, 16), (7, 100)] {
            assert_eq!(fork(shorter, longer).verify(), Ok(()), "{shorter} {longer}");
        }
        // What they have in common convicts nobody.
        for (shorter, longer) in [(1, 5), (4, 9), (3, 3)] {
            assert_eq!(fork(shorter, longer).verify(), Err(ProofError::Agree), "{shorter} {longer}");
        }
    }

    #[test]
    fn no_part_of_a_proof_can_be_swapped() {
        let good = fork(6, 13);
        let other = SecretKey::from_seed([2; 32]);
        type Change = Box<dyn Fn(&mut Fork)>;
        let cases: Vec<(&str, Change, ProofError)> = vec![
            ("another room", Box::new(|f| f.room = RoomId([8; 32])), ProofError::Signature),
            ("another term", Box::new(|f| f.term = Term(4)), ProofError::Signature),
            ("another key", Box::new(move |f| f.hub.key = other.public()), ProofError::Signature),
            ("another size", Box::new(|f| f.shorter.size = 7), ProofError::Signature),
            ("another root", Box::new(|f| f.longer.root.0[0] ^= 1), ProofError::Signature),
            ("an invented prefix", Box::new(|f| f.prefix_root = Hash([9; 32])), ProofError::Consistency),
            ("a shortened proof", Box::new(|f| f.consistency.truncate(1)), ProofError::Consistency),
            ("a changed proof", Box::new(|f| f.consistency[0].0[0] ^= 1), ProofError::Consistency),
            ("swapped sides", Box::new(|f| std::mem::swap(&mut f.shorter, &mut f.longer)), ProofError::Consistency),
        ];
        for (what, change, error) in cases {
            let mut changed = good.clone();
            change(&mut changed);
            assert_eq!(changed.verify(), Err(error), "{what}");
        }
    }

    fn vote(candidate: &str, term: u32) -> Vote {
        let checkpoint = Checkpoint { room: ROOM, term: Term(1), size: 4, root: Hash([4; 32]) };
        let last = Attestation { checkpoint, hub: hub().name, signature: checkpoint.sign(&key()), marks: vec![] };
        let candidate = Coop { name: candidate.parse().unwrap(), key: SecretKey::from_seed([5; 32]).public() };
        Vote::sign(&key(), hub().name, Term(term), candidate, last)
    }

    #[test]
    fn two_votes_in_one_term_convict_their_voter() {
        let verdict = |first, second| DoubleVote { voter: hub(), first, second }.verify();
        assert_eq!(verdict(vote("birch.test", 2), vote("cedar.test", 2)), Ok(()));
        assert_eq!(verdict(vote("birch.test", 2), vote("birch.test", 2)), Err(ProofError::Agree));
        assert_eq!(verdict(vote("birch.test", 2), vote("cedar.test", 3)), Err(ProofError::Agree));
        let mut forged = vote("cedar.test", 2);
        forged.candidate.name = "damson.test".parse().unwrap();
        assert_eq!(verdict(vote("birch.test", 2), forged), Err(ProofError::Signature));
    }

    #[test]
    fn a_file_comes_back_and_what_is_none_is_refused() {
        let proof = Proof::Fork(Box::new(fork(6, 13)));
        let file = proof.to_file();
        assert_eq!(Proof::from_file(&file), Ok(proof.clone()));
        assert_eq!(Proof::from_file(&format!("\n{}\r\n", file.trim())), Ok(proof), "as mail programs leave it");
        let long = format!("{FILE_HEAD}\n{}\n", "A".repeat(2 * PROOF_BYTES_MAX));
        for text in ["", "kith-proof/v1", "kith-proof/v2\nAAAA", "kith-proof/v1\n!!", "kith-proof/v1\nAAAA", &file[..file.len() / 2], &long]
        {
            assert_eq!(Proof::from_file(text), Err(ProofError::File), "{text:.40}");
        }
    }
}
