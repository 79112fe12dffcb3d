//! Commits that this device cannot follow, and those that others cannot. What is complained of, who may, and when it is void is
//! the same for everybody ([`kith_protocol::contest`]); here are the states that a device goes back to.

use kith_protocol::codec;
use kith_protocol::contest::{Activity, Complaint, Contest, Docket, Verdict, day_of, jury};
use kith_protocol::ids::{Counter, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, Seq, UnixSeconds};
use kith_protocol::judge::{EntryFacts, What, judge};
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::pack::Unpacked;
use kith_protocol::log::{Header, Kind};
use kith_protocol::sign::{SecretKey, verify};

use super::facts::Facts;
use super::machine::{Core, CoreError, before_key};
use super::state::{BeforeState, Contests, Former, Intent, Key, Made, OutItem, Phase, RoomState, RowWhat, Who};
use crate::mls::group::Group;

impl RoomState {
    /// The room has gone on by a commit that this device cannot follow.
    pub(super) fn is_behind(&self) -> bool {
        self.contests.room_epoch > self.epoch
    }
}

impl Intent {
    pub(super) fn is_commit(&self) -> bool {
        matches!(self, Self::OpenInvite { .. } | Self::RemoveLeft | Self::SetVoters(_))
    }
}

impl Contests {
    /// What happened before is for others to judge: who was active lately is taken on the co-op's word.
    pub fn at_join(days: &[u32]) -> Self {
        Self { activity: days.iter().map(|day| (*day, 0)).collect(), ..Self::default() }
    }
}

impl Core {
    /// What was stored was made here.
    pub(super) fn docket(state: &RoomState) -> Docket {
        codec::decode_docket(&state.contests.docket).unwrap_or_default()
    }

    pub(super) fn settled_docket(state: &RoomState) -> Docket {
        let mut docket = Self::docket(state);
        let activity = |index: u32| {
            let (day, epoch) = state.contests.activity.get(index as usize).copied().unwrap_or_default();
            Activity { day, epoch: Epoch(epoch) }
        };
        docket.settle(UnixSeconds(state.last_time), Epoch(state.contests.room_epoch), activity);
        docket
    }

    pub(super) fn facts(&mut self, room: &RoomId) -> Result<(kith_protocol::room::RoomContext, Vec<Pseudonym>), String> {
        let (context, members) =
            self.with_group(room, |group, _| Ok((group.context(), group.members()))).map_err(|error| error.to_string())?;
        let members = members.into_iter().map(|member| member.certificate.pseudonym).collect();
        Ok((context.ok_or("the room's context is broken")?, members))
    }

    /// What a commit is about to change: to be kept if it takes effect.
    pub(super) fn before(&mut self, room: &RoomId) -> Option<BeforeState> {
        let mls = self.with_group(room, |_, provider| Group::export(provider, room)).ok()?;
        let state = self.rooms.get(room)?;
        Some(BeforeState {
            mls,
            epoch: state.epoch,
            group_info_hash: state.group_info_hash,
            left: state.left.clone(),
            removed: state.removed.clone(),
            uses: state.uses.clone(),
            voters: state.voters.clone(),
        })
    }

    /// The commit of an entry, made in this device's epoch, that may be complained of from now on.
    fn contest(&mut self, room: &RoomId, header: &Header) -> Option<Contest> {
        let members = self.with_group(room, |group, _| Ok(group.members())).ok()?;
        let state = self.rooms.get(room)?;
        let index_of = |who: &Who| state.senders.iter().position(|known| known == who).map(|at| at as u32);
        let is_member = |who: &Who| !state.left.contains(who) && !state.removed.contains(who) && !state.contests.convicted.contains(who);
        let members = members.iter().map(|member| member.certificate.pseudonym.0).filter(is_member).filter_map(|who| index_of(&who));
        let activity = &state.contests.activity;
        let members = members.map(|index| (index, activity.get(index as usize).copied().unwrap_or_default().0));
        // A joiner's place is the next one.
        let author = index_of(&header.id.sender.0).unwrap_or(state.senders.len() as u32);
        Some(Contest {
            seq: header.seq,
            leaf: kith_protocol::log::merkle::leaf_hash(&header.encode()),
            epoch: header.epoch,
            time: header.time,
            author,
            jury: jury(day_of(UnixSeconds(state.created), header.time), members),
            complaints: Vec::new(),
        })
    }

    fn begin_contest(&mut self, room: &RoomId, contest: Contest) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        let mut docket = Self::settled_docket(state);
        state.contests.room_epoch = contest.epoch.0 + 1;
        docket.begin(contest);
        self.keep(room, &docket);
    }

    /// The docket as it is now, and of the states that it names no more than these.
    fn keep(&mut self, room: &RoomId, docket: &Docket) {
        let dropped: Vec<u64> = self
            .befores
            .range((*room, 0)..=(*room, u64::MAX))
            .map(|((_, epoch), _)| *epoch)
            .filter(|epoch| !docket.kept.contains(&Epoch(*epoch)))
            .collect();
        for epoch in dropped {
            self.befores.remove(&(*room, epoch));
            self.rows.push((before_key(room, epoch), None));
        }
        if let Some(state) = self.rooms.get_mut(room) {
            state.contests.docket = codec::encode_docket(docket);
        }
        self.touch(room);
    }

    /// The states that the room could go back to go with its keys.
    pub(super) fn forget_befores(&mut self, room: &RoomId) {
        self.keep(room, &Docket::default());
    }

    /// A commit is about to be merged. The contest is noted now, with the members that there are before it.
    pub(super) fn contest_before(&mut self, room: &RoomId, entry: &Unpacked) -> Option<(BeforeState, Contest)> {
        Some((self.before(room)?, self.contest(room, &entry.header)?))
    }

    /// It has been merged.
    pub(super) fn contestable(&mut self, room: &RoomId, before: Option<(BeforeState, Contest)>) {
        let Some((before, contest)) = before else { return };
        let value = postcard::to_stdvec(&before).expect("plain data serialises");
        self.rows.push((before_key(room, before.epoch), Some(value)));
        self.befores.insert((*room, before.epoch), before);
        self.begin_contest(room, contest);
    }

    /// A commit of the room's epoch that this device cannot follow. If it is the first, it is complained of; the device stays
    /// where it is.
    pub(super) fn cannot_follow(&mut self, room: &RoomId, entry: &Unpacked, why: String) -> RowWhat {
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        let epoch = entry.header.epoch.0;
        if state.contests.room_epoch != epoch {
            return RowWhat::Unreadable(why);
        }
        if state.epoch != epoch {
            // One more after the first.
            state.contests.room_epoch = epoch + 1;
            return RowWhat::Unreadable(why);
        }
        let is_own = entry.header.id.sender.0 == state.pseudonym;
        tracing::warn!(seq = entry.header.seq.0, why, "a commit cannot be followed");
        let Some(contest) = self.contest(room, &entry.header) else { return RowWhat::Unreadable(why) };
        let intent = Intent::Complain { commit: contest.seq.0, leaf: contest.leaf.0 };
        self.begin_contest(room, contest);
        // Nobody judges their own.
        if !is_own && self.push_item(room, intent).is_ok() {
            self.move_last_to_front(room);
        }
        RowWhat::Unreadable(why)
    }

    pub(super) fn make_complaint(&mut self, room: &RoomId, commit: u64, leaf: &Key, counter: u64) -> Result<Made, CoreError> {
        let device = self.device_number();
        let state = self.active(room)?;
        let id = EntryId { sender: Pseudonym(state.pseudonym), counter: Counter { device, number: counter } };
        let (commit, leaf) = (Seq(commit), Hash(*leaf));
        let signature = SecretKey::from_seed(state.leaf_seed).sign(&Complaint::statement(room, &id, commit, &leaf));
        let body = Complaint { commit, leaf, signature }.encode();
        Ok(Made { counter, epoch: state.epoch, kind: Kind::Complaint as u8, body, group_info: Vec::new(), removes: Vec::new() })
    }

    /// Somebody's complaint has its place.
    pub(super) fn apply_complaint(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let device = self.device_number();
        if let Some(state) = self.rooms.get_mut(room)
            && entry.header.id.sender.0 == state.pseudonym
            && entry.header.id.counter.device == device
            && let Some(item) = state.outbox.iter_mut().find(|item| Self::is_made_as(item, &entry.header))
        {
            (item.stored, item.seq) = (true, Some(entry.header.seq.0));
            let id = item.id;
            Self::done(state, id, entry.header.seq);
        }
        let is_of_before = |state: &RoomState| {
            let of = Complaint::decode(&entry.body).map_or(u64::MAX, |complaint| complaint.commit.0);
            !matches!(state.phase, Phase::Active) || of < state.joined_at
        };
        if self.rooms.get(room).is_some_and(is_of_before) {
            // What came before its own join is for others to judge.
            return RowWhat::Complained;
        }
        match self.weigh(room, entry) {
            Ok((docket, None)) => {
                // What it settled may be cut with what it rests on: the states are kept until the next commit.
                if let Some(state) = self.rooms.get_mut(room) {
                    state.contests.docket = codec::encode_docket(&docket);
                }
                self.touch(room);
                RowWhat::Complained
            }
            Ok((docket, Some(verdict))) => self.go_back(room, entry, &docket, &verdict),
            Err(why) => RowWhat::Unreadable(why),
        }
    }

    /// Whether a complaint voids something: then it changes the group, as a commit does.
    pub(super) fn decides(&mut self, room: &RoomId, entry: &Unpacked) -> bool {
        match entry.header.kind {
            Kind::Complaint => self.weigh(room, entry).is_ok_and(|(_, verdict)| verdict.is_some()),
            Kind::Leave => self.rooms.get(room).is_some_and(|state| Self::reconsider(state, Some(entry.header.id.sender)).1.is_some()),
            _ => false,
        }
    }

    /// The docket with a complaint, and what it comes to.
    fn weigh(&mut self, room: &RoomId, entry: &Unpacked) -> Result<(Docket, Option<Verdict>), String> {
        let (context, members) = self.facts(room)?;
        let state = self.rooms.get(room).ok_or("no such room")?;
        let header = &entry.header;
        let complaint = Complaint::decode(&entry.body).ok_or("it is no complaint")?;
        let mut docket = Self::settled_docket(state);
        let known = Facts { id: *room, state, context, group_info_hash: Hash(state.group_info_hash), members, docket: docket.clone() };
        let facts = EntryFacts { id: header.id, epoch: header.epoch, time: header.time, what: What::Complaint(complaint) };
        judge(&known, &facts).map_err(|refusal| refusal.to_string())?;
        let key = state.leaf_keys.get(&(header.id.sender.0, header.id.counter.device)).ok_or("its sender's key is unknown")?;
        let statement = Complaint::statement(room, &header.id, complaint.commit, &complaint.leaf);
        verify(&PublicKey(*key), &statement, &complaint.signature).map_err(|_| "its sender did not sign it")?;
        let index = state.senders.iter().position(|who| *who == header.id.sender.0).map(|at| at as u32).ok_or("an unknown sender")?;
        docket.complain(index, &complaint);
        let verdict = Self::verdict(state, &mut docket, None);
        Ok((docket, verdict))
    }

    fn verdict(state: &RoomState, docket: &mut Docket, leaver: Option<Pseudonym>) -> Option<Verdict> {
        let has_left = |index: u32| {
            let who = state.senders.get(index as usize);
            who.is_some_and(|who| state.contests.leavers.contains(who) || leaver.is_some_and(|leaver| leaver.0 == *who))
        };
        docket.verdict(Epoch(state.contests.room_epoch), has_left)
    }

    /// After a leave: perhaps those who are left cannot follow a commit.
    pub(super) fn reconsider(state: &RoomState, leaver: Option<Pseudonym>) -> (Docket, Option<Verdict>) {
        let mut docket = Self::settled_docket(state);
        let verdict = Self::verdict(state, &mut docket, leaver);
        (docket, verdict)
    }

    /// The room goes on from the state before a commit.
    pub(super) fn go_back(&mut self, room: &RoomId, entry: &Unpacked, docket: &Docket, verdict: &Verdict) -> RowWhat {
        let back_to = verdict.back_to.0;
        let Some(state) = self.rooms.get(room) else { return RowWhat::Nothing };
        let author = state.senders.get(verdict.author as usize).copied().unwrap_or_default();
        let (is_author, me) = (author == state.pseudonym, state.pseudonym);
        if state.epoch > back_to {
            let before = self.befores.get(&(*room, back_to)).cloned();
            let Some(before) = before.filter(|before| self.restore(room, before).is_ok()) else {
                // It joined since, and that is undone, too.
                self.gone(room);
                return RowWhat::Undone(author);
            };
            self.restore_facts(room, &before);
        }
        let members: Vec<Who> = self.facts(room).map(|(_, members)| members.iter().map(|who| who.0).collect()).unwrap_or_default();
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        for (_, epoch) in &mut state.contests.activity {
            *epoch = (*epoch).min(back_to);
        }
        state.contests.room_epoch = back_to;
        // Its author says again what was of an epoch that is void.
        state.loose.retain(|loose| loose.epoch <= back_to);
        state.last_commit = entry.header.seq.0;
        state.left = members.iter().copied().filter(|who| state.left.contains(who) || state.contests.leavers.contains(who)).collect();
        if members.contains(&author) {
            state.contests.convicted.push(author)
        } else {
            state.removed.push(author)
        }
        self.unmake_void(room, back_to);
        self.keep(room, docket);
        if is_author {
            self.gone(room);
        } else if entry.header.id.sender.0 == me && self.push_item(room, Intent::RemoveLeft).is_ok() {
            // Who spoke the last word acts on it; the others would only be in each other's way.
            self.move_last_to_front(room);
        }
        RowWhat::Undone(author)
    }

    fn restore(&mut self, room: &RoomId, before: &BeforeState) -> Result<(), crate::mls::group::GroupError> {
        let mut group = Group::adopt(&self.provider, room, before.mls.clone())?;
        // A commit of this device's own may have been under way.
        let _ = group.clear_own(&self.provider);
        self.groups.insert(*room, group);
        Ok(())
    }

    fn restore_facts(&mut self, room: &RoomId, before: &BeforeState) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        state.epoch = before.epoch;
        state.group_info_hash = before.group_info_hash;
        state.left.clone_from(&before.left);
        state.removed.clone_from(&before.removed);
        state.uses.clone_from(&before.uses);
        state.voters_before = std::mem::replace(&mut state.voters, before.voters.clone());
    }

    /// What was made for an epoch that is void, and has no place, is made anew. A copy may be under way: should it find a place
    /// in a later epoch of that number, nobody can read it there, and it counts for nothing.
    fn unmake_void(&mut self, room: &RoomId, back_to: u64) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        let waiting = |item: &OutItem| item.seq.is_none();
        // What was refused and made anew may be under way in its old form all the same.
        for item in state.outbox.iter_mut().filter(|item| waiting(item)) {
            let (void, kept) = item.former.drain(..).partition(|former| former.epoch > back_to);
            item.former = kept;
            let void: Vec<Former> = void;
            state.contests.void.extend(void.into_iter().map(|former| (former.counter, former.body_hash)));
        }
        let is_void = |item: &OutItem| waiting(item) && item.made.as_ref().is_some_and(|made| made.epoch > back_to);
        let first = state.outbox.iter().position(is_void).unwrap_or(state.outbox.len());
        for item in state.outbox[first..].iter_mut().filter(|item| item.seq.is_none()) {
            if let Some(made) = item.made.take() {
                state.contests.void.push((made.counter, hash_bytes(&made.body).0));
            }
            item.stored = false;
            self.session.sent.remove(&(*room, item.id));
        }
        let past = state.contests.void.len().saturating_sub(kith_protocol::limits::IN_FLIGHT_MAX);
        state.contests.void.drain(..past);
        self.touch(room);
    }

    /// One's own entry that was made in a void epoch and has got a place all the same: what was said in it is said again, under
    /// the next counter. `true`: it is one.
    pub(super) fn is_void(&mut self, room: &RoomId, header: &Header) -> bool {
        let Some(state) = self.rooms.get_mut(room) else { return false };
        let counter = header.id.counter.number;
        if !state.contests.void.contains(&(counter, header.body_hash.0)) {
            return false;
        }
        // Its place is taken. What was made after it has the counters after it, and may be under way.
        let same = |made: &Made| made.counter == counter;
        if let Some(item) = state.outbox.iter_mut().find(|item| item.seq.is_none() && item.made.as_ref().is_some_and(same)) {
            (item.made, item.stored) = (None, false);
            self.session.sent.remove(&(*room, item.id));
        }
        true
    }

    /// An entry stands in the log: its sender was there, in that epoch.
    pub(super) fn note_activity(state: &mut RoomState, header: &Header, index: usize) {
        let epoch = header.epoch.0.min(state.contests.room_epoch);
        let activity = &mut state.contests.activity;
        activity.resize(activity.len().max(index + 1), (0, 0));
        let (day, newest) = &mut activity[index];
        *day = (*day).max(day_of(UnixSeconds(state.created), header.time));
        *newest = (*newest).max(epoch);
    }
}
