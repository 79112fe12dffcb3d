//! What is undone, and who is out.
//!
//! When a commit is void, messages that wait here for the hub and were made in an epoch after it go back to their authors: in a
//! later epoch of the same number nobody could read them. Commits are the hub's to judge: a joiner's may have been made from
//! what another holder has, which is further on.

use kith_protocol::error::Code;
use kith_protocol::ids::{AccountHandle, EntryId, RoomNumber};
use kith_protocol::log::Header;
use kith_storage::LogRow;

use super::machine::Coop;

impl Coop {
    pub(super) fn return_what_is_void(&mut self, number: RoomNumber, rows: &[(Header, LogRow)]) {
        let entries = rows.first().map_or(0, |(header, _)| header.seq.0)..rows.last().map_or(0, |(header, _)| header.seq.0 + 1);
        let went_back = self.rooms.get_mut(&number).and_then(|room| room.take_went_back(entries));
        let Some(epoch) = went_back else { return };
        let void: Vec<EntryId> = self.outbox.messages_of_later_epochs(number, epoch);
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
