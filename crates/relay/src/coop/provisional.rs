//! While a room's hub is out of reach, or gets nothing done, this co-op's members hear each other all the same: what they handed in is durable
//! here and goes to the others at once, signed by this co-op and without a place.

use kith_protocol::ids::{ConnectionId, EntryId, RoomNumber};
use kith_protocol::limits::{PROVISIONAL_FRAMES_MAX, PROVISIONALS_MAX};
use kith_protocol::link::Submission;
use kith_protocol::log::Kind;
use kith_protocol::log::provisional::Provisional;
use kith_protocol::member::ToMember;

use super::machine::Coop;

impl Coop {
    fn is_hub_away(&self, number: RoomNumber) -> bool {
        let Some(room) = self.rooms.get(&number) else { return false };
        let is_out_of_reach = !self.links_up.contains_key(&room.hub.name) || self.is_served_without_hub(number);
        !room.orders() && (room.is_hub() || room.is_frozen() || is_out_of_reach)
    }

    /// An entry is durable here.
    pub(super) fn deliver_one(&mut self, number: RoomNumber, id: &EntryId) {
        if !self.is_hub_away(number) {
            return;
        }
        let Some(submission) = self.outbox.get(number, id).map(|pending| pending.submission.clone()) else { return };
        let to = self.subscribers.get(&number).cloned().unwrap_or_default();
        self.deliver_provisionals(number, &[submission], &to);
    }

    /// Everything that waits, to those who have read the log to its end.
    pub(super) fn deliver_waiting(&mut self, number: RoomNumber, to: &[ConnectionId]) {
        if !self.is_hub_away(number) || self.outbox.is_empty(number) {
            return;
        }
        let waiting = self.outbox.newest(number, PROVISIONAL_FRAMES_MAX * PROVISIONALS_MAX);
        self.deliver_provisionals(number, &waiting, to);
    }

    fn deliver_provisionals(&mut self, number: RoomNumber, submissions: &[Submission], to: &[ConnectionId]) {
        let (root, wall) = (self.secrets.root.clone(), self.wall);
        let live: Vec<ConnectionId> = to
            .iter()
            .copied()
            .filter(|connection| {
                let subscription = self.sessions.get(connection).and_then(|session| session.subscriptions.get(&number));
                subscription.is_some_and(|subscription| !subscription.reading && !subscription.lagging)
            })
            .collect();
        let messages: Vec<&Submission> = submissions.iter().filter(|submission| submission.kind == Kind::Message).collect();
        if live.is_empty() || messages.is_empty() {
            return;
        }
        let sign = |s: &&Submission| Provisional::sign(&root, &s.room, s.id, s.epoch, wall, s.body.clone());
        for chunk in messages.chunks(PROVISIONALS_MAX) {
            let frame = ToMember::Provisionals { room: number, entries: chunk.iter().map(sign).collect() };
            live.iter().for_each(|connection| self.reply(*connection, &frame));
        }
    }
}
