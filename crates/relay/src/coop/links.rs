//! What neighbours say: handing entries to hubs, following logs, marks, and requests on members' behalf.

use kith_federation::link::{Event, Face, Link, Refusal};
use kith_protocol::admission::fetch_statement;
use kith_protocol::agreement::LinkCertificate;
use kith_protocol::codec::{self, DecodeError};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop as CoopId, CoopName, EntryId, Millis, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::limits::{LINK_KEY_LIFETIME_S, LINK_REQUEST_MS_MAX, LINK_REQUESTS_MAX};
use kith_protocol::link::{Batch, LinkFrame, Submission};
use kith_protocol::log::Kind;
use kith_protocol::member::{FetchGroup, Group, RequestId, ToMember};
use kith_protocol::sign::verify;
use kith_storage::Write;

use super::full;
use super::machine::Coop;
use super::types::Effect;
use super::waiting::After;
use crate::room::machine::MirrorError;
use crate::room::offer::NoGroup;
use crate::room::{Extent, Order};

impl Coop {
    pub(super) fn link_opened(&mut self, connection: ConnectionId, peer_link_key: PublicKey, dialled: Option<CoopName>) {
        let until = UnixSeconds(self.wall.0 + LINK_KEY_LIFETIME_S);
        let identity = &self.secrets.identity;
        let coop = identity.coop(&self.me.name);
        let certificate = LinkCertificate::issue(&identity.root, &coop, &self.secrets.link_key, until);
        let face = Face {
            coop,
            root: identity.root.clone(),
            certificate,
            successions: identity.successions.clone(),
            incarnation: self.incarnation,
        };
        let link = Link::open(self.now, face, peer_link_key, dialled);
        self.links.insert(connection, link);
        self.pump_link(connection);
    }

    pub(super) fn link_closed(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.remove(&connection) else { return };
        let Some(peer) = link.peer().map(|peer| peer.name.clone()) else { return };
        if self.links_up.get(&peer) == Some(&connection) {
            self.links_up.remove(&peer);
            self.feeds.retain(|(name, _), _| *name != peer);
            self.turns.forget(&peer);
            let rooms = self.rooms_of_hub(&peer);
            self.outbox.link_lost(&rooms);
            self.note_link(&peer, false);
            let followed: Vec<RoomNumber> =
                self.following.iter().filter(|(_, holder)| **holder == peer).map(|(number, _)| *number).collect();
            self.following.retain(|_, holder| *holder != peer);
            followed.into_iter().for_each(|number| self.follow_room(number));
            self.hub_silent(&peer, link.heard_ms());
            self.rooms.values_mut().for_each(|room| room.forget_word(&peer));
            for number in rooms {
                let to = self.subscribers.get(&number).cloned().unwrap_or_default();
                self.deliver_waiting(number, &to);
            }
            tracing::info!(neighbour = %peer, "link down");
        }
    }

    pub(super) fn close_link(&mut self, connection: ConnectionId) {
        self.effects.push_back(Effect::CloseLink { connection });
        self.link_closed(connection);
    }

    pub(super) fn end_link(&mut self, connection: ConnectionId, refusal: &Refusal) {
        let claimed = self.links.get(&connection).and_then(Link::claimed).cloned();
        tracing::warn!(neighbour = claimed.as_ref().map(tracing::field::display), %refusal, "a link is refused");
        if let Some(name) = claimed {
            self.note_link_error(&name, &refusal.to_string());
        }
        let bytes = codec::encode_link(&Link::farewell(refusal));
        self.pump_link(connection);
        self.effects.push_back(Effect::ToLink { connection, bytes });
        self.close_link(connection);
    }

    pub(super) fn link_frame(&mut self, connection: ConnectionId, frame: Result<LinkFrame, DecodeError>) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        let outcome = match frame {
            Ok(frame) => link.handle_frame(self.now, self.wall, frame, &self.neighbours),
            Err(error) => link.handle_malformed(self.now, &error),
        };
        if let Err(refusal) = outcome {
            return self.end_link(connection, &refusal);
        }
        self.drain_link(connection);
    }

    /// Carries out what the link's machine has come to.
    pub(super) fn drain_link(&mut self, connection: ConnectionId) {
        while let Some(event) = self.links.get_mut(&connection).and_then(Link::poll_event) {
            self.link_event(connection, event);
        }
        self.pump_link(connection);
    }

    /// Sends what the link's machine has to say.
    pub(super) fn pump_link(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        while let Some(frame) = link.poll_send() {
            let bytes = codec::encode_link(&frame);
            self.effects.push_back(Effect::ToLink { connection, bytes });
        }
    }

    pub(super) fn tick_links(&mut self) {
        let connections: Vec<ConnectionId> = self.links.keys().copied().collect();
        for connection in connections {
            let Some(link) = self.links.get_mut(&connection) else { continue };
            match link.handle_deadline(self.now) {
                Ok(()) => self.pump_link(connection),
                Err(refusal) => self.end_link(connection, &refusal),
            }
        }
        let again: Vec<RoomNumber> = self.refollow.iter().filter(|(_, at)| **at <= self.now).map(|(room, _)| *room).collect();
        for number in again {
            self.refollow.remove(&number);
            if self.rooms.get(&number).is_some_and(|room| room.log().is_none()) {
                // The join had its place and the log did not come: perhaps another hub took over meanwhile.
                self.outbox.link_lost(&[number]);
                self.forward(number);
            } else {
                self.follow_room(number);
            }
        }
        let late: Vec<RequestId> = self.relayed.iter().filter(|(_, (_, _, at))| *at <= self.now).map(|(request, _)| *request).collect();
        for request in late {
            if let Some((connection, original, _)) = self.relayed.remove(&request) {
                self.refuse(connection, Code::HolderUnreachable, "the other co-op did not answer in time", original);
            }
        }
    }

    fn link_event(&mut self, connection: ConnectionId, event: Event) {
        let peer = self.links.get(&connection).and_then(Link::peer).cloned();
        let Some(peer) = peer else { return };
        match event {
            Event::Known { root, rooms, incarnation } => {
                self.note_incarnation(&peer.name, incarnation);
                self.peer_known(connection, &peer.name, root, rooms);
            }
            Event::Signed { terms, signature } => self.terms_signed(connection, &peer.name, &terms, signature),
            Event::Standing(notice) => self.standing_came(connection, &peer.name, notice),
            Event::Up { peer } => self.link_up(connection, &peer),
            Event::Follow { room, from, term } => self.peer_follows(connection, &peer, &room, from, term),
            Event::Status { room, term, size, fence, attestation, succession } => {
                if let Some(number) = self.room_numbers.get(&room).copied().filter(|number| self.may_hold(*number, &peer.name)) {
                    self.orphaned(number, &succession);
                    attestation.iter().for_each(|word| self.look_for_loss(number, word));
                    self.rival_came(&peer.name, number, term, attestation.as_ref(), &succession);
                }
                self.status_came(&peer.name, &room, Extent { term, size, fence }, attestation.as_ref());
                attestation.into_iter().for_each(|attestation| self.compare(&peer.name, &room, attestation));
            }
            Event::Proof(proof) => self.proof_came(&peer.name, proof),
            Event::Call { room, term, candidate, probe } => self.call_came(&peer.name, &room, term, candidate, probe),
            Event::Willing { room, term } => self.willing_came(&peer.name, &room, term),
            Event::Vote(vote) => {
                if vote.voter == peer.name && self.neighbours.covers(&peer.name, &vote.room, self.wall) {
                    self.vote_came(*vote);
                }
            }
            Event::Unfollow { room } => {
                if let Some(number) = self.room_numbers.get(&room) {
                    self.feeds.remove(&(peer.name, *number));
                }
            }
            Event::Batch { room, batch } => self.batch_came(connection, &peer, room, &batch),
            Event::Attest { room, size, mark } => self.attest_came(&peer, &room, size, mark),
            Event::Attested { room, attestation } => self.attested_came(&peer, room, attestation),
            Event::Submit { id, submission } => self.submission_came(connection, &peer, id, &submission),
            Event::Submitted { id, outcome } => self.submitted_came(id, outcome),
            Event::Fetch(fetch) => self.peer_fetch_group(connection, fetch, true),
            Event::Group { request, group } => self.group_came(request, group),
        }
    }

    fn link_up(&mut self, connection: ConnectionId, peer: &CoopId) {
        if let Some(older) = self.links_up.insert(peer.name.clone(), connection).filter(|older| *older != connection) {
            // The newer connection is the live one: the older is a half-open rest of it.
            self.effects.push_back(Effect::CloseLink { connection: older });
            self.links.remove(&older);
            self.feeds.retain(|(name, _), _| *name != peer.name);
            self.turns.forget(&peer.name);
        }
        self.note_link(&peer.name, true);
        tracing::info!(neighbour = %peer.name, "link up");
        self.effects.push_back(Effect::LinkUp { connection });
        self.hub_heard(&peer.name);
        self.tell_status(&peer.name);
        let rooms = self.rooms_of_hub(&peer.name);
        self.outbox.link_lost(&rooms);
        for number in rooms {
            // A room without a log waits for the hub to order the join first.
            if self.rooms.get(&number).is_some_and(|room| room.log().is_some()) {
                self.follow_room(number);
                self.attest_again(number);
            }
            self.forward(number);
        }
    }

    pub(super) fn rooms_of_hub(&self, hub: &CoopName) -> Vec<RoomNumber> {
        let mut rooms: Vec<RoomNumber> = self.rooms.values().filter(|room| room.hub.name == *hub).map(|room| room.number).collect();
        rooms.sort_unstable();
        rooms
    }

    pub(super) fn link_to(&mut self, peer: &CoopName) -> Option<(ConnectionId, &mut Link)> {
        let connection = *self.links_up.get(peer)?;
        self.links.get_mut(&connection).map(|link| (connection, link))
    }

    /// Hands pending entries to their hub.
    pub(super) fn forward(&mut self, number: RoomNumber) {
        if self.rooms.get(&number).is_some_and(|room| room.is_hub()) {
            return self.order_pending(number);
        }
        // What is handed to a hub that broke its word would be lost with its term.
        let room = self.rooms.get(&number).filter(|room| !room.is_frozen() && !self.has_hub_of_the_past(room));
        let Some((id, hub)) = room.map(|room| (room.id, room.hub.name.clone())) else { return };
        let Some(connection) = self.links_up.get(&hub).copied().filter(|_| self.neighbours.covers(&hub, &id, self.wall)) else { return };
        let sendable = self.outbox.take_sendable(&hub, &[number]);
        if !sendable.is_empty() && self.rooms.get(&number).is_some_and(|room| room.log().is_some()) {
            self.standstill.wait(number, self.now);
        }
        if let Some(link) = self.links.get_mut(&connection) {
            sendable.into_iter().for_each(|(id, submission)| link.submit(id, submission));
        }
        self.pump_link(connection);
    }

    /// A mirror hands in an entry of one of its members.
    fn submission_came(&mut self, connection: ConnectionId, peer: &CoopId, id: u64, submission: &Submission) {
        let bytes = (submission.body.len() + submission.group_info.len()) as u64;
        let covered = self.neighbours.covers(&peer.name, &submission.room, self.wall);
        let number = self.room_numbers.get(&submission.room).copied().filter(|_| covered);
        let is_full = self.is_full();
        let room = number.and_then(|number| self.rooms.get_mut(&number));
        let outcome = match room {
            _ if is_full => Err((Code::DiskFull, full::WHY.to_owned())),
            // It was taken when this co-op was the hub, and the answer was lost: what has its place is not refused.
            Some(room) if !room.is_hub() && room.has(&submission.id) => Ok(Order::Known),
            // A joiner that was led here learns from the group who orders the room now.
            Some(room) if !room.is_hub() && submission.kind == Kind::Commit => {
                Err((Code::WrongEpoch, "another co-op orders this room".to_owned()))
            }
            Some(_) if !self.neighbours.has_room_for(&peer.name, bytes, self.wall) => {
                Err((Code::RateLimited, "the agreement's limit for this day is reached".to_owned()))
            }
            Some(room) if submission.kind != Kind::Creation => {
                room.order(self.wall, peer, submission).map_err(|error| (error.code(), error.to_string()))
            }
            _ => Err((Code::NoSuchRoom, "no such room".to_owned())),
        };
        match (outcome, number) {
            (Ok(order), Some(number)) => {
                if order != Order::Known {
                    self.neighbours.take(&peer.name, bytes, self.wall);
                    self.touched(number);
                }
                self.after.push(After::Submitted { connection, id });
            }
            (Ok(_), None) => {}
            (Err(no), _) => {
                if let Some(link) = self.links.get_mut(&connection) {
                    link.submitted(id, Err(no));
                }
            }
        }
    }

    /// The hub's answer about an entry of ours.
    fn submitted_came(&mut self, id: u64, outcome: Result<(), (Code, String)>) {
        let Some((number, entry)) = self.outbox.answered(id) else { return };
        match outcome {
            Ok(()) => {
                if let Some(hub) = self.rooms.get(&number).map(|room| room.hub.name.clone()) {
                    self.hub_works(&hub);
                }
                self.outbox.ordered(number, &entry);
                // A stranger's entry is a join. Without a member in the room we did not follow it, and the hub lets us from
                // now on; else nothing is lost by asking again.
                if self.rooms.get(&number).is_some_and(|room| !room.is_member(&entry.sender)) {
                    self.after.push(After::FollowNew { room: number });
                }
            }
            // What came before it was put off: it goes again after that.
            Err((code, _)) if code.is_transient() || (code == Code::OutOfOrder && self.outbox.has_earlier(number, &entry)) => {
                self.outbox.retry(number, &entry);
                self.put_off_by_hub(number, code);
                self.resubmit_later();
            }
            Err((code, detail)) => self.drop_refused(number, &entry, code, &detail),
        }
        if self.outbox.is_empty(number) {
            self.standstill.end(number);
        }
        self.forward(number);
    }

    pub(super) fn drop_refused(&mut self, number: RoomNumber, entry: &EntryId, code: Code, detail: &str) {
        let Some(id) = self.rooms.get(&number).map(|room| room.id) else { return };
        for pending in self.outbox.refuse(number, entry) {
            let (gone, epoch) = (pending.submission.id, Some(pending.submission.epoch));
            self.write(Write::DropPending { room: number, id: gone });
            let (code, detail) = if gone == *entry { (code, detail) } else { (Code::OutOfOrder, "an earlier entry was refused") };
            let request = pending.join.map_or(0, |(_, request)| request);
            for connection in self.sessions_of(&id, &gone.sender, gone.counter.device) {
                self.refuse_made_entry(connection, number, gone.counter.number, epoch, code, detail, request);
            }
        }
        let never_began = self.rooms.get(&number).is_some_and(|room| room.log().is_none());
        if never_began && self.outbox.is_empty(number) {
            self.drop_room(number);
        }
    }

    /// A mirror asks for a room. Only co-ops with members in it are told that it exists, or those that lack a part of it from
    /// the time when they had.
    fn peer_follows(&mut self, connection: ConnectionId, peer: &CoopId, id: &RoomId, from: Seq, term: Term) {
        let number = self.room_numbers.get(id).copied();
        let allowed = number.is_some_and(|number| self.end_for(number, &peer.name) > from.0);
        let followed = self.feeds.keys().filter(|(name, room)| *name == peer.name && Some(*room) != number).count();
        if allowed && followed >= self.neighbours.rooms_max(&peer.name) {
            if let Some(link) = self.links.get_mut(&connection) {
                link.stop_follower(id);
                link.refuse(Code::TooLarge, "the agreement allows no more rooms".to_owned());
            }
            return;
        }
        match number.filter(|_| allowed) {
            Some(number) => self.start_feed(&peer.name, number, from, term),
            None => {
                if let Some(link) = self.links.get_mut(&connection) {
                    link.stop_follower(id);
                    link.refuse(Code::NoSuchRoom, "no such room".to_owned());
                }
                if let Some(number) = number {
                    self.tell_stranger(&peer.name, number, term);
                }
            }
        }
    }

    /// The hub's log goes on.
    fn batch_came(&mut self, connection: ConnectionId, peer: &CoopId, number: RoomNumber, batch: &Batch) {
        let (neighbours, is_full) = (&self.neighbours, self.is_full());
        let is_followed = self.following.get(&number) == Some(&peer.name) && !self.rebuilds.contains_key(&number);
        let Some(room) = self.rooms.get_mut(&number).filter(|_| is_followed) else { return };
        // It has been sent this meanwhile, by somebody else or before it asked again; but a newer term may begin earlier.
        if batch.entries.first.0 < room.size() && batch.entries.term <= room.term() {
            if batch.entries.end() > room.size() {
                self.follow_room(number);
            }
            return;
        }
        // Whoever has voted takes nothing more of the old term.
        let (is_of_fenced_term, end) = (room.is_fenced() && batch.entries.term <= room.term(), batch.entries.end());
        if is_of_fenced_term && !self.still_takes(number, &peer.name, end) {
            return;
        }
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if is_full {
            self.refollow_later(number);
            return;
        }
        let before = room.size();
        match room.mirror(batch, |name| neighbours.get(name).map(|neighbour| neighbour.in_rooms().key)) {
            Ok(()) => {
                self.hub_works(&peer.name);
                self.drop_mirrored(number, before);
                self.touched(number);
            }
            Err(MirrorError::Cut(record)) => self.rebuild(number, *record),
            Err(error) => {
                tracing::warn!(neighbour = %peer.name, room = number.0, %error, "a batch is refused");
                if let Some(link) = self.links.get_mut(&connection) {
                    link.refuse(Code::BadProof, error.to_string());
                }
                self.refollow_later(number);
            }
        }
    }

    /// Entries of ours that the log has brought back are no longer pending, from the same transaction on.
    fn drop_mirrored(&mut self, number: RoomNumber, from: u64) {
        let Some(room) = self.rooms.get(&number) else { return };
        let mirrored: Vec<EntryId> = room.staged_ids(from).filter(|id| self.outbox.get(number, id).is_some()).collect();
        mirrored.into_iter().for_each(|id| self.write(Write::DropPending { room: number, id }));
    }

    /// A neighbour asks for what a joiner of its own needs.
    pub(super) fn peer_fetch_group(&mut self, connection: ConnectionId, fetch: FetchGroup, may_wait: bool) {
        let Some(peer) = self.links.get(&connection).and_then(Link::peer).map(|peer| peer.name.clone()) else { return };
        let covered = self.neighbours.covers(&peer, &fetch.room, self.wall);
        let proven = covered && verify(&fetch.invite, &fetch_statement(&fetch.room, &peer), &fetch.proof).is_ok();
        let number = self.room_numbers.get(&fetch.room).filter(|_| proven).copied();
        // A copy that nobody keeps up to date would lead a joiner astray.
        let room = number.filter(|number| self.has_part(*number)).and_then(|number| self.rooms.get(&number));
        let group = room.map_or(Err(NoGroup::Closed), |room| room.group(&fetch.invite, self.wall));
        if group == Err(NoGroup::Later) {
            // Without an answer, whoever asked hears in time from its own co-op, and asks again.
            if may_wait && !self.is_full() {
                self.after.push(After::PeerFetchGroup { connection, fetch });
            }
            return;
        }
        let Some(link) = self.links.get_mut(&connection) else { return };
        match group {
            Ok(group) => link.group(fetch.request, Box::new(group)),
            Err(_) => link.no_group(fetch.request),
        }
        self.pump_link(connection);
    }

    /// A member asks for a room that a neighbour holds.
    pub(super) fn relay_fetch(&mut self, connection: ConnectionId, fetch: FetchGroup) {
        let holder = fetch.holder.clone();
        let request = fetch.request;
        if holder.name == self.me.name {
            return self.refuse(connection, Code::InviteClosed, "the invite is closed or does not fit", request);
        }
        if let Err(why) = self.may_share(&holder, &fetch.room) {
            return self.refuse(connection, Code::NoAgreement, &why, request);
        }
        if self.relayed.len() >= LINK_REQUESTS_MAX {
            return self.refuse(connection, Code::Busy, "too many requests are waiting for that co-op", request);
        }
        let relayed = self.next_relayed;
        let Some((link_connection, link)) = self.link_to(&holder.name) else {
            return self.refuse(connection, Code::HolderUnreachable, "the link to that co-op is down", request);
        };
        link.fetch(FetchGroup { request: relayed, ..fetch });
        self.next_relayed = self.next_relayed.wrapping_add(1);
        self.relayed.insert(relayed, (connection, request, Millis(self.now.0 + LINK_REQUEST_MS_MAX)));
        self.pump_link(link_connection);
    }

    fn group_came(&mut self, request: RequestId, group: Option<Box<Group>>) {
        let Some((connection, original, _)) = self.relayed.remove(&request) else { return };
        match group {
            Some(group) => self.reply(connection, &ToMember::Group { request: original, group }),
            None => self.refuse(connection, Code::InviteClosed, "the invite is closed or does not fit", original),
        }
    }
}
