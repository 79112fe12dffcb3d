//! What waits: for a commit, or for a read.

use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop as CoopId, CoopName, DeviceHandle, EntryId, Hash, RoomNumber, Seq, Term};
use kith_protocol::log::Header;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::member::{FetchGroup, RequestId, ToMember};
use kith_storage::LogRow;

use super::machine::Coop;
use super::types::{Effect, Read, ReadResult};
use crate::room::Committed;

/// What happens once the writes that it depends on are durable.
#[derive(Debug)]
pub(super) enum After {
    Effect(Effect),
    Grown(Committed),
    /// Entries for a hub are durable here.
    Pending {
        room: RoomNumber,
        id: EntryId,
    },
    /// The hub's answer to a mirror.
    Submitted {
        connection: ConnectionId,
        id: u64,
    },
    /// A session follows a room from now on.
    Subscribe {
        connection: ConnectionId,
        room: RoomNumber,
        from: Seq,
    },
    FetchGroup {
        connection: ConnectionId,
        fetch: FetchGroup,
    },
    PeerFetchGroup {
        connection: ConnectionId,
        fetch: FetchGroup,
    },
    FollowNew {
        room: RoomNumber,
    },
    /// Everything that was decided before this co-op's vote is durable: it can be signed.
    CastVote {
        room: RoomNumber,
        term: Term,
        candidate: CoopId,
    },
    /// This co-op's vote is durable.
    SendVote {
        room: RoomNumber,
    },
    /// The proof that freezes a room is durable.
    Frozen {
        room: RoomNumber,
    },
    /// It is durable that this store was put back from a backup.
    Restored,
    /// Nothing more of a damaged room is on its way to the disk: it may come again from that holder.
    Repair {
        room: RoomNumber,
        peer: CoopName,
    },
    /// A cut log is durable.
    Rebuilt {
        room: RoomNumber,
    },
    /// A new member's device is durable: its rooms can be read.
    StartSync {
        connection: ConnectionId,
        device: DeviceHandle,
    },
    ReadCursors {
        connection: ConnectionId,
        device: DeviceHandle,
    },
    /// The steward has changed an agreement: the neighbour is told.
    Agreement {
        name: CoopName,
    },
}

/// Who is waiting for a read.
#[derive(Debug)]
pub(super) enum Reader {
    Cursors { connection: ConnectionId },
    Page { connection: ConnectionId, room: RoomNumber, from: Seq },
    Headers { connection: ConnectionId, request: RequestId, room: RoomNumber, from: Seq },
    Follower { peer: CoopName, room: RoomNumber, from: Seq },
    FollowerFrontier { peer: CoopName, room: RoomNumber, size: u64 },
    FollowerProof { peer: CoopName, room: RoomNumber, rows: Vec<(Header, LogRow)>, attestation: Box<Attestation> },
    Rebuild { room: RoomNumber, from: Seq },
    Scrub { room: RoomNumber, from: Seq },
    Compare { room: RoomNumber, theirs: Box<Attestation> },
    Fork { room: RoomNumber, theirs: Box<Attestation>, longer: Box<Attestation>, root: Hash },
}

impl Reader {
    /// Whose rows it reads.
    fn room(&self) -> Option<RoomNumber> {
        match self {
            Self::Cursors { .. } => None,
            Self::Headers { room, .. }
            | Self::Page { room, .. }
            | Self::Follower { room, .. }
            | Self::FollowerFrontier { room, .. }
            | Self::FollowerProof { room, .. }
            | Self::Rebuild { room, .. }
            | Self::Scrub { room, .. }
            | Self::Compare { room, .. }
            | Self::Fork { room, .. } => Some(*room),
        }
    }
}

impl Coop {
    pub(super) fn read(&mut self, reader: Reader, read: Read) {
        let id = self.next_read;
        self.next_read += 1;
        self.readers.insert(id, reader);
        self.effects.push_back(Effect::Read { id, read });
    }

    pub(super) fn read_done(&mut self, id: u64, result: ReadResult) {
        let reader = self.readers.remove(&id);
        if let (Some(room), ReadResult::Damaged) = (reader.as_ref().and_then(Reader::room), &result) {
            self.found_damaged(room);
        }
        match (reader, result) {
            (Some(Reader::Cursors { connection }), ReadResult::Cursors(cursors)) => self.cursors_read(connection, cursors),
            (Some(Reader::Page { connection, room, from }), ReadResult::Entries(rows)) => {
                self.page_read(connection, room, from, rows);
            }
            (Some(Reader::Headers { connection, request, from, .. }), ReadResult::Headers(headers)) => {
                self.reply(connection, &ToMember::Headers { request, first: from, headers });
            }
            (Some(Reader::Follower { peer, room, from }), ReadResult::Entries(rows)) => {
                self.follower_read(&peer, room, from, rows);
            }
            (Some(Reader::FollowerFrontier { peer, room, size }), ReadResult::Frontier(nodes)) => {
                self.follower_frontier_read(&peer, room, size, nodes);
            }
            (Some(Reader::FollowerProof { peer, room, rows, attestation }), ReadResult::Proof(proof)) => {
                self.send_rows(&peer, room, &rows, *attestation, proof);
                self.feed(&peer, room, None);
            }
            (Some(Reader::Compare { room, theirs }), ReadResult::Frontier(nodes)) => self.compare_read(room, *theirs, nodes),
            (Some(Reader::Fork { room, theirs, longer, root }), ReadResult::Proof(proof)) => {
                self.fork_read(room, &theirs, &longer, root, proof);
            }
            // The next comparison tries again.
            (Some(Reader::Compare { .. } | Reader::Fork { .. }), _) => {}
            (Some(Reader::Rebuild { room, from }), ReadResult::Entries(rows)) => self.rebuild_read(room, from, rows),
            (Some(Reader::Rebuild { room, .. }), _) => {
                self.end_rebuild(room);
                self.refollow_later(room);
            }
            (Some(Reader::Scrub { room, from }), ReadResult::Entries(rows)) => self.scrub_read(room, from, Some(rows)),
            (Some(Reader::Scrub { room, from }), _) => self.scrub_read(room, from, None),
            (Some(Reader::Headers { connection, request, .. }), _) => {
                self.refuse(connection, Code::Internal, "the log could not be read", request);
            }
            (Some(Reader::Cursors { connection } | Reader::Page { connection, .. }), _) => self.close_member(connection),
            (
                Some(
                    Reader::Follower { peer, room, .. }
                    | Reader::FollowerFrontier { peer, room, .. }
                    | Reader::FollowerProof { peer, room, .. },
                ),
                _,
            ) => {
                self.feeds.remove(&(peer, room));
            }
            (None, _) => {}
        }
    }
}
