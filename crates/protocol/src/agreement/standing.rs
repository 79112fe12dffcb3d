//! Whether a co-op still keeps to an agreement: a signed word of its own, which the other side keeps.

use super::terms::Line;
use crate::ids::{CoopName, PublicKey, UnixSeconds};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// Travels and is stored as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Standing {
    Open = 0,
    Suspended = 1,
    Ended = 2,
}

impl Standing {
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Open, Self::Suspended, Self::Ended].into_iter().find(|known| *known as u32 == number)
    }
}

/// One side's word to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub standing: Standing,
    /// When the steward said so.
    pub at: UnixSeconds,
    /// When it takes effect: later than `at` if an agreement is ended with notice.
    pub effective: UnixSeconds,
    /// In the steward's words.
    pub reason: Line,
    pub signature: Signature,
}

fn statement(from: &CoopName, to: &CoopName, notice: &Notice) -> Transcript {
    Transcript::new(Label::AgreementStanding)
        .field(from.as_str().as_bytes())
        .field(to.as_str().as_bytes())
        .number(notice.standing as u64)
        .number(notice.at.0)
        .number(notice.effective.0)
        .field(notice.reason.as_str().as_bytes())
}

impl Notice {
    /// By the root of `from`, for `to`.
    pub fn sign(
        root: &SecretKey,
        from: &CoopName,
        to: &CoopName,
        standing: Standing,
        at: UnixSeconds,
        effective: UnixSeconds,
        reason: Line,
    ) -> Self {
        let unsigned = Self { standing, at, effective, reason, signature: Signature([0; 64]) };
        Self { signature: root.sign(&statement(from, to, &unsigned)), ..unsigned }
    }

    pub fn verify(&self, key: &PublicKey, from: &CoopName, to: &CoopName) -> Result<(), BadSignature> {
        verify(key, &statement(from, to, self), &self.signature)
    }

    /// Whether traffic may flow as far as this side is concerned.
    pub fn is_open(&self, now: UnixSeconds) -> bool {
        self.standing == Standing::Open || now < self.effective
    }

    pub fn has_ended(&self, now: UnixSeconds) -> bool {
        self.standing == Standing::Ended && now >= self.effective
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_for_one_neighbour_and_says_one_thing() {
        let root = SecretKey::from_seed([1; 32]);
        let [alder, birch, cedar] = ["alder.test", "birch.test", "cedar.test"].map(|name| name.parse::<CoopName>().unwrap());
        let (at, later) = (UnixSeconds(5), UnixSeconds(9));
        let notice = Notice::sign(&root, &alder, &birch, Standing::Ended, at, later, "too much spam".parse().unwrap());
        let key = root.public();
        assert_eq!(notice.verify(&key, &alder, &birch), Ok(()));
        assert_eq!(notice.verify(&key, &alder, &cedar), Err(BadSignature));
        assert_eq!(notice.verify(&key, &birch, &alder), Err(BadSignature));
        let changes: [fn(&mut Notice); 4] = [
            |notice| notice.standing = Standing::Suspended,
            |notice| notice.at = UnixSeconds(6),
            |notice| notice.effective = UnixSeconds(6),
            |notice| notice.reason = Line::default(),
        ];
        for change in changes {
            let mut changed = notice.clone();
            change(&mut changed);
            assert_eq!(changed.verify(&key, &alder, &birch), Err(BadSignature));
        }
        assert!(notice.is_open(UnixSeconds(8)) && !notice.has_ended(UnixSeconds(8)), "until the notice has run out");
        assert!(!notice.is_open(later) && notice.has_ended(later));
        for (number, standing) in [(0, Standing::Open), (1, Standing::Suspended), (2, Standing::Ended)] {
            assert_eq!((Standing::from_number(number), standing as u32), (Some(standing), number));
        }
        assert_eq!(Standing::from_number(3), None);
    }
}
