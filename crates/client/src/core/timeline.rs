//! The timeline, as it is shown: rows of the log, and what of one's own has no place yet.

use kith_protocol::content::Content;
use kith_protocol::ids::{CoopName, Pseudonym, RoomId, Seq, UnixSeconds};
use kith_protocol::log::{Header, Kind};
use kith_protocol::room::Role;

use super::machine::{Core, CoreError, ItemState};
use super::state::{Intent, Phase, RowWhat};

/// How far an entry has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// Only on this device.
    Waiting,
    /// Durable at one's own co-op.
    Stored,
    /// Has its place in the log.
    Ordered,
    Held {
        by: usize,
        of: usize,
    },
}

impl std::fmt::Display for RowState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Stored => f.write_str("stored"),
            Self::Ordered => f.write_str("ordered"),
            Self::Held { by, of } => write!(f, "held {by}/{of}"),
        }
    }
}

/// What a line shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowContent {
    Content(Content),
    Joined(Pseudonym),
    Left,
    Removed(Vec<Pseudonym>),
    InviteOpened,
    VotersChanged,
    /// This member cannot follow a change of the room's keys.
    Complained,
    /// A member's change of the room's keys was undone, for too many could not follow it.
    Undone(Pseudonym),
    /// The co-op that orders the room from here on.
    HubChanged(String),
    Unreadable(String),
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `None` until it has its place.
    pub seq: Option<Seq>,
    /// The outbox item, while it has no place.
    pub item: Option<u64>,
    pub state: RowState,
    pub sender: Pseudonym,
    /// Said by this member.
    pub is_mine: bool,
    pub name: Option<String>,
    pub at: UnixSeconds,
    pub content: RowContent,
}

/// A member, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub pseudonym: Pseudonym,
    pub name: Option<String>,
    pub coop: CoopName,
    pub role: Role,
    pub is_me: bool,
}

impl Core {
    /// How many of the room's co-ops are known to hold an entry.
    pub fn held(&self, room: &RoomId, seq: Seq) -> (usize, usize) {
        let Some(state) = self.rooms.get(room) else { return (0, 0) };
        let coops = self.groups.get(room).map(|group| {
            let members = group.members();
            kith_protocol::room::coops_of(members.iter().map(|member| &member.certificate.coop.name))
        });
        let Some(coops) = coops else { return (0, state.coops.len()) };
        let by = coops.iter().filter(|coop| state.held.get(coop.as_str()).is_some_and(|size| *size > seq.0)).count();
        (by, coops.len())
    }

    fn row_state(&self, room: &RoomId, seq: Seq) -> RowState {
        match self.held(room, seq) {
            (0, _) => RowState::Ordered,
            (by, of) => RowState::Held { by, of },
        }
    }

    /// A stored line, as it is shown; `None` where there is nothing to show.
    pub fn row(&mut self, room: &RoomId, value: &[u8]) -> Result<Option<Row>, CoreError> {
        let damaged = |error: String| CoreError::Damaged(error);
        let stored: super::state::RowState = postcard::from_bytes(value).map_err(|error| damaged(error.to_string()))?;
        let header = Header::decode(&stored.header).map_err(|error| damaged(error.to_string()))?;
        // Loads the group, so that the room's co-ops are known.
        let _ = self.with_group(room, |_, _| Ok(()));
        let content = match stored.what {
            RowWhat::Content(bytes) => match Self::content(&bytes) {
                // What a member never said is not shown: names stand beside what they did say.
                Content::Profile { .. } | Content::Withdrawn | Content::InviteNotice { .. } => return Ok(None),
                content => RowContent::Content(content),
            },
            RowWhat::Joined(who) => RowContent::Joined(Pseudonym(who)),
            RowWhat::Left => RowContent::Left,
            RowWhat::Removed(who) => RowContent::Removed(who.into_iter().map(Pseudonym).collect()),
            RowWhat::InviteOpened => RowContent::InviteOpened,
            RowWhat::VotersChanged => RowContent::VotersChanged,
            RowWhat::Complained => RowContent::Complained,
            RowWhat::Undone(who) => RowContent::Undone(Pseudonym(who)),
            RowWhat::HubChanged(coop) => RowContent::HubChanged(coop),
            RowWhat::Unreadable(why) if header.kind == Kind::Message => RowContent::Unreadable(why),
            RowWhat::Unreadable(_) | RowWhat::Nothing => return Ok(None),
        };
        let state = self.room(room)?;
        let name = state.names.get(&header.id.sender.0).cloned();
        Ok(Some(Row {
            seq: Some(header.seq),
            item: None,
            state: self.row_state(room, header.seq),
            sender: header.id.sender,
            is_mine: state.pseudonym == header.id.sender.0,
            name,
            at: header.time,
            content,
        }))
    }

    /// The exact header of a stored line.
    pub fn row_header(value: &[u8]) -> Result<(u64, Vec<u8>), CoreError> {
        let stored: super::state::RowState = postcard::from_bytes(value).map_err(|error| CoreError::Damaged(error.to_string()))?;
        let header = Header::decode(&stored.header).map_err(|error| CoreError::Damaged(error.to_string()))?;
        Ok((header.seq.0, stored.header))
    }

    /// What of one's own has no place yet, in order.
    pub fn unordered(&self, room: &RoomId) -> Vec<Row> {
        let Some(state) = self.rooms.get(room) else { return Vec::new() };
        let items = state.outbox.iter().filter(|item| item.seq.is_none());
        let shown = items.filter_map(|item| {
            let Intent::Content(bytes) = &item.intent else { return None };
            let content = Self::content(bytes);
            if matches!(content, Content::Profile { .. } | Content::Withdrawn) {
                return None;
            }
            let state_of = if self.item_state(room, item.id) == ItemState::Stored { RowState::Stored } else { RowState::Waiting };
            Some(Row {
                seq: None,
                item: Some(item.id),
                state: state_of,
                sender: Pseudonym(state.pseudonym),
                is_mine: true,
                name: state.names.get(&state.pseudonym).cloned().or_else(|| self.account.as_ref().map(|account| account.name.clone())),
                at: UnixSeconds(item.at),
                content: RowContent::Content(content),
            })
        });
        let loose = state.loose.iter().filter_map(|loose| {
            let RowWhat::Content(bytes) = &loose.what else { return None };
            let content = Self::content(bytes);
            if matches!(content, Content::Profile { .. } | Content::Withdrawn | Content::InviteNotice { .. }) {
                return None;
            }
            Some(Row {
                seq: None,
                item: None,
                state: RowState::Stored,
                sender: Pseudonym(loose.sender),
                is_mine: loose.sender == state.pseudonym,
                name: state.names.get(&loose.sender).cloned(),
                at: UnixSeconds(loose.at),
                content: RowContent::Content(content),
            })
        });
        loose.chain(shown).collect()
    }

    pub fn members(&mut self, room: &RoomId) -> Result<Vec<Member>, CoreError> {
        self.active(room)?;
        let (members, context) = self.with_group(room, |group, _| Ok((group.members(), group.context())))?;
        let state = self.room(room)?;
        let is_out = |who: &[u8; 16]| state.left.contains(who) || state.contests.convicted.contains(who);
        let listed = members.into_iter().filter(|member| !is_out(&member.certificate.pseudonym.0)).map(|member| {
            let pseudonym = member.certificate.pseudonym;
            Member {
                pseudonym,
                name: state.names.get(&pseudonym.0).cloned(),
                coop: member.certificate.coop.name,
                role: context.as_ref().map_or(Role::Member, |context| context.role(&pseudonym)),
                is_me: pseudonym.0 == state.pseudonym,
            }
        });
        Ok(listed.collect())
    }

    /// Whether a room can be used, is still being joined, or is over: left, or not one's own any more.
    pub fn phase_name(&self, room: &RoomId) -> &'static str {
        let state = self.rooms.get(room);
        match state.map(|state| &state.phase) {
            Some(Phase::Active) if state.is_some_and(|state| state.is_shut_out) => "removed",
            Some(Phase::Active) => "active",
            Some(Phase::Creating { .. }) => "creating",
            Some(Phase::Joining(_)) => "joining",
            Some(Phase::Gone) | None => "left",
        }
    }
}
