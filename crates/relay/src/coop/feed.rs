//! Fan-out: sessions and followers are sent each room in order, from the commit as it happens or from the store where
//! they are behind. Nothing is dropped and nothing grows: who cannot keep up reads on from its own place.

use std::collections::VecDeque;

use bytes::Bytes;
use kith_protocol::codec::{Encoding, encode_to_member};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, CoopName, Hash, RoomId, RoomNumber, Seq, Term};
use kith_protocol::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCHES_IN_FLIGHT_MAX};
use kith_protocol::link::Batch;
use kith_protocol::log::checkpoint::{Attestation, Checkpoint};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::{Header, Kind};
use kith_protocol::member::ToMember;
use kith_storage::{LogRow, Write};

use super::machine::Coop;
use super::repair::parse_rows;
use super::types::{Effect, NO_LONGER_IN, Read};
use super::waiting::Reader;
use crate::room::{Committed, Extent, Room};
use crate::session::Subscription;

/// How far a mirror has been sent a room that this co-op orders.
#[derive(Debug)]
pub struct Feed {
    /// The log as far as it has been sent: its root goes out with each batch. `None` while it is being read.
    pub sent: Option<Frontier>,
    /// Where it was asked for last.
    pub from: u64,
    pub reading: bool,
    /// Ends of the batches that it has not attested yet.
    pub in_flight: VecDeque<u64>,
}

fn bodies(rows: &[(Header, LogRow)]) -> Vec<(Header, Bytes)> {
    rows.iter().map(|(header, row)| (*header, row.body.clone())).collect()
}

/// Runs of consecutive rows of one term, each within the bounds of a frame.
fn frames(rows: &[(Header, LogRow)]) -> impl Iterator<Item = &[(Header, LogRow)]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest
            .iter()
            .take(BATCH_ENTRIES_MAX)
            .take_while(|(header, row)| {
                let is_of_term = header.term == rest[0].0.term;
                let fits = is_of_term && (bytes == 0 || bytes + row.body.len() <= BATCH_BYTES_MAX);
                bytes += row.body.len();
                fits
            })
            .count();
        let (frame, left) = rest.split_at(fit);
        rest = left;
        (!frame.is_empty()).then_some(frame)
    })
}

impl Coop {
    /// Rows of a room are durable: everybody who may hears of it.
    pub(super) fn grown(&mut self, committed: Committed) {
        let number = committed.room;
        let size = committed.rows.last().map_or(0, |(header, _)| header.seq.0 + 1);
        let (root, wall) = (self.secrets.root.clone(), self.wall);
        let Some(room) = self.rooms.get_mut(&number) else { return };
        let mark = room.committed(&root, wall, size);
        let is_hub = room.is_hub();
        let has_new_hub = committed.rows.iter().any(|(header, _)| header.kind == Kind::Succession);
        for (header, _) in &committed.rows {
            // It was kept for the hub, and then handed in again when this co-op ordered the room itself.
            if self.outbox.remove(number, &header.id).is_some() {
                self.write(Write::DropPending { room: number, id: header.id });
            }
        }
        self.standstill.grow(number, self.now, !is_hub && !self.outbox.is_empty(number));
        self.fan_out(number, &committed.rows);
        self.return_what_is_void(number, &committed.rows);
        self.take_early_marks(number);
        // Also without a commit: the marks may have come with the batch.
        self.announce_certificate(number);
        self.revise_membership(number, &committed.rows);
        self.feed_followers(number, Some(&committed.rows));
        if !is_hub {
            self.attest_to_hub(number, size, mark);
        } else if !self.outbox.is_empty(number) {
            self.order_pending(number);
        }
        self.answer_watches(number);
        self.compare_later(number);
        if has_new_hub {
            self.hub_changed(number);
        }
        self.seat_if_ready(number);
        self.restored_settled(number);
    }

    fn fan_out(&mut self, number: RoomNumber, rows: &[(Header, LogRow)]) {
        let subscribers = self.subscribers.get(&number).cloned().unwrap_or_default();
        for frame in frames(rows) {
            let Some((first, _)) = frame.first() else { continue };
            let after = Seq(first.seq.0 + frame.len() as u64);
            let author = if frame.len() == 1 { self.author(number, first) } else { None };
            let mut live = Vec::with_capacity(subscribers.len());
            let mut behind = Vec::new();
            for connection in &subscribers {
                let Some(session) = self.sessions.get_mut(connection) else { continue };
                let device = session.identity.map(|identity| (identity.account, identity.device_number));
                let Some(subscription) = session.subscriptions.get_mut(&number) else { continue };
                if subscription.next == first.seq && !subscription.reading && !subscription.lagging {
                    subscription.next = after;
                    if author.is_some() && device == author { self.ack_ordered(*connection, number, first) } else { live.push(*connection) }
                } else if subscription.next < after {
                    behind.push(*connection);
                }
            }
            self.deliver(number, live, frame);
            behind.into_iter().for_each(|connection| self.read_on(connection, number));
        }
    }

    /// Account and device behind an entry, if they are this co-op's.
    fn author(&self, number: RoomNumber, header: &Header) -> Option<(kith_protocol::ids::AccountHandle, u16)> {
        let room = self.rooms.get(&number)?;
        let account = self.accounts.get(&(room.id, header.id.sender))?;
        Some((*account, header.id.counter.device))
    }

    /// The author knows the body: it is told the place only.
    fn ack_ordered(&mut self, connection: ConnectionId, number: RoomNumber, header: &Header) {
        let created = self.rooms.get(&number).and_then(|room| room.log()).map_or(0, |log| log.created.0);
        let ordered = Some((header.seq, header.time.0.saturating_sub(created)));
        let ack = ToMember::Ack { room: number, counter: header.id.counter.number, ordered };
        if let Some(bytes) = self.encode(connection, &ack) {
            self.effects.push_back(Effect::Deliver { to: vec![connection], room: number, first: header.seq, bytes });
        }
    }

    /// Encodes once for all.
    fn deliver(&mut self, number: RoomNumber, to: Vec<ConnectionId>, rows: &[(Header, LogRow)]) {
        let (Some(room), Some((first, _))) = (self.rooms.get(&number), rows.first()) else { return };
        if to.is_empty() {
            return;
        }
        let Some(entries) = room.pack(number, &bodies(rows)) else {
            tracing::error!(room = number.0, "rows of the log could not be packed");
            return;
        };
        let frame = ToMember::Entries(entries);
        for (is_json, to) in self.encodings_of(&to) {
            let encoding = if is_json { Encoding::Json } else { Encoding::Binary };
            let bytes = encode_to_member(&frame, encoding);
            self.effects.push_back(Effect::Deliver { to, room: number, first: first.seq, bytes });
        }
    }

    /// A session is sent a room from there on.
    pub(super) fn subscribe(&mut self, connection: ConnectionId, number: RoomNumber, from: Seq) {
        let Some(durable) = self.rooms.get(&number).map(Room::durable) else { return };
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let subscription = Subscription { next: from, reading: false, lagging: false, behind: from.0 < durable };
        session.subscriptions.insert(number, subscription);
        let subscribers = self.subscribers.entry(number).or_default();
        if !subscribers.contains(&connection) {
            subscribers.push(connection);
        }
        self.read_on(connection, number);
    }

    /// Reads the next page for a session that is behind; at the end it is live, and told what certifies the newest commit.
    pub(super) fn read_on(&mut self, connection: ConnectionId, number: RoomNumber) {
        let Some(durable) = self.rooms.get(&number).map(|room| room.durable()) else { return };
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let Some(subscription) = session.subscriptions.get_mut(&number) else { return };
        if subscription.reading || subscription.lagging {
            return;
        }
        if subscription.next.0 < durable {
            subscription.reading = true;
            subscription.behind = true;
            let from = subscription.next;
            let read = Read::Entries { room: number, from, rows_max: BATCH_ENTRIES_MAX, bytes_max: BATCH_BYTES_MAX };
            self.read(Reader::Page { connection, room: number, from }, read);
            return;
        }
        let was_behind = std::mem::take(&mut subscription.behind);
        self.tell_frozen(connection, number);
        if was_behind {
            let certificate = self.rooms.get(&number).and_then(|room| room.certificate_of_last_commit()).cloned();
            if let Some(attestation) = certificate {
                self.reply(connection, &ToMember::Attestation { room: number, attestation });
            }
        }
        self.deliver_waiting(number, &[connection]);
        self.check_synced(connection);
    }

    pub(super) fn check_synced(&mut self, connection: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        if session.syncing && session.is_synced() {
            session.syncing = false;
            self.reply(connection, &ToMember::Synced);
        }
    }

    pub(super) fn page_read(&mut self, connection: ConnectionId, number: RoomNumber, from: Seq, rows: Vec<LogRow>) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let Some(subscription) = session.subscriptions.get_mut(&number) else { return };
        subscription.reading = false;
        if subscription.next != from || subscription.lagging {
            return self.read_on(connection, number);
        }
        let id = self.rooms.get(&number).map_or(RoomId([0; 32]), |room| room.id);
        let Some(rows) = parse_rows(&id, from, rows).filter(|rows| !rows.is_empty()) else {
            self.found_damaged(number);
            self.refuse(connection, Code::Internal, "this room's log is damaged here", 0);
            return self.close_member(connection);
        };
        subscription.next = Seq(from.0 + rows.len() as u64);
        // A joiner whose own commit is the last there is so far is told its place, once.
        let joined = session.joined.take_if(|(room, _)| *room == number).map(|(_, seq)| seq);
        let is_own = rows.last().is_some_and(|(header, _)| Some(header.seq) == joined);
        let (others, own) = rows.split_at(rows.len() - usize::from(is_own));
        let wanted: Vec<_> = frames(others).map(<[_]>::to_vec).collect();
        wanted.iter().for_each(|frame| self.deliver(number, vec![connection], frame));
        own.iter().for_each(|(header, _)| self.ack_ordered(connection, number, header));
        self.read_on(connection, number);
    }

    /// A queue was full: the session lags, and reads on from what it missed once the queue has drained.
    pub(super) fn undelivered(&mut self, connection: ConnectionId, number: RoomNumber, first: Seq) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        match session.subscriptions.get_mut(&number) {
            Some(subscription) => {
                subscription.next = if subscription.lagging { subscription.next.min(first) } else { first };
                subscription.lagging = true;
            }
            // It missed that it is out of the room. What it hands in again on its next connection tells it.
            None => self.close_member(connection),
        }
    }

    pub(super) fn member_drained(&mut self, connection: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let mut lagging = Vec::new();
        for (number, subscription) in &mut session.subscriptions {
            if std::mem::take(&mut subscription.lagging) {
                lagging.push(*number);
            }
        }
        lagging.into_iter().for_each(|number| self.read_on(connection, number));
    }

    /// Whoever left or was removed is sent nothing further; whoever joined may be sent it.
    fn revise_membership(&mut self, number: RoomNumber, rows: &[(Header, LogRow)]) {
        if rows.iter().all(|(header, _)| header.kind == Kind::Message) {
            return;
        }
        let Some(room) = self.rooms.get(&number) else { return };
        let mut gone = Vec::new();
        for connection in self.subscribers.get(&number).into_iter().flatten() {
            let account = self.sessions.get(connection).and_then(|session| session.identity).map(|identity| identity.account);
            let pseudonym = account.and_then(|account| self.memberships.get(&account)?.get(&room.id));
            if !pseudonym.is_some_and(|who| room.is_own_reader(who)) {
                let left = rows.iter().find(|(header, _)| header.kind == Kind::Leave && Some(&header.id.sender) == pseudonym);
                // The log in memory is ahead: a change that is staged is told with its own rows.
                if left.is_none() && room.is_changing() {
                    continue;
                }
                gone.push((*connection, left.map(|(header, _)| (header.seq, header.id.counter.number))));
            }
        }
        let (id, is_certified) = (room.id, room.certificate_of_last_commit().is_some());
        for (connection, left) in gone {
            let subscription = self.sessions.get(&connection).and_then(|session| session.subscriptions.get(&number)).copied();
            self.unsubscribe(connection, number);
            // It is behind and will not be sent its own leave, or waits for a commit before that to be certified, of which only
            // the room's members hear: it is told otherwise that it is out.
            if left.is_none() {
                self.refuse_entry(connection, number, 0, Code::NoSuchRoom, NO_LONGER_IN, 0);
            }
            let is_behind = |seq| subscription.is_some_and(|subscription| subscription.next <= seq);
            if let Some((_, counter)) = left.filter(|(seq, _)| is_behind(*seq) || !is_certified) {
                self.refuse_entry(connection, number, counter, Code::NoSuchRoom, "you have left this room", 0);
            }
        }
        for (header, _) in rows.iter().filter(|(header, _)| header.kind == Kind::Commit) {
            self.welcome(number, &id, header);
        }
    }

    /// Sessions of whoever has just joined read on from the cursor that came with the join.
    fn welcome(&mut self, number: RoomNumber, id: &RoomId, header: &Header) {
        for connection in self.sessions_of(id, &header.id.sender, header.id.counter.device) {
            let session = self.sessions.get(&connection);
            let device = session.filter(|s| !s.subscriptions.contains_key(&number)).and_then(|s| s.identity).map(|i| i.device);
            if let Some(device) = device {
                if let Some(session) = self.sessions.get_mut(&connection) {
                    session.joined = Some((number, header.seq));
                }
                self.read(Reader::Cursors { connection }, Read::Cursors { device });
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, connection: ConnectionId, number: RoomNumber) {
        if let Some(subscribers) = self.subscribers.get_mut(&number) {
            subscribers.retain(|other| *other != connection);
        }
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.subscriptions.remove(&number);
        }
    }

    /// Sends every follower of a room what it lacks: from the commit at hand where it is at the end, else from the store.
    pub(super) fn feed_followers(&mut self, number: RoomNumber, fresh: Option<&[(Header, LogRow)]>) {
        let peers: Vec<CoopName> = self.feeds.keys().filter(|(_, room)| *room == number).map(|(peer, _)| peer.clone()).collect();
        for peer in peers {
            self.feed(&peer, number, fresh);
        }
    }

    pub(super) fn feed(&mut self, peer: &CoopName, number: RoomNumber, fresh: Option<&[(Header, LogRow)]>) {
        let Some(room) = self.rooms.get(&number) else { return };
        let end = self.end_for(number, peer);
        let key = (peer.clone(), number);
        let durable = room.durable().min(end);
        let Some(feed) = self.feeds.get_mut(&key) else { return };
        let Some(next) = feed.sent.as_ref().map(|sent| Seq(sent.size())) else { return };
        if next.0 >= end {
            self.feeds.remove(&key);
            return;
        }
        if feed.reading || next.0 >= durable || feed.in_flight.len() >= BATCHES_IN_FLIGHT_MAX || !self.may_feed(peer, number) {
            return;
        }
        let fits = fresh.filter(|rows| {
            let bytes: usize = rows.iter().map(|(_, row)| row.body.len()).sum();
            let follows = rows.first().is_some_and(|(header, _)| header.seq == next);
            let is_one_term = rows.first().map(|(header, _)| header.term) == rows.last().map(|(header, _)| header.term);
            let is_for_them = rows.last().is_some_and(|(header, _)| header.seq.0 < end);
            follows && is_for_them && is_one_term && rows.len() <= BATCH_ENTRIES_MAX && bytes <= BATCH_BYTES_MAX
        });
        match fits {
            Some(rows) => {
                let rows = rows.to_vec();
                self.send_batch(peer, number, &rows);
                self.feed(peer, number, None);
            }
            None => {
                if let Some(feed) = self.feeds.get_mut(&key) {
                    feed.reading = true;
                }
                let from = next;
                let read = Read::Entries { room: number, from, rows_max: BATCH_ENTRIES_MAX, bytes_max: BATCH_BYTES_MAX };
                self.read(Reader::Follower { peer: peer.clone(), room: number, from }, read);
            }
        }
    }

    pub(super) fn follower_read(&mut self, peer: &CoopName, number: RoomNumber, from: Seq, rows: Vec<LogRow>) {
        let Some(feed) = self.feeds.get_mut(&(peer.clone(), number)) else { return };
        feed.reading = false;
        let is_next = feed.sent.as_ref().is_some_and(|sent| sent.size() == from.0);
        let id = self.rooms.get(&number).map_or(RoomId([0; 32]), |room| room.id);
        match parse_rows(&id, from, rows).filter(|rows| !rows.is_empty()) {
            Some(rows) if is_next => {
                let end = self.end_for(number, peer);
                let one_term = rows.iter().take_while(|(header, _)| header.term == rows[0].0.term && header.seq.0 < end).count();
                self.send_batch(peer, number, &rows[..one_term]);
                self.feed(peer, number, None);
            }
            Some(_) => self.feed(peer, number, None),
            None => self.found_damaged(number),
        }
    }

    /// Rows of one term, with a checkpoint of that term's hub: over their end if this co-op is that hub, else over as much as
    /// the hub last signed, with the proof that leads there.
    fn send_batch(&mut self, peer: &CoopName, number: RoomNumber, rows: &[(Header, LogRow)]) {
        let (Some(room), Some((last, _))) = (self.rooms.get(&number), rows.last()) else { return };
        let Some(feed) = self.feeds.get_mut(&(peer.clone(), number)) else { return };
        let Some(log) = room.log() else { return };
        let end = last.seq.0 + 1;
        if last.term == log.term && room.is_hub() {
            let Some(mut sent) = feed.sent.clone() else { return };
            rows.iter().for_each(|(_, row)| drop(sent.push(leaf_hash(&row.header))));
            let checkpoint = Checkpoint { room: room.id, term: log.term, size: sent.size(), root: sent.root() };
            let known = room.ledger().at(end).filter(|known| known.checkpoint == checkpoint).cloned();
            let attestation = known.unwrap_or_else(|| Attestation {
                checkpoint,
                hub: self.me.name.clone(),
                signature: checkpoint.sign(&self.secrets.root),
                marks: Vec::new(),
            });
            return self.send_rows(peer, number, rows, attestation, Vec::new());
        }
        let signed = |known: &&Attestation| known.checkpoint.term == last.term && known.checkpoint.size >= end;
        let exact = room.ledger().at(end).filter(signed);
        let newest = room.ledger().newest(|known| signed(&known) && known.checkpoint.size <= room.durable());
        let Some(attestation) = exact.or(newest).or_else(|| log.ended.iter().find(signed)).cloned() else {
            // This holder is catching up itself: the rest follows when it has it.
            return;
        };
        if attestation.checkpoint.size == end {
            return self.send_rows(peer, number, rows, attestation, Vec::new());
        }
        feed.reading = true;
        let read = Read::Proof { room: number, old: end, new: attestation.checkpoint.size };
        self.read(
            Reader::FollowerProof { peer: peer.clone(), room: number, rows: rows.to_vec(), attestation: Box::new(attestation) },
            read,
        );
    }

    pub(super) fn send_rows(
        &mut self,
        peer: &CoopName,
        number: RoomNumber,
        rows: &[(Header, LogRow)],
        attestation: Attestation,
        proof: Vec<Hash>,
    ) {
        let Some(connection) = self.links_up.get(peer).copied() else { return };
        let (Some(room), Some(link)) = (self.rooms.get(&number), self.links.get_mut(&connection)) else { return };
        let Some(their_number) = link.follower_number(&room.id) else { return };
        let Some(feed) = self.feeds.get_mut(&(peer.clone(), number)) else { return };
        feed.reading = false;
        let Some(sent) = feed.sent.as_mut() else { return };
        rows.iter().for_each(|(_, row)| drop(sent.push(leaf_hash(&row.header))));
        let end = sent.size();
        let Some(entries) = room.pack(their_number, &bodies(rows)) else { return };
        let group_infos = rows
            .iter()
            .enumerate()
            .filter(|(_, (header, _))| header.kind == Kind::Commit)
            .map(|(index, (_, row))| (index as u32, row.group_info.clone()))
            .collect();
        feed.in_flight.push_back(end);
        link.batch(Batch { entries, group_infos, attestation, proof });
        self.pump_link(connection);
    }

    /// A holder asks for a room from there on. If a term has begun before that place since the one that it knows, it is
    /// sent from there.
    pub(super) fn start_feed(&mut self, peer: &CoopName, number: RoomNumber, from: Seq, term: Term) {
        let Some(room) = self.rooms.get(&number) else { return };
        if room.log().is_some_and(|log| term < log.term && term > Term(0) && !log.has_term(term)) {
            return self.tell_orphan(peer, number);
        }
        if term < room.term() {
            // What it is sent first was ordered by somebody else: it hears how far this goes before it hands in anything.
            self.tell_status_to(peer, number);
        }
        let Some(room) = self.rooms.get(&number) else { return };
        let ended = room.log().and_then(|log| log.end_of(term));
        let from = ended.map_or(from, |ended| from.min(Seq(ended.checkpoint.size)));
        if from.0 > room.durable() {
            // It has more than this co-op: both hear of it.
            let (id, term) = (room.id, room.term());
            self.tell_status_to(peer, number);
            return self.status_came(peer, &id, Extent { term, size: from.0, fence: Term(0) }, None);
        }
        let sent = (from.0 == 0).then(Frontier::default);
        let is_ready = sent.is_some();
        self.feeds.insert((peer.clone(), number), Feed { sent, from: from.0, reading: !is_ready, in_flight: VecDeque::new() });
        if is_ready {
            return self.feed(peer, number, None);
        }
        let read = Read::Frontier { room: number, size: from.0 };
        self.read(Reader::FollowerFrontier { peer: peer.clone(), room: number, size: from.0 }, read);
    }

    pub(super) fn follower_frontier_read(&mut self, peer: &CoopName, number: RoomNumber, size: u64, nodes: Vec<Option<Hash>>) {
        // It may have asked again from elsewhere meanwhile.
        let is_wanted = |feed: &&mut Feed| feed.sent.is_none() && feed.from == size;
        let Some(feed) = self.feeds.get_mut(&(peer.clone(), number)).filter(is_wanted) else { return };
        let nodes: Option<Vec<Hash>> = nodes.into_iter().collect();
        feed.reading = false;
        feed.sent = nodes.and_then(|nodes| Frontier::from_parts(size, nodes).ok());
        self.feed(peer, number, None);
    }

    /// A mirror has fsynced that much.
    pub(super) fn attested_by(&mut self, peer: &CoopName, number: RoomNumber, size: u64) {
        if let Some(feed) = self.feeds.get_mut(&(peer.clone(), number)) {
            feed.in_flight.retain(|end| *end > size);
        }
        self.pass_turn(peer, number);
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::ids::{Counter, EntryId, Epoch, Pseudonym, UnixSeconds};

    use super::*;

    fn row(seq: u64, term: u32, bytes: usize) -> (Header, LogRow) {
        let id = EntryId { sender: Pseudonym([1; 16]), counter: Counter { device: 0, number: seq + 1 } };
        let (epoch, kind, time, hash) = (Epoch(0), Kind::Message, UnixSeconds(1), Hash([0; 32]));
        let header = Header { room: RoomId([1; 32]), seq: Seq(seq), term: Term(term), epoch, kind, id, time, body_hash: hash, extra: hash };
        (header, LogRow { header: Bytes::new(), nodes: Bytes::new(), body: vec![0; bytes].into(), group_info: Bytes::new() })
    }

    fn cut(rows: &[(Header, LogRow)]) -> Vec<usize> {
        frames(rows).map(<[_]>::len).collect()
    }

    #[test]
    fn frames_are_bounded_in_entries_and_bytes_and_of_one_term() {
        let many: Vec<_> = (0..BATCH_ENTRIES_MAX as u64 + 2).map(|seq| row(seq, 1, 1)).collect();
        assert_eq!(cut(&many), [BATCH_ENTRIES_MAX, 2]);
        let half = BATCH_BYTES_MAX / 2;
        assert_eq!(cut(&[row(0, 1, half), row(1, 1, half), row(2, 1, 1)]), [2, 1]);
        // One larger body stands alone.
        assert_eq!(cut(&[row(0, 1, 1), row(1, 1, BATCH_BYTES_MAX + 1), row(2, 1, 1)]), [1, 1, 1]);
        assert_eq!(cut(&[row(0, 1, 1), row(1, 2, 1)]), [1, 1]);
    }
}
