//! A copy that was put back from a backup. What this co-op signed since the backup was made is not in it: entries that it
//! ordered, marks that it gave, a vote. Until the others have told it, it must not go on as if nothing had been.
//!
//! Its own disk proves nothing any longer, so it does not count itself where others' words are counted
//! ([`Room::is_settled`]): any hub that its forgotten vote can have helped to seat, and whatever its forgotten mark can have
//! certified, a majority of the others knows of. A hub then begins another term before it orders again: in the old one it
//! would sign a second history.

use kith_protocol::codec;
use kith_protocol::ids::Term;
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::checkpoint::{Attestation, Mark};
use kith_protocol::log::succession::Vote;

use super::machine::Room;

impl Room {
    /// It lacks what came after a backup, as far as is known.
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// From now on nothing counts before others have been asked.
    pub fn mark_restored(&mut self) {
        self.is_restored = true;
        self.settled = false;
        self.waits_for_mirrors = true;
    }

    /// Its log is lost; what this co-op has voted, and what it knows to be proved, is not.
    pub fn keep_words(&mut self, lost: Room) {
        self.vote = lost.vote;
        self.proof = lost.proof;
        self.fence = self.fence.max(self.vote.as_ref().map_or(Term(0), |vote| vote.term));
    }

    /// It lacks nothing any longer that others know of.
    pub fn refilled(&mut self) {
        self.is_restored = false;
    }

    /// A restored hub that knows all that the others know orders again in another term only.
    pub fn begins_anew(&self) -> bool {
        self.is_restored && self.is_hub() && self.is_settled()
    }

    /// The term that this co-op asks the others for. With nobody to ask, one that was restored may have begun further terms
    /// that it does not know of, after an earlier restore of the same backup: incarnations count on from those.
    pub fn next_term(&self, incarnation: u64) -> Term {
        let next = self.newest_term().0.saturating_add(1);
        let is_alone = self.electorate().is_some_and(|voters| voters.names() == [self.me.clone()]);
        let floor = if self.is_restored && is_alone { u32::try_from(incarnation).unwrap_or(0) } else { 0 };
        Term(next.max(floor))
    }

    /// Whether this attestation has a signature of this co-op's own over more of the room than it has.
    pub fn has_forgotten(&self, word: &Attestation) -> bool {
        let Some(log) = &self.log else { return false };
        let signed = &word.checkpoint;
        // A log that was cut is shorter than what was signed of it, and that is no loss.
        let is_beyond = signed.term > log.term || (signed.term == log.term && signed.size > log.frontier.size());
        if !is_beyond || signed.term <= self.fence || self.is_still || signed.room != self.id {
            return false;
        }
        let Some(key) = log.coop_key(&self.me) else { return false };
        let is_mine = |mark: &Mark| {
            let held = mark.held.as_ref().is_some_and(|held| signed.verify_held(&key, held).is_ok());
            let cosigned = mark.cosignature.as_ref().is_some_and(|(at, by)| signed.verify_cosignature(&key, *at, by).is_ok());
            mark.coop == self.me && (held || cosigned)
        };
        (word.hub == self.me && signed.verify(&key, &word.signature).is_ok()) || word.marks.iter().any(is_mine)
    }

    /// Whether the newest term was begun with a vote of this co-op's that it does not know.
    pub fn has_forgotten_vote(&self) -> bool {
        let Some(log) = &self.log else { return false };
        let Ok(record) = codec::decode_succession(&log.succession) else { return false };
        let known = self.vote.as_ref().map_or(Term(0), |vote| vote.term);
        let is_mine = |vote: &Vote| vote.voter == self.me && vote.term > known;
        record.votes.iter().any(|vote| is_mine(vote) && vote.verify(|name| log.coop_key(name)).is_ok())
    }
}
