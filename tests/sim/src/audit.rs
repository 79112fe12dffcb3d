//! Members verify what they have been sent, also from a co-op whose store was changed.

use kith_client::core::VerifyReport;

use crate::checks::Violation;
use crate::tamper::Tamper;
use crate::world::World;

impl World {
    /// Starts a co-op again with something changed, and has a member verify the first room. `None`: it could not even
    /// begin to.
    pub fn verify(&mut self, member: usize, tamper: Option<Tamper>, stored: Vec<(u64, Vec<u8>)>) -> Option<VerifyReport> {
        let coop = self.members[member].coop;
        self.coops[coop].tamper = tamper;
        // By itself: others would mend what is damaged there.
        let is_alone = matches!(tamper, Some(Tamper::Checkpoint { .. } | Tamper::Marked { .. }));
        if is_alone {
            self.part(0, 1);
        }
        self.crash_coop(coop);
        let is_back =
            |world: &Self| world.is_connected(member) && world.members[member].core.is_synced() && (is_alone || world.is_linked());
        self.until(70_000, is_back).ok()?;
        self.until(1_000, |_| false).ok()?;
        let report = self.audit(member, stored);
        self.join_again(0, 1);
        report
    }

    /// Has a member verify the first room.
    pub fn audit(&mut self, member: usize, stored: Vec<(u64, Vec<u8>)>) -> Option<VerifyReport> {
        let room = self.circles.first()?.id;
        self.members[member].reports.clear();
        self.members[member].core.verify(&room, stored).ok()?;
        self.members[member].core.watch(&room, 1);
        self.member_acts(member);
        self.until(3_000, |world| !world.members[member].reports.is_empty()).ok()?;
        self.members[member].reports.pop()
    }

    /// A member reads from its co-op, with something changed there, what was said while it was away.
    pub fn read_tampered(&mut self, member: usize, tamper: impl FnOnce(u64) -> Tamper) -> Result<(), Violation> {
        let coop = self.members[member].coop;
        if let Some(connection) = self.members[member].connection {
            self.members[member].connecting = true;
            self.cut(connection, [true; 2]);
        }
        self.until(1_000, |_| false)?;
        let size = self.coops[coop].log(&self.circles[0].id).len() as u64;
        let author = (0..self.members.len()).find(|other| *other != member).unwrap_or_default();
        self.say(author, 0);
        self.until(5_000, |_| false)?;
        self.coops[coop].tamper = Some(tamper(size));
        self.connect_after(member, 1);
        self.until(5_000, |_| false)?;
        let room = self.circles[0].id;
        self.members[member].core.watch(&room, 1);
        self.member_acts(member);
        self.until(5_000, |_| false).map(drop)
    }
}
