//! What is undone, and who is out.
//!
//! When a commit is void, what waits here for the hub and was made in an epoch after it goes back to its author: in a later
//! epoch of the same number nobody could read it.

use kith_protocol::error::Code;
use kith_protocol::ids::{AccountHandle, EntryId, RoomNumber};
use kith_protocol::log::{Header, Kind};
use kith_storage::LogRow;

use super::machine::Coop;

impl Coop {
    pub(super) fn return_what_is_void(&mut self, number: RoomNumber, rows: &[(Header, LogRow)]) {
        // Either may make a majority of those who complain.
        if !rows.iter().any(|(header, _)| matches!(header.kind, Kind::Complaint | Kind::Leave)) {
            return;
        }
        let Some(epoch) = self.rooms.get(&number).and_then(|room| room.log()).map(|log| log.epoch()) else { return };
        let void: Vec<EntryId> = self.outbox.of_later_epochs(number, epoch);
        for entry in void {
            self.drop_refused(number, &entry, Code::WrongEpoch, "the room has gone back to an earlier epoch");
        }
    }

    /// Whether the room's log says that the account's member was taken out: its devices are told so.
    pub(super) fn was_removed(&self, account: AccountHandle, number: RoomNumber) -> bool {
        let Some(room) = self.rooms.get(&number).filter(|room| !room.is_restored()) else { return false };
        self.pseudonym(account, &room.id).is_some_and(|who| room.is_own_former_member(&who))
    }
}
