//! Two hubs in one term. Each was seated by a majority, and any two majorities share a voter: that one voted twice, and the
//! records of both terms, side by side, prove it.

use kith_protocol::codec::decode_succession;
use kith_protocol::ids::{Coop as CoopId, CoopName, RoomNumber, Term};
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::proof::{DoubleVote, Proof};
use kith_protocol::log::succession::Vote;

use super::machine::Coop;
use crate::room::Room;

impl Room {
    /// Who signed both a vote of these and one that began the present term, for somebody else.
    fn double_vote(&self, votes: &[Vote]) -> Option<Proof> {
        let log = self.log()?;
        let record = decode_succession(&log.succession).ok()?;
        let pairs = record.votes.iter().flat_map(|first| votes.iter().map(move |second| (first, second)));
        pairs.filter(|(first, second)| first.contradicts(second)).find_map(|(first, second)| {
            let voter = CoopId { name: first.voter.clone(), key: log.coop_key(&first.voter)? };
            let proof = Proof::DoubleVote(Box::new(DoubleVote { voter, first: first.clone(), second: second.clone() }));
            proof.verify().is_ok().then_some(proof)
        })
    }
}

impl Coop {
    /// A holder's word of a term in which this co-op knows another hub: it is shown what began that term here. `succession`:
    /// what began it there.
    pub(super) fn rival_came(&mut self, peer: &CoopName, number: RoomNumber, term: Term, word: Option<&Attestation>, succession: &[u8]) {
        let Some(room) = self.rooms.get(&number).filter(|room| room.term() == term) else { return };
        let Some(log) = room.log() else { return };
        if let Ok(record) = decode_succession(succession)
            && record.room == room.id
            && let Some(proof) = room.double_vote(&record.votes)
        {
            return self.freeze(number, proof);
        }
        let is_shown = |word: &Attestation| {
            let key = log.coop_key(&word.hub).filter(|_| word.hub != log.hub.name && word.checkpoint.term == term);
            key.is_some_and(|key| word.checkpoint.verify(&key, &word.signature).is_ok())
        };
        if word.is_some_and(is_shown) {
            tracing::error!(room = number.0, neighbour = %peer, term = term.0, "a holder knows another hub in this term");
            let (id, size, mine) = (room.id, room.durable(), log.succession.clone());
            if let Some((connection, link)) = self.link_to(peer) {
                link.status_with(id, term, size, mine);
                self.pump_link(connection);
            }
        }
    }

    /// Votes that this co-op was given in a term that somebody else began.
    pub(super) fn look_for_double_votes(&mut self, number: RoomNumber, given: &[Vote]) {
        if let Some(proof) = self.rooms.get(&number).and_then(|room| room.double_vote(given)) {
            self.freeze(number, proof);
        }
    }
}
