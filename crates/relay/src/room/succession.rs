//! A room's part in getting another hub: who may vote, what a vote fences off, and the first entry of a term.

use bytes::Bytes;
use kith_protocol::codec;
use kith_protocol::ids::{Coop, CoopName, Counter, EntryId, Pseudonym, Seq, Term, UnixSeconds};
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::succession::{Succession, Vote};
use kith_protocol::log::voters::Electorate;
use kith_protocol::log::{Header, Kind};
use kith_protocol::sign::SecretKey;

use super::error::EntryError;
use super::log::Log;
use super::machine::Room;
use super::offer::Tip;

/// How far a co-op has a room's log, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub term: Term,
    pub size: u64,
    /// The newest term in which it has voted, if it knows no hub of it yet; else 0.
    pub fence: Term,
}

/// What another co-op said of its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub extent: Extent,
    /// That it has more holds up this co-op.
    pub is_weighty: bool,
}

impl Log {
    pub fn has_term(&self, term: Term) -> bool {
        term == self.term || self.end_of(term).is_some_and(|ended| ended.checkpoint.term == term)
    }

    /// Where the first term ended that is no older than that one.
    pub fn end_of(&self, term: Term) -> Option<&Attestation> {
        self.ended.iter().find(|ended| ended.checkpoint.term >= term)
    }

    /// Whether this log is one that was so long in that term, and what came after it.
    pub fn goes_on_from(&self, term: Term, size: Seq) -> bool {
        let end = if term == self.term { Some(self.frontier.size()) } else { self.end_of(term).map(|ended| ended.checkpoint.size) };
        self.has_term(term) && end.is_some_and(|end| size.0 <= end)
    }

    /// The last checkpoint of this log that a log with that newer term has too. It goes on from a term that is over here: the
    /// terms here since then are nobody else's, and the log is the same up to where that one ended here, if it did.
    pub fn common_end(&self, newer: &Succession) -> Option<Attestation> {
        let chosen = newer.chosen()?;
        match self.end_of(chosen.checkpoint.term) {
            Some(ended) if ended.checkpoint.size < chosen.checkpoint.size => Some(ended.clone()),
            _ => Some(chosen.clone()),
        }
    }
}

impl Room {
    pub fn term(&self) -> Term {
        self.log.as_ref().map_or(Term(0), |log| log.term)
    }

    /// The newest term that this co-op has a part in.
    pub fn newest_term(&self) -> Term {
        self.term().max(self.fence)
    }

    /// This co-op has voted for a hub that is not seated yet.
    pub fn is_fenced(&self) -> bool {
        self.fence > self.term()
    }

    /// Nothing older than that term is taken or ordered from now on.
    pub fn fence(&mut self, term: Term) {
        self.fence = self.fence.max(term);
    }

    /// Whether this co-op gives sequence numbers here and now.
    pub fn orders(&self) -> bool {
        self.is_hub() && !self.is_still && !self.is_restored && !self.is_fenced() && !self.is_frozen() && self.is_settled()
    }

    /// While its log is rebuilt nothing is added to it.
    pub fn hold_still(&mut self, is_still: bool) {
        self.is_still = is_still;
    }

    /// Whether that co-op says that it has voted for a hub that nobody has seated.
    pub fn is_fenced_at(&self, peer: &CoopName) -> bool {
        self.compared.get(peer).is_some_and(|theirs| theirs.extent.fence > self.term())
    }

    pub fn vote(&self) -> Option<&Vote> {
        self.vote.as_ref()
    }

    pub fn electorate(&self) -> Option<Electorate> {
        self.log.as_ref().map(Log::electorate)
    }

    /// Whether this co-op may be asked to order the room.
    pub fn may_order(&self) -> bool {
        let is_convicted = self.proof().is_some_and(|proof| proof.convicted().name == self.me);
        !is_convicted && self.log.as_ref().is_some_and(|log| log.context.voters.may_order(&self.me))
    }

    /// Signs this co-op's vote over what it has durably. `None`: something is not durable yet, or it has voted for
    /// somebody else in this term.
    pub fn cast(&mut self, root: &SecretKey, term: Term, candidate: Coop) -> Option<Vote> {
        if let Some(vote) = self.vote.as_ref().filter(|vote| vote.term >= term) {
            return (vote.term == term && vote.candidate == candidate).then(|| vote.clone());
        }
        let last = self.last_checkpoint().filter(|_| self.durable == self.size() && term > self.term())?.clone();
        let vote = Vote::sign(root, self.me.clone(), term, candidate, last);
        self.fence(term);
        self.vote = Some(vote.clone());
        Some(vote)
    }

    /// The checkpoint over all that is durable here.
    pub fn last_checkpoint(&self) -> Option<&Attestation> {
        self.ledger.at(self.durable).filter(|last| last.checkpoint.term == self.term())
    }

    /// The first entry of this co-op's term as hub.
    pub fn seat(&mut self, now: UnixSeconds, record: &Succession) -> Result<(), EntryError> {
        let log = self.log.as_mut().ok_or(EntryError::Body)?;
        let mut id = EntryId { sender: Pseudonym::ROOM, counter: Counter { device: 0, number: 0 } };
        id.counter.number = log.last_counter(&id) + 1;
        let body: Bytes = codec::encode_succession(record).into();
        let time = now.max(log.last_time);
        let effect = log.examine(&id, Kind::Succession, log.epoch(), time, &body)?;
        let header = Header {
            room: self.id,
            seq: Seq(log.frontier.size()),
            term: record.term,
            epoch: log.epoch(),
            kind: Kind::Succession,
            id,
            time,
            body_hash: hash_bytes(&body),
            extra: kith_protocol::ids::Hash([0; 32]),
        };
        log.take_effect(effect, &header, &body, &Bytes::new())?;
        self.hub = record.hub.clone();
        self.group_changed = true;
        self.stage(header, body, Bytes::new());
        Ok(())
    }

    /// What is said of this copy.
    pub fn extent(&self) -> Extent {
        let fence = if self.is_fenced() { self.fence } else { Term(0) };
        Extent { term: self.term(), size: self.durable, fence }
    }

    /// Whether another co-op's word that it has more is to be reckoned with. A voter's that a newer term has begun is. Else
    /// the hub's signature must show it: nobody holds up a room by saying so.
    fn is_weighty(&self, peer: &CoopName, theirs: Extent, word: Option<&Attestation>) -> bool {
        let Some(log) = &self.log else { return true };
        let is_shown = |word: &Attestation| {
            let signed = &word.checkpoint;
            let is_of_hub = signed.term == log.term && word.hub == log.hub.name;
            is_of_hub && signed.size > log.frontier.size() && signed.verify(&log.hub.key, &word.signature).is_ok()
        };
        match theirs.term.cmp(&log.term) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => word.is_some_and(is_shown),
            std::cmp::Ordering::Greater => log.electorate().counts(peer),
        }
    }

    /// Another co-op says how far it has the log. `word`: what the hub signed of that.
    pub fn compare(&mut self, peer: &CoopName, theirs: Extent, word: Option<&Attestation>) {
        // What nothing shows is remembered all the same: once it has been caught up with, it is one more that agrees.
        let was_shown =
            self.compared.get(peer).is_some_and(|old| old.is_weighty && (old.extent.term, old.extent.size) >= (theirs.term, theirs.size));
        let said = Said { extent: theirs, is_weighty: was_shown || self.is_weighty(peer, theirs, word) };
        self.compared.insert(peer.clone(), said);
        self.settled |= self.is_settled();
    }

    /// Another co-op has signed so much as hub, as a batch shows. What it has said itself of a newer term counts for more: it
    /// may have been the hub before, too.
    pub(super) fn showed(&mut self, hub: &CoopName, term: Term, size: u64) {
        let extent = Extent { term, size, fence: Term(0) };
        let is_old = self.compared.get(hub).is_some_and(|said| said.is_weighty && (said.extent.term, said.extent.size) > (term, size));
        if !is_old {
            self.compared.insert(hub.clone(), Said { extent, is_weighty: true });
        }
    }

    /// What a co-op said is forgotten with the link to it.
    pub fn forget_word(&mut self, peer: &CoopName) {
        self.compared.remove(peer);
    }

    /// Who, of those and but for the hub, has said that it has most, and more than is here.
    pub fn who_has_more(&self, is_there: impl Fn(&CoopName) -> bool) -> Option<CoopName> {
        let extent = |said: &Said| (said.extent.term, said.extent.size);
        let others = self
            .compared
            .iter()
            .filter(|(name, said)| **name != self.hub.name && is_there(name) && extent(said) > (self.term(), self.durable));
        others.max_by_key(|(_, said)| extent(said)).map(|(name, _)| name.clone())
    }

    /// Whether that co-op has said that a newer term has begun.
    pub fn is_ahead(&self, peer: &CoopName) -> bool {
        self.compared.get(peer).is_some_and(|theirs| theirs.is_weighty && theirs.extent.term > self.term())
    }

    /// After a start this co-op neither orders nor votes before a majority of the voters, itself among them, has said that it
    /// has nothing newer, and has not voted for another hub: its disk may be an old backup's. If it is known to be one, its
    /// own word does not count. One whose vote alone counts asks its mirrors, for a while.
    pub fn is_settled(&self) -> bool {
        if self.settled {
            return true;
        }
        let Some(log) = &self.log else { return false };
        let here = (log.term, log.frontier.size());
        let is_certified = self.certified_size() > log.last_commit.0;
        let has_more = |theirs: &Said| (theirs.extent.term, theirs.extent.size) > here;
        // A hub that others seated has a majority's votes: one of those who speak here would know of it. One that voted alone
        // holds up nothing.
        let agrees = |theirs: &Said| !has_more(theirs) && theirs.extent.fence <= self.newest_term();
        let agreeing = || self.compared.iter().filter(|(_, theirs)| agrees(theirs)).map(|(name, _)| name);
        let is_alone = log.electorate().names() == [self.me.clone()];
        let mine = || (is_alone || !self.is_restored).then_some(&self.me);
        if self.compared.values().any(|theirs| theirs.is_weighty && has_more(theirs))
            || !log.electorate().blocks(agreeing().chain(mine()), is_certified)
        {
            return false;
        }
        let has_answered = |mirror: &CoopName| *mirror == self.me || self.compared.contains_key(mirror);
        !is_alone || !self.waits_for_mirrors || log.coops_with_members().iter().all(has_answered)
    }

    pub fn has_settled(&self) -> bool {
        self.settled
    }

    /// What others said may be enough by now.
    pub fn settle(&mut self) {
        self.settled |= self.is_settled();
    }

    /// This process has just begun.
    pub fn begin_wait(&mut self) {
        self.waits_for_mirrors = true;
    }

    /// No mirror is waited for any longer: one that is away must not hold up the room.
    pub fn end_wait(&mut self) {
        self.waits_for_mirrors = false;
        self.settled |= self.is_settled();
    }

    /// Takes over a log that was rebuilt up to where a newer term goes on. Nothing may be staged.
    pub fn adopt(&mut self, log: Log, attestation: Attestation) -> kith_storage::Truncate {
        self.durable = log.frontier.size();
        self.tip = Some(Tip::of(&log));
        self.hub = log.hub.clone();
        let truncate = kith_storage::Truncate {
            room: self.number,
            size: Seq(self.durable),
            snapshot: codec::encode_room_snapshot(&log.snapshot()),
            group: codec::encode_group_snapshot(&log.group_snapshot()),
            checkpoint: codec::encode_attestation(&attestation),
        };
        self.group_changed = false;
        self.log = Some(log);
        self.ledger.cut(attestation);
        truncate
    }
}
