//! What comes from the log: first every entry goes into the tree, then it is applied in order; a commit, and what follows
//! it, waits until the room's voters have certified it.

use std::collections::VecDeque;

use kith_protocol::codec;
use kith_protocol::content::Content;
use kith_protocol::frank::Franking;
use kith_protocol::ids::{Coop, Counter, EntryId, Epoch, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, UnixSeconds};
use kith_protocol::limits::{DONE_MAX, PAST_EPOCHS_MAX, ROOTS_MAX};
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::pack::{Unpacked, extra_of, unpack};
use kith_protocol::log::{Header, Kind};
use kith_protocol::member::{Entries, ToServer};
use kith_protocol::mls_framing;
use kith_protocol::room::leave_statement;
use kith_protocol::sign::{Signature, verify};

use super::machine::{Core, LogView, row_key};
use super::state::{Intent, Made, OutItem, Phase, RoomState, RowState, RowWhat, SAID_AGAIN};
use crate::mls::group::Group;
use crate::pack::{unpack as unpack_content, unpad};

/// Entries after which a cursor is told even while there is much to do.
const CURSOR_EVERY: u64 = 64;

impl Core {
    /// This session's view of a room's log, begun where this device's copy stands.
    pub(super) fn view(&mut self, room: &RoomId) -> Option<&mut LogView> {
        let state = self.rooms.get(room)?;
        self.session.cursors.entry(*room).or_insert(state.size);
        let view = self.session.logs.entry(*room).or_insert_with(|| {
            let frontier = Self::applied(state);
            let roots = VecDeque::from([(frontier.size(), frontier.root())]);
            let senders = state.senders.iter().map(|who| Pseudonym(*who)).collect();
            let hub = state.hub_name.parse().ok().map(|name| Coop { name, key: PublicKey(state.hub_key) });
            LogView { frontier, senders, roots, waiting: VecDeque::new(), early: None, term: Self::term(state), hub }
        });
        Some(view)
    }

    pub(super) fn entries_came(&mut self, entries: &Entries) {
        let Some(room) = self.room_by_number(entries.room) else { return };
        self.shut_out(&room, false);
        let Some(state) = self.rooms.get(&room) else { return };
        let created = UnixSeconds(state.created);
        // Where the server begins tells where it believes this device to be.
        let told = self.session.cursors.entry(room).or_insert(entries.first.0);
        *told = (*told).min(entries.first.0);
        let Some(view) = self.view(&room) else { return };
        if entries.term > view.term && !self.newer_term(&room, entries) {
            return;
        }
        let Some(view) = self.view(&room) else { return };
        let size = view.frontier.size();
        if entries.first.0 > size {
            return self.ask_again(&room, entries.room);
        }
        let (end, is_older) = (entries.first.0 + entries.entries.len() as u64, entries.term < view.term);
        if is_older && !self.has_these(&room, end, entries.term) {
            return self.older_term(&room, entries);
        }
        if end <= size {
            return;
        }
        let Some(view) = self.view(&room) else { return };
        let mut senders = view.senders.clone();
        let unpacked = match unpack(entries, &room, created, &mut senders) {
            Ok(unpacked) => unpacked,
            Err(error) => return self.distrust(&room, error.to_string()),
        };
        view.senders = senders;
        for entry in unpacked.into_iter().filter(|entry| entry.header.seq.0 >= size) {
            self.append(&room, entry);
        }
        self.appended(&room, entries.room);
    }

    /// What has come can be applied, and marks that came before it can be verified.
    fn appended(&mut self, room: &RoomId, number: RoomNumber) {
        self.apply_waiting(room);
        if let Some(view) = self.session.logs.get_mut(room)
            && let Some(early) = view.early.take_if(|early| early.checkpoint.size <= view.frontier.size())
        {
            self.attestation_came(number, early);
        }
    }

    /// The log here has a gap: the server sends it again from where it ends.
    pub(super) fn ask_again(&mut self, room: &RoomId, number: RoomNumber) {
        self.session.logs.remove(room);
        if let Some(size) = self.rooms.get(room).map(|state| state.size) {
            self.sends.push(ToServer::Open { room: number, from: Seq(size) });
        }
    }

    pub(super) fn append(&mut self, room: &RoomId, entry: Unpacked) {
        let Some(view) = self.view(room) else { return };
        view.frontier.push(entry.leaf());
        view.roots.push_back((view.frontier.size(), view.frontier.root()));
        if view.roots.len() > ROOTS_MAX {
            view.roots.pop_front();
        }
        view.waiting.push_back(entry);
    }

    /// An entry of this device is stored, or has its place: its header is rebuilt from what is in the outbox, or from
    /// the join that was handed in.
    pub(super) fn ack_came(&mut self, number: RoomNumber, counter: u64, ordered: Option<(Seq, u64)>) {
        let Some(room) = self.room_by_number(number) else { return };
        let device = self.device_number();
        let Some(state) = self.rooms.get_mut(&room) else { return };
        for item in &mut state.outbox {
            item.stored |= item.made.as_ref().is_some_and(|made| made.counter <= counter);
        }
        let sender = Pseudonym(state.pseudonym);
        let made = match &state.phase {
            Phase::Joining(joining) => {
                joining.offer.as_ref().map(|offer| (Kind::Commit, offer.epoch, offer.commit.clone(), offer.group_info.clone()))
            }
            // Of what was made more than once the log itself says which one it took.
            _ => {
                let mut only_once = state.outbox.iter().filter(|item| item.former.is_empty()).filter_map(|item| item.made.as_ref());
                let is_void = |made: &&Made| state.contests.void.iter().any(|(void, _)| *void == made.counter);
                only_once.find(|made| made.counter == counter).filter(|made| !is_void(made)).and_then(|made| {
                    let kind = Kind::from_number(made.kind.into())?;
                    Some((kind, made.epoch, made.body.clone(), made.group_info.clone()))
                })
            }
        };
        let created = state.created;
        self.touch(&room);
        let Some((seq, time)) = ordered else { return };
        let Some(view) = self.view(&room) else { return };
        let term = view.term;
        if seq.0 < view.frontier.size() {
            return;
        }
        if !view.senders.contains(&sender) {
            // A joiner's first entry.
            view.senders.push(sender);
        }
        let header = made.filter(|_| seq.0 == view.frontier.size()).and_then(|(kind, epoch, body, group_info)| {
            let group_info = (kind == Kind::Commit).then(|| hash_bytes(&group_info));
            let id = EntryId { sender, counter: Counter { device, number: counter } };
            let header = Header {
                room,
                seq,
                term,
                epoch: Epoch(epoch),
                kind,
                id,
                time: UnixSeconds(created + time),
                body_hash: hash_bytes(&body),
                extra: extra_of(kind, &body, group_info).ok()?,
            };
            Some(Unpacked { header, body: body.into() })
        });
        match header {
            Some(entry) => {
                self.append(&room, entry);
                self.appended(&room, number);
            }
            None => self.ask_again(&room, number),
        }
    }

    pub(super) fn apply_waiting(&mut self, room: &RoomId) {
        loop {
            // Whoever has left may still be sent the rest of a page; it is not for this device any more.
            let Some(state) = self.rooms.get(room).filter(|state| !matches!(state.phase, Phase::Gone)) else { return };
            let (size, certified) = (state.size, state.certified);
            let Some(view) = self.session.logs.get_mut(room) else { return };
            let Some(front) = view.waiting.front() else { return };
            let seq = front.header.seq.0;
            if seq < size {
                // Another process of this device has applied it.
                view.waiting.pop_front();
                continue;
            }
            if seq > size {
                let number = state.number.map(RoomNumber);
                return number.map_or((), |number| self.ask_again(room, number));
            }
            // These change the group.
            let may_decide = matches!(front.header.kind, Kind::Complaint | Kind::Leave);
            let word = may_decide.then(|| front.clone());
            let changes = front.header.kind == Kind::Commit || word.is_some_and(|word| self.decides(room, &word));
            if changes && certified <= seq {
                return;
            }
            let Some(entry) = self.session.logs.get_mut(room).and_then(|view| view.waiting.pop_front()) else { return };
            self.apply(room, &entry);
            if changes {
                self.recertify(room);
            }
        }
    }

    /// The next entry takes effect, and its line goes into the timeline.
    fn apply(&mut self, room: &RoomId, entry: &Unpacked) {
        let header = &entry.header;
        let device = self.device_number();
        let Some(state) = self.rooms.get(room) else { return };
        let is_own = header.id.sender.0 == state.pseudonym && header.id.counter.device == device;
        let what = match (header.kind, is_own) {
            (Kind::Creation, _) => RowWhat::Nothing,
            (Kind::Message, true) => self.apply_own_message(room, entry),
            (Kind::Message, false) => self.apply_message(room, entry),
            (Kind::Commit, _) => self.apply_commit(room, entry),
            (Kind::Leave, _) => self.apply_leave(room, entry),
            (Kind::Succession, _) => self.apply_succession(room, entry),
            (Kind::Complaint, _) => self.apply_complaint(room, entry),
        };
        let took_effect = !matches!(what, RowWhat::Unreadable(_));
        let Some(state) = self.rooms.get_mut(room) else { return };
        let mut frontier = Self::applied(state);
        frontier.push(entry.leaf());
        state.size = frontier.size();
        state.frontier = frontier.nodes().iter().map(|node| node.0).collect();
        state.last_time = state.last_time.max(header.time.0);
        if !state.senders.contains(&header.id.sender.0) {
            state.senders.push(header.id.sender.0);
        }
        // An invalid handshake has no effect, on counters neither; a message that cannot be opened is still its sender's next.
        // A commit that cannot be followed is valid to the servers, and so is what they alone can judge because of it.
        let is_beyond = header.kind == Kind::Commit && state.is_behind();
        let is_for_servers = is_beyond || (state.is_behind() && header.epoch.0 > state.epoch);
        let is_invalid = header.kind != Kind::Message && !is_for_servers && matches!(what, RowWhat::Unreadable(_));
        if let Some(index) = state.senders.iter().position(|who| *who == header.id.sender.0).filter(|_| !is_invalid) {
            Self::note(state, header, index);
        }
        let is_undoing = matches!(what, RowWhat::Undone(_));
        let is_new_state = is_undoing || (took_effect && matches!(header.kind, Kind::Commit | Kind::Creation));
        if is_new_state {
            state.last_commit = header.seq.0;
        }
        if is_new_state || is_beyond {
            Self::set_base(state);
        }
        let row = RowState { header: header.encode().to_vec(), what };
        let value = postcard::to_stdvec(&row).expect("plain data serialises");
        self.rows.push((row_key(room, header.seq), Some(value)));
        // Whoever has left is told nothing further, and says nothing further.
        let is_gone = matches!(state.phase, Phase::Gone);
        let is_due = !is_gone && self.session.cursors.get(room).is_none_or(|sent| state.size.saturating_sub(*sent) >= CURSOR_EVERY);
        if is_due {
            self.send_cursor(room);
        }
        self.touch(room);
    }

    /// An entry stands in the log.
    pub(super) fn note(state: &mut RoomState, header: &Header, index: usize) {
        Self::note_activity(state, header, index);
        state.counters.insert((header.id.sender.0, header.id.counter.device), header.id.counter.number);
    }

    /// Tells the server how far this device has come, so that the next session begins there.
    fn send_cursor(&mut self, room: &RoomId) {
        let Some(state) = self.rooms.get(room) else { return };
        let (Some(number), next) = (state.number, Seq(state.size)) else { return };
        if let Some(state) = self.rooms.get_mut(room) {
            state.is_cut_back = false;
        }
        self.session.cursors.insert(*room, next.0);
        self.sends.push(ToServer::Cursor { room: RoomNumber(number), next });
    }

    /// Cursors that have moved since they were last told: sent when there is nothing else to do, and before closing.
    pub fn send_cursors(&mut self) {
        let moved = |(room, state): (&RoomId, &RoomState)| {
            let sent = self.session.cursors.get(room).copied();
            let is_gone = matches!(state.phase, Phase::Gone);
            (self.session.ready && !is_gone && state.size > 0 && sent.is_some_and(|sent| sent < state.size)).then_some(*room)
        };
        let rooms: Vec<RoomId> = self.rooms.iter().filter_map(moved).collect();
        rooms.iter().for_each(|room| self.send_cursor(room));
        self.finish();
    }

    /// One's own message: the content is in the outbox, for nobody can decrypt what they encrypted.
    fn apply_own_message(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        if let Some(content) = self.take_loose(room, entry) {
            return RowWhat::Content(content);
        }
        if self.is_void(room, &entry.header) {
            return RowWhat::Unreadable(SAID_AGAIN.to_owned());
        }
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        match state.outbox.iter_mut().find(|item| Self::is_made_as(item, &entry.header)) {
            Some(item) => {
                item.stored = true;
                item.seq = Some(entry.header.seq.0);
                let Intent::Content(content) = item.intent.clone() else { return RowWhat::Nothing };
                let id = item.id;
                Self::done(state, id, entry.header.seq);
                if let Content::Profile { name } = Self::content(&content) {
                    state.names.insert(state.pseudonym, name);
                }
                self.unmake_beaten(room, entry.header.id.counter.number);
                RowWhat::Content(content)
            }
            None => {
                // Something that this copy of the device never made: its ratchet must not be used again.
                state.out_of_step.get_or_insert(entry.header.seq.0);
                self.ask_for_mark(room, entry.header.seq.0 + 1);
                RowWhat::Unreadable("sent from a later copy of this device".to_owned())
            }
        }
    }

    /// Whether an entry of the log was made of that item.
    pub(super) fn is_made_as(item: &OutItem, header: &Header) -> bool {
        let counter = header.id.counter.number;
        let is_made = item.made.as_ref().is_some_and(|made| made.counter == counter && hash_bytes(&made.body) == header.body_hash);
        is_made || item.former.iter().any(|former| former.counter == counter && former.body_hash == header.body_hash.0)
    }

    pub(super) fn done(state: &mut RoomState, item: u64, seq: Seq) {
        state.done.push((item, seq.0));
        if state.done.len() > DONE_MAX {
            state.done.remove(0);
        }
    }

    fn apply_message(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let Some(state) = self.rooms.get(room) else { return RowWhat::Nothing };
        let before = entry.header.seq.0 < state.joined_at || entry.header.epoch.0 < state.joined_epoch;
        if !matches!(state.phase, Phase::Active) || before {
            return RowWhat::Nothing;
        }
        let current = state.epoch;
        if entry.header.epoch.0 > current || current - entry.header.epoch.0 > PAST_EPOCHS_MAX {
            return RowWhat::Unreadable("too old to be opened".to_owned());
        }
        let known = self.take_loose(room, entry);
        match known.map_or_else(|| self.open(room, entry), Ok) {
            Ok(content) => {
                if let Some(state) = self.rooms.get_mut(room) {
                    Self::drop_loose(state, &entry.header.id);
                    if let Content::Profile { name } = Self::content(&content) {
                        state.names.insert(entry.header.id.sender.0, name);
                    }
                }
                RowWhat::Content(content)
            }
            Err(why) => RowWhat::Unreadable(why),
        }
    }

    /// Decrypts, and checks that credential, envelope and log header agree (and the franking with all three).
    pub(super) fn open(&mut self, room: &RoomId, entry: &Unpacked) -> Result<Vec<u8>, String> {
        let header = &entry.header;
        let message = mls_framing::restore(&entry.body, room, header.epoch).map_err(|error| error.to_string())?;
        let opened = self.with_group(room, |group, provider| group.open(provider, &message)).map_err(|error| error.to_string())?;
        if opened.tag != header.extra {
            return Err("its tag is not the one that the log names".to_owned());
        }
        let franked = codec::decode_franked(&opened.plaintext).map_err(|error| error.to_string())?;
        let counter = Counter { device: opened.sender.device, number: franked.message_id };
        let id = EntryId { sender: opened.sender.pseudonym, counter };
        let packed = unpad(&franked.packed).ok_or("its padding is damaged")?;
        let content = unpack_content(franked.packing, packed).map_err(|error| error.to_string())?;
        let key = self.rooms.get(room).and_then(|state| state.leaf_keys.get(&(id.sender.0, counter.device)).copied());
        let key = PublicKey(key.ok_or("its sender's key is unknown")?);
        let place = Franking { room, epoch: header.epoch, message: counter, sender: &id.sender, tag: &header.extra };
        place.verify(&key, &franked.salt, &content, &franked.signature).map_err(|error| error.to_string())?;
        codec::decode_content(&content).map_err(|error| error.to_string())?;
        if id == header.id {
            return Ok(content);
        }
        // It can be opened once only. Should it come with the header that is its own, it is there.
        if let Some(state) = self.rooms.get_mut(room) {
            Self::keep_loose(state, &Header { id, ..*header }, RowWhat::Content(content));
        }
        let is_sender = (id.sender, counter.device) == (header.id.sender, header.id.counter.device);
        Err(if is_sender { "its id is not the one that the log names" } else { "its sender is not the one that the log names" }.to_owned())
    }

    fn apply_leave(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let who = entry.header.id.sender;
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        let key = state.leaf_keys.get(&(who.0, entry.header.id.counter.device)).copied();
        let statement = leave_statement(room, &entry.header.id);
        let signature = Signature::from_slice(&entry.body);
        let holds = key.zip(signature.ok()).is_some_and(|(key, signature)| verify(&PublicKey(key), &statement, &signature).is_ok());
        if !holds {
            return RowWhat::Unreadable("a leave that its member did not sign".to_owned());
        }
        if who.0 == state.pseudonym {
            for item in &mut state.outbox {
                if matches!(item.intent, Intent::Leave) {
                    item.seq = Some(entry.header.seq.0);
                }
            }
            let left = state.outbox.iter().find(|item| item.seq == Some(entry.header.seq.0)).map(|item| item.id);
            if let Some(item) = left {
                Self::done(state, item, entry.header.seq);
            }
            self.gone(room);
        } else {
            state.left.push(who.0);
            state.contests.leavers.push(who.0);
            let (docket, verdict) = Self::reconsider(state, None);
            if let Some(verdict) = verdict {
                return self.go_back(room, entry, &docket, &verdict);
            }
        }
        RowWhat::Left
    }

    /// What was read stays readable; the room's keys are forgotten.
    pub(super) fn gone(&mut self, room: &RoomId) {
        if let Some(state) = self.rooms.get_mut(room) {
            state.phase = Phase::Gone;
            state.outbox.clear();
        }
        self.forget_befores(room);
        self.touch(room);
        self.groups.remove(room);
        if let Err(error) = Group::forget(&self.provider, room) {
            tracing::warn!(%error, "a room's keys could not be forgotten");
        }
    }
}
