//! What a room's log says so far: the facts that entries are judged by, and how each entry changes them.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;
use kith_protocol::codec;
use kith_protocol::contest::{Activity, Complaint, Docket};
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Coop, CoopName, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, Seq, Term, UnixSeconds};
use kith_protocol::judge::{CommitFacts, EntryFacts, Refusal, RoomFacts, Standing, What, judge};
use kith_protocol::limits::{DEVICES_MAX, LEAVES_MAX, SENDERS_MAX, TERMS_MAX, TREE_BYTES_MAX};
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::Frontier;
use kith_protocol::log::succession::Succession;
use kith_protocol::log::voters::{Electorate, Voters};
use kith_protocol::log::{Header, Kind};
use kith_protocol::ratchet_tree;
use kith_protocol::room::{Creation, RoomContext, SignedLeave, group_info_hash, leave_statement, room_id};
use kith_protocol::sign::{Signature, verify};
use kith_protocol::snapshot::{Before, GroupSnapshot, RoomSnapshot, Sender};

use super::error::{CreationError, EntryError};
use super::view::{GroupView, Staged, ViewError};

/// A judged entry, ready to take effect.
pub enum Effect {
    Message,
    Leave,
    Commit(Box<Staged>),
    Succession(Box<Succession>),
    Complaint(Complaint),
}

#[derive(Debug)]
pub struct Log {
    room: RoomId,
    pub frontier: Frontier,
    pub term: Term,
    epoch: Epoch,
    pub created: UnixSeconds,
    pub last_time: UnixSeconds,
    pub senders: Vec<Sender>,
    counters: Vec<Vec<u64>>,
    index: HashMap<Pseudonym, u32>,
    pub creation: Bytes,
    pub context: RoomContext,
    pub group_info: Bytes,
    group_info_hash: Hash,
    pub tree: Bytes,
    /// The tree as joiners are sent it, made once an epoch and only if somebody asks.
    pub(super) short_tree: OnceLock<Bytes>,
    pub last_commit: Seq,
    /// The co-op that orders the room now.
    pub hub: Coop,
    pub(super) voters_before: Voters,
    /// The last checkpoint of each term that has ended, oldest first.
    pub ended: Vec<Attestation>,
    /// Exact body of the newest succession; empty in the first term.
    pub succession: Bytes,
    pub(super) uses: Vec<(PublicKey, Vec<u32>)>,
    coops: Vec<Coop>,
    /// By index of the sender.
    pub(super) activity: Vec<Activity>,
    pub(super) docket: Docket,
    /// States that commits may be undone to: of the epochs that the docket keeps.
    pub(super) befores: Vec<Before>,
    /// The last entry since the log was opened with which the room went back, and to which epoch.
    pub(super) went_back: Option<(Seq, Epoch)>,
    /// Opened when the first commit needs it.
    pub(super) view: Option<GroupView>,
}

impl RoomFacts for Log {
    fn room(&self) -> &RoomId {
        &self.room
    }
    fn epoch(&self) -> Epoch {
        self.epoch
    }
    fn last_time(&self) -> UnixSeconds {
        self.last_time
    }
    fn context(&self) -> &RoomContext {
        &self.context
    }
    fn group_info_hash(&self) -> &Hash {
        &self.group_info_hash
    }
    fn standing(&self, who: &Pseudonym) -> Standing {
        self.index_of(who).map_or(Standing::Unknown, |index| self.senders[index as usize].standing)
    }
    fn last_counter(&self, id: &EntryId) -> u64 {
        self.index_of(&id.sender).and_then(|index| self.counters[index as usize].get(usize::from(id.counter.device)).copied()).unwrap_or(0)
    }
    fn is_use_taken(&self, invite: &PublicKey, number: u32) -> bool {
        self.uses.iter().any(|(key, taken)| key == invite && taken.contains(&number))
    }
    fn convicted(&self) -> Vec<Pseudonym> {
        let convicted = self.senders.iter().filter(|sender| sender.standing == Standing::Convicted);
        convicted.map(|sender| sender.pseudonym).collect()
    }
    fn docket(&self) -> &Docket {
        &self.docket
    }
    fn index_of(&self, who: &Pseudonym) -> Option<u32> {
        self.index.get(who).copied()
    }
    fn coop_key(&self, name: &CoopName) -> Option<PublicKey> {
        self.coops.iter().find(|coop| coop.name == *name).map(|coop| coop.key)
    }
}

impl Log {
    /// The log's first state, from the body of its creation entry. The header's facts are checked against it.
    pub fn create(id: &RoomId, sender: &Pseudonym, body: &[u8]) -> Result<Self, CreationError> {
        let body = codec::decode_creation_body(body).map_err(|_| CreationError::Parts)?;
        if room_id(&body.creation) != *id {
            return Err(CreationError::Id);
        }
        let creation: Creation = codec::decode_creation(&body.creation).map_err(|_| CreationError::Parts)?;
        let view = GroupView::open(&body.group_info, &body.tree).map_err(|_| CreationError::Parts)?;
        let leaves = view.leaves().map_err(|_| CreationError::Parts)?;
        let [leaf] = leaves.as_slice() else {
            return Err(CreationError::Parts);
        };
        let LeafCertificate { pseudonym, coop, .. } = &leaf.certificate;
        let fits = view.group_id() == id.0
            && view.epoch() == 0
            && view.context().is_ok_and(|context| context == creation.context)
            && creation.context.check().is_ok()
            && creation.context.voters.names == [creation.hub.name.clone()]
            && creation.context.voter_keys == [creation.hub.key]
            && leaf.key == creation.creator_key
            && pseudonym == sender
            && *coop == creation.hub;
        if !fits {
            return Err(CreationError::Parts);
        }
        leaf.certificate.verify(id, &leaf.key, creation.created).map_err(|_| CreationError::Certificate)?;
        let body_voters = creation.context.voters.clone();
        Ok(Self {
            room: *id,
            frontier: Frontier::default(),
            term: Term(1),
            epoch: Epoch(0),
            created: creation.created,
            last_time: creation.created,
            senders: vec![Sender { pseudonym: *sender, standing: Standing::Member, coop: coop.name.clone(), leave: None, out_at: None }],
            counters: vec![vec![]],
            index: HashMap::from([(*sender, 0)]),
            creation: body.creation.into(),
            context: creation.context,
            group_info_hash: group_info_hash(&body.group_info),
            group_info: body.group_info.into(),
            tree: body.tree.into(),
            short_tree: OnceLock::new(),
            last_commit: Seq(0),
            hub: creation.hub.clone(),
            voters_before: body_voters,
            ended: Vec::new(),
            succession: Bytes::new(),
            uses: Vec::new(),
            coops: vec![creation.hub],
            activity: vec![Activity::default()],
            docket: Docket::default(),
            befores: Vec::new(),
            went_back: None,
            view: Some(view),
        })
    }

    /// From its snapshots. The caller has checked the frontier against the newest checkpoint.
    pub fn restore(room: RoomId, small: RoomSnapshot, group: GroupSnapshot) -> Option<Self> {
        let creation = codec::decode_creation(&group.creation).ok()?;
        let view = GroupView::open(&group.group_info, &group.tree).ok()?;
        let index = group.senders.iter().enumerate().map(|(i, sender)| (sender.pseudonym, i as u32)).collect();
        let mut counters = small.counters;
        counters.resize(group.senders.len(), Vec::new());
        let mut activity = small.activity;
        activity.resize(group.senders.len(), Activity::default());
        Some(Self {
            room,
            frontier: Frontier::from_parts(small.size, small.frontier).ok()?,
            term: small.term,
            epoch: small.epoch,
            created: creation.created,
            last_time: small.last_time,
            senders: group.senders,
            counters,
            index,
            creation: group.creation,
            context: view.context().ok()?,
            group_info_hash: group_info_hash(&group.group_info),
            group_info: group.group_info,
            tree: group.tree,
            short_tree: OnceLock::new(),
            last_commit: group.last_commit,
            hub: group.hub,
            voters_before: group.voters_before,
            ended: group.ended,
            succession: group.succession,
            uses: group.invite_uses,
            coops: group.coops,
            activity,
            docket: group.docket,
            befores: group.befores,
            went_back: None,
            view: Some(view),
        })
    }

    pub fn snapshot(&self) -> RoomSnapshot {
        RoomSnapshot {
            size: self.frontier.size(),
            frontier: self.frontier.nodes().to_vec(),
            term: self.term,
            epoch: self.epoch,
            created: self.created,
            last_time: self.last_time,
            counters: self.counters.clone(),
            activity: self.activity.clone(),
        }
    }

    pub fn group_snapshot(&self) -> GroupSnapshot {
        GroupSnapshot {
            creation: self.creation.clone(),
            group_info: self.group_info.clone(),
            tree: self.tree.clone(),
            last_commit: self.last_commit,
            senders: self.senders.clone(),
            invite_uses: self.uses.clone(),
            coops: self.coops.clone(),
            hub: self.hub.clone(),
            voters_before: self.voters_before.clone(),
            ended: self.ended.clone(),
            succession: self.succession.clone(),
            docket: self.docket.clone(),
            befores: self.befores.clone(),
        }
    }

    /// Whose votes count, and until where by the voters before the newest commit.
    pub fn electorate(&self) -> Electorate {
        Electorate { before: self.voters_before.clone(), after: self.context.voters.clone(), commit: self.last_commit }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn set_epoch(&mut self, epoch: Epoch, group_info_hash: Hash) {
        (self.epoch, self.group_info_hash) = (epoch, group_info_hash);
    }

    pub fn coop_of(&self, who: &Pseudonym) -> Option<&CoopName> {
        self.index_of(who).map(|index| &self.senders[index as usize].coop)
    }

    pub fn is_member(&self, who: &Pseudonym) -> bool {
        self.standing(who) == Standing::Member
    }

    /// Co-ops with members, each once.
    pub fn coops_with_members(&self) -> Vec<CoopName> {
        let members = self.senders.iter().filter(|sender| sender.standing == Standing::Member);
        kith_protocol::room::coops_of(members.map(|sender| &sender.coop))
    }

    /// How far a co-op may be sent the log: without end while it has a vote, or somebody in the tree (a member, or one who
    /// has left and whose leaf still stands); else up to the commit that took its last leaf out; else not at all.
    pub fn end_for(&self, coop: &CoopName) -> u64 {
        let stands = |sender: &Sender| matches!(sender.standing, Standing::Member | Standing::Left | Standing::Convicted);
        let its = || self.senders.iter().filter(|sender| sender.coop == *coop);
        if self.electorate().counts(coop) || its().any(stands) {
            return u64::MAX;
        }
        its().filter_map(|sender| sender.out_at).max().map_or(0, |last| last.0 + 1)
    }

    /// The lowest use of an open invite that nobody has taken.
    pub fn next_use(&self, invite: &PublicKey, now: UnixSeconds) -> Option<u32> {
        let open = self.context.invite(invite).filter(|invite| now <= invite.expires)?;
        (1..=open.uses).find(|number| !self.is_use_taken(invite, *number))
    }

    /// Judges an entry as the next one.
    pub fn examine(&mut self, id: &EntryId, kind: Kind, epoch: Epoch, time: UnixSeconds, body: &[u8]) -> Result<Effect, EntryError> {
        let facts = |what| EntryFacts { id: *id, epoch, time, what };
        if self.index_of(&id.sender).is_none() && self.senders.len() >= SENDERS_MAX {
            return Err(EntryError::Full);
        }
        if matches!(kind, Kind::Commit | Kind::Complaint | Kind::Leave) {
            self.settle();
        }
        match kind {
            Kind::Message => {
                judge(self, &facts(What::Message))?;
                Ok(Effect::Message)
            }
            Kind::Leave => {
                judge(self, &facts(What::Leave))?;
                if self.leaves().len() >= LEAVES_MAX {
                    return Err(EntryError::Leaves);
                }
                self.check_leave(id, body)?;
                Ok(Effect::Leave)
            }
            Kind::Commit => {
                // The counter first: a duplicate is no invalid commit.
                if id.counter.number <= self.last_counter(id) {
                    return Err(Refusal::Duplicate.into());
                }
                if epoch != self.epoch {
                    return Err(Refusal::Epoch { current: self.epoch, got: epoch }.into());
                }
                let staged = self.view()?.stage(body)?;
                judge(self, &facts(What::Commit(Box::new(staged.facts.clone()))))?;
                Ok(Effect::Commit(Box::new(staged)))
            }
            Kind::Succession => {
                judge(self, &facts(What::Succession))?;
                let record = codec::decode_succession(body).map_err(|_| EntryError::Body)?;
                if record.room != self.room || self.ended.len() >= TERMS_MAX {
                    return Err(EntryError::Body);
                }
                record.verify(&self.electorate(), |name| self.coop_key(name))?;
                record.stands(self.term, self.frontier.size(), &self.frontier.root())?;
                Ok(Effect::Succession(Box::new(record)))
            }
            Kind::Complaint => {
                let complaint = Complaint::decode(body).ok_or(EntryError::Body)?;
                judge(self, &facts(What::Complaint(complaint)))?;
                self.check_complaint(id, &complaint)?;
                Ok(Effect::Complaint(complaint))
            }
            Kind::Creation => Err(EntryError::Body),
        }
    }

    /// What a judged entry changes. `true`: the group's snapshot, too.
    pub fn take_effect(&mut self, effect: Effect, header: &Header, body: &Bytes, group_info: &Bytes) -> Result<bool, EntryError> {
        match effect {
            Effect::Message => return Ok(false),
            Effect::Leave => {
                self.note_leave(&header.id, body);
                self.reconsider(header)?;
            }
            Effect::Commit(staged) => {
                let (before, contest) = self.before(header);
                self.merge(*staged, group_info, header.seq)?;
                self.last_commit = header.seq;
                self.contestable(before, contest);
            }
            Effect::Complaint(complaint) => self.complained(header, &complaint)?,
            Effect::Succession(record) => {
                self.note_sender(&header.id.sender, &record.hub.name);
                self.ended.extend(record.chosen().cloned());
                self.term = record.term;
                self.hub = record.hub;
                self.succession = body.clone();
            }
        }
        Ok(true)
    }

    /// An entry that already stands in the log, at a mirror or while a log is rebuilt: judged, and an invalid one keeps
    /// its place without effect. Returns the Merkle nodes that it completes, and whether the group's snapshot changed.
    pub fn replay(&mut self, header: &Header, body: &Bytes, group_info: &Bytes) -> (Vec<Hash>, Result<bool, EntryError>) {
        let taken = if header.kind == Kind::Creation && header.seq == Seq(0) {
            Ok(true)
        } else {
            self.examine(&header.id, header.kind, header.epoch, header.time, body)
                .and_then(|effect| self.take_effect(effect, header, body, group_info))
        };
        if taken.is_err() {
            let hub = self.hub.name.clone();
            self.note_sender(&header.id.sender, &hub);
        }
        (self.push(header, taken.is_ok()), taken)
    }

    fn check_leave(&mut self, id: &EntryId, body: &[u8]) -> Result<(), EntryError> {
        let signature = Signature::from_slice(body).map_err(|_| EntryError::Body)?;
        let key = self.view()?.leaf_key(&id.sender, id.counter.device).ok_or(EntryError::Body)?;
        let statement = leave_statement(&self.room, id);
        verify(&key, &statement, &signature).map_err(|_| EntryError::Body)
    }

    /// `None`: the tree has no short form, and nobody can be served it.
    pub fn short_tree(&self) -> Option<Bytes> {
        if let Some(short) = self.short_tree.get() {
            return Some(short.clone());
        }
        let senders: Vec<Pseudonym> = self.senders.iter().map(|sender| sender.pseudonym).collect();
        let short = ratchet_tree::shorten(&self.tree, &senders).ok()?;
        Some(self.short_tree.get_or_init(|| short.into()).clone())
    }

    pub(super) fn view(&mut self) -> Result<&mut GroupView, ViewError> {
        if self.view.is_none() {
            self.view = Some(GroupView::open(&self.group_info, &self.tree)?);
        }
        self.view.as_mut().ok_or(ViewError::Open)
    }

    /// Merges a commit into the view. On an error nothing has changed.
    pub fn merge(&mut self, staged: Staged, group_info: &Bytes, seq: Seq) -> Result<(), ViewError> {
        let facts = staged.facts.clone();
        let view = self.view()?;
        let merged = view.merge(staged, group_info);
        let (tree, epoch) = (view.tree_bytes(), view.epoch());
        let fits = if tree.len() <= TREE_BYTES_MAX { Ok(()) } else { Err(ViewError::Tree) };
        if let Err(error) = merged.and(fits) {
            self.view = None;
            return Err(error);
        }
        self.tree = tree.into();
        self.short_tree = OnceLock::new();
        self.epoch = Epoch(epoch);
        self.group_info_hash = hash_bytes(group_info);
        self.group_info = group_info.clone();
        self.note_commit(facts, seq);
        Ok(())
    }

    fn note_commit(&mut self, facts: CommitFacts, seq: Seq) {
        self.voters_before = self.context.voters.clone();
        if let Some(context) = facts.new_context {
            self.context = context;
        }
        for who in &facts.removes {
            if let Some(index) = self.index_of(who) {
                let sender = &mut self.senders[index as usize];
                sender.out_at = Some(seq);
                // Whoever left by itself may come back by a new invite; whoever was removed may not.
                sender.standing = if sender.standing == Standing::Left { Standing::Unknown } else { Standing::Removed };
            }
        }
        if let Some(join) = facts.join {
            let LeafCertificate { pseudonym, coop, .. } = join.certificate;
            let index = self.note_sender(&pseudonym, &coop.name);
            self.senders[index as usize].standing = Standing::Member;
            if self.coop_key(&coop.name).is_none() {
                self.coops.push(coop);
            }
            if let Some(admission) = join.admission {
                match self.uses.iter_mut().find(|(key, _)| *key == admission.invite) {
                    Some((_, taken)) => taken.push(admission.use_number),
                    None => self.uses.push((admission.invite, vec![admission.use_number])),
                }
            }
            let context = &self.context;
            self.uses.retain(|(key, _)| context.invite(key).is_some());
        }
    }

    /// Lists a sender at its first appearance, valid or not: indexes are by appearance in the log.
    pub fn note_sender(&mut self, who: &Pseudonym, coop: &CoopName) -> u32 {
        if let Some(index) = self.index_of(who) {
            return index;
        }
        let index = self.senders.len() as u32;
        self.senders.push(Sender { pseudonym: *who, standing: Standing::Unknown, coop: coop.clone(), leave: None, out_at: None });
        self.counters.push(Vec::new());
        self.activity.push(Activity::default());
        self.index.insert(*who, index);
        index
    }

    pub fn note_leave(&mut self, id: &EntryId, body: &[u8]) {
        if let Some(index) = self.index_of(&id.sender) {
            let sender = &mut self.senders[index as usize];
            sender.standing = Standing::Left;
            sender.leave = Signature::from_slice(body).ok().map(|signature| SignedLeave { id: *id, signature });
        }
    }

    /// Of members who have left and whose leaves still stand.
    pub fn leaves(&self) -> Vec<SignedLeave> {
        self.senders.iter().filter(|sender| sender.standing == Standing::Left).filter_map(|sender| sender.leave).collect()
    }

    /// The entry stands in the log now. A valid one moves its sender's counter.
    pub fn push(&mut self, header: &Header, valid: bool) -> Vec<Hash> {
        self.last_time = self.last_time.max(header.time);
        if valid {
            let (device, number) = (usize::from(header.id.counter.device), header.id.counter.number);
            if let (Some(index), true) = (self.index_of(&header.id.sender), device < DEVICES_MAX) {
                let counters = &mut self.counters[index as usize];
                counters.resize(counters.len().max(device + 1), 0);
                counters[device] = number;
            }
            self.note_activity(header);
        }
        self.frontier.push(kith_protocol::log::merkle::leaf_hash(&header.encode()))
    }
}
