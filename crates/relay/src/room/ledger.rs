//! Who says what of a room's log: recent checkpoints, and the marks that co-ops put on them.

use std::collections::{BTreeMap, VecDeque};

use kith_protocol::ids::{CoopName, PublicKey};
use kith_protocol::limits::{CHECKPOINTS_MAX, MARKS_MAX};
use kith_protocol::log::checkpoint::{Attestation, CheckpointError, Mark};

#[derive(Debug, Default)]
pub struct Ledger {
    /// By size, newest last.
    recent: VecDeque<Attestation>,
    /// How far each co-op is known to hold the log.
    held: BTreeMap<CoopName, u64>,
}

impl Ledger {
    /// From what was stored: the newest checkpoint, and the newest one with marks.
    pub fn restore(checkpoint: Option<Attestation>, marked: Option<Attestation>) -> Self {
        let mut ledger = Self::default();
        for attestation in marked.into_iter().chain(checkpoint) {
            if ledger.latest().is_none_or(|latest| latest.checkpoint.size < attestation.checkpoint.size) {
                ledger.push(attestation);
            }
        }
        ledger
    }

    pub fn push(&mut self, attestation: Attestation) {
        // While a mirror catches up, one checkpoint of the hub comes with many batches.
        if self.latest().is_some_and(|latest| latest.checkpoint == attestation.checkpoint) {
            return;
        }
        for mark in attestation.marks.iter().filter(|mark| mark.held.is_some()) {
            note_held(&mut self.held, &mark.coop, attestation.checkpoint.size);
        }
        self.recent.push_back(attestation);
        if self.recent.len() > CHECKPOINTS_MAX {
            self.recent.pop_front();
        }
    }

    pub fn latest(&self) -> Option<&Attestation> {
        self.recent.back()
    }

    /// The checkpoint of exactly that size.
    pub fn at(&self, size: u64) -> Option<&Attestation> {
        self.recent.iter().rev().find(|recent| recent.checkpoint.size == size)
    }

    /// Takes a mark if it verifies. `None`: no checkpoint of that size is at hand.
    pub fn mark(&mut self, size: u64, mark: Mark, key: &PublicKey) -> Result<Option<&Attestation>, CheckpointError> {
        let Some(attestation) = self.recent.iter_mut().rev().find(|recent| recent.checkpoint.size == size) else {
            return Ok(None);
        };
        if let Some((at, signature)) = &mark.cosignature {
            attestation.checkpoint.verify_cosignature(key, *at, signature)?;
        }
        if let Some(signature) = &mark.held {
            attestation.checkpoint.verify_held(key, signature)?;
            note_held(&mut self.held, &mark.coop, size);
        }
        put(&mut attestation.marks, mark);
        Ok(Some(attestation))
    }

    /// This co-op's own mark, which it has just signed.
    pub fn mark_own(&mut self, size: u64, mark: Mark) {
        if let Some(attestation) = self.recent.iter_mut().rev().find(|recent| recent.checkpoint.size == size) {
            note_held(&mut self.held, &mark.coop, size);
            put(&mut attestation.marks, mark);
        }
    }

    /// The newest checkpoint of at least `size`, and of no more than is `durable`, that at least `held` co-ops hold.
    pub fn find(&self, size: u64, durable: u64, held: usize) -> Option<&Attestation> {
        let fits = |recent: &&Attestation| (size..=durable).contains(&recent.checkpoint.size) && recent.holders().count() >= held;
        self.recent.iter().rev().find(fits)
    }

    /// The newest checkpoint with as many marks as any recent one: what a reader learns most from.
    pub fn best(&self) -> Option<&Attestation> {
        let most = self.recent.iter().map(|recent| recent.marks.len()).max()?;
        self.recent.iter().rev().find(|recent| recent.marks.len() == most)
    }

    /// The newest checkpoint of which something holds.
    pub fn newest(&self, holds: impl Fn(&Attestation) -> bool) -> Option<&Attestation> {
        self.recent.iter().rev().find(|recent| holds(recent))
    }

    /// The log was cut: nothing beyond it counts any longer.
    pub fn cut(&mut self, attestation: Attestation) {
        let size = attestation.checkpoint.size;
        self.recent.retain(|recent| recent.checkpoint.size < size);
        self.held.values_mut().for_each(|held| *held = size.min(*held));
        self.push(attestation);
    }

    pub fn held(&self) -> impl Iterator<Item = (&CoopName, u64)> {
        self.held.iter().map(|(name, size)| (name, *size))
    }
}

/// One mark for each co-op. What does not fit into an attestation stays out of it; how far its co-op holds the log is
/// noted all the same.
fn put(marks: &mut Vec<Mark>, mark: Mark) {
    marks.retain(|known| known.coop != mark.coop);
    if marks.len() < MARKS_MAX {
        marks.push(mark);
    }
}

fn note_held(held: &mut BTreeMap<CoopName, u64>, coop: &CoopName, size: u64) {
    let known = held.entry(coop.clone()).or_default();
    *known = (*known).max(size);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_protocol::ids::{Hash, RoomId, Term};
    use kith_protocol::log::checkpoint::Checkpoint;
    use kith_protocol::sign::SecretKey;

    fn attestation(size: u64) -> Attestation {
        let checkpoint = Checkpoint { room: RoomId([1; 32]), term: Term(1), size, root: Hash([size as u8; 32]) };
        let hub = SecretKey::from_seed([1; 32]);
        Attestation { checkpoint, hub: "alder.test".parse().unwrap(), signature: checkpoint.sign(&hub), marks: vec![] }
    }

    #[test]
    fn only_marks_that_verify_count() {
        let (mirror, other) = (SecretKey::from_seed([2; 32]), SecretKey::from_seed([3; 32]));
        let birch: CoopName = "birch.test".parse().unwrap();
        let mut ledger = Ledger::default();
        (1..=3).for_each(|size| ledger.push(attestation(size)));
        let held = |size: u64| Mark { coop: birch.clone(), cosignature: None, held: Some(attestation(size).checkpoint.sign_held(&mirror)) };
        assert!(ledger.mark(2, held(2), &other.public()).is_err());
        assert!(ledger.mark(2, held(3), &mirror.public()).is_err(), "a signature over another size");
        assert!(ledger.find(2, 9, 1).is_none());
        assert!(ledger.mark(2, held(2), &mirror.public()).unwrap().is_some());
        assert_eq!(ledger.find(1, 9, 1).unwrap().checkpoint.size, 2);
        assert!(ledger.find(1, 1, 1).is_none(), "what is not durable is not told");
        assert_eq!(ledger.best().unwrap().checkpoint.size, 2);
        assert_eq!(ledger.held().collect::<Vec<_>>(), [(&birch, 2)]);
        assert!(ledger.mark(9, held(9), &mirror.public()).unwrap().is_none());
    }

    #[test]
    fn the_marks_of_a_checkpoint_are_bounded() {
        let mut ledger = Ledger::default();
        ledger.push(attestation(1));
        let mark = |i: usize| Mark { coop: format!("c{i}.test").parse().unwrap(), cosignature: None, held: None };
        (0..MARKS_MAX + 1).for_each(|i| ledger.mark_own(1, mark(i)));
        for again in [0, MARKS_MAX + 1] {
            assert!(ledger.mark(1, mark(again), &SecretKey::from_seed([2; 32]).public()).unwrap().is_some());
        }
        let marks = &ledger.latest().unwrap().marks;
        assert_eq!(marks.len(), MARKS_MAX);
        assert!(marks.contains(&mark(0)) && !marks.contains(&mark(MARKS_MAX)));
        assert_eq!(ledger.held().count(), MARKS_MAX + 1);
    }

    #[test]
    fn the_ledger_is_bounded() {
        let mut ledger = Ledger::default();
        (1..=200).for_each(|size| ledger.push(attestation(size)));
        assert_eq!(ledger.recent.len(), CHECKPOINTS_MAX);
        assert_eq!(ledger.latest().unwrap().checkpoint.size, 200);
    }
}
