//! What a joiner is sent of a room: looked at from every side before anything is made of it, and what becomes of a no.

use kith_protocol::admission::Admission;
use kith_protocol::codec;
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, CoopName, RoomId, Seq, Term, UnixSeconds};
use kith_protocol::limits::JOIN_ATTEMPTS_MAX;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::Frontier;
use kith_protocol::log::voters::Electorate;
use kith_protocol::member::{Group as Offered, Refused, RequestId};
use kith_protocol::ratchet_tree;
use kith_protocol::room::{Creation, SignedLeave, leave_statement, room_id};
use kith_protocol::sign::{SecretKey, verify};

use super::machine::{Ask, Core, Event};
use super::state::{Contests, Offer, Phase, RoomState, Votes};
use crate::mls::group::{Group, Joined};
use crate::mls::provider::Provider;

/// Why nothing came of what a joiner was sent.
#[derive(Debug, thiserror::Error)]
enum NoOffer {
    #[error("it is not shown yet who orders the room; try again in a moment")]
    NotYet,
    #[error("{0}")]
    Bad(String),
}

impl NoOffer {
    fn bad(why: &str) -> Self {
        Self::Bad(why.to_owned())
    }
}

impl Core {
    /// The other side's GroupInfo and tree: verified, and answered by an external commit.
    pub(super) fn group_came(&mut self, request: RequestId, offered: Offered) {
        let Some(Ask::Group(room)) = self.session.asked.remove(&request) else { return };
        match self.offer_join(&room, &offered) {
            Ok(()) => {}
            // Who orders the room is not shown yet: at the next tick perhaps.
            Err(NoOffer::NotYet) if self.tries_again(&room) => drop(self.session.paused.insert(room)),
            Err(error) => self.events.push(Event::JoinFailed { room, code: Code::BadProof, detail: error.to_string() }),
        }
    }

    /// Whether a join may be tried once more.
    fn tries_again(&mut self, room: &RoomId) -> bool {
        let Some(RoomState { phase: Phase::Joining(joining), .. }) = self.rooms.get_mut(room) else { return false };
        joining.attempts += 1;
        joining.attempts < JOIN_ATTEMPTS_MAX
    }

    fn offer_join(&mut self, room: &RoomId, offered: &Offered) -> Result<(), NoOffer> {
        let text = |error: &dyn std::fmt::Display| NoOffer::Bad(error.to_string());
        if room_id(&offered.creation) != *room {
            return Err(NoOffer::bad("the room's beginning is not the one that the link names"));
        }
        let creation = codec::decode_creation(&offered.creation).map_err(|error| text(&error))?;
        let frontier = Frontier::from_parts(offered.size, offered.frontier.clone()).map_err(|error| text(&error))?;
        let checkpoint = offered.attestation.checkpoint;
        if checkpoint.size != offered.size || checkpoint.root != frontier.root() || checkpoint.term != offered.term {
            return Err(NoOffer::bad("the log's checkpoint is not over what was sent"));
        }
        let seed = self.random();
        let state = self.rooms.get_mut(room).ok_or(NoOffer::bad("no such room"))?;
        let Phase::Joining(joining) = &state.phase else { return Ok(()) };
        let mut joining = joining.clone();
        let leaf = SecretKey::from_seed(state.leaf_seed);
        let certificate = state.certificate.as_deref().map(codec::decode_certificate);
        let certificate = certificate.ok_or(NoOffer::bad("no certificate"))?.map_err(|error| text(&error))?;
        let invite = SecretKey::from_seed(joining.invite_seed);
        let info_hash = hash_bytes(&offered.group_info);
        let admission = Admission::sign(&invite, room, &leaf.public(), info_hash, offered.next_use);
        let tree = ratchet_tree::restore(&offered.short_tree, &offered.senders).map_err(|error| text(&error))?;
        let scratch = Provider::new(seed);
        let joined = Group::join(&scratch, &leaf, &certificate, &offered.group_info, &tree, codec::encode_admission(&admission))
            .map_err(|error| text(&error))?;
        let hub = Self::hub_of(room, &creation, offered, &joined)?;
        checkpoint.verify(&hub.key, &offered.attestation.signature).map_err(|error| text(&error))?;
        for member in &joined.members {
            let certificate = &member.certificate;
            certificate.verify(room, &member.key, UnixSeconds(0)).map_err(|_| NoOffer::bad("a member's certificate does not hold"))?;
            let known = state.coops.entry(certificate.coop.name.to_string()).or_insert(certificate.coop.key.0);
            if *known != certificate.coop.key.0 {
                return Err(NoOffer::bad("a member's co-op is not the one that the room knows"));
            }
            // Whoever leaves before this device is in is known by this tree.
            state.leaf_keys.insert((certificate.pseudonym.0, certificate.device), Self::key_array(&member.key));
        }
        // Who has left is taken at its own word, as its leaf signed it.
        let left = |leave: &&SignedLeave| {
            let leaf = joined.members.iter().find(|member| {
                let certificate = &member.certificate;
                certificate.pseudonym == leave.id.sender && certificate.device == leave.id.counter.device
            });
            leaf.is_some_and(|leaf| verify(&leaf.key, &leave_statement(room, &leave.id), &leave.signature).is_ok())
        };
        state.left = offered.leaves.iter().filter(left).map(|leave| leave.id.sender.0).collect();
        state.hub_name = hub.name.to_string();
        state.hub_key = hub.key.0;
        state.voters = Votes::of(&joined.context.voters);
        state.voters_before = state.voters.clone();
        state.coops.insert(creation.hub.name.to_string(), creation.hub.key.0);
        let context = &joined.context;
        for (voter, key) in context.voters.everybody().zip(&context.voter_keys) {
            state.coops.entry(voter.to_string()).or_insert(key.0);
        }
        state.creation = offered.creation.to_vec();
        state.created = creation.created.0;
        (state.term, state.size) = (offered.term.0, offered.size);
        state.frontier = frontier.nodes().iter().map(|node| node.0).collect();
        state.last_time = offered.last_time.0;
        state.senders = offered.senders.iter().map(|who| who.0).collect();
        state.contests = Contests::at_join(&offered.days);
        state.group_info_hash = info_hash.0;
        state.last_commit = offered.size.saturating_sub(1);
        Self::set_base(state);
        joining.attempts += 1;
        joining.offer = Some(Offer {
            epoch: joined.epoch.0,
            commit: joined.outgoing.commit,
            group_info: joined.outgoing.group_info,
            from: offered.size,
            state: joined.state,
        });
        state.phase = Phase::Joining(joining);
        self.session.logs.remove(room);
        self.touch(room);
        Ok(())
    }

    /// The hub of the first term stands in the creation, which the link's id commits to. A later one was seated by votes of a
    /// majority of the voters whom the members' own signed context names now; or, where these have changed since, a majority
    /// of them holds what it ordered, by their own signatures.
    fn hub_of(room: &RoomId, creation: &Creation, offered: &Offered, joined: &Joined) -> Result<Coop, NoOffer> {
        if offered.term == Term(1) {
            return Ok(creation.hub.clone());
        }
        let record = codec::decode_succession(&offered.succession).map_err(|error| NoOffer::Bad(error.to_string()))?;
        if record.room != *room || record.term != offered.term {
            return Err(NoOffer::bad("the votes for the room's hub are of another room or term"));
        }
        let (context, voters) = (&joined.context, &joined.context.voters);
        let key_of = |name: &CoopName| {
            let seen = joined.members.iter().map(|member| &member.certificate.coop).find(|coop| coop.name == *name);
            let seen = seen.map(|coop| coop.key).or_else(|| context.voter_key(name));
            seen.or_else(|| (creation.hub.name == *name).then_some(creation.hub.key))
        };
        let electorate = Electorate { before: voters.clone(), after: voters.clone(), commit: Seq(0) };
        if record.verify(&electorate, key_of).is_ok() {
            return Ok(record.hub);
        }
        if !voters.may_order(&record.hub.name) || context.voter_key(&record.hub.name) != Some(record.hub.key) {
            return Err(NoOffer::bad("the room's hub is none of its voters"));
        }
        let word = &offered.attestation;
        word.verify(key_of).map_err(|error| NoOffer::Bad(error.to_string()))?;
        if voters.certify(word.holders()) { Ok(record.hub) } else { Err(NoOffer::NotYet) }
    }

    /// The co-op or the hub refused a step of a room's beginning.
    pub(super) fn membership_refused(&mut self, ask: Option<Ask>, room: &RoomId, refused: &Refused) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        self.session.offered.remove(room);
        if refused.code.is_transient() {
            // Nothing is wrong with what was asked: the same again at the next tick.
            self.session.paused.insert(*room);
            self.put_off(refused);
            return;
        }
        if let Phase::Joining(joining) = &mut state.phase {
            let stale = matches!(refused.code, Code::WrongEpoch | Code::OutOfOrder)
                || (refused.code == Code::InviteClosed && matches!(ask, Some(Ask::Join(_)) | None));
            if stale && joining.attempts < JOIN_ATTEMPTS_MAX {
                // The room moved on meanwhile: made anew from its newest state. Nothing was used up.
                joining.offer = None;
                state.number = None;
                self.session.logs.remove(room);
                self.touch(room);
                return;
            }
        }
        if let Some(state) = self.rooms.get_mut(room) {
            if let Phase::Joining(joining) = &mut state.phase {
                joining.offer = None;
                state.number = None;
            }
            self.touch(room);
        }
        self.events.push(Event::JoinFailed { room: *room, code: refused.code, detail: refused.detail.clone() });
    }
}
