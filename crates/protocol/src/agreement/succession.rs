//! A co-op's root key passes to a new one: a statement that both keys sign.
//!
//! The old key's signature lets a neighbour that pinned it follow, while the overlap lasts. The new key's signature lets
//! whoever pinned that one believe which key came before, which is the one that rooms know.

use crate::ids::{CoopName, PublicKey, UnixSeconds};
use crate::limits::{ROOT_OVERLAP_S_MAX, ROOT_SUCCESSIONS_MAX};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootSuccession {
    pub from: PublicKey,
    pub to: PublicKey,
    pub not_before: UnixSeconds,
    /// Until then whoever pinned the old key takes the new one for it.
    pub not_after: UnixSeconds,
    pub old_signature: Signature,
    pub new_signature: Signature,
}

fn statement(name: &CoopName, from: &PublicKey, to: &PublicKey, not_before: UnixSeconds, not_after: UnixSeconds) -> Transcript {
    let fields = Transcript::new(Label::RootSuccession).field(name.as_str().as_bytes()).field(&from.0).field(&to.0);
    fields.number(not_before.0).number(not_after.0)
}

/// Why a pinned key does not lead to the one that a neighbour shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    #[error("no succession leads from the pinned key to the one that is shown")]
    Unrelated,
    #[error("the overlap in which the pinned key leads to the new one is over, or has not begun")]
    OutOfTime,
}

/// Where a pin has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// The pinned key is the one that is shown.
    Same,
    /// The pinned key's successor is.
    Newer,
}

impl RootSuccession {
    pub fn sign(name: &CoopName, old: &SecretKey, new: &SecretKey, not_before: UnixSeconds, not_after: UnixSeconds) -> Self {
        let (from, to) = (old.public(), new.public());
        let statement = statement(name, &from, &to, not_before, not_after);
        Self { from, to, not_before, not_after, old_signature: old.sign(&statement), new_signature: new.sign(&statement) }
    }

    fn statement(&self, name: &CoopName) -> Transcript {
        statement(name, &self.from, &self.to, self.not_before, self.not_after)
    }

    pub fn verify(&self, name: &CoopName) -> Result<(), BadSignature> {
        let statement = self.statement(name);
        if self.not_after.0.saturating_sub(self.not_before.0) > ROOT_OVERLAP_S_MAX {
            return Err(BadSignature);
        }
        verify(&self.from, &statement, &self.old_signature)?;
        verify(&self.to, &statement, &self.new_signature)
    }

    fn is_timely(&self, now: UnixSeconds) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Whether `pinned` leads to `shown` now. Every step must be signed by both its keys and be within its overlap.
pub fn inherit(
    name: &CoopName,
    pinned: &PublicKey,
    shown: &PublicKey,
    chain: &[RootSuccession],
    now: UnixSeconds,
) -> Result<Inherited, SuccessionError> {
    let mut key = *pinned;
    let mut timely = true;
    // Each step is used once, so a circle comes to its end.
    for step in chain.iter().take(ROOT_SUCCESSIONS_MAX) {
        if key == *shown {
            break;
        }
        if step.from == key {
            step.verify(name).map_err(|_| SuccessionError::Unrelated)?;
            timely &= step.is_timely(now);
            key = step.to;
        }
    }
    match (key == *shown, *pinned == *shown, timely) {
        (false, ..) => Err(SuccessionError::Unrelated),
        (true, true, _) => Ok(Inherited::Same),
        (true, false, true) => Ok(Inherited::Newer),
        (true, false, false) => Err(SuccessionError::OutOfTime),
    }
}

/// The first key of the chain that ends in `root`: what the co-op signs with in rooms. Time does not matter: `root` itself
/// vouches for each step. A chain that does not hold together from end to end counts as none.
pub fn rooms_key(name: &CoopName, root: &PublicKey, chain: &[RootSuccession]) -> Option<PublicKey> {
    let mut key = *root;
    for step in chain.iter().rev() {
        if step.to != key || step.verify(name).is_err() {
            return None;
        }
        key = step.from;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 24 * 3600;

    fn keys() -> [SecretKey; 4] {
        [1, 2, 3, 66].map(|seed| SecretKey::from_seed([seed; 32]))
    }

    fn alder() -> CoopName {
        "alder.test".parse().unwrap()
    }

    fn at(day: u64) -> UnixSeconds {
        UnixSeconds(day * DAY_S)
    }

    #[test]
    fn a_pin_leads_on_while_the_overlap_lasts() {
        let [first, second, third, _] = keys();
        let chain = [
            RootSuccession::sign(&alder(), &first, &second, at(10), at(40)),
            RootSuccession::sign(&alder(), &second, &third, at(20), at(50)),
        ];
        let lead = |from: &SecretKey, to: &SecretKey, day| inherit(&alder(), &from.public(), &to.public(), &chain, at(day));
        assert_eq!(lead(&first, &third, 30), Ok(Inherited::Newer));
        assert_eq!(lead(&first, &third, 40), Ok(Inherited::Newer));
        assert_eq!(lead(&first, &third, 41), Err(SuccessionError::OutOfTime), "away for the whole overlap");
        assert_eq!(lead(&first, &third, 19), Err(SuccessionError::OutOfTime), "before its time");
        assert_eq!(lead(&second, &third, 45), Ok(Inherited::Newer), "the earlier step is not needed");
        assert_eq!(lead(&third, &third, 99), Ok(Inherited::Same));
        assert_eq!(lead(&third, &first, 30), Err(SuccessionError::Unrelated), "no way back to an old key");
        assert_eq!(rooms_key(&alder(), &third.public(), &chain), Some(first.public()));
        assert_eq!(rooms_key(&alder(), &second.public(), &chain), None);
        assert_eq!(rooms_key(&alder(), &first.public(), &[]), Some(first.public()));
    }

    #[test]
    fn a_forged_succession_leads_nowhere() {
        let [first, second, _, thief] = keys();
        let good = RootSuccession::sign(&alder(), &first, &second, at(10), at(40));
        let by_thief = RootSuccession { old_signature: thief.sign(&good.statement(&alder())), ..good };
        let not_proven = RootSuccession { new_signature: thief.sign(&good.statement(&alder())), ..good };
        let longer = RootSuccession { not_after: at(60), ..good };
        let unbounded = RootSuccession::sign(&alder(), &first, &second, at(10), UnixSeconds(at(10).0 + ROOT_OVERLAP_S_MAX + 1));
        for forged in [by_thief, not_proven, longer, unbounded] {
            let led = inherit(&alder(), &first.public(), &second.public(), &[forged], at(20));
            assert_eq!(led, Err(SuccessionError::Unrelated), "{forged:?}");
            assert_eq!(rooms_key(&alder(), &second.public(), &[forged]), None);
        }
        let other: CoopName = "birch.test".parse().unwrap();
        assert_eq!(inherit(&other, &first.public(), &second.public(), &[good], at(20)), Err(SuccessionError::Unrelated));
        let longest = RootSuccession::sign(&alder(), &first, &second, at(10), UnixSeconds(at(10).0 + ROOT_OVERLAP_S_MAX));
        assert_eq!(inherit(&alder(), &first.public(), &second.public(), &[longest], at(20)), Ok(Inherited::Newer));
    }
}
