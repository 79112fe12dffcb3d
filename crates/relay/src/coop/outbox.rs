//! Entries of this co-op's members on their way to the hubs that order them: durable here, in order, until the log of the
//! room brings them back.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kith_protocol::codec;
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, CoopName, EntryId, Epoch, RoomNumber};
use kith_protocol::limits::{PENDING_PER_ROOM_MAX, SUBMITS_IN_FLIGHT_MAX};
use kith_protocol::link::{LinkFrame, Submission};
use kith_protocol::log::Kind;
use kith_protocol::member::RequestId;

/// A pending entry.
#[derive(Debug, Clone)]
pub struct Pending {
    pub submission: Submission,
    state: State,
    /// The join request that brought it, while its session lasts.
    pub join: Option<(ConnectionId, RequestId)>,
}

impl Pending {
    /// What was made anew under the same counter waits until the hub has answered about the earlier form, which may have its
    /// place already. For another it must not be taken: that would be acknowledged, and nobody would have it.
    pub fn must_be(&self, submission: &Submission) -> Result<(), (Code, String)> {
        let of = |entry: &Submission| (entry.kind, entry.epoch, entry.body.clone());
        let is_same = of(&self.submission) == of(submission);
        let no = || (Code::Busy, "an earlier form of that entry still waits for the room's hub".to_owned());
        is_same.then_some(()).ok_or_else(no)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not durable yet.
    New,
    Waiting,
    /// Handed to the hub in this link's time, under that number.
    Sent(u64),
    /// The hub has it; the log will bring it.
    Ordered,
}

#[derive(Debug, Default)]
pub struct Outbox {
    rooms: BTreeMap<RoomNumber, VecDeque<Pending>>,
    /// Submissions without an answer, by the number on the link.
    in_flight: BTreeMap<u64, (RoomNumber, EntryId, CoopName)>,
    next_id: u64,
}

pub fn encode(submission: &Submission) -> Bytes {
    codec::encode_link(&LinkFrame::Submit { id: 0, submission: submission.clone() })
}

pub fn decode(bytes: Bytes) -> Option<Submission> {
    match codec::decode_link(bytes) {
        Ok(LinkFrame::Submit { submission, .. }) => Some(submission),
        _ => None,
    }
}

impl Outbox {
    pub fn restore(&mut self, room: RoomNumber, rows: Vec<(EntryId, Bytes)>) {
        let pending = rows.into_iter().filter_map(|(_, bytes)| decode(bytes));
        let pending = pending.map(|submission| Pending { submission, state: State::Waiting, join: None });
        self.rooms.entry(room).or_default().extend(pending);
    }

    pub fn is_full(&self, room: RoomNumber) -> bool {
        self.rooms.get(&room).is_some_and(|queue| queue.len() >= PENDING_PER_ROOM_MAX)
    }

    pub fn is_empty(&self, room: RoomNumber) -> bool {
        self.rooms.get(&room).is_none_or(VecDeque::is_empty)
    }

    pub fn len(&self, room: RoomNumber) -> usize {
        self.rooms.get(&room).map_or(0, VecDeque::len)
    }

    pub fn get(&self, room: RoomNumber, id: &EntryId) -> Option<&Pending> {
        self.rooms.get(&room)?.iter().find(|pending| pending.submission.id == *id)
    }

    /// Whether something that its sender handed in before it is still pending.
    pub fn has_earlier(&self, room: RoomNumber, id: &EntryId) -> bool {
        let is_earlier = |other: EntryId| {
            other.sender == id.sender && other.counter.device == id.counter.device && other.counter.number < id.counter.number
        };
        self.rooms.get(&room).into_iter().flatten().any(|pending| is_earlier(pending.submission.id))
    }

    /// The last counter that this sender's device has pending.
    pub fn last_counter(&self, room: RoomNumber, id: &EntryId) -> Option<u64> {
        let same = |pending: &&Pending| {
            let other = pending.submission.id;
            other.sender == id.sender && other.counter.device == id.counter.device
        };
        self.rooms.get(&room)?.iter().filter(same).map(|pending| pending.submission.id.counter.number).max()
    }

    pub fn push(&mut self, room: RoomNumber, submission: Submission, join: Option<(ConnectionId, RequestId)>) {
        self.rooms.entry(room).or_default().push_back(Pending { submission, state: State::New, join });
    }

    /// Waits again, at the end, as from a store.
    pub fn restore_one(&mut self, room: RoomNumber, submission: Submission) {
        self.rooms.entry(room).or_default().push_back(Pending { submission, state: State::Waiting, join: None });
    }

    /// The newest durable ones of a room, oldest first.
    pub fn newest(&self, room: RoomNumber, max: usize) -> Vec<Submission> {
        let durable = self.rooms.get(&room).into_iter().flatten().filter(|pending| pending.state != State::New);
        let mut newest: Vec<Submission> = durable.rev().take(max).map(|pending| pending.submission.clone()).collect();
        newest.reverse();
        newest
    }

    /// Everything durable of a room, in order; it is pending no longer.
    pub fn take_all(&mut self, room: RoomNumber) -> Vec<Submission> {
        let Some(queue) = self.rooms.get_mut(&room) else { return Vec::new() };
        let (taken, kept): (Vec<_>, Vec<_>) = queue.drain(..).partition(|pending| pending.state != State::New);
        queue.extend(kept);
        taken.into_iter().map(|pending| pending.submission).collect()
    }

    pub fn durable(&mut self, room: RoomNumber, id: &EntryId) {
        self.set(room, id, |state| state == State::New, State::Waiting);
    }

    fn set(&mut self, room: RoomNumber, id: &EntryId, from: impl Fn(State) -> bool, to: State) {
        let found = self.rooms.get_mut(&room).and_then(|queue| queue.iter_mut().find(|p| p.submission.id == *id));
        if let Some(pending) = found.filter(|pending| from(pending.state)) {
            pending.state = to;
        }
    }

    /// What may be handed to the hub of these rooms now, in order.
    pub fn take_sendable(&mut self, hub: &CoopName, rooms: &[RoomNumber]) -> Vec<(u64, Submission)> {
        let mut sendable = Vec::new();
        let mut in_flight = self.in_flight.values().filter(|(_, _, other)| other == hub).count();
        for room in rooms {
            let Some(queue) = self.rooms.get_mut(room) else { continue };
            for pending in queue.iter_mut() {
                if in_flight >= SUBMITS_IN_FLIGHT_MAX || pending.state == State::New {
                    break;
                }
                if pending.state == State::Waiting {
                    self.next_id += 1;
                    pending.state = State::Sent(self.next_id);
                    in_flight += 1;
                    self.in_flight.insert(self.next_id, (*room, pending.submission.id, hub.clone()));
                    sendable.push((self.next_id, pending.submission.clone()));
                }
            }
        }
        sendable
    }

    /// The hub's answer came: which entry it is about. `None`: about nothing that still waits for one. What was made anew
    /// under the same id is another matter.
    pub fn answered(&mut self, id: u64) -> Option<(RoomNumber, EntryId)> {
        let (room, entry, _) = self.in_flight.remove(&id)?;
        self.get(room, &entry).filter(|pending| pending.state == State::Sent(id)).map(|_| (room, entry))
    }

    pub fn ordered(&mut self, room: RoomNumber, id: &EntryId) {
        self.set(room, id, |state| matches!(state, State::Sent(_)), State::Ordered);
    }

    /// Whether the hub has taken something of that kind which the log has not brought back.
    pub fn has_ordered(&self, room: RoomNumber, is_it: impl Fn(&Submission) -> bool) -> bool {
        let ordered = self.rooms.get(&room).into_iter().flatten().filter(|pending| pending.state == State::Ordered);
        ordered.map(|pending| &pending.submission).any(is_it)
    }

    /// Try again later.
    pub fn retry(&mut self, room: RoomNumber, id: &EntryId) {
        self.set(room, id, |state| matches!(state, State::Sent(_)), State::Waiting);
    }

    /// The link is gone: everything without its place in the log is handed in anew.
    pub fn link_lost(&mut self, rooms: &[RoomNumber]) {
        self.in_flight.retain(|_, (room, _, _)| !rooms.contains(room));
        for room in rooms {
            for pending in self.rooms.get_mut(room).into_iter().flatten() {
                if matches!(pending.state, State::Sent(_) | State::Ordered) {
                    pending.state = State::Waiting;
                }
            }
        }
    }

    /// The log has it.
    pub fn remove(&mut self, room: RoomNumber, id: &EntryId) -> Option<Pending> {
        let queue = self.rooms.get_mut(&room)?;
        let at = queue.iter().position(|pending| pending.submission.id == *id)?;
        queue.remove(at)
    }

    /// The hub refuses it: it goes, and with it whatever the same device sent after it, since counters have no gaps.
    pub fn refuse(&mut self, room: RoomNumber, id: &EntryId) -> Vec<Pending> {
        let Some(queue) = self.rooms.get_mut(&room) else { return Vec::new() };
        let falls = |pending: &Pending| {
            let other = pending.submission.id;
            other.sender == id.sender && other.counter.device == id.counter.device && other.counter.number >= id.counter.number
        };
        let (gone, kept): (Vec<_>, Vec<_>) = queue.drain(..).partition(|pending| falls(pending));
        queue.extend(kept);
        gone
    }

    /// Messages that were made in an epoch after that one.
    pub fn messages_of_later_epochs(&self, room: RoomNumber, epoch: Epoch) -> Vec<EntryId> {
        let pending = self.rooms.get(&room).into_iter().flatten().map(|pending| &pending.submission);
        let later = pending.filter(|submission| submission.kind == Kind::Message && submission.epoch > epoch);
        later.map(|submission| submission.id).collect()
    }

    pub fn drop_room(&mut self, room: RoomNumber) {
        self.rooms.remove(&room);
    }

    /// Whether any entry of that room is pending.
    pub fn rooms_with_pending(&self) -> impl Iterator<Item = RoomNumber> + '_ {
        self.rooms.iter().filter(|(_, queue)| !queue.is_empty()).map(|(room, _)| *room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_protocol::ids::{Counter, Pseudonym, RoomId};

    fn entry(sender: u8, number: u64) -> Submission {
        Submission {
            room: RoomId([1; 32]),
            id: EntryId { sender: Pseudonym([sender; 16]), counter: Counter { device: 0, number } },
            epoch: Epoch(0),
            kind: Kind::Message,
            body: Bytes::from_static(b"body"),
            group_info: Bytes::new(),
            base: None,
        }
    }

    const ROOM: RoomNumber = RoomNumber(1);

    fn hub() -> CoopName {
        "alder.test".parse().unwrap()
    }

    fn filled() -> Outbox {
        let mut outbox = Outbox::default();
        for (sender, number) in [(1, 1), (2, 1), (1, 2), (1, 3)] {
            outbox.push(ROOM, entry(sender, number), None);
        }
        outbox
    }

    #[test]
    fn nothing_is_handed_on_before_it_is_durable() {
        let mut outbox = filled();
        assert!(outbox.take_sendable(&hub(), &[ROOM]).is_empty());
        outbox.durable(ROOM, &entry(1, 1).id);
        outbox.durable(ROOM, &entry(1, 2).id);
        let sent: Vec<_> = outbox.take_sendable(&hub(), &[ROOM]).into_iter().map(|(_, s)| s.id).collect();
        assert_eq!(sent, [entry(1, 1).id], "in order: what follows waits for what is not durable");
        assert!(outbox.take_sendable(&hub(), &[ROOM]).is_empty(), "once");
    }

    #[test]
    fn a_lost_link_hands_in_again_what_has_no_place() {
        let mut outbox = filled();
        [(1, 1), (2, 1), (1, 2), (1, 3)].iter().for_each(|(s, n)| outbox.durable(ROOM, &entry(*s, *n).id));
        let sent = outbox.take_sendable(&hub(), &[ROOM]);
        let (room, id) = outbox.answered(sent[0].0).unwrap();
        outbox.ordered(room, &id);
        outbox.link_lost(&[ROOM]);
        assert_eq!(outbox.take_sendable(&hub(), &[ROOM]).len(), 4);
    }

    #[test]
    fn a_refusal_takes_the_same_senders_later_entries_along() {
        let mut outbox = filled();
        let gone: Vec<_> = outbox.refuse(ROOM, &entry(1, 2).id).into_iter().map(|p| p.submission.id).collect();
        assert_eq!(gone, [entry(1, 2).id, entry(1, 3).id]);
        assert_eq!(outbox.last_counter(ROOM, &entry(1, 9).id), Some(1));
        assert_eq!(outbox.last_counter(ROOM, &entry(2, 9).id), Some(1));
    }

    #[test]
    fn what_is_made_anew_is_not_taken_for_what_waits() {
        let mut outbox = Outbox::default();
        outbox.push(ROOM, entry(1, 1), None);
        let waits = outbox.get(ROOM, &entry(1, 1).id).unwrap();
        let verdict = |other: &Submission| waits.must_be(other).map_err(|(code, _)| code);
        assert_eq!(verdict(&entry(1, 1)), Ok(()));
        let (epoch, kind, body) = (Epoch(1), Kind::Commit, Bytes::from_static(b"another"));
        for other in [Submission { epoch, ..entry(1, 1) }, Submission { kind, ..entry(1, 1) }, Submission { body, ..entry(1, 1) }] {
            assert_eq!(verdict(&other), Err(Code::Busy), "{other:?}");
        }
    }

    /// Commits are the hub's to judge: a joiner's may rest on what another holder has, which is further on.
    #[test]
    fn messages_go_back_with_their_epoch_and_commits_do_not() {
        let mut outbox = Outbox::default();
        for (number, epoch, kind) in [(1, 3, Kind::Message), (2, 4, Kind::Message), (3, 4, Kind::Commit), (4, 5, Kind::Leave)] {
            outbox.push(ROOM, Submission { epoch: Epoch(epoch), kind, ..entry(1, number) }, None);
        }
        assert_eq!(outbox.messages_of_later_epochs(ROOM, Epoch(3)), [entry(1, 2).id]);
    }

    #[test]
    fn submissions_in_flight_are_bounded() {
        let mut outbox = Outbox::default();
        for number in 1..=SUBMITS_IN_FLIGHT_MAX as u64 + 5 {
            outbox.push(ROOM, entry(1, number), None);
            outbox.durable(ROOM, &entry(1, number).id);
        }
        let first = outbox.take_sendable(&hub(), &[ROOM]);
        assert_eq!(first.len(), SUBMITS_IN_FLIGHT_MAX);
        assert!(outbox.take_sendable(&hub(), &[ROOM]).is_empty());
        outbox.answered(first[0].0);
        assert_eq!(outbox.take_sendable(&hub(), &[ROOM]).len(), 1);
    }

    /// An answer that comes late, about a body that was refused before, says nothing of the one that was made since.
    #[test]
    fn a_late_answer_is_about_what_was_sent() {
        let mut outbox = filled();
        outbox.durable(ROOM, &entry(1, 1).id);
        let first = outbox.take_sendable(&hub(), &[ROOM])[0].0;
        outbox.retry(ROOM, &entry(1, 1).id);
        let second = outbox.take_sendable(&hub(), &[ROOM])[0].0;
        assert_eq!(outbox.answered(first), None, "it was sent again since");
        assert_eq!(outbox.answered(second), Some((ROOM, entry(1, 1).id)));
        outbox.refuse(ROOM, &entry(1, 1).id);
        outbox.push(ROOM, entry(1, 1), None);
        [(2, 1), (1, 1)].iter().for_each(|(sender, number)| outbox.durable(ROOM, &entry(*sender, *number).id));
        assert_eq!(outbox.answered(second), None);
        assert_eq!(outbox.take_sendable(&hub(), &[ROOM]).len(), 2);
    }

    #[test]
    fn stored_bytes_come_back() {
        assert_eq!(decode(encode(&entry(1, 1))), Some(entry(1, 1)));
        assert_eq!(decode(Bytes::from_static(b"\xff")), None);
    }
}
