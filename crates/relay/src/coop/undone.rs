//! A commit is void: what waits here for the hub, and was made in an epoch after it, goes back to its author. In a later epoch
//! of the same number nobody could read it.

use kith_protocol::error::Code;
use kith_protocol::ids::{EntryId, RoomNumber};
use kith_protocol::log::{Header, Kind};
use kith_storage::LogRow;

use super::machine::Coop;

impl Coop {
    pub(super) fn return_what_is_void(&mut self, number: RoomNumber, rows: &[(Header, LogRow)]) {
        if !rows.iter().any(|(header, _)| header.kind == Kind::Complaint) {
            return;
        }
        let Some(epoch) = self.rooms.get(&number).and_then(|room| room.log()).map(|log| log.epoch()) else { return };
        let void: Vec<EntryId> = self.outbox.of_later_epochs(number, epoch);
        for entry in void {
            self.drop_refused(number, &entry, Code::WrongEpoch, "the room has gone back to an earlier epoch");
        }
    }
}
