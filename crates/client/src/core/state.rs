//! What a device remembers, in the form in which it is stored. Private to the client: nothing here crosses a network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub type Key = [u8; 32];
pub type Who = [u8; 16];

/// The device's account at its co-op.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    pub coop_name: String,
    pub coop_key: Key,
    pub address: String,
    pub secure: bool,
    pub device_seed: Key,
    /// Until the co-op has registered the device.
    pub invite_seed: Option<Key>,
    pub handle: Option<u64>,
    pub device_number: u16,
    pub name: String,
    pub next_item: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Phase {
    /// Its creation is made; the co-op has not confirmed it. The body is there once the leaf is certified.
    Creating {
        body: Option<Vec<u8>>,
    },
    Joining(Joining),
    Active,
    /// Left or removed: what was read stays readable.
    Gone,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joining {
    pub invite_seed: Key,
    pub holder_name: String,
    pub holder_key: Key,
    pub attempts: u32,
    pub offer: Option<Offer>,
}

/// An external commit that was or will be handed in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    pub commit: Vec<u8>,
    pub group_info: Vec<u8>,
    pub epoch: u64,
    pub from: u64,
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What is to be said, before it has its place in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Intent {
    /// Encoded content.
    Content(Vec<u8>),
    OpenInvite {
        key: Key,
        uses: u32,
        expires_s: u64,
    },
    /// Takes out who has left, and whose commit was voided.
    RemoveLeft,
    /// A commit cannot be followed.
    Complain {
        commit: u64,
        leaf: Key,
    },
    Leave,
    SetVoters(Votes),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutItem {
    pub id: u64,
    pub intent: Intent,
    pub made: Option<Made>,
    pub stored: bool,
    /// Once ordered: kept until a majority of the room's voters hold it.
    pub seq: Option<u64>,
    pub at: u64,
    /// How often the hub wanted it otherwise.
    pub tries: u32,
    /// What was made of it before. A copy may have been under way when another copy was refused.
    pub former: Vec<Former>,
}

/// A body that was made of an intent before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub counter: u64,
    pub epoch: u64,
    pub body_hash: Key,
}

/// The entry that was made of an intent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    pub counter: u64,
    pub epoch: u64,
    pub kind: u8,
    pub body: Vec<u8>,
    pub group_info: Vec<u8>,
    /// Whom a commit takes out of the group.
    pub removes: Vec<Who>,
}

/// Whose votes count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    pub names: Vec<String>,
    pub tie_breaker: Option<String>,
}

/// The log right after the newest commit that took effect: nothing before it is ever cut.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Base {
    pub size: u64,
    pub frontier: Vec<Key>,
    pub last_time: u64,
    pub senders: usize,
    pub term: u32,
    pub hub_name: String,
    pub hub_key: Key,
    pub noted: Noted,
}

/// What is noted of entries, as it was at the base: what is noted of later ones is cut with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Noted {
    pub counters: BTreeMap<(Who, u16), u64>,
    pub docket: Vec<u8>,
    pub activity: Vec<(u32, u64)>,
    pub leavers: Vec<Who>,
}

/// A message of somebody else's that was read and has no place: it was delivered while the hub was away, or lost its
/// place when another hub took over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Loose {
    pub sender: Who,
    pub device: u16,
    pub counter: u64,
    pub epoch: u64,
    pub at: u64,
    pub body_hash: Key,
    pub what: RowWhat,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoomState {
    pub id: Key,
    pub number: Option<u32>,
    pub name: String,
    pub phase: Phase,
    pub hub_name: String,
    pub hub_key: Key,
    pub creation: Vec<u8>,
    pub created: u64,
    pub term: u32,
    pub leaf_seed: Key,
    pub pseudonym: Who,
    pub certificate: Option<Vec<u8>>,
    /// Entries applied, and the tree over them.
    pub size: u64,
    pub frontier: Vec<Key>,
    pub last_time: u64,
    pub epoch: u64,
    pub senders: Vec<Who>,
    pub group_info_hash: Key,
    pub counters: BTreeMap<(Who, u16), u64>,
    pub left: Vec<Who>,
    pub removed: Vec<Who>,
    pub uses: Vec<(Key, u32)>,
    pub coops: BTreeMap<String, Key>,
    /// Every leaf key that was seen, also of former members: franking signatures of past epochs verify by them.
    pub leaf_keys: BTreeMap<(Who, u16), Key>,
    pub names: BTreeMap<Who, String>,
    /// Somebody joined since this member last told its name.
    pub profile_due: bool,
    /// How far each co-op is known to hold the log, by its own signature.
    pub held: BTreeMap<String, u64>,
    pub certified: u64,
    /// Now, and before the newest commit.
    pub voters: Votes,
    pub voters_before: Votes,
    pub last_commit: u64,
    pub base: Base,
    /// Terms that began after the base, and where.
    pub terms: Vec<(u32, u64)>,
    pub loose: Vec<Loose>,
    /// The newest proof that somebody broke their word here, as a file has it. The room is frozen while its term lasts.
    pub proof: Option<String>,
    /// The log is to be cut there as soon as what is kept of it has been read.
    #[serde(skip)]
    pub cut: Option<u64>,
    pub outbox: Vec<OutItem>,
    /// Items that got their place lately: item, sequence number.
    pub done: Vec<(u64, u64)>,
    /// The first entry of this device in the log that this copy of it never made: it was restored from an old backup.
    pub out_of_step: Option<u64>,
    /// Its co-op may have been told that this device has read further than it has now.
    pub is_cut_back: bool,
    /// Its co-op says that this member was taken out of the room. Nothing is forgotten on its word.
    pub is_shut_out: bool,
    /// First entry that this member could read.
    pub joined_at: u64,
    /// The first epoch whose messages it can open: what was encrypted before is not for it, wherever it stands in the log.
    pub joined_epoch: u64,
    pub contests: Contests,
}

/// What may be complained of, and what it takes to go back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Contests {
    /// Encoded.
    pub docket: Vec<u8>,
    /// By index of the sender: day of its newest entry, and the newest epoch that one was of.
    pub activity: Vec<(u32, u64)>,
    /// Whose commit was voided, and whose leaf still stands.
    pub convicted: Vec<Who>,
    /// The room's epoch by its log: beyond this device's own after a commit that it could not follow.
    pub room_epoch: u64,
    /// Who has ever left, and has not come back.
    pub leavers: Vec<Who>,
    /// Counters and hashes of bodies that were made in an epoch that is void.
    pub void: Vec<(u64, Key)>,
}

/// What a commit changes, as it was before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BeforeState {
    /// All that OpenMLS keeps of the group.
    pub mls: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub epoch: u64,
    pub group_info_hash: Key,
    pub left: Vec<Who>,
    pub removed: Vec<Who>,
    pub uses: Vec<(Key, u32)>,
    pub voters: Votes,
}

/// Why one's own entry of an epoch that is void cannot be read.
pub const SAID_AGAIN: &str = "it came too late, and is said again";

/// A line of the timeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowState {
    pub header: Vec<u8>,
    pub what: RowWhat,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum RowWhat {
    /// Encoded content.
    Content(Vec<u8>),
    Joined(Who),
    Left,
    Removed(Vec<Who>),
    InviteOpened,
    /// Other co-ops' votes count from here on.
    VotersChanged,
    /// A member cannot follow a commit.
    Complained,
    /// Too many could not: that member's commit, and what came after it, is void.
    Undone(Who),
    /// Another co-op orders the room from here on.
    HubChanged(String),
    /// It could not be opened, and why.
    Unreadable(String),
    /// Before this member joined, or a renewal of keys: nothing to show.
    Nothing,
}
