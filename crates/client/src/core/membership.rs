//! Beginning a room, and joining one.

use kith_protocol::admission::{Admission, fetch_statement};
use kith_protocol::codec;
use kith_protocol::content::{Content, check_name};
use kith_protocol::credential::LeafCertificate;
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, CoopName, Epoch, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::invite_link::RoomLink;
use kith_protocol::limits::{INVITE_LIFETIME_S, JOIN_ATTEMPTS_MAX};
use kith_protocol::log::Kind;
use kith_protocol::log::header::{Header, hash_bytes};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::voters::{Electorate, Voters};
use kith_protocol::member::{FetchGroup, Group as Offered, Join, Refused, RequestId, ToServer};
use kith_protocol::ratchet_tree;
use kith_protocol::room::{Creation, CreationBody, Role, RoomContext, SignedLeave, leave_statement, room_id};
use kith_protocol::sign::{SecretKey, verify};

use super::machine::{Ask, Core, CoreError, Event};
use super::state::{Intent, Joining, Offer, Phase, RoomState, Votes};
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
    /// Begins a room with this member alone in it. It becomes real once the co-op has it ([`Event::RoomReady`]).
    pub fn new_room(&mut self, now: UnixSeconds, name: &str) -> Result<RoomId, CoreError> {
        self.now = now;
        check_name(name)?;
        let coop = self.coop()?;
        let leaf = SecretKey::from_seed(self.random());
        let pseudonym = Pseudonym(self.random());
        let context = RoomContext {
            roles: vec![(pseudonym, Role::Facilitator)],
            invites: Vec::new(),
            voters: Voters { names: vec![coop.name.clone()], tie_breaker: None },
            voter_keys: vec![coop.key],
        };
        let creation = codec::encode_creation(&Creation {
            nonce: self.random(),
            creator_key: leaf.public(),
            context,
            hub: coop.clone(),
            created: now,
        });
        let id = room_id(&creation);
        let mut state = Self::blank(id, name, &coop, creation, now, &leaf, pseudonym);
        state.phase = Phase::Creating { body: None };
        self.rooms.insert(id, state);
        self.touch(&id);
        self.pump();
        self.finish();
        Ok(id)
    }

    fn blank(
        id: RoomId,
        name: &str,
        hub: &Coop,
        creation: Vec<u8>,
        created: UnixSeconds,
        leaf: &SecretKey,
        pseudonym: Pseudonym,
    ) -> RoomState {
        RoomState {
            id: id.0,
            number: None,
            name: name.to_owned(),
            phase: Phase::Gone,
            hub_name: hub.name.to_string(),
            hub_key: hub.key.0,
            creation,
            created: created.0,
            term: 1,
            leaf_seed: *leaf.seed(),
            pseudonym: pseudonym.0,
            certificate: None,
            size: 0,
            frontier: Vec::new(),
            last_time: created.0,
            epoch: 0,
            senders: Vec::new(),
            group_info_hash: [0; 32],
            counters: std::collections::BTreeMap::new(),
            left: Vec::new(),
            removed: Vec::new(),
            uses: Vec::new(),
            coops: std::collections::BTreeMap::from([(hub.name.to_string(), hub.key.0)]),
            leaf_keys: std::collections::BTreeMap::new(),
            names: std::collections::BTreeMap::new(),
            profile_due: false,
            held: std::collections::BTreeMap::new(),
            certified: 0,
            voters: Votes::default(),
            voters_before: Votes::default(),
            last_commit: 0,
            base: super::state::Base::default(),
            loose: Vec::new(),
            proof: None,
            cut: None,
            outbox: Vec::new(),
            done: Vec::new(),
            out_of_step: false,
            joined_at: 0,
            joined_epoch: 0,
        }
    }

    /// Joins by a link. It is done once the join has its place in the log ([`Event::RoomReady`]).
    pub fn join_room(&mut self, now: UnixSeconds, link: &RoomLink) -> Result<(), CoreError> {
        self.now = now;
        self.coop()?;
        let joining = Joining {
            invite_seed: *link.invite.seed(),
            holder_name: link.holder.name.to_string(),
            holder_key: link.holder.key.0,
            attempts: 0,
            offer: None,
        };
        let fresh_leaf = self.random();
        match self.rooms.get_mut(&link.room) {
            Some(state) => match &state.phase {
                Phase::Active | Phase::Creating { .. } => return Err(CoreError::AlreadyIn),
                // A join that is under way goes on, so that a lost answer is found again. A fresh link replaces one that failed;
                // what was handed in may have its place already, and only its own keys can follow from there.
                Phase::Joining(old) if old.invite_seed == joining.invite_seed => {}
                Phase::Joining(old) => state.phase = Phase::Joining(Joining { offer: old.offer.clone(), ..joining }),
                Phase::Gone => {
                    // The same pseudonym, as the co-op knows it; a leaf that was in the room is never used again.
                    if state.joined_at > 0 || state.size > 0 {
                        state.leaf_seed = fresh_leaf;
                        state.certificate = None;
                    }
                    state.phase = Phase::Joining(joining);
                }
            },
            None => {
                let leaf = SecretKey::from_seed(self.random());
                let pseudonym = Pseudonym(self.random());
                let mut state = Self::blank(link.room, &link.name, &link.holder, Vec::new(), now, &leaf, pseudonym);
                state.phase = Phase::Joining(joining);
                self.rooms.insert(link.room, state);
            }
        }
        self.touch(&link.room);
        self.pump();
        self.finish();
        Ok(())
    }

    /// A join that failed for good is given up; nothing was used up by it, and a fresh link can be tried.
    pub fn give_up_join(&mut self, room: &RoomId) {
        if let Some(state) = self.rooms.get_mut(room).filter(|state| matches!(state.phase, Phase::Joining(_))) {
            state.phase = Phase::Gone;
            self.touch(room);
            self.finish();
        }
    }

    fn is_asked(&self, ask: Ask) -> bool {
        self.session.asked.values().any(|other| *other == ask)
    }

    /// Takes the next step of a room that is being created or joined.
    pub(super) fn pump_membership(&mut self, room: &RoomId) {
        let Some(state) = self.rooms.get(room) else { return };
        if self.session.paused.contains(room) {
            return;
        }
        match &state.phase {
            Phase::Creating { body: None } => self.ask_certificate(room),
            Phase::Creating { body: Some(body) } => {
                let (pseudonym, body) = (Pseudonym(state.pseudonym), body.clone().into());
                if !self.is_asked(Ask::Create(*room)) {
                    let request = self.ask(Ask::Create(*room));
                    self.sends.push(ToServer::CreateRoom { request, room: *room, pseudonym, body });
                }
            }
            Phase::Joining(joining) => {
                let joining = joining.clone();
                let is_certified = state.certificate.is_some();
                self.pump_join(room, &joining, is_certified);
            }
            Phase::Active | Phase::Gone => {}
        }
    }

    fn ask_certificate(&mut self, room: &RoomId) {
        if self.is_asked(Ask::Certify(*room)) {
            return;
        }
        let Some(state) = self.rooms.get(room) else { return };
        let (pseudonym, leaf_key) = (Pseudonym(state.pseudonym), SecretKey::from_seed(state.leaf_seed).public());
        let request = self.ask(Ask::Certify(*room));
        self.sends.push(ToServer::Certify { request, room: *room, pseudonym, leaf_key });
    }

    fn pump_join(&mut self, room: &RoomId, joining: &Joining, is_certified: bool) {
        if !is_certified {
            return self.ask_certificate(room);
        }
        if self.is_asked(Ask::Join(*room)) || self.is_asked(Ask::Group(*room)) {
            return;
        }
        let Some(state) = self.rooms.get(room) else { return };
        match &joining.offer {
            // Handed in again after a lost connection: a join that was taken is not taken twice.
            Some(offer) if !self.session.offered.contains(room) => {
                let hub = Coop {
                    name: match state.hub_name.parse() {
                        Ok(name) => name,
                        Err(_) => return,
                    },
                    key: PublicKey(state.hub_key),
                };
                let (pseudonym, offer) = (Pseudonym(state.pseudonym), offer.clone());
                let request = self.ask(Ask::Join(*room));
                self.session.offered.insert(*room);
                self.sends.push(ToServer::Join(Join {
                    request,
                    room: *room,
                    holder: hub,
                    pseudonym,
                    epoch: Epoch(offer.epoch),
                    commit: offer.commit.into(),
                    group_info: offer.group_info.into(),
                    from: Seq(offer.from),
                }));
            }
            Some(_) => {}
            None => self.fetch_group(room, joining),
        }
    }

    fn fetch_group(&mut self, room: &RoomId, joining: &Joining) {
        let (Ok(coop), Ok(name)) = (self.coop(), joining.holder_name.parse::<CoopName>()) else { return };
        let invite = SecretKey::from_seed(joining.invite_seed);
        let proof = invite.sign(&fetch_statement(room, &coop.name));
        let request = self.ask(Ask::Group(*room));
        self.sends.push(ToServer::FetchGroup(FetchGroup {
            request,
            room: *room,
            holder: Coop { name, key: PublicKey(joining.holder_key) },
            invite: invite.public(),
            proof,
        }));
    }

    pub(super) fn certificate_came(&mut self, request: RequestId, certificate: LeafCertificate) {
        let Some(Ask::Certify(room)) = self.session.asked.remove(&request) else { return };
        let Ok(coop) = self.coop() else { return };
        let Some(state) = self.rooms.get_mut(&room) else { return };
        let leaf = SecretKey::from_seed(state.leaf_seed);
        let fits = certificate.coop == coop
            && certificate.pseudonym.0 == state.pseudonym
            && certificate.verify(&room, &leaf.public(), self.now).is_ok();
        if !fits {
            return self.distrust(&room, "the co-op's certificate does not hold".to_owned());
        }
        state.certificate = Some(codec::encode_certificate(&certificate));
        let is_new = matches!(state.phase, Phase::Creating { body: None });
        self.touch(&room);
        if is_new && let Err(error) = self.make_room(&room, &leaf, &certificate) {
            self.distrust(&room, error.to_string());
        }
    }

    fn make_room(&mut self, room: &RoomId, leaf: &SecretKey, certificate: &LeafCertificate) -> Result<(), CoreError> {
        let state = self.rooms.get(room).ok_or(CoreError::NoSuchRoom)?;
        let creation = state.creation.clone();
        let context = codec::decode_creation(&creation).map_err(|error| CoreError::Damaged(error.to_string()))?.context;
        let (group, group_info, tree) = Group::create(&self.provider, room, leaf, certificate, &context)?;
        self.groups.insert(*room, group);
        let body = codec::encode_creation_body(&CreationBody { creation, group_info, tree });
        if let Some(state) = self.rooms.get_mut(room) {
            state.phase = Phase::Creating { body: Some(body) };
        }
        self.touch(room);
        Ok(())
    }

    /// The co-op has the room, or has taken the join.
    pub(super) fn number_came(&mut self, request: RequestId, room: &RoomId, number: RoomNumber) {
        let asked = self.session.asked.remove(&request);
        let Some(state) = self.rooms.get_mut(room) else { return };
        state.number = Some(number.0);
        self.touch(room);
        if let (Some(Ask::Create(_)), Some(state)) = (asked, self.rooms.get(room))
            && let Phase::Creating { body: Some(body) } = &state.phase
        {
            let body = body.clone();
            self.room_created(room, &body);
        }
    }

    /// The creator knows the first entry: it made it.
    fn room_created(&mut self, room: &RoomId, body: &[u8]) {
        let Ok(parts) = codec::decode_creation_body(body) else { return };
        let device = self.device_number();
        let Some(state) = self.rooms.get_mut(room) else { return };
        let group_info_hash = hash_bytes(&parts.group_info);
        let sender = Pseudonym(state.pseudonym);
        let header = Header {
            room: *room,
            seq: Seq(0),
            term: Self::term(state),
            epoch: Epoch(0),
            kind: Kind::Creation,
            id: kith_protocol::ids::EntryId { sender, counter: kith_protocol::ids::Counter { device, number: 1 } },
            time: UnixSeconds(state.created),
            body_hash: hash_bytes(body),
            extra: group_info_hash,
        };
        let mut frontier = Frontier::default();
        frontier.push(leaf_hash(&header.encode()));
        state.size = 1;
        state.frontier = frontier.nodes().iter().map(|node| node.0).collect();
        state.senders = vec![sender.0];
        state.counters.insert((sender.0, device), 1);
        state.group_info_hash = group_info_hash.0;
        state.phase = Phase::Active;
        state.base = Self::base(state);
        if let Ok(creation) = codec::decode_creation(&state.creation) {
            state.voters = Votes::of(&creation.context.voters);
            state.voters_before = state.voters.clone();
        }
        let row = super::state::RowState { header: header.encode().to_vec(), what: super::state::RowWhat::Nothing };
        let value = postcard::to_stdvec(&row).expect("plain data serialises");
        self.rows.push((super::machine::row_key(room, Seq(0)), Some(value)));
        self.session.logs.remove(room);
        self.learn_members(room);
        self.tell_name(room);
        self.events.push(Event::RoomReady(*room));
    }

    /// One's name goes to the room, ahead of whatever else is waiting.
    pub(super) fn tell_name(&mut self, room: &RoomId) {
        let Some(name) = self.account.as_ref().map(|account| account.name.clone()) else { return };
        let content = codec::encode_content(&Content::Profile { name });
        if self.push_item(room, Intent::Content(content)).is_ok()
            && let Some(state) = self.rooms.get_mut(room)
        {
            state.profile_due = false;
            let unmade = state.outbox.iter().position(|item| item.made.is_none()).unwrap_or(0);
            if let Some(profile) = state.outbox.pop() {
                state.outbox.insert(unmade.min(state.outbox.len()), profile);
            }
        }
    }

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
        state.term = offered.term.0;
        state.size = offered.size;
        state.frontier = frontier.nodes().iter().map(|node| node.0).collect();
        state.last_time = offered.last_time.0;
        state.senders = offered.senders.iter().map(|who| who.0).collect();
        state.group_info_hash = info_hash.0;
        state.last_commit = offered.size.saturating_sub(1);
        state.base = Self::base(state);
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

    /// When an invite that is opened now closes.
    pub(super) fn invite_expiry(&self) -> UnixSeconds {
        UnixSeconds(self.now.0 + INVITE_LIFETIME_S)
    }
}
