//! How much of a room's log is certified, and what shows it.

use kith_protocol::ids::CoopName;
use kith_protocol::log::checkpoint::Attestation;

use super::machine::Room;

impl Room {
    /// How much of the log is certified by the room's voters.
    pub fn certified_size(&self) -> u64 {
        let Some(log) = &self.log else { return 0 };
        let held: Vec<(CoopName, u64)> = self.ledger.held().map(|(name, size)| (name.clone(), size)).collect();
        log.electorate().certified_size(&held)
    }

    /// A checkpoint with marks that certify everything up to the last commit. Of the present term: to whoever has read on into
    /// it, one of a term that is over says nothing.
    pub fn certificate_of_last_commit(&self) -> Option<&Attestation> {
        let log = self.log.as_ref()?;
        let voters = log.electorate();
        let sizes = log.last_commit.0 + 1..=self.durable;
        let fits = |recent: &Attestation| sizes.contains(&recent.checkpoint.size) && recent.checkpoint.term == log.term;
        self.ledger.newest(|recent| fits(recent) && voters.seats(recent.holders()))
    }

    /// A checkpoint for whoever waits for one.
    pub fn attestation(&self, size: u64, held: usize) -> Option<&Attestation> {
        self.ledger.find(size, self.durable, held)
    }
}
