//! What waits to be sent. An intent becomes an entry only when the room's log has been read to its end: then it is
//! encrypted once, persisted, sent, and sent again as it is until it has its place.

use kith_protocol::codec::{self, OpenedContent};
use kith_protocol::error::Code;
use kith_protocol::frank::{self, Franking};
use kith_protocol::ids::{Counter, EntryId, Epoch, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, UnixSeconds};
use kith_protocol::limits::{IN_FLIGHT_MAX, TRIES_MAX};
use kith_protocol::log::Kind;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::member::{Refused, Send, ToServer};
use kith_protocol::mls_framing;
use kith_protocol::room::{Invite, RoomContext, leave_statement};
use kith_protocol::sign::SecretKey;

use super::machine::{Ask, Core, CoreError, Event, Item, ItemState};
use super::state::{Former, Intent, Key, Made, OutItem, Phase, RoomState};
use crate::pack::{pack, pad};

impl Core {
    /// Makes and sends what the room can take now.
    pub(super) fn pump_outbox(&mut self, room: &RoomId) {
        let is_out = self.rooms.get(room).is_none_or(|state| state.is_shut_out);
        if is_out || self.session.paused.contains(room) || !self.is_at_end(room) {
            return;
        }
        self.add_housekeeping(room);
        let device = self.device_number();
        for _ in 0..IN_FLIGHT_MAX {
            let Some(state) = self.rooms.get(room) else { return };
            let Some(number) = state.number else { return };
            let in_flight = state.outbox.iter().filter(|item| item.seq.is_none() && item.made.is_some()).count();
            // A commit changes what everything after it is encrypted with: nothing is made until it has its place.
            let blocked = state
                .outbox
                .iter()
                .any(|item| item.seq.is_none() && item.made.as_ref().is_some_and(|made| made.kind != Kind::Message as u8));
            let unsent = state
                .outbox
                .iter()
                .find(|item| item.seq.is_none() && item.made.is_some() && !self.session.sent.contains(&(*room, item.id)));
            if let Some(item) = unsent {
                let (id, made) = (item.id, item.made.clone());
                self.session.sent.insert((*room, id));
                if let Some(made) = made {
                    self.sends.push(Self::frame(number, made));
                }
                continue;
            }
            // From behind a commit that it cannot follow a device can speak and complain, and make none itself.
            let may = |item: &&OutItem| !state.is_behind() || !item.intent.is_commit();
            let next = state.outbox.iter().find(|item| item.made.is_none() && item.seq.is_none() && may(item));
            let Some(item) = next.filter(|_| !blocked && in_flight < IN_FLIGHT_MAX) else { return };
            // Commits wait until what was sent before them has its place: they are made for the epoch as it then is.
            if in_flight > 0 && !matches!(item.intent, Intent::Content(_)) {
                return;
            }
            // While a copy of an epoch that is void may still take a place, one at a time: the order is kept.
            let settled = state.counters.get(&(state.pseudonym, device)).copied().unwrap_or(0);
            if in_flight > 0 && state.contests.void.iter().any(|(counter, _)| *counter > settled) {
                return;
            }
            let item = item.clone();
            let last = state.counters.get(&(state.pseudonym, device)).copied().unwrap_or(0);
            let counter = state.outbox.iter().filter_map(|i| i.made.as_ref().filter(|_| i.seq.is_none())).map(|m| m.counter).max();
            let counter = counter.unwrap_or(0).max(last) + 1;
            if let Err(error) = self.make(room, &item, counter) {
                self.fail(room, item.id, Code::Internal, &error.to_string());
                return;
            }
        }
    }

    fn frame(number: u32, made: Made) -> ToServer {
        ToServer::Send(Send {
            room: RoomNumber(number),
            counter: made.counter,
            epoch: Epoch(made.epoch),
            kind: Kind::from_number(made.kind.into()).unwrap_or(Kind::Message),
            body: made.body.into(),
            group_info: made.group_info.into(),
        })
    }

    /// Nothing is encrypted from behind: every entry that was sent here has been applied, and this copy is no old backup.
    fn is_at_end(&self, room: &RoomId) -> bool {
        let Some(state) = self.rooms.get(room) else { return false };
        let nothing_waits = self.session.logs.get(room).is_none_or(|view| view.waiting.is_empty());
        matches!(state.phase, Phase::Active) && state.out_of_step.is_none() && nothing_waits
    }

    /// Before something is said: who left goes out of the group, and who came hears one's name.
    fn add_housekeeping(&mut self, room: &RoomId) {
        let Some(state) = self.rooms.get(room) else { return };
        let unmade = |item: &OutItem| item.made.is_none() && item.seq.is_none();
        let wants_to_speak = state.outbox.iter().any(|item| unmade(item) && matches!(item.intent, Intent::Content(_)));
        if !wants_to_speak {
            return;
        }
        let removing = state.outbox.iter().any(|item| item.seq.is_none() && matches!(item.intent, Intent::RemoveLeft));
        let somebody_goes = !state.is_behind() && (!state.left.is_empty() || !state.contests.convicted.is_empty());
        if somebody_goes && !removing && self.push_item(room, Intent::RemoveLeft).is_ok() {
            self.move_last_to_front(room);
        }
        if self.rooms.get(room).is_some_and(|state| state.profile_due) {
            self.tell_name(room);
        }
    }

    /// Ahead of what has not been made yet.
    pub(super) fn move_last_to_front(&mut self, room: &RoomId) {
        if let Some(state) = self.rooms.get_mut(room)
            && let Some(item) = state.outbox.pop()
        {
            let at = state.outbox.iter().position(|item| item.made.is_none() && item.seq.is_none()).unwrap_or(state.outbox.len());
            state.outbox.insert(at, item);
        }
    }

    fn make(&mut self, room: &RoomId, item: &OutItem, counter: u64) -> Result<(), CoreError> {
        let made = match &item.intent {
            Intent::Content(content) => self.make_message(room, content, counter)?,
            Intent::OpenInvite { key, uses, expires_s } => {
                let invite = Invite { key: PublicKey(*key), uses: *uses, expires: UnixSeconds(*expires_s) };
                self.make_commit(room, Some(&|context: &mut RoomContext| context.invites.push(invite)), counter)?
            }
            Intent::SetVoters(votes) => {
                let (voters, state) = (votes.voters(), self.room(room)?.clone());
                let change = |context: &mut RoomContext| {
                    if let Some(next) = Self::with_voters(&state, context.clone(), &voters) {
                        *context = next;
                    }
                };
                self.make_commit(room, Some(&change), counter)?
            }
            Intent::RemoveLeft => self.make_commit(room, None, counter)?,
            Intent::Complain { commit, leaf } => self.make_complaint(room, *commit, leaf, counter)?,
            Intent::Leave => self.make_leave(room, counter)?,
        };
        if let Some(state) = self.rooms.get_mut(room)
            && let Some(item) = state.outbox.iter_mut().find(|other| other.id == item.id)
        {
            item.made = Some(made);
        }
        self.touch(room);
        Ok(())
    }

    fn make_message(&mut self, room: &RoomId, content: &[u8], counter: u64) -> Result<Made, CoreError> {
        let device = self.device_number();
        let salt = self.random();
        let state = self.active(room)?;
        let (leaf, sender) = (SecretKey::from_seed(state.leaf_seed), Pseudonym(state.pseudonym));
        let epoch = self.with_group(room, |group, _| Ok(group.epoch()))?;
        let tag = frank::tag(&salt, content);
        let message = Counter { device, number: counter };
        let signature = Franking { room, epoch, message, sender: &sender, tag: &tag }.sign(&leaf);
        let (packing, packed) = pack(content);
        let franked = OpenedContent { salt, signature, message_id: counter, packed: pad(packed).into(), packing };
        let plaintext = codec::encode_franked(&franked);
        let full = self.with_group(room, |group, provider| group.encrypt(provider, &leaf, &tag, &plaintext))?;
        let body = mls_framing::shorten(&full, room, epoch).map_err(|error| CoreError::Damaged(error.to_string()))?;
        Ok(Made { counter, epoch: epoch.0, kind: Kind::Message as u8, body, group_info: Vec::new(), removes: Vec::new() })
    }

    fn make_commit(&mut self, room: &RoomId, change: Option<&dyn Fn(&mut RoomContext)>, counter: u64) -> Result<Made, CoreError> {
        let now = self.now;
        let state = self.active(room)?;
        let leaf = SecretKey::from_seed(state.leaf_seed);
        let left: Vec<Pseudonym> = state.left.iter().chain(&state.contests.convicted).map(|who| Pseudonym(*who)).collect();
        let uses = state.uses.clone();
        let (epoch, outgoing) = self.with_group(room, |group, provider| {
            let context = change.and_then(|change| {
                let mut context = group.context()?;
                Self::close_invites(&mut context, &uses, now);
                change(&mut context);
                Some(context)
            });
            // A commit that was refused before is still pending in the group.
            let _ = group.clear_own(provider);
            let epoch = group.epoch();
            Ok((epoch, group.commit(provider, &leaf, context.as_ref(), &left)?))
        })?;
        Ok(Made {
            counter,
            epoch: epoch.0,
            kind: Kind::Commit as u8,
            body: outgoing.commit,
            group_info: outgoing.group_info,
            removes: left.iter().map(|who| who.0).collect(),
        })
    }

    /// Room for new invites: what has expired or is used up need not stand there any longer.
    pub(super) fn close_invites(context: &mut RoomContext, uses: &[(Key, u32)], now: UnixSeconds) {
        let used = |invite: &Invite| uses.iter().filter(|(key, _)| *key == invite.key.0).count();
        context.invites.retain(|invite| invite.expires >= now && used(invite) < invite.uses as usize);
    }

    fn make_leave(&mut self, room: &RoomId, counter: u64) -> Result<Made, CoreError> {
        let state = self.active(room)?;
        let leaf = SecretKey::from_seed(state.leaf_seed);
        let counter_of = Counter { device: self.device_number(), number: counter };
        let id = EntryId { sender: Pseudonym(state.pseudonym), counter: counter_of };
        let signature = leaf.sign(&leave_statement(room, &id));
        Ok(Made {
            counter,
            epoch: state.epoch,
            kind: Kind::Leave as u8,
            body: signature.0.to_vec(),
            group_info: Vec::new(),
            removes: Vec::new(),
        })
    }

    fn drop_item(&mut self, room: &RoomId, item: u64) {
        self.unmake_from(room, item);
        if let Some(state) = self.rooms.get_mut(room) {
            state.outbox.retain(|other| other.id != item);
        }
    }

    fn fail(&mut self, room: &RoomId, item: u64, code: Code, detail: &str) {
        self.drop_item(room, item);
        self.events.push(Event::ItemFailed { room: *room, item, code, detail: detail.to_owned() });
    }

    /// What was made from that item on is made anew: its place in the order of counters changed, or its epoch is over.
    fn unmake_from(&mut self, room: &RoomId, item: u64) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        // By place, not by number: housekeeping goes before what was said earlier. What was made before it may have its place
        // already, and a second body under its counter would be another history.
        let at = state.outbox.iter().position(|other| other.id == item);
        for other in at.map(|at| &mut state.outbox[at..]).unwrap_or_default() {
            if other.seq.is_none() {
                Self::unmake(other);
                self.session.sent.remove(&(*room, other.id));
            }
        }
        self.touch(room);
    }

    /// A message of this device has its place. What else was made under its counter is made anew: the place was found by an earlier
    /// form of something else.
    pub(super) fn unmake_beaten(&mut self, room: &RoomId, counter: u64) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        let is_beaten = |item: &&mut OutItem| item.seq.is_none() && item.made.as_ref().is_some_and(|made| made.counter == counter);
        for item in state.outbox.iter_mut().filter(is_beaten) {
            Self::unmake(item);
            self.session.sent.remove(&(*room, item.id));
        }
    }

    /// Should what was made of a message find its place all the same, it is known by it.
    fn unmake(item: &mut OutItem) {
        if let Some(made) = item.made.take().filter(|made| made.kind == Kind::Message as u8) {
            item.former.push(Former { counter: made.counter, epoch: made.epoch, body_hash: hash_bytes(&made.body).0 });
        }
        item.stored = false;
    }

    /// The server's no.
    pub(super) fn refused(&mut self, refused: Refused) {
        let ask = self.session.asked.remove(&refused.request);
        let room = match ask {
            Some(Ask::Certify(room) | Ask::Create(room) | Ask::Group(room) | Ask::Join(room)) => {
                return self.membership_refused(ask, &room, &refused);
            }
            Some(Ask::Headers(room) | Ask::Watch(room)) => return self.audit_refused(&room, &refused),
            None => self.room_by_number(refused.room),
        };
        if let Some(room) = room.filter(|room| refused.code == Code::NoSuchRoom && refused.counter == 0 && self.is_leaving(room)) {
            return self.gone(&room);
        }
        if let Some(room) = room.filter(|_| refused.code == Code::NoSuchRoom && refused.counter == 0) {
            return self.shut_out(&room, true);
        }
        let Some(room) = room.filter(|_| refused.counter > 0) else {
            if refused.code.is_transient() {
                self.put_off(&refused);
            } else {
                self.events.push(Event::Refused { code: refused.code, detail: refused.detail });
            }
            return;
        };
        if self.rooms.get(&room).is_some_and(|state| matches!(state.phase, Phase::Joining(_))) {
            return self.membership_refused(None, &room, &refused);
        }
        self.entry_refused(&room, &refused);
    }

    pub(super) fn shut_out(&mut self, room: &RoomId, is_out: bool) {
        if let Some(state) = self.rooms.get_mut(room).filter(|state| state.is_shut_out != is_out) {
            state.is_shut_out = is_out;
            self.touch(room);
        }
    }

    /// A server that no longer lets this device read a room which it leaves has heard of the leave.
    fn is_leaving(&self, room: &RoomId) -> bool {
        let outbox = self.rooms.get(room).map(|state| &state.outbox);
        outbox.is_some_and(|items| items.iter().any(|item| matches!(item.intent, Intent::Leave) && item.made.is_some()))
    }

    pub(super) fn put_off(&mut self, refused: &Refused) {
        self.events.push(Event::PutOff { code: refused.code, detail: refused.detail.clone() });
    }

    fn entry_refused(&mut self, room: &RoomId, refused: &Refused) {
        let Some(state) = self.rooms.get(room) else { return };
        let found =
            state.outbox.iter().find(|item| item.seq.is_none() && item.made.as_ref().is_some_and(|made| made.counter == refused.counter));
        // A no to what was made before, which comes late, says nothing of what was made since under the same counter.
        // No message is forbidden: that was to a complaint, which came too late and whose counter the message has now.
        let is_late = |item: &&OutItem| {
            item.made.as_ref().is_some_and(|made| {
                let is_message = made.kind == Kind::Message as u8;
                refused.epoch.is_some_and(|epoch| epoch.0 != made.epoch) || (is_message && refused.code == Code::Forbidden)
            })
        };
        let Some(item) = found.filter(|item| !is_late(item)) else { return };
        let is_message = item.made.as_ref().is_some_and(|made| made.kind == Kind::Message as u8);
        let (id, is_leave) = (item.id, matches!(item.intent, Intent::Leave));
        let is_complaint = matches!(item.intent, Intent::Complain { .. });
        if refused.code.is_transient() {
            self.session.sent.remove(&(*room, id));
            self.session.paused.insert(*room);
            self.put_off(refused);
            return;
        }
        match refused.code {
            // The same content, encrypted for the epoch of now, under the same entry id.
            Code::WrongEpoch | Code::OutOfOrder if self.may_try_again(room, id) => self.try_again(room, id),
            Code::InvalidCommit if !is_message && self.may_try_again(room, id) => self.try_again(room, id),
            // It had its place before this device heard of it, and whoever has left is told nothing further.
            Code::NoSuchRoom if is_leave => self.gone(room),
            // The room has gone on, or the commit is void already.
            Code::Forbidden if is_complaint => self.drop_item(room, id),
            code => self.fail(room, id, code, &refused.detail),
        }
    }

    /// Nobody is left to take out. A commit that was made keeps its counter until the hub has refused it: a refusal that
    /// comes late must not meet another entry under the same counter.
    pub(super) fn drop_needless(state: &mut RoomState) {
        let is_needed = !state.left.is_empty() || !state.contests.convicted.is_empty();
        state.outbox.retain(|item| is_needed || item.made.is_some() || !matches!(item.intent, Intent::RemoveLeft));
    }

    /// A hub that keeps refusing the same entry does not know what this device knows; making it anew for ever helps nobody.
    fn may_try_again(&mut self, room: &RoomId, id: u64) -> bool {
        let item = self.rooms.get_mut(room).and_then(|state| state.outbox.iter_mut().find(|item| item.id == id));
        item.is_some_and(|item| {
            item.tries += 1;
            item.tries <= TRIES_MAX
        })
    }

    fn try_again(&mut self, room: &RoomId, id: u64) {
        self.session.paused.insert(*room);
        self.unmake_from(room, id);
        if let Some(state) = self.rooms.get_mut(room) {
            Self::drop_needless(state);
        }
    }

    /// Everything that waits.
    pub fn items(&self) -> Vec<Item> {
        let list = |(room, state): (&RoomId, &RoomState)| {
            let items = state.outbox.iter().filter(|item| item.seq.is_none()).map(|item| (item.id, Self::describe(&item.intent)));
            items.map(|(id, what)| Item { id, room: *room, what, state: self.item_state(room, id) }).collect::<Vec<_>>()
        };
        self.rooms.iter().flat_map(list).collect()
    }

    fn describe(intent: &Intent) -> &'static str {
        match intent {
            Intent::Content(bytes) => match Self::content(bytes) {
                kith_protocol::content::Content::CheckIn(_) => "checkin",
                kith_protocol::content::Content::Profile { .. } => "profile",
                _ => "text",
            },
            Intent::OpenInvite { .. } => "invite",
            Intent::SetVoters(_) => "voters",
            Intent::RemoveLeft => "housekeeping",
            Intent::Complain { .. } => "complaint",
            Intent::Leave => "leave",
        }
    }

    /// How far an item has come.
    pub fn item_state(&self, room: &RoomId, id: u64) -> ItemState {
        let Some(state) = self.rooms.get(room) else { return ItemState::Unknown };
        let seq = state.done.iter().find(|(item, _)| *item == id).map(|(_, seq)| *seq);
        match (seq, state.outbox.iter().find(|item| item.id == id)) {
            (Some(seq), _) => {
                let (by, of) = self.held(room, Seq(seq));
                if by > 0 { ItemState::Held { seq: Seq(seq), by, of } } else { ItemState::Ordered(Seq(seq)) }
            }
            (None, Some(item)) if item.stored => ItemState::Stored,
            (None, Some(_)) => ItemState::Waiting,
            (None, None) => ItemState::Unknown,
        }
    }

    /// Takes back something that no server has been handed.
    pub fn cancel(&mut self, id: u64) -> Result<(), CoreError> {
        let found = self.rooms.iter().find_map(|(room, state)| {
            state.outbox.iter().find(|item| item.id == id && item.seq.is_none()).map(|item| (*room, item.made.is_some()))
        });
        match found {
            None => Err(CoreError::NoSuchItem),
            Some((_, true)) => Err(CoreError::TooLate),
            Some((room, false)) => {
                if let Some(state) = self.rooms.get_mut(&room) {
                    state.outbox.retain(|item| item.id != id);
                }
                self.touch(&room);
                self.finish();
                Ok(())
            }
        }
    }
}
