//! Beginning a room, and joining one.

use kith_protocol::admission::fetch_statement;
use kith_protocol::codec;
use kith_protocol::content::{Content, check_name};
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Coop, CoopName, Epoch, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::invite_link::RoomLink;
use kith_protocol::limits::INVITE_LIFETIME_S;
use kith_protocol::log::Kind;
use kith_protocol::log::header::{Header, hash_bytes};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::voters::Voters;
use kith_protocol::member::{FetchGroup, Join, RequestId, ToServer};
use kith_protocol::room::{Creation, CreationBody, Role, RoomContext, room_id};
use kith_protocol::sign::SecretKey;

use super::machine::{Ask, Core, CoreError, Event};
use super::state::{Intent, Joining, Phase, RoomState, Votes};
use crate::mls::group::Group;

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
            terms: Vec::new(),
            loose: Vec::new(),
            proof: None,
            cut: None,
            outbox: Vec::new(),
            done: Vec::new(),
            out_of_step: None,
            is_cut_back: false,
            is_shut_out: false,
            joined_at: 0,
            joined_epoch: 0,
            contests: super::state::Contests::default(),
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
                Phase::Active if state.is_shut_out => {
                    state.is_shut_out = false;
                    (state.leaf_seed, state.certificate) = (fresh_leaf, None);
                    state.phase = Phase::Joining(joining);
                }
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
                let (pseudonym, term, offer) = (Pseudonym(state.pseudonym), Term(state.term), offer.clone());
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
                    term,
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
        Self::set_base(state);
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

    /// When an invite that is opened now closes.
    pub(super) fn invite_expiry(&self) -> UnixSeconds {
        UnixSeconds(self.now.0 + INVITE_LIFETIME_S)
    }
}
