//! Backups of a co-op's store, and what it is to have one put back.

use kith_relay::coop::Input;
use kith_relay::coop::steward::Request;
use kith_storage::Write;
use kith_storage::fault::Faulty;

use crate::world::{Event, World};

/// Whether a backup from before this lacks more than neighbours can give back: who its members and devices are, which rooms
/// they are in, and who its neighbours are.
fn is_own(write: &Write) -> bool {
    match write {
        Write::PutRoom { .. }
        | Write::DropRoom { .. }
        | Write::PutMembership(_)
        | Write::PutDevice(_)
        | Write::PutInvite { .. }
        | Write::PutNeighbour(_)
        | Write::BeginIncarnation { .. } => true,
        Write::ClearLog { .. }
        | Write::Append(_)
        | Write::Truncate(_)
        | Write::PutVote { .. }
        | Write::PutProof { .. }
        | Write::PutMarked { .. }
        | Write::PutPending { .. }
        | Write::DropPending { .. }
        | Write::SetCursor { .. }
        | Write::ResetCursor { .. }
        | Write::PutRefilled { .. } => false,
    }
}

impl World {
    pub fn back_up(&mut self, coop: usize) {
        self.coops[coop].backup = Some(self.coops[coop].store.inner().fork());
    }

    pub(crate) fn back_up_any(&mut self) {
        let coop = self.dice.roll(self.coops.len() as u64) as usize;
        self.back_up(coop);
        self.note(|_| format!("co-op {coop} is backed up"));
        let delay = self.spell();
        self.clock.after(delay, Event::PutBack { coop });
    }

    /// Its steward says so: who does not, and reaches nobody who could, forgets a vote and gives another.
    pub(crate) fn put_back_if_whole(&mut self, coop: usize) {
        if self.is_rough() && self.coops[coop].backup.is_some() && self.is_refillable(coop) {
            self.count("co-op from a backup");
            self.put_back(coop, true);
        }
    }

    /// What nobody else knows has changed: a backup from before is of no use to the rooms' members.
    pub(crate) fn age_backup(&mut self, coop: usize, writes: &[Write]) {
        if writes.iter().any(is_own) {
            self.coops[coop].backup = None;
        }
    }

    /// The co-op dies with its disk, and comes back with its backup. `is_announced`: its steward says so before it serves.
    pub fn put_back(&mut self, coop: usize, is_announced: bool) {
        let Some(backup) = self.coops[coop].backup.take() else { return };
        self.coops[coop].crash();
        self.coops[coop].store = Faulty::new(backup);
        self.witness_restore(coop);
        self.cut_all(crate::network::Place::Coop(coop));
        let (delay, life) = (self.dice.between(100, 3_000), self.coops[coop].life);
        let again = if is_announced { Event::RestartRestored { coop, life } } else { Event::Restart { coop, life } };
        self.clock.after(delay, again);
    }

    pub(crate) fn restart_restored(&mut self, coop: usize) {
        self.restart(coop);
        self.input(coop, Input::Steward { id: u64::MAX, request: Request::Restored });
    }

    /// Whether others can give back what a co-op's rooms lack: those in which it votes have other voters enough.
    pub(crate) fn is_refillable(&self, coop: usize) -> bool {
        let Some(machine) = &self.coops[coop].machine else { return false };
        let name = &self.coops[coop].id.name;
        machine.rooms().all(|room| {
            let voters = room.electorate();
            voters.is_some_and(|voters| [&voters.before, &voters.after].iter().all(|side| !side.counts(name) || side.names.len() >= 3))
        })
    }
}
