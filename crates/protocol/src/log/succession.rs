//! How a room gets another hub: votes of its voters, and the record of them that stands in the log.
//!
//! A vote is one signature per term and voter. It names the new hub and the voter's last checkpoint, and from the moment
//! it is given the voter takes nothing of older terms from the old hub. A majority of votes makes a [`Succession`]: the
//! body of the first entry of the new term. The log goes on from the greatest (term, size) among the votes, so whatever
//! a majority held is there. Two hubs in one term would need a voter that signed twice: [`Vote::contradicts`].

use super::checkpoint::{Attestation, Checkpoint};
use super::voters::Electorate;
use crate::ids::{Coop, CoopName, Hash, PublicKey, RoomId, Term};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// One voter's word for a new hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    pub room: RoomId,
    /// The new one.
    pub term: Term,
    pub candidate: Coop,
    pub voter: CoopName,
    /// The newest checkpoint that the voter holds, as its hub signed it. Without marks.
    pub last: Attestation,
    pub signature: Signature,
}

fn statement(room: &RoomId, term: Term, candidate: &Coop, last: &Checkpoint) -> Transcript {
    Transcript::new(Label::Vote)
        .field(&room.0)
        .number(u64::from(term.0))
        .field(candidate.name.as_str().as_bytes())
        .field(&candidate.key.0)
        .number(u64::from(last.term.0))
        .number(last.size)
        .field(&last.root.0)
}

impl Vote {
    pub fn sign(root: &SecretKey, voter: CoopName, term: Term, candidate: Coop, last: Attestation) -> Self {
        let last = Attestation { marks: Vec::new(), ..last };
        let signature = root.sign(&statement(&last.checkpoint.room, term, &candidate, &last.checkpoint));
        Self { room: last.checkpoint.room, term, candidate, voter, last, signature }
    }

    /// Both the voter's signature and the old hub's over the checkpoint.
    pub fn verify(&self, key_of: impl Fn(&CoopName) -> Option<PublicKey>) -> Result<(), BadSignature> {
        let key = key_of(&self.voter).ok_or(BadSignature)?;
        if self.last.checkpoint.room != self.room || !self.last.marks.is_empty() || self.last.checkpoint.term >= self.term {
            return Err(BadSignature);
        }
        if !self.is_signed_by(&key) {
            return Err(BadSignature);
        }
        self.last.verify(key_of).map_err(|_| BadSignature)
    }

    /// The voter's own signature alone.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        verify(key, &statement(&self.room, self.term, &self.candidate, &self.last.checkpoint), &self.signature).is_ok()
    }

    /// Whether these two, both verified, convict their voter: one term, two candidates.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.room == other.room && self.voter == other.voter && self.term == other.term && self.candidate != other.candidate
    }
}

/// Body of the first entry of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    pub room: RoomId,
    pub term: Term,
    pub hub: Coop,
    /// Each of another voter, for this hub in this term.
    pub votes: Vec<Vote>,
}

/// The record seats nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    #[error("a vote is for another room, term or hub, or a voter stands twice")]
    Votes,
    #[error("a vote's signature does not verify")]
    Signature,
    #[error("the votes are no majority of the room's voters")]
    Majority,
    #[error("two of the votes name different histories")]
    Histories,
    #[error("the log does not go on from the greatest term and size among the votes")]
    Place,
    #[error("the term is not newer than the one before")]
    Term,
    #[error("the new hub is no voter of the room")]
    Hub,
}

impl Succession {
    /// Where the log goes on: the greatest (term, size) among the votes. The votes must be there.
    pub fn chosen(&self) -> Option<&Attestation> {
        self.votes.iter().map(|vote| &vote.last).max_by_key(|last| (last.checkpoint.term, last.checkpoint.size))
    }

    /// Judges the record on its own: signatures, majority, one history. Where it may stand is for [`Succession::stands`].
    pub fn verify(&self, voters: &Electorate, key_of: impl Fn(&CoopName) -> Option<PublicKey>) -> Result<(), SuccessionError> {
        self.verify_signatures(key_of)?;
        if !voters.after.may_order(&self.hub.name) {
            return Err(SuccessionError::Hub);
        }
        if voters.seats(self.votes.iter().map(|vote| &vote.voter)) { Ok(()) } else { Err(SuccessionError::Majority) }
    }

    /// All but whether those who voted are a majority: votes of different voters for one hub over one history, each signed.
    pub fn verify_signatures(&self, key_of: impl Fn(&CoopName) -> Option<PublicKey>) -> Result<(), SuccessionError> {
        let mut names: Vec<&CoopName> = self.votes.iter().map(|vote| &vote.voter).collect();
        names.sort_unstable();
        let is_one = |vote: &Vote| vote.room == self.room && vote.term == self.term && vote.candidate == self.hub;
        if names.is_empty() || names.windows(2).any(|pair| pair[0] == pair[1]) || !self.votes.iter().all(is_one) {
            return Err(SuccessionError::Votes);
        }
        if key_of(&self.hub.name) != Some(self.hub.key) {
            return Err(SuccessionError::Hub);
        }
        if self.votes.iter().any(|vote| vote.verify(&key_of).is_err()) {
            return Err(SuccessionError::Signature);
        }
        let places = |vote: &Vote| (vote.last.checkpoint.term, vote.last.checkpoint.size, vote.last.checkpoint.root);
        let differ = |a: &Vote, b: &Vote| {
            let ((at, asize, aroot), (bt, bsize, broot)) = (places(a), places(b));
            at == bt && asize == bsize && aroot != broot
        };
        if self.votes.iter().any(|a| self.votes.iter().any(|b| differ(a, b))) {
            return Err(SuccessionError::Histories);
        }
        Ok(())
    }

    /// Whether it may be the next entry of a log of that term, size and root.
    pub fn stands(&self, term: Term, size: u64, root: &Hash) -> Result<(), SuccessionError> {
        if self.term <= term {
            return Err(SuccessionError::Term);
        }
        let chosen = self.chosen().ok_or(SuccessionError::Majority)?.checkpoint;
        if chosen.term == term && chosen.size == size && chosen.root == *root { Ok(()) } else { Err(SuccessionError::Place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;
    use crate::log::voters::Voters;

    fn key(name: &str) -> SecretKey {
        SecretKey::from_seed([name.as_bytes()[0]; 32])
    }

    fn name(name: &str) -> CoopName {
        name.parse().unwrap()
    }

    fn coop(text: &str) -> Coop {
        Coop { name: name(text), key: key(text).public() }
    }

    fn keys(name: &CoopName) -> Option<PublicKey> {
        ["a", "b", "c", "d", "x"].contains(&name.as_str()).then(|| key(name.as_str()).public())
    }

    fn last(term: u32, size: u64) -> Attestation {
        let checkpoint = Checkpoint { room: RoomId([1; 32]), term: Term(term), size, root: Hash([size as u8; 32]) };
        Attestation { checkpoint, hub: name("a"), signature: checkpoint.sign(&key("a")), marks: vec![] }
    }

    fn vote(voter: &str, term: u32, candidate: &str, last: Attestation) -> Vote {
        Vote::sign(&key(voter), name(voter), Term(term), coop(candidate), last)
    }

    fn record(term: u32, hub: &str, votes: Vec<Vote>) -> Succession {
        Succession { room: RoomId([1; 32]), term: Term(term), hub: coop(hub), votes }
    }

    fn abc() -> Electorate {
        let voters = Voters { names: ["a", "b", "c"].map(name).to_vec(), tie_breaker: None };
        Electorate { before: voters.clone(), after: voters, commit: Seq(0) }
    }

    #[test]
    fn a_majority_seats_a_hub_where_the_longest_log_ends() {
        let good = record(2, "b", vec![vote("b", 2, "b", last(1, 7)), vote("c", 2, "b", last(1, 9))]);
        assert_eq!(good.verify(&abc(), keys), Ok(()));
        assert_eq!(good.stands(Term(1), 9, &Hash([9; 32])), Ok(()));
        assert_eq!(good.stands(Term(1), 7, &Hash([7; 32])), Err(SuccessionError::Place));
        assert_eq!(good.stands(Term(1), 9, &Hash([8; 32])), Err(SuccessionError::Place));
        assert_eq!(good.stands(Term(2), 9, &Hash([9; 32])), Err(SuccessionError::Term));
        // A longer log of an older term loses against a shorter one of a newer term.
        let newer = record(3, "c", vec![vote("b", 3, "c", last(2, 4)), vote("c", 3, "c", last(1, 9))]);
        assert_eq!(newer.chosen().unwrap().checkpoint.size, 4);
    }

    #[test]
    fn fault_34_votes_that_do_not_add_up_seat_nobody() {
        let verdict = |votes| record(2, "b", votes).verify(&abc(), keys);
        let good = || vote("b", 2, "b", last(1, 7));
        assert_eq!(verdict(vec![good()]), Err(SuccessionError::Majority));
        assert_eq!(verdict(vec![good(), good()]), Err(SuccessionError::Votes));
        assert_eq!(verdict(vec![good(), vote("c", 3, "b", last(1, 7))]), Err(SuccessionError::Votes));
        assert_eq!(verdict(vec![good(), vote("c", 2, "c", last(1, 7))]), Err(SuccessionError::Votes));
        assert_eq!(verdict(vec![good(), vote("d", 2, "b", last(1, 7))]), Err(SuccessionError::Majority), "d has no vote");
        let mut forged = vote("c", 2, "b", last(1, 7));
        forged.signature.0[0] ^= 1;
        assert_eq!(verdict(vec![good(), forged]), Err(SuccessionError::Signature));
        let mut not_the_hubs = last(1, 12);
        not_the_hubs.signature.0[0] ^= 1;
        assert_eq!(verdict(vec![good(), vote("c", 2, "b", not_the_hubs)]), Err(SuccessionError::Signature));
        let mut other = last(1, 7);
        other.checkpoint.root = Hash([99; 32]);
        other.signature = other.checkpoint.sign(&key("a"));
        assert_eq!(verdict(vec![good(), vote("c", 2, "b", other)]), Err(SuccessionError::Histories));
        let stranger = record(2, "x", vec![vote("b", 2, "x", last(1, 7)), vote("c", 2, "x", last(1, 7))]);
        assert_eq!(stranger.verify(&abc(), keys), Err(SuccessionError::Hub));
    }

    #[test]
    fn a_vote_is_bound_to_everything_it_says() {
        let good = vote("b", 2, "b", last(1, 7));
        assert_eq!(good.verify(keys), Ok(()));
        let altered = |change: &dyn Fn(&mut Vote)| {
            let mut vote = good.clone();
            change(&mut vote);
            vote.verify(keys)
        };
        assert_eq!(altered(&|v| v.term = Term(3)), Err(BadSignature));
        assert_eq!(altered(&|v| v.candidate = coop("c")), Err(BadSignature));
        assert_eq!(altered(&|v| v.voter = name("c")), Err(BadSignature));
        assert_eq!(altered(&|v| v.last = last(1, 8)), Err(BadSignature));
        assert_eq!(altered(&|v| v.room = RoomId([2; 32])), Err(BadSignature));
        assert_eq!(vote("b", 2, "b", last(2, 7)).verify(keys), Err(BadSignature), "a checkpoint of the new term itself");
    }

    #[test]
    fn signing_twice_in_a_term_convicts() {
        let one = vote("b", 2, "b", last(1, 7));
        assert!(one.contradicts(&vote("b", 2, "c", last(1, 7))));
        assert!(!one.contradicts(&vote("b", 3, "c", last(1, 7))));
        assert!(!one.contradicts(&vote("c", 2, "c", last(1, 7))));
        assert!(!one.contradicts(&vote("b", 2, "b", last(1, 9))), "the same candidate, further on");
    }

    /// Voters change one at a time, and the change counts only once majorities of both sides hold it.
    #[test]
    fn a_change_of_voters_needs_both_majorities() {
        let names = |list: &[&str]| Voters { names: list.iter().map(|n| name(n)).collect(), tie_breaker: None };
        let voters = Electorate { before: names(&["a", "b", "c"]), after: names(&["a", "b", "c", "d"]), commit: Seq(5) };
        let votes = |who: &[&str]| who.iter().map(|voter| vote(voter, 2, "b", last(1, 7))).collect();
        assert_eq!(record(2, "b", votes(&["b", "c"])).verify(&voters, keys), Err(SuccessionError::Majority));
        assert_eq!(record(2, "b", votes(&["b", "c", "d"])).verify(&voters, keys), Ok(()));
    }
}
