//! What becomes of a room in which somebody broke their word: nothing more is taken from that hub in that term.

use kith_protocol::ids::{Coop, CoopName, Hash};
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::proof::{Fork, Proof, SignedRoot};

use super::machine::Room;

impl Room {
    /// Frozen for as long as the term lasts in which it happened.
    pub fn is_frozen(&self) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.term() == self.term())
    }

    /// Whoever broke its word here orders this room no more.
    pub fn has_convicted(&self, coop: &Coop) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.convicted() == coop)
    }

    /// The newest proof, of this term or of one that has ended.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }

    /// Takes a proof if it holds and says something of the room as it is now. `false`: it does not, or nothing changes.
    pub fn freeze(&mut self, proof: Proof) -> bool {
        let is_of_now = *proof.room() == self.id && proof.term() == self.term() && !self.is_frozen();
        let Some(log) = self.log().filter(|_| is_of_now) else { return false };
        let convicts = match &proof {
            Proof::Fork(fork) => fork.hub == self.hub,
            Proof::DoubleVote(votes) => {
                log.electorate().counts(&votes.voter.name) && log.coop_key(&votes.voter.name) == Some(votes.voter.key)
            }
        };
        if !convicts || proof.verify().is_err() {
            return false;
        }
        self.proof = Some(proof);
        true
    }

    /// The hub's newest word over what is durable here, without marks.
    pub fn last_word(&self) -> Option<Attestation> {
        let fits = |known: &Attestation| known.checkpoint.size <= self.durable && known.checkpoint.term == self.term();
        self.ledger.newest(fits).map(|known| Attestation { marks: Vec::new(), ..known.clone() })
    }

    /// The hub's newest word, with that co-op's own: who was put back from a backup learns so what it has said.
    pub fn word_for(&self, peer: &CoopName) -> Option<Attestation> {
        let word = self.last_word()?;
        let theirs = self.ledger.at(word.checkpoint.size).map(|known| known.marks.iter().filter(|mark| mark.coop == *peer));
        Some(Attestation { marks: theirs.into_iter().flatten().cloned().collect(), ..word })
    }

    /// The hub's word over at least that much.
    pub fn word_from(&self, size: u64) -> Option<&Attestation> {
        let sizes = size..=self.durable;
        self.ledger.newest(|known| sizes.contains(&known.checkpoint.size) && known.checkpoint.term == self.term())
    }

    /// Two of the hub's checkpoints, and what ties the longer one to another root at the shorter one's size.
    pub fn fork(&self, shorter: &Attestation, longer: &Attestation, prefix_root: Hash, consistency: Vec<Hash>) -> Proof {
        let signed = |of: &Attestation| SignedRoot { size: of.checkpoint.size, root: of.checkpoint.root, signature: of.signature };
        Proof::Fork(Box::new(Fork {
            room: self.id,
            term: self.term(),
            hub: self.hub.clone(),
            shorter: signed(shorter),
            longer: signed(longer),
            prefix_root,
            consistency,
        }))
    }
}
