//! What goes into a co-op's machine and what comes out.

use bytes::Bytes;
use kith_protocol::agreement::RootSuccession;
use kith_protocol::codec::{DecodeError, Encoding};
use kith_protocol::ids::{ConnectionId, Coop, CoopName, DeviceHandle, Hash, PublicKey, RoomNumber, Seq};
use kith_protocol::link::LinkFrame;
use kith_protocol::member::ToServer;
use kith_protocol::sign::SecretKey;
use kith_storage::{DeviceRow, LogRow, MembershipRow, NeighbourRow, RoomRow};

use super::steward;
use crate::room::Room;

/// Told to whoever was taken out of a room.
pub(super) const NO_LONGER_IN: &str = "you are no longer in this room";

/// The co-op's own keys.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The first root key, for ever: it signs what stands in rooms, whose members know no other.
    pub root: SecretKey,
    /// The public half of the key with which links authenticate; the root certifies it anew for each link.
    pub link_key: PublicKey,
    pub identity: Identity,
}

/// Who the co-op is for its neighbours.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What neighbours pin. Signs link keys and agreements.
    pub root: SecretKey,
    key: PublicKey,
    /// From the first root key to this one.
    pub successions: Vec<RootSuccession>,
}

impl Identity {
    pub fn new(root: SecretKey, successions: Vec<RootSuccession>) -> Self {
        Self { key: root.public(), root, successions }
    }

    pub fn coop(&self, name: &CoopName) -> Coop {
        Coop { name: name.clone(), key: self.key }
    }
}

impl Secrets {
    /// Of a co-op whose root key has never changed.
    pub fn new(root: SecretKey, link_key: PublicKey) -> Self {
        Self { identity: Identity::new(root.clone(), Vec::new()), root, link_key }
    }
}

/// What a start reads from the store.
#[derive(Debug, Default)]
pub struct Boot {
    pub rooms: Vec<Room>,
    /// Rooms whose stored state is damaged: nobody is served them before they have come again from elsewhere. `true`: they are
    /// known to lack something.
    pub damaged: Vec<(RoomRow, bool)>,
    pub pending: Vec<(RoomNumber, Vec<(kith_protocol::ids::EntryId, Bytes)>)>,
    pub invites: Vec<(PublicKey, u32)>,
    pub devices: Vec<DeviceRow>,
    pub memberships: Vec<MembershipRow>,
    pub neighbours: Vec<NeighbourRow>,
    pub incarnation: u64,
}

#[derive(Debug)]
pub enum Input {
    /// `nonce` is fresh from the system's randomness.
    MemberOpened {
        connection: ConnectionId,
        encoding: Encoding,
        nonce: [u8; 32],
    },
    MemberFrame {
        connection: ConnectionId,
        frame: Result<ToServer, DecodeError>,
    },
    MemberClosed {
        connection: ConnectionId,
    },
    /// A queue that was full is empty again.
    MemberDrained {
        connection: ConnectionId,
    },
    /// Entries that did not fit into a session's queue.
    Undelivered {
        connection: ConnectionId,
        room: RoomNumber,
        first: Seq,
    },
    LinkOpened {
        connection: ConnectionId,
        peer_link_key: PublicKey,
        dialled: Option<CoopName>,
    },
    LinkFrame {
        connection: ConnectionId,
        frame: Result<LinkFrame, DecodeError>,
    },
    LinkClosed {
        connection: ConnectionId,
    },
    /// A neighbour could not be reached.
    DialFailed {
        name: CoopName,
        why: String,
    },
    ReadDone {
        id: u64,
        result: ReadResult,
    },
    Steward {
        id: u64,
        request: steward::Request,
    },
    /// The writes of the last [`super::Coop::poll_commit`] are durable.
    Committed,
    /// They were not written because the disk is full; nothing else was lost.
    DiskFull,
    /// Close down: sessions are told to come back later.
    Drain,
    /// Time has passed.
    Tick,
}

#[derive(Debug, Clone)]
pub enum Effect {
    /// A frame that must arrive or the connection ends.
    ToMember {
        connection: ConnectionId,
        bytes: Bytes,
    },
    /// Entries for many; whoever has no room in its queue comes back as [`Input::Undelivered`].
    Deliver {
        to: Vec<ConnectionId>,
        room: RoomNumber,
        first: Seq,
        bytes: Bytes,
    },
    CloseMember {
        connection: ConnectionId,
    },
    ToLink {
        connection: ConnectionId,
        bytes: Bytes,
    },
    /// The other end of a link is a neighbour.
    LinkKnown {
        connection: ConnectionId,
    },
    /// Both sides have signed: whoever dialled it dials again at once if it is lost.
    LinkUp {
        connection: ConnectionId,
    },
    CloseLink {
        connection: ConnectionId,
    },
    Read {
        id: u64,
        read: Read,
    },
    Steward {
        id: u64,
        reply: steward::Reply,
    },
    /// The list of neighbours to dial changed.
    NeighboursChanged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Cursors {
        device: DeviceHandle,
    },
    Entries {
        room: RoomNumber,
        from: Seq,
        rows_max: usize,
        bytes_max: usize,
    },
    /// Rows that are read to see whether they are what was written.
    Scrub {
        room: RoomNumber,
        from: Seq,
    },
    Headers {
        room: RoomNumber,
        from: Seq,
        max: usize,
    },
    /// The nodes of [`kith_protocol::log::merkle::nodes_for_frontier`].
    Frontier {
        room: RoomNumber,
        size: u64,
    },
    /// RFC 9162 consistency proof between two sizes.
    Proof {
        room: RoomNumber,
        old: u64,
        new: u64,
    },
}

#[derive(Debug)]
pub enum ReadResult {
    Cursors(Vec<(RoomNumber, Seq)>),
    Entries(Vec<LogRow>),
    Headers(Vec<Bytes>),
    Frontier(Vec<Option<Hash>>),
    Proof(Vec<Hash>),
    /// The store failed; whoever asked is told to try again.
    Failed,
    /// Rows are lost or damaged.
    Damaged,
}
