//! Frames of members' sessions.

use bytes::Bytes;
use kith_protocol::admission::fetch_statement;
use kith_protocol::codec::{DecodeError, Encoding};
use kith_protocol::credential::LeafCertificate;
use kith_protocol::error::Code;
use kith_protocol::ids::{AccountHandle, ConnectionId, Counter, DeviceHandle, EntryId, Pseudonym, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::judge::RoomFacts;
use kith_protocol::limits::{HEADERS_PAGE_MAX, ROOMS_MAX, ROOMS_PER_ACCOUNT_MAX, UNAUTHENTICATED_MAX};
use kith_protocol::link::Submission;
use kith_protocol::member::{FetchGroup, Join, RequestId, Send, ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::{Signature, verify};
use kith_storage::{DeviceRow, MembershipRow, Write};

use super::machine::Coop;
use super::outbox;
use super::types::{NO_LONGER_IN, Read};
use super::waiting::{After, Reader};
use crate::room::offer::NoGroup;
use crate::room::{Order, Room};
use crate::session::machine::Watch;
use crate::session::{Identity, Session};

/// A no to a request: what, and in the log's words why.
pub(super) type No = (Code, String);

fn no(code: Code, why: impl Into<String>) -> No {
    (code, why.into())
}

impl Coop {
    pub(super) fn member_opened(&mut self, connection: ConnectionId, encoding: Encoding, nonce: [u8; 32]) {
        let session = Session::open(self.now, connection, encoding, nonce);
        let until = session.poll_deadline();
        self.sessions.insert(connection, session);
        if self.strangers.len() >= UNAUTHENTICATED_MAX {
            self.refuse(connection, Code::Busy, "too many connections are waiting to authenticate", 0);
            return self.close_member(connection);
        }
        self.strangers.extend(until.map(|until| (connection, until)));
        self.reply(connection, &ToMember::Challenge { nonce });
        if self.draining {
            self.reply(connection, &ToMember::Draining);
        }
    }

    pub(super) fn member_closed(&mut self, connection: ConnectionId) {
        self.strangers.remove(&connection);
        let Some(session) = self.sessions.remove(&connection) else { return };
        for number in session.subscriptions.keys() {
            if let Some(subscribers) = self.subscribers.get_mut(number) {
                subscribers.retain(|other| *other != connection);
                if subscribers.is_empty() {
                    self.subscribers.remove(number);
                }
            }
        }
        self.watchers.remove(&connection);
    }

    pub(super) fn member_frame(&mut self, connection: ConnectionId, frame: Result<ToServer, DecodeError>) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let admitted = session.admit(self.now);
        let identity = session.identity;
        if let Err(wait_ms) = admitted {
            return self.refuse_late(connection, frame, wait_ms);
        }
        let refused = frame.as_ref().is_ok_and(|frame| self.refuse_while_full(connection, frame));
        match (frame, identity) {
            // The next connection tries again.
            (Ok(_), None) if refused => self.close_member(connection),
            (Ok(_), _) if refused => {}
            (Err(error), Some(_)) => self.refuse(connection, error.code(), &error.to_string(), 0),
            (Err(error), None) => {
                self.refuse(connection, error.code(), &error.to_string(), 0);
                self.close_member(connection);
            }
            (Ok(ToServer::Register { invite, invite_signature, device, device_signature }), None) => {
                self.register(connection, invite, &invite_signature, device, &device_signature);
            }
            (Ok(ToServer::Authenticate { device, signature }), None) => self.authenticate(connection, device, &signature),
            (Ok(_), None) => {
                self.refuse(connection, Code::NotAuthenticated, "authenticate first", 0);
                self.close_member(connection);
            }
            (Ok(frame), Some(identity)) => self.authenticated_frame(connection, identity, frame),
        }
    }

    fn refuse_late(&mut self, connection: ConnectionId, frame: Result<ToServer, DecodeError>, wait_ms: u32) {
        let (room, counter) = match &frame {
            Ok(ToServer::Send(send)) => (send.room, send.counter),
            _ => (RoomNumber(0), 0),
        };
        let refused = kith_protocol::member::Refused {
            code: Code::RateLimited,
            detail: "too many frames".to_owned(),
            request: frame.as_ref().map_or(0, ToServer::request),
            room,
            counter,
            retry_after_ms: wait_ms,
            epoch: None,
        };
        self.reply(connection, &ToMember::Refused(refused));
    }

    fn register(&mut self, connection: ConnectionId, invite: PublicKey, by_invite: &Signature, device: PublicKey, by_device: &Signature) {
        let Some(nonce) = self.sessions.get_mut(&connection).and_then(Session::take_challenge) else {
            return self.close_member(connection);
        };
        let holds = verify(&device, &auth_statement(&self.me.name, &nonce, &device), by_device).is_ok()
            && verify(&invite, &membership_statement(&self.me.name, &nonce, &device), by_invite).is_ok();
        let known = self.device_keys.get(&device).and_then(|handle| self.devices.get(handle)).cloned();
        // One answer for an unknown, a used-up and a wrongly signed invite: nothing to enumerate.
        let uses = self.invites.get(&invite).copied().unwrap_or(0);
        if !holds || (uses == 0 && known.is_none()) {
            self.refuse(connection, Code::InviteClosed, "no such invite, or it is used up", 0);
            return self.close_member(connection);
        }
        let row = known.unwrap_or_else(|| self.new_member(invite, uses, device));
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.identity = Some(Identity { device: row.handle, account: row.account, device_number: row.number });
        }
        self.reply_after_commit(connection, &ToMember::Registered { device: row.handle, number: row.number });
        self.reply_after_commit(connection, &ToMember::Ready);
        self.strangers.remove(&connection);
        self.after.push(After::StartSync { connection, device: row.handle });
    }

    fn new_member(&mut self, invite: PublicKey, uses: u32, key: PublicKey) -> DeviceRow {
        let handle = DeviceHandle(self.next_device);
        self.next_device += 1;
        // The account's first device gives it its handle; they are different things from here on.
        let row = DeviceRow { handle, account: AccountHandle(handle.0), number: 0, key };
        self.invites.insert(invite, uses - 1);
        self.write(Write::PutInvite { key: invite, uses_left: uses - 1 });
        self.write(Write::PutDevice(row.clone()));
        self.note_device(row.clone());
        row
    }

    fn authenticate(&mut self, connection: ConnectionId, device: DeviceHandle, signature: &Signature) {
        let row = self.devices.get(&device).cloned();
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let authenticated = row.and_then(|row| {
            let identity = Identity { device: row.handle, account: row.account, device_number: row.number };
            session.authenticate(&self.me.name, &row.key, signature, identity).ok()
        });
        if authenticated.is_none() {
            self.refuse(connection, Code::BadAuthentication, "the device is unknown or its signature does not verify", 0);
            return self.close_member(connection);
        }
        self.reply(connection, &ToMember::Ready);
        self.start_sync(connection, device);
    }

    pub(super) fn start_sync(&mut self, connection: ConnectionId, device: DeviceHandle) {
        self.strangers.remove(&connection);
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.syncing = true;
        }
        // A cursor that the device told a moment ago, perhaps on another connection, counts. Without room on the disk for
        // it, the device is sent again what it has.
        if self.flush_lazy_writes() && !self.is_full() {
            self.after.push(After::ReadCursors { connection, device });
        } else {
            self.read(Reader::Cursors { connection }, Read::Cursors { device });
        }
    }

    pub(super) fn cursors_read(&mut self, connection: ConnectionId, cursors: Vec<(RoomNumber, Seq)>) {
        let Some(identity) = self.sessions.get(&connection).and_then(|session| session.identity) else { return };
        for (number, next) in cursors {
            let session = self.sessions.get(&connection);
            let is_new = session.is_some_and(|session| !session.subscriptions.contains_key(&number));
            if is_new && self.may_read(identity.account, number) {
                self.subscribe(connection, number, next);
            } else if is_new && self.was_removed(identity.account, number) {
                self.refuse_entry(connection, number, 0, Code::NoSuchRoom, NO_LONGER_IN, 0);
            }
        }
        self.check_synced(connection);
    }

    fn may_read(&self, account: AccountHandle, number: RoomNumber) -> bool {
        let Some(room) = self.rooms.get(&number) else { return false };
        self.pseudonym(account, &room.id).is_some_and(|who| room.is_own_reader(&who))
    }

    pub(super) fn pseudonym(&self, account: AccountHandle, room: &RoomId) -> Option<Pseudonym> {
        self.memberships.get(&account)?.get(room).copied()
    }

    fn authenticated_frame(&mut self, connection: ConnectionId, identity: Identity, frame: ToServer) {
        let outcome = match frame {
            ToServer::Register { .. } | ToServer::Authenticate { .. } => Err((0, no(Code::Malformed, "already authenticated"))),
            ToServer::Cursor { room, next } => {
                self.cursor(identity, room, next).unwrap_or_else(|(code, why)| self.refuse_entry(connection, room, 0, code, &why, 0));
                Ok(())
            }
            ToServer::Open { room, from } => {
                let opened = self.open(connection, identity, room, from);
                opened.unwrap_or_else(|(code, why)| self.refuse_entry(connection, room, 0, code, &why, 0));
                Ok(())
            }
            ToServer::Send(send) => {
                self.send(connection, identity, send);
                Ok(())
            }
            ToServer::Certify { request, room, pseudonym, leaf_key } => {
                self.certify(connection, identity, request, room, pseudonym, leaf_key).map_err(|no| (request, no))
            }
            ToServer::CreateRoom { request, room, pseudonym, body } => {
                self.create_room(connection, identity, request, room, pseudonym, &body).map_err(|no| (request, no))
            }
            ToServer::FetchGroup(fetch) => {
                self.fetch_group(connection, fetch, true);
                Ok(())
            }
            ToServer::Join(join) => {
                let request = join.request;
                self.join(connection, identity, join).map_err(|no| (request, no))
            }
            ToServer::FetchHeaders { request, room, from } => {
                self.fetch_headers(connection, identity, request, room, from).map_err(|no| (request, no))
            }
            ToServer::Watch { request, room, size, held } => {
                let watch = Watch { request, room, size, held: held as usize };
                self.watch(connection, identity, watch).map_err(|no| (request, no))
            }
        };
        if let Err((request, (code, why))) = outcome {
            self.refuse(connection, code, &why, request);
        }
    }

    fn cursor(&mut self, identity: Identity, room: RoomNumber, next: Seq) -> Result<(), No> {
        let known = self.rooms.get(&room).is_some_and(|known| next.0 <= known.durable());
        if !known || !self.may_read(identity.account, room) {
            return Err(self.unless_restored(room, no(Code::NoSuchRoom, "no such room")));
        }
        self.write_lazily(Write::SetCursor { device: identity.device, room, next });
        Ok(())
    }

    fn open(&mut self, connection: ConnectionId, identity: Identity, room: RoomNumber, from: Seq) -> Result<(), No> {
        if !self.may_read(identity.account, room) {
            return Err(self.unless_restored(room, no(Code::NoSuchRoom, "no such room")));
        }
        self.subscribe(connection, room, from);
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, identity: Identity, send: Send) {
        let (number, counter, epoch) = (send.room, send.counter, Some(send.epoch));
        if let Err((code, why)) = self.take_entry(connection, identity, send) {
            self.refuse_made_entry(connection, number, counter, epoch, code, &why, 0);
        }
    }

    fn take_entry(&mut self, connection: ConnectionId, identity: Identity, send: Send) -> Result<(), No> {
        let room = self.rooms.get(&send.room).ok_or_else(|| self.unless_restored(send.room, no(Code::NoSuchRoom, "no such room")))?;
        let sender = self.pseudonym(identity.account, &room.id).filter(|who| room.is_own_member(who));
        let sender = sender.ok_or_else(|| self.unless_restored(send.room, no(Code::NoSuchRoom, "no such room")))?;
        if !send.kind.is_members() {
            return Err(no(Code::Malformed, "members send messages, commits, leaves and complaints"));
        }
        let id = EntryId { sender, counter: Counter { device: identity.device_number, number: send.counter } };
        let submission =
            Submission { room: room.id, id, epoch: send.epoch, kind: send.kind, body: send.body, group_info: send.group_info, base: None };
        self.submit(connection, send.room, submission, None)
    }

    /// Orders an entry here, or keeps it for its hub.
    fn submit(&mut self, connection: ConnectionId, number: RoomNumber, submission: Submission, join: Option<RequestId>) -> Result<(), No> {
        let (id, me) = (submission.id, self.me.clone());
        let ack = ToMember::Ack { room: number, counter: id.counter.number, ordered: None };
        let room = self.rooms.get_mut(&number).ok_or_else(|| no(Code::NoSuchRoom, "no such room"))?;
        if room.orders() {
            match room.order(self.wall, &me, &submission).map_err(|error| no(error.code(), error.to_string()))? {
                Order::New(_) => self.touched(number),
                // Its author hears of the place through the log, from its own cursor on.
                Order::Known => self.reply_after_commit(connection, &ack),
            }
            return Ok(());
        }
        let logged = room.log().map_or(0, |log| log.last_counter(&id));
        if id.counter.number <= logged {
            self.reply_after_commit(connection, &ack);
            return Ok(());
        }
        if let Some(pending) = self.outbox.get(number, &id) {
            pending.must_be(&submission)?;
            self.reply_after_commit(connection, &ack);
            self.tell_why_it_waits(connection, number);
            return Ok(());
        }
        let expected = logged.max(self.outbox.last_counter(number, &id).unwrap_or(0)) + 1;
        if id.counter.number != expected {
            return Err(self.unless_restored(number, no(Code::OutOfOrder, format!("the next counter is {expected}"))));
        }
        if self.outbox.is_full(number) {
            return Err(no(Code::Busy, "too many entries are waiting for the room's hub"));
        }
        self.write(Write::PutPending { room: number, id, submission: outbox::encode(&submission) });
        self.outbox.push(number, submission, join.map(|request| (connection, request)));
        self.tell_why_it_waits(connection, number);
        self.reply_after_commit(connection, &ack);
        self.after.push(After::Pending { room: number, id });
        Ok(())
    }

    fn certify(
        &mut self,
        connection: ConnectionId,
        identity: Identity,
        request: RequestId,
        room: RoomId,
        pseudonym: Pseudonym,
        leaf_key: PublicKey,
    ) -> Result<(), No> {
        match self.pseudonym(identity.account, &room) {
            Some(known) if known != pseudonym => {
                return Err(no(Code::Forbidden, "this account has another pseudonym in that room"));
            }
            Some(_) => {}
            // Also one that only the room's log shows: another co-op's member, or one of whom a restored backup knows nothing.
            None if self.accounts.contains_key(&(room, pseudonym)) || self.is_logged(&room, &pseudonym) => {
                return Err(no(Code::Forbidden, "the pseudonym is taken"));
            }
            None if self.memberships.get(&identity.account).is_some_and(|rooms| rooms.len() >= ROOMS_PER_ACCOUNT_MAX) => {
                return Err(no(Code::TooLarge, "too many rooms"));
            }
            None => {
                self.note_membership(identity.account, room, pseudonym);
                self.write(Write::PutMembership(MembershipRow { account: identity.account, room, pseudonym }));
            }
        }
        let certificate =
            LeafCertificate::issue(&self.secrets.root, self.me.clone(), &room, &leaf_key, pseudonym, identity.device_number, self.wall);
        self.reply_after_commit(connection, &ToMember::Certificate { request, certificate });
        Ok(())
    }

    fn new_room(&mut self, id: RoomId, hub: kith_protocol::ids::Coop) -> Result<RoomNumber, No> {
        if self.rooms.len() >= ROOMS_MAX {
            return Err(no(Code::Busy, "this co-op holds as many rooms as it may"));
        }
        let number = RoomNumber(self.next_room);
        self.next_room += 1;
        self.write(Write::PutRoom { number, id, hub: hub.clone() });
        self.room_numbers.insert(id, number);
        self.rooms.insert(number, Room::empty(number, id, hub, self.me.name.clone()));
        Ok(number)
    }

    fn create_room(
        &mut self,
        connection: ConnectionId,
        identity: Identity,
        request: RequestId,
        id: RoomId,
        pseudonym: Pseudonym,
        body: &Bytes,
    ) -> Result<(), No> {
        if self.pseudonym(identity.account, &id) != Some(pseudonym) {
            return Err(no(Code::Forbidden, "get a certificate for that room first"));
        }
        // Asked again after a lost answer: the room is there, and it is this member's.
        if let Some(number) = self.room_numbers.get(&id).copied() {
            if !self.may_read(identity.account, number) {
                return Err(no(Code::BadCreation, "the room exists"));
            }
            self.reply_after_commit(connection, &ToMember::RoomNumber { request, room: id, number });
            self.after.push(After::Subscribe { connection, room: number, from: Seq(1) });
            return Ok(());
        }
        let mut trial = Room::empty(RoomNumber(0), id, self.me.clone(), self.me.name.clone());
        trial.create(&pseudonym, identity.device_number, body).map_err(|error| no(Code::BadCreation, error.to_string()))?;
        let is_ours = trial.log().and_then(|log| log.coop_key(&self.me.name)) == Some(self.me.key);
        let is_now = trial.log().is_some_and(|log| log.created.0.abs_diff(self.wall.0) <= 24 * 3600);
        if !is_ours || !is_now {
            return Err(no(Code::BadCreation, "a room begins now, at its creator's own co-op"));
        }
        let number = self.new_room(id, self.me.clone())?;
        trial.number = number;
        self.rooms.insert(number, trial);
        self.write(Write::ResetCursor { device: identity.device, room: number, next: Seq(1) });
        self.touched(number);
        self.reply_after_commit(connection, &ToMember::RoomNumber { request, room: id, number });
        self.after.push(After::Subscribe { connection, room: number, from: Seq(1) });
        Ok(())
    }

    /// `may_wait`: while the group's newest change is not durable, the answer waits for the next commit.
    pub(super) fn fetch_group(&mut self, connection: ConnectionId, fetch: FetchGroup, may_wait: bool) {
        let request = fetch.request;
        let statement = fetch_statement(&fetch.room, &self.me.name);
        if verify(&fetch.invite, &statement, &fetch.proof).is_err() {
            return self.refuse(connection, Code::InviteClosed, "the invite is closed or does not fit", request);
        }
        let number = self.room_numbers.get(&fetch.room).copied();
        let is_live = number.is_some_and(|number| self.has_part(number));
        match number.and_then(|number| self.rooms.get(&number)).filter(|room| is_live && room.log().is_some()) {
            Some(room) => match room.group(&fetch.invite, self.wall) {
                Ok(group) => self.reply(connection, &ToMember::Group { request, group: Box::new(group) }),
                Err(NoGroup::Later) if may_wait => self.after.push(After::FetchGroup { connection, fetch }),
                Err(NoGroup::Later) => self.refuse(connection, Code::Busy, "the room is changing just now", request),
                Err(NoGroup::Closed) => self.refuse(connection, Code::InviteClosed, "the invite is closed or does not fit", request),
            },
            None => self.relay_fetch(connection, fetch),
        }
    }

    fn join(&mut self, connection: ConnectionId, identity: Identity, join: Join) -> Result<(), No> {
        if self.pseudonym(identity.account, &join.room) != Some(join.pseudonym) {
            return Err(no(Code::Forbidden, "get a certificate for that room first"));
        }
        // A copy from the time of another hub would be kept up by nobody.
        let stale = self.room_numbers.get(&join.room).copied().filter(|number| !self.has_part(*number));
        if let Some(number) = stale.filter(|number| self.rooms.get(number).is_some_and(|room| room.hub != join.holder)) {
            self.drop_room(number);
        }
        let number = match self.room_numbers.get(&join.room).copied() {
            Some(number) => number,
            None if join.holder.name == self.me.name => return Err(no(Code::NoSuchRoom, "no such room")),
            None => {
                self.may_share(&join.holder, &join.room).map_err(|why| no(Code::NoAgreement, why))?;
                self.new_room(join.room, join.holder.clone())?
            }
        };
        let room = self.rooms.get(&number).ok_or_else(|| no(Code::NoSuchRoom, "no such room"))?;
        let mut id = EntryId { sender: join.pseudonym, counter: Counter { device: identity.device_number, number: 0 } };
        id.counter.number = room.log().map_or(0, |log| log.last_counter(&id)) + 1;
        // A join that was taken before is not taken again: the device reads on from where it stood.
        let is_in = room.is_own_member(&join.pseudonym);
        if !is_in {
            self.why_not_shared(number).map_or(Ok(()), |why| Err(no(Code::NoAgreement, why)))?;
            self.submit(connection, number, Submission::of_join(&join, id), Some(join.request))?;
        }
        self.write(Write::ResetCursor { device: identity.device, room: number, next: join.from });
        self.reply_after_commit(connection, &ToMember::RoomNumber { request: join.request, room: join.room, number });
        if is_in {
            // What this session was sent before it knew the room's number, the device could not place.
            self.after.push(After::Subscribe { connection, room: number, from: join.from });
        }
        Ok(())
    }

    fn fetch_headers(
        &mut self,
        connection: ConnectionId,
        identity: Identity,
        request: RequestId,
        room: RoomNumber,
        from: Seq,
    ) -> Result<(), No> {
        if !self.may_read(identity.account, room) {
            return Err(no(Code::NoSuchRoom, "no such room"));
        }
        self.read(Reader::Headers { connection, request, room, from }, Read::Headers { room, from, max: HEADERS_PAGE_MAX });
        Ok(())
    }

    fn watch(&mut self, connection: ConnectionId, identity: Identity, watch: Watch) -> Result<(), No> {
        if !self.may_read(identity.account, watch.room) {
            return Err(no(Code::NoSuchRoom, "no such room"));
        }
        let session = self.sessions.get_mut(&connection).ok_or_else(|| no(Code::Internal, "the session is gone"))?;
        if !session.watch(watch) {
            return Err(no(Code::Busy, "too many watches at once"));
        }
        self.watchers.insert(connection);
        self.answer_watches(watch.room);
        Ok(())
    }

    /// Answers whoever waits for marks that have come.
    pub(super) fn answer_watches(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        let mut answers = Vec::new();
        for connection in &self.watchers {
            let Some(session) = self.sessions.get_mut(connection) else { continue };
            session.watches.retain(|watch| {
                let found = if watch.room == number { room.attestation(watch.size, watch.held) } else { None };
                if let Some(attestation) = found {
                    answers.push((*connection, attestation.clone()));
                }
                found.is_none()
            });
        }
        for (connection, attestation) in answers {
            self.reply(connection, &ToMember::Attestation { room: number, attestation });
        }
        let sessions = &self.sessions;
        self.watchers.retain(|connection| sessions.get(connection).is_some_and(|session| !session.watches.is_empty()));
    }
}
