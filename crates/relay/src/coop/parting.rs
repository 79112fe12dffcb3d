//! Rooms in which this co-op has no part any longer, though it holds a copy: nobody keeps such a copy up to date. It is dropped
//! when somebody joins anew, and comes again whole.

use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, CoopName, Pseudonym, RoomNumber};
use kith_storage::Write;

use super::machine::Coop;
use crate::room::Room;

impl Coop {
    /// Whether this co-op is told how the room goes on, as far as its own copy says.
    pub(super) fn has_part(&self, number: RoomNumber) -> bool {
        self.rooms.get(&number).and_then(Room::log).is_none_or(|log| log.end_for(&self.me.name) == u64::MAX)
    }

    /// A holder of a newer term says that this co-op has no part in the room. That is so if the only member that it ever had
    /// there joined by the newest commit here, and that was cut before it was certified: the member joins anew. Of anybody
    /// whose join was certified the holder would know.
    pub(super) fn disowned(&mut self, number: RoomNumber, by: &CoopName) {
        let Some(room) = self.rooms.get(&number) else { return };
        let Some(log) = room.log() else { return };
        let ours: Vec<Pseudonym> = log.senders.iter().filter(|sender| sender.coop == self.me.name).map(|sender| sender.pseudonym).collect();
        let ([joiner], true) = (ours.as_slice(), room.certified_size() <= log.last_commit.0) else {
            tracing::warn!(room = number.0, neighbour = %by, "a holder says that this co-op has no part in a room in which it has members");
            return;
        };
        let (id, joiner) = (room.id, *joiner);
        tracing::info!(room = number.0, "a join was cut with the end of a term; its member joins anew");
        for connection in self.sessions_of(&id, &joiner, 0) {
            self.refuse_entry(connection, number, 1, Code::WrongEpoch, "the room has another hub", 0);
        }
        self.drop_room(number);
    }

    /// Forgets a room with everything that belongs to it.
    pub(super) fn drop_room(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.remove(&number) else { return };
        self.room_numbers.remove(&room.id);
        let subscribers: Vec<ConnectionId> = self.subscribers.remove(&number).unwrap_or_default();
        for connection in subscribers {
            if let Some(session) = self.sessions.get_mut(&connection) {
                session.subscriptions.remove(&number);
            }
        }
        self.outbox.drop_room(number);
        self.dirty.retain(|dirty| *dirty != number);
        self.feeds.retain(|(_, fed), _| *fed != number);
        self.following.remove(&number);
        self.refollow.remove(&number);
        self.compare_at.remove(&number);
        self.announced.remove(&number);
        self.early.remove(&number);
        self.rebuilds.remove(&number);
        self.elections.forget(number);
        self.standstill.forget(number);
        self.forget_marks(number);
        self.write(Write::DropRoom { number });
    }
}
