//! The room machine. It decides at once, in memory; what it decided is appended by the writer in one transaction, and
//! only after the commit does anybody hear of it ([`Room::take_append`], then [`Room::committed`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use kith_federation::mirror::{BatchError, Position, verify_batch};
use kith_protocol::codec;
use kith_protocol::error::Code;
use kith_protocol::ids::{
    Coop, CoopName, Counter, EntryId, Hash, Millis, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds,
};
use kith_protocol::judge::RoomFacts;
use kith_protocol::limits::{MEMBER_COMMITS_BURST, MEMBER_COMMITS_EVERY_S};
use kith_protocol::link::{Batch, Submission};
use kith_protocol::log::checkpoint::{Attestation, Checkpoint, CheckpointError, Mark};
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::pack::extra_of;
use kith_protocol::log::proof::Proof;
use kith_protocol::log::succession::{Succession, SuccessionError, Vote};
use kith_protocol::log::{Header, Kind};
use kith_protocol::rate::Bucket;
use kith_protocol::sign::SecretKey;
use kith_storage::{Append, LogRow, RoomRow, RoomState};

use super::error::{CreationError, EntryError};
use super::ledger::Ledger;
use super::log::{Effect, Log};
use super::offer::Tip;
use super::succession::Said;

/// What became of an entry that was handed to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    New(Seq),
    /// Taken before: nothing changes.
    Known,
}

/// The hub's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("another co-op orders this room")]
    NotHub,
    #[error("a commit is still waiting to be held by a majority of the room's voters")]
    EpochBusy,
    #[error("the room is getting another hub, or its co-ops have not compared their copies yet")]
    Unsettled,
    #[error("only members' messages, commits, leaves and complaints are handed in")]
    Kind,
    #[error("the entry did not come from the co-op that certified its sender")]
    Origin,
    #[error("the joiner was offered a log that another term has not gone on from")]
    Base,
    #[error("too many commits by one member; the next may come in {0} ms")]
    Commits(u32),
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl OrderError {
    pub fn code(&self) -> Code {
        match self {
            Self::NotHub => Code::HolderUnreachable,
            Self::EpochBusy => Code::EpochBusy,
            Self::Unsettled => Code::Busy,
            Self::Kind => Code::Malformed,
            Self::Origin => Code::Forbidden,
            // Made anew from the newest state, it holds.
            Self::Base => Code::WrongEpoch,
            Self::Commits(_) => Code::RateLimited,
            Self::Entry(error) => error.code(),
        }
    }
}

/// Why a hub's batch is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Creation(#[from] CreationError),
    #[error("the room is this co-op's own to order")]
    OwnRoom,
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    #[error("the log goes on from an earlier place in a newer term")]
    Cut(Box<Succession>),
    #[error("the room is frozen: its hub, or a voter, broke its word in this term")]
    Frozen,
}

/// Entries that have become durable: what may be acknowledged, sent out and forwarded now.
#[derive(Debug, Clone)]
pub struct Committed {
    pub room: RoomNumber,
    pub rows: Vec<(Header, LogRow)>,
}

/// A room that cannot be brought back from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored state of room {0} is damaged")]
pub struct Damaged(pub RoomId);

#[derive(Debug)]
pub struct Room {
    pub number: RoomNumber,
    pub id: RoomId,
    pub hub: Coop,
    pub(super) me: CoopName,
    /// `None` until the first entry: a member of ours is joining, and the hub has not sent the log yet.
    pub(super) log: Option<Log>,
    pub(super) staged: Vec<(Header, LogRow)>,
    /// The group's snapshot changed with what is staged.
    pub(super) group_changed: bool,
    /// A mirror's: the hub's word over what is staged.
    hub_attestation: Option<Attestation>,
    pub(super) ledger: Ledger,
    pub(super) durable: u64,
    /// The log's end as it is durable, and as the append under way leaves it.
    pub(super) tip: Option<Tip>,
    taken: Option<Tip>,
    /// The newest term that this co-op has voted in: nothing older is taken from the old hub, or ordered.
    pub(super) fence: Term,
    /// That the hub of a term, or a voter in it, broke its word.
    pub(super) proof: Option<Proof>,
    /// This co-op's newest vote, once it is durable.
    pub(super) vote: Option<Vote>,
    /// What other co-ops said of their copies, on the links that there are.
    pub(super) compared: BTreeMap<CoopName, Said>,
    /// Its log is being rebuilt: nothing is added to it meanwhile.
    pub(super) is_still: bool,
    /// It was put back from a backup, and lacks what came after it.
    pub(super) is_restored: bool,
    /// Since a restart, for a while.
    pub(super) waits_for_mirrors: bool,
    /// Once it has settled it stays so while the process lives.
    pub(super) settled: bool,
    /// A hub's: commits that each member may still try. Every one of them costs every member of the room.
    commits: BTreeMap<Pseudonym, Bucket>,
    /// Entries in the log that did not satisfy the rules: evidence against the hub.
    pub invalid: u64,
}

impl Room {
    pub fn empty(number: RoomNumber, id: RoomId, hub: Coop, me: CoopName) -> Self {
        Self {
            number,
            id,
            hub,
            me,
            log: None,
            staged: Vec::new(),
            group_changed: false,
            hub_attestation: None,
            ledger: Ledger::default(),
            durable: 0,
            tip: None,
            taken: None,
            fence: Term(0),
            proof: None,
            vote: None,
            compared: BTreeMap::new(),
            is_still: false,
            is_restored: false,
            waits_for_mirrors: false,
            settled: false,
            commits: BTreeMap::new(),
            invalid: 0,
        }
    }

    /// After a restart. The frontier must lead to the newest checkpoint's root.
    pub fn restore(row: RoomRow, me: CoopName, state: &RoomState) -> Result<Self, Damaged> {
        let mut room = Self::empty(row.number, row.id, row.hub, me);
        room.vote = state.vote.as_deref().map(codec::decode_vote).transpose().map_err(|_| Damaged(room.id))?;
        room.proof = state.proof.as_deref().map(codec::decode_proof).transpose().map_err(|_| Damaged(room.id))?;
        room.is_restored = state.is_restored;
        room.fence = room.vote.as_ref().map_or(Term(0), |vote| vote.term);
        let (Some(small), Some(group), Some(checkpoint)) = (&state.snapshot, &state.group, &state.checkpoint) else {
            return Ok(room);
        };
        let damaged = Damaged(row.id);
        let small = codec::decode_room_snapshot(small).map_err(|_| damaged)?;
        let group = codec::decode_group_snapshot(row.id, group).map_err(|_| damaged)?;
        let checkpoint = codec::decode_attestation(row.id, checkpoint).map_err(|_| damaged)?;
        let marked = state.marked.as_ref().map(|bytes| codec::decode_attestation(row.id, bytes)).transpose().map_err(|_| damaged)?;
        let log = Log::restore(row.id, small, group).ok_or(damaged)?;
        // While a mirror catches up from another holder, the newest checkpoint is over more than has come.
        let (size, signed) = (log.frontier.size(), &checkpoint.checkpoint);
        if size > signed.size || (size == signed.size && log.frontier.root() != signed.root) {
            return Err(damaged);
        }
        room.hub = log.hub.clone();
        // What is stored is served to whoever verifies: every signature of it must hold.
        let key_of = |name: &CoopName| log.coop_key(name);
        if checkpoint.verify(key_of).is_err() || marked.as_ref().is_some_and(|marked| marked.verify(key_of).is_err()) {
            return Err(damaged);
        }
        room.durable = log.frontier.size();
        room.tip = Some(Tip::of(&log));
        room.log = Some(log);
        room.ledger = Ledger::restore(Some(checkpoint), marked);
        Ok(room)
    }

    pub fn is_hub(&self) -> bool {
        self.hub.name == self.me
    }

    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Entries that may be shown.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Entries that have been decided, durable or not.
    pub fn size(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.frontier.size())
    }

    pub fn is_member(&self, who: &Pseudonym) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_member(who))
    }

    /// Begins the room with its creation entry.
    pub fn create(&mut self, sender: &Pseudonym, device: u16, body: &Bytes) -> Result<(), CreationError> {
        let log = Log::create(&self.id, sender, body)?;
        let id = EntryId { sender: *sender, counter: Counter { device, number: 1 } };
        let header = Header {
            room: self.id,
            seq: Seq(0),
            term: log.term,
            epoch: log.epoch(),
            kind: Kind::Creation,
            id,
            time: log.created,
            body_hash: hash_bytes(body),
            extra: hash_bytes(&log.group_info),
        };
        self.log = Some(log);
        self.group_changed = true;
        self.stage(header, body.clone(), Bytes::new());
        Ok(())
    }

    /// The hub takes an entry and gives it its place. `origin` is the co-op that hands it in, as its link key says.
    pub fn order(&mut self, now: UnixSeconds, origin: &Coop, entry: &Submission) -> Result<Order, OrderError> {
        if !self.is_hub() {
            return Err(OrderError::NotHub);
        }
        if !self.orders() {
            return Err(OrderError::Unsettled);
        }
        if !entry.kind.is_members() {
            return Err(OrderError::Kind);
        }
        let certified = self.certified_size();
        let log = self.log.as_mut().ok_or(OrderError::NotHub)?;
        if entry.id.counter.number <= log.last_counter(&entry.id) {
            return Ok(Order::Known);
        }
        if entry.base.is_some_and(|(term, size)| !log.goes_on_from(term, size)) {
            return Err(OrderError::Base);
        }
        // Nothing of an epoch is ordered before the commit that made it is certified.
        let is_of_new_epoch = entry.kind == Kind::Commit || entry.epoch == log.epoch();
        if is_of_new_epoch && certified <= log.last_commit.0 {
            return Err(OrderError::EpochBusy);
        }
        let from_origin = log.coop_of(&entry.id.sender) == Some(&origin.name);
        if entry.kind == Kind::Commit && log.is_member(&entry.id.sender) && from_origin {
            // Before the work of verifying it; and only on the word of the member's own co-op, so that nobody uses up
            // what is another's.
            let now = Millis(now.0.saturating_mul(1000));
            let full = || Bucket::new(MEMBER_COMMITS_BURST, 1000 / MEMBER_COMMITS_EVERY_S, now);
            self.commits.entry(entry.id.sender).or_insert_with(full).take(now, 1).map_err(OrderError::Commits)?;
        }
        let time = now.max(log.last_time);
        let group_info_hash = (entry.kind == Kind::Commit).then(|| hash_bytes(&entry.group_info));
        let extra = extra_of(entry.kind, &entry.body, group_info_hash).map_err(|_| EntryError::Body)?;
        let effect = log.examine(&entry.id, entry.kind, entry.epoch, time, &entry.body)?;
        // A joiner's certificate is by the very co-op that hands the join in, under the key that is pinned for it: nobody
        // plants another key for a co-op in the room.
        let is_from_origin = match &effect {
            Effect::Commit(staged) if staged.facts.join.is_some() => {
                staged.facts.join.as_ref().is_some_and(|join| join.certificate.coop == *origin)
            }
            _ => from_origin,
        };
        if !is_from_origin {
            return Err(OrderError::Origin);
        }
        let header = Header {
            room: self.id,
            seq: Seq(log.frontier.size()),
            term: log.term,
            epoch: entry.epoch,
            kind: entry.kind,
            id: entry.id,
            time,
            body_hash: hash_bytes(&entry.body),
            extra,
        };
        self.group_changed |= log.take_effect(effect, &header, &entry.body, &entry.group_info)?;
        let group_info = if entry.kind == Kind::Commit { entry.group_info.clone() } else { Bytes::new() };
        self.stage(header, entry.body.clone(), group_info);
        Ok(Order::New(header.seq))
    }

    pub(super) fn stage(&mut self, header: Header, body: Bytes, group_info: Bytes) {
        let log = self.log.as_mut().expect("a room with entries has a log");
        let nodes = log.push(&header, true);
        self.stage_row(header, body, group_info, &nodes);
    }

    fn stage_row(&mut self, header: Header, body: Bytes, group_info: Bytes, nodes: &[Hash]) {
        let nodes: Vec<u8> = nodes.iter().flat_map(|node| node.0).collect();
        let row = LogRow { header: Bytes::copy_from_slice(&header.encode()), nodes: nodes.into(), body, group_info };
        self.staged.push((header, row));
    }

    /// A mirror takes what the hub ordered. Each entry is judged; an invalid one keeps its place without effect.
    pub fn mirror(&mut self, batch: &Batch, key_of: impl Fn(&CoopName) -> Option<PublicKey>) -> Result<(), MirrorError> {
        // A hub that has not settled takes back from its mirrors what an old backup lacks, and one that others have
        // replaced hears of it like that.
        if self.orders() && batch.entries.term <= self.term() {
            return Err(MirrorError::OwnRoom);
        }
        if self.is_frozen() && batch.entries.term <= self.term() {
            return Err(MirrorError::Frozen);
        }
        let mut batch = batch;
        let first;
        if self.log.is_none() {
            first = self.mirror_creation(batch)?;
            batch = &first;
            if batch.entries.entries.is_empty() {
                return Ok(());
            }
        }
        let log = self.log.as_ref().expect("just begun, or there before");
        let (hub, term) = self.seated_by(batch)?;
        let senders: Vec<Pseudonym> = log.senders.iter().map(|sender| sender.pseudonym).collect();
        let at = Position { room: &self.id, hub: &hub, term, created: log.created, frontier: &log.frontier, senders: &senders };
        let verified = verify_batch(&at, batch, |name| log.coop_key(name).or_else(|| key_of(name)))?;
        for (entry, group_info) in verified.entries {
            self.mirror_entry(&entry.header, entry.body, group_info);
        }
        let signed = verified.attestation.checkpoint;
        self.showed(&verified.attestation.hub, signed.term, signed.size);
        self.hub_attestation = Some(verified.attestation);
        Ok(())
    }

    /// Who is the hub of a batch, and in which term: the room's own, or whom the batch's first entry seats.
    fn seated_by(&self, batch: &Batch) -> Result<(Coop, Term), MirrorError> {
        let log = self.log.as_ref().expect("the caller has looked");
        let first = batch.entries.entries.first().filter(|entry| entry.kind == Kind::Succession && batch.entries.term > log.term);
        let Some(first) = first else { return Ok((self.hub.clone(), log.term)) };
        let record = codec::decode_succession(&first.body).map_err(|_| SuccessionError::Votes)?;
        if record.room != self.id || record.term != batch.entries.term {
            return Err(SuccessionError::Votes.into());
        }
        if self.has_convicted(&record.hub) {
            return Err(MirrorError::Frozen);
        }
        if batch.entries.first.0 < log.frontier.size() {
            // Whose votes count at that place only the log up to it says: the record is judged once it has been rebuilt.
            record.verify_signatures(|name| log.coop_key(name))?;
            return Err(MirrorError::Cut(Box::new(record)));
        }
        record.verify(&log.electorate(), |name| log.coop_key(name))?;
        record.stands(log.term, log.frontier.size(), &log.frontier.root())?;
        Ok((record.hub, record.term))
    }

    fn mirror_entry(&mut self, header: &Header, body: Bytes, group_info: Bytes) {
        let log = self.log.as_mut().expect("verified against it");
        let (nodes, taken) = log.replay(header, &body, &group_info);
        self.hub = log.hub.clone();
        match taken {
            Ok(changed) => self.group_changed |= changed,
            Err(error) => {
                tracing::warn!(seq = header.seq.0, %error, "an entry in the hub's log is invalid; it keeps its place without effect");
                self.invalid += 1;
                self.group_changed = true;
            }
        }
        self.stage_row(*header, body, group_info, &nodes);
    }

    /// The first batch begins with the creation: it makes the log that the rest is verified against.
    fn mirror_creation(&mut self, batch: &Batch) -> Result<Batch, MirrorError> {
        let sender = batch.entries.new_senders.first().ok_or(CreationError::Parts)?;
        let entry = batch.entries.entries.first().filter(|entry| entry.kind == Kind::Creation).ok_or(CreationError::Parts)?;
        if batch.entries.first != Seq(0) {
            return Err(MirrorError::Batch(BatchError::Gap { expected: Seq(0), got: batch.entries.first }));
        }
        let log = Log::create(&self.id, sender, &entry.body)?;
        // Nothing is kept of it unless the whole batch verifies.
        let at = Position { room: &self.id, hub: &log.hub, term: log.term, created: log.created, frontier: &log.frontier, senders: &[] };
        verify_batch(&at, batch, |_| None)?;
        if log.hub.name == self.hub.name && log.hub.key != self.hub.key {
            return Err(MirrorError::Creation(CreationError::Parts));
        }
        self.hub = log.hub.clone();
        self.log = Some(log);
        self.group_changed = true;
        Ok(batch.clone())
    }

    /// How many entries are decided and not handed to the writer.
    pub fn staged_len(&self) -> usize {
        self.staged.len()
    }

    /// Whether something other than messages is staged.
    pub fn is_changing(&self) -> bool {
        self.staged.iter().any(|(header, _)| header.kind != Kind::Message)
    }

    /// Entries that are staged, from a sequence number on.
    pub fn staged_ids(&self, from: u64) -> impl Iterator<Item = EntryId> + '_ {
        self.staged.iter().filter(move |(header, _)| header.seq.0 >= from).map(|(header, _)| header.id)
    }

    /// What the writer is to append, and what may be told once it has. `None`: nothing was decided.
    pub fn take_append(&mut self, root: &SecretKey) -> Option<(Append, Committed)> {
        let log = self.log.as_ref()?;
        if self.staged.is_empty() {
            return None;
        }
        let rows = std::mem::take(&mut self.staged);
        let attestation = match self.hub_attestation.take() {
            Some(attestation) => attestation,
            None => {
                let checkpoint = Checkpoint { room: self.id, term: log.term, size: log.frontier.size(), root: log.frontier.root() };
                let signature = checkpoint.sign(root);
                Attestation { checkpoint, hub: self.hub.name.clone(), signature, marks: Vec::new() }
            }
        };
        let append = Append {
            room: self.number,
            first: rows[0].0.seq,
            rows: rows.iter().map(|(_, row)| row.clone()).collect(),
            snapshot: codec::encode_room_snapshot(&log.snapshot()),
            group: std::mem::take(&mut self.group_changed).then(|| codec::encode_group_snapshot(&log.group_snapshot())),
            checkpoint: codec::encode_attestation(&attestation),
        };
        self.taken = Some(Tip::of(log));
        self.ledger.push(attestation);
        Some((append, Committed { room: self.number, rows }))
    }

    /// The append is durable up to `size`: this co-op holds it, and says so. Returns the mark for the hub.
    pub fn committed(&mut self, root: &SecretKey, now: UnixSeconds, size: u64) -> Option<Mark> {
        self.durable = self.durable.max(size);
        if let Some(taken) = self.taken.take_if(|taken| taken.size() == size) {
            self.tip = Some(taken);
        }
        self.settled |= self.is_settled();
        // Whoever has voted says nothing more under the old term: what it held when it voted is in the vote. A voter that has
        // not compared its disk with the others' may have voted, and not know it.
        let counts = self.log.as_ref().is_some_and(|log| log.electorate().counts(&self.me));
        if self.is_fenced() || (counts && !self.settled) {
            return None;
        }
        let checkpoint = self.ledger.at(size)?.checkpoint;
        // The hub has signed the checkpoint itself; only mirrors cosign.
        let cosignature = (!self.is_hub()).then(|| (now, checkpoint.cosign(root, now)));
        let mark = Mark { coop: self.me.clone(), cosignature, held: Some(checkpoint.sign_held(root)) };
        self.ledger.mark_own(size, mark.clone());
        Some(mark)
    }

    /// Another co-op's mark. `Ok(None)`: it is of a checkpoint that is no longer, or not yet, at hand.
    pub fn mark(&mut self, size: u64, mark: Mark, key: &PublicKey) -> Result<Option<&Attestation>, CheckpointError> {
        self.ledger.mark(size, mark, key)
    }
}
