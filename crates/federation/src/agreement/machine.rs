//! The rules of an agreement between this co-op and one neighbour.
//!
//! What a co-op signs is what its steward said yes to: the accepted terms, rendered here. A neighbour's terms are only
//! ever compared with them, or kept as an offer until the steward decides.

use kith_protocol::agreement::{Agreement, Line, Notice, Offer, Record, Signed, Standing, Terms, TermsError};
use kith_protocol::ids::{Coop, PublicKey, UnixSeconds};
use kith_protocol::limits::AGREEMENT_REVISION_MAX;
use kith_protocol::sign::{SecretKey, Signature};

/// How an agreement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not both have signed the same.
    Proposed,
    Active,
    /// Active, and past the day on which both wanted to look at it again.
    DueForReview,
    Suspended,
    Ended,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Active => "active",
            Self::DueForReview => "due_for_review",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}

/// What a steward cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PactError {
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("the neighbour has proposed nothing that waits for an answer")]
    NoOffer,
    #[error("the agreement has ended. Propose a new one: kithd neighbour propose")]
    Ended,
    #[error("the agreement is neither suspended nor running out")]
    NotSuspended,
    #[error("these two co-ops have used up their proposals. Begin anew: kithd neighbour add … --replace, on both sides")]
    Revisions,
}

/// What a signature of the neighbour's came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Both have signed these terms. `changed`: since now, or under another key.
    InForce { changed: bool },
    /// The steward said yes to the very same words under a lower number: the neighbour is to be told again.
    Adopted,
    /// Something else than what this co-op's steward said yes to.
    Offered,
    /// Older than what is in force.
    Stale,
}

/// Both co-ops as they are pinned now, and the key with which this one signs.
#[derive(Clone, Copy)]
pub struct Parties<'a> {
    pub me: &'a Coop,
    pub peer: &'a Coop,
    pub root: &'a SecretKey,
}

impl Parties<'_> {
    pub fn agreement(&self, terms: Terms) -> Agreement {
        Agreement::between(self.me.clone(), self.peer.clone(), terms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pact {
    record: Record,
    /// Of `record.signed`.
    signed_terms: Option<Terms>,
}

impl Pact {
    /// The steward pins a neighbour and says yes to these terms.
    pub fn new(terms: Terms) -> Self {
        Self::restore(Record { accepted: vec![terms], ..Record::default() })
    }

    pub fn restore(record: Record) -> Self {
        let signed_terms = record.signed.as_ref().and_then(|signed| Agreement::parse(&signed.document).ok());
        Self { signed_terms: signed_terms.map(|agreement| agreement.terms().clone()), record }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What this co-op signs: what is in force first, then what it proposes.
    pub fn accepted(&self) -> &[Terms] {
        &self.record.accepted
    }

    /// What both signed and neither has ended.
    pub fn in_force(&self) -> Option<&Terms> {
        self.signed_terms.as_ref().filter(|terms| self.record.accepted.contains(terms))
    }

    /// What this co-op proposes and the neighbour has not signed.
    pub fn proposed(&self) -> Option<&Terms> {
        self.record.accepted.last().filter(|terms| self.in_force() != Some(terms))
    }

    fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.record.our_notice.iter().chain(&self.record.their_notice)
    }

    /// Neither side has suspended or ended it.
    pub fn is_open(&self, now: UnixSeconds) -> bool {
        self.notices().all(|notice| notice.is_open(now))
    }

    pub fn state(&self, now: UnixSeconds) -> State {
        if self.notices().any(|notice| notice.has_ended(now)) {
            return State::Ended;
        }
        if !self.is_open(now) {
            return State::Suspended;
        }
        match self.in_force() {
            None => State::Proposed,
            Some(terms) if terms.is_due_for_review(now) => State::DueForReview,
            Some(_) => State::Active,
        }
    }

    /// Whether traffic may flow.
    pub fn is_active(&self, now: UnixSeconds) -> bool {
        matches!(self.state(now), State::Active | State::DueForReview)
    }

    /// An end that has taken effect voids what was signed: a new agreement needs both stewards again.
    fn settle(&mut self, now: UnixSeconds) {
        if self.notices().any(|notice| notice.has_ended(now)) {
            let in_force = self.in_force().cloned();
            self.record.accepted.retain(|terms| Some(terms) != in_force.as_ref());
        }
    }

    fn next_revision(&self) -> Result<u32, PactError> {
        let offered = self.record.offer.as_ref().map(|offer| offer.terms.revision);
        let known = self.record.accepted.iter().chain(&self.signed_terms).map(|terms| terms.revision).chain(offered);
        let next = known.max().unwrap_or(0) + 1;
        if next > AGREEMENT_REVISION_MAX { Err(PactError::Revisions) } else { Ok(next) }
    }

    /// The steward wants these terms. What is in force stays so until the neighbour has signed them too. The same words as
    /// the neighbour's offer accept it.
    pub fn propose(&mut self, now: UnixSeconds, parties: Parties<'_>, terms: Terms) -> Result<(), PactError> {
        self.settle(now);
        terms.check()?;
        if self.record.offer.as_ref().is_some_and(|offer| offer.terms.says_the_same(&terms)) {
            return self.accept(now, parties);
        }
        let revision = self.next_revision()?;
        let in_force = self.in_force().cloned();
        let is_new = in_force.as_ref().is_none_or(|in_force| !in_force.says_the_same(&terms));
        self.record.accepted = in_force.into_iter().chain(is_new.then_some(Terms { revision, ..terms })).collect();
        self.reopen(now, parties);
        Ok(())
    }

    /// The steward has read the neighbour's offer and says yes.
    pub fn accept(&mut self, now: UnixSeconds, parties: Parties<'_>) -> Result<(), PactError> {
        self.settle(now);
        let Offer { terms, signature } = self.record.offer.take().ok_or(PactError::NoOffer)?;
        if parties.agreement(terms.clone()).verify(&parties.peer.key, &signature).is_err() {
            // It was signed with a key that is not the neighbour's any more.
            return Err(PactError::NoOffer);
        }
        self.record.accepted = vec![terms.clone()];
        self.reopen(now, parties);
        self.sign(now, parties, terms, signature);
        Ok(())
    }

    /// A new yes takes back an end that has taken effect.
    fn reopen(&mut self, now: UnixSeconds, parties: Parties<'_>) {
        if self.record.our_notice.as_ref().is_some_and(|notice| notice.has_ended(now)) {
            self.say(now, parties, Standing::Open, Line::default());
        }
    }

    fn say(&mut self, now: UnixSeconds, parties: Parties<'_>, standing: Standing, reason: Line) {
        let notice_s = if standing == Standing::Ended { self.in_force().map_or(0, Terms::notice_s) } else { 0 };
        let effective = UnixSeconds(now.0 + notice_s);
        let notice = Notice::sign(parties.root, &parties.me.name, &parties.peer.name, standing, now, effective, reason);
        self.record.our_notice = Some(notice);
    }

    /// At once.
    pub fn suspend(&mut self, now: UnixSeconds, parties: Parties<'_>, reason: Line) -> Result<(), PactError> {
        if self.record.our_notice.as_ref().is_some_and(|notice| notice.has_ended(now)) {
            return Err(PactError::Ended);
        }
        self.say(now, parties, Standing::Suspended, reason);
        Ok(())
    }

    /// After the notice that the agreement in force asks for; at once if there is none.
    pub fn end(&mut self, now: UnixSeconds, parties: Parties<'_>, reason: Line) -> Result<(), PactError> {
        if self.record.our_notice.as_ref().is_some_and(|notice| notice.standing == Standing::Ended) {
            return Err(PactError::Ended);
        }
        self.say(now, parties, Standing::Ended, reason);
        self.settle(now);
        Ok(())
    }

    /// Takes back this side's suspension, or an end that has not taken effect.
    pub fn resume(&mut self, now: UnixSeconds, parties: Parties<'_>) -> Result<(), PactError> {
        match &self.record.our_notice {
            Some(notice) if notice.has_ended(now) => Err(PactError::Ended),
            Some(notice) if notice.standing != Standing::Open => {
                self.say(now, parties, Standing::Open, Line::default());
                Ok(())
            }
            _ => Err(PactError::NotSuspended),
        }
    }

    /// The neighbour's word, verified. What it says now counts, whatever it said before. `true`: it is news.
    pub fn handle_notice(&mut self, now: UnixSeconds, notice: Notice) -> bool {
        self.settle(now);
        let was_never = self.record.their_notice.is_none() && notice.standing == Standing::Open;
        if was_never || self.record.their_notice.as_ref() == Some(&notice) {
            return false;
        }
        self.record.their_notice = Some(notice);
        self.settle(now);
        true
    }

    /// The neighbour's signature, verified over this co-op's own rendering of these terms.
    pub fn handle_signature(&mut self, now: UnixSeconds, parties: Parties<'_>, terms: Terms, signature: Signature) -> Heard {
        self.settle(now);
        if self.record.accepted.contains(&terms) {
            return Heard::InForce { changed: self.sign(now, parties, terms, signature) };
        }
        if let Some(same) = self.record.accepted.iter_mut().find(|own| own.says_the_same(&terms)) {
            if same.revision > terms.revision {
                // The neighbour will adopt this co-op's number.
                return Heard::Stale;
            }
            *same = terms.clone();
            self.sign(now, parties, terms, signature);
            return Heard::Adopted;
        }
        if self.in_force().is_some_and(|in_force| terms.revision <= in_force.revision) {
            return Heard::Stale;
        }
        self.record.offer = Some(Offer { terms, signature });
        Heard::Offered
    }

    /// Both have signed. `true`: that is news.
    fn sign(&mut self, now: UnixSeconds, parties: Parties<'_>, terms: Terms, theirs: Signature) -> bool {
        let agreement = parties.agreement(terms.clone());
        let document = agreement.document();
        if self.record.signed.as_ref().is_some_and(|signed| signed.document == document) && self.in_force() == Some(&terms) {
            return false;
        }
        self.record.accepted.retain(|own| own.revision >= terms.revision);
        if self.record.offer.as_ref().is_some_and(|offer| offer.terms.revision <= terms.revision) {
            self.record.offer = None;
        }
        self.record.signed = Some(Signed { document, ours: agreement.sign(parties.root), theirs, since: now });
        self.signed_terms = Some(terms);
        true
    }

    /// The neighbour has shown with which key it signs in rooms. `true`: that is news.
    pub fn note_rooms_key(&mut self, key: PublicKey) -> bool {
        self.record.rooms_key.replace(key) != Some(key)
    }
}
