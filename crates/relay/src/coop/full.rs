//! While the disk is full: what is durable goes on being served, nothing new is taken and whoever brings it is told why,
//! and the transaction that did not fit is tried again until there is room.
//!
//! Nothing else may wait in memory meanwhile, so what would is turned away: its sender has it still.

use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Millis};
use kith_protocol::member::ToServer;

use super::machine::Coop;
use super::waiting::After;

/// How long a transaction waits for disk space before it is tried again, milliseconds.
const RETRY_MS: u64 = 1_000;
/// What everybody is told.
pub(super) const WHY: &str = "the co-op's disk is full; nothing new is taken until there is room";

impl Coop {
    /// From the first transaction that does not fit until one does.
    pub(super) fn is_full(&self) -> bool {
        self.full_until.is_some()
    }

    /// The writes come again, and what depends on them. What only waited for its turn to read need not wait.
    pub(super) fn handle_disk_full(&mut self) {
        let Some((writes, after)) = self.in_flight.take() else { return };
        let newer = std::mem::replace(&mut self.writes, writes);
        self.writes.extend(newer);
        let is_news = self.full_until.replace(Millis(self.now.0 + RETRY_MS)).is_none();
        let newer = std::mem::take(&mut self.after);
        let (reads, waiting): (Vec<After>, Vec<After>) =
            after.into_iter().chain(newer).partition(|action| matches!(action, After::ReadCursors { .. }));
        self.after = waiting;
        reads.into_iter().for_each(|action| self.act(action));
        if is_news {
            self.tell_full();
        }
    }

    /// Whoever waits for an answer learns why it does not come.
    fn tell_full(&mut self) {
        let members = self.sessions.values().filter(|session| session.identity.is_some());
        let members: Vec<ConnectionId> = members.map(|session| session.connection).collect();
        for connection in members {
            self.refuse(connection, Code::DiskFull, WHY, 0);
        }
    }

    /// When the next attempt is due, unless it is under way.
    pub(super) fn full_deadline(&self) -> Option<Millis> {
        self.full_until.filter(|_| self.in_flight.is_none())
    }

    /// Refuses what would have to be written. `true`: it is done with.
    pub(super) fn refuse_while_full(&mut self, connection: ConnectionId, frame: &ToServer) -> bool {
        if !self.is_full() {
            return false;
        }
        match frame {
            ToServer::Open { .. } | ToServer::FetchHeaders { .. } | ToServer::Watch { .. } | ToServer::Authenticate { .. } => return false,
            // The device tells it again.
            ToServer::Cursor { .. } => {}
            ToServer::Send(send) => self.refuse_entry(connection, send.room, send.counter, Code::DiskFull, WHY, 0),
            // Fetched for a join, which could not be taken.
            ToServer::FetchGroup(_)
            | ToServer::Join(_)
            | ToServer::Certify { .. }
            | ToServer::CreateRoom { .. }
            | ToServer::Register { .. } => self.refuse(connection, Code::DiskFull, WHY, frame.request()),
        }
        true
    }
}
