//! A room's own rules: who may do what, which invites are open, whose votes count. They stand in the MLS group context,
//! so that only a member's commit changes them and every member signs off on them by following it.

use sha2::{Digest, Sha256};

use crate::ids::{Coop, CoopName, EntryId, Hash, Pseudonym, PublicKey, RoomId, UnixSeconds};
use crate::limits;
use crate::log::voters::Voters;

/// MLS extension type of [`RoomContext`] in the group context (private-use range of RFC 9420 section 17.3).
pub const EXTENSION_ROOM_CONTEXT: u16 = 0xF0A1;
/// Leaf extension: the key that lets its member re-join after losing every device. 32 bytes, or empty until one is made.
pub const EXTENSION_RECOVERY_KEY: u16 = 0xF0A3;
/// Every type that a leaf's capabilities list from the first day, so that later ones need no re-join:
/// room context, reserved, recovery key, moderator key records, re-join proof, device links, retention, reserved.
pub const EXTENSIONS_ALL: [u16; 8] = [0xF0A1, 0xF0A2, 0xF0A3, 0xF0A4, 0xF0A5, 0xF0A6, 0xF0A7, 0xF0A8];

/// What a pseudonym may do beyond being a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Role {
    Member = 0,
    Moderator = 1,
    Facilitator = 2,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Member, Self::Moderator, Self::Facilitator];

    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u32 == number)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Facilitator => "facilitator",
        }
    }
}

/// What the role rules speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Write, and renew one's own leaf.
    Speak,
    /// Remove somebody who is still a member.
    Remove,
    /// Open and close invites, grant roles, change voters.
    ChangeContext,
}

/// The role rules, whole.
pub fn may(role: Role, action: Action) -> bool {
    match action {
        Action::Speak => true,
        Action::Remove => role >= Role::Moderator,
        Action::ChangeContext => role == Role::Facilitator,
    }
}

/// An open door: whoever has the private half may join, `uses` times, until `expires`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invite {
    pub key: PublicKey,
    pub expires: UnixSeconds,
    pub uses: u32,
}

/// Group-context extension [`EXTENSION_ROOM_CONTEXT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomContext {
    pub roles: Vec<(Pseudonym, Role)>,
    pub invites: Vec<Invite>,
    pub voters: Voters,
    /// Root keys of the voters, in their order, and then of the tie-breaker: whoever joins verifies votes by them, also of a
    /// co-op that has no member here any longer.
    pub voter_keys: Vec<PublicKey>,
}

/// The context is out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    #[error("too many roles, invites or voters")]
    TooMany,
    #[error("a name or a key stands twice")]
    Twice,
    #[error("an invite has no uses or more than {}", limits::INVITE_USES_MAX)]
    Uses,
    #[error("a room needs at least one voter")]
    NoVoter,
    #[error("a two-voter room needs one tie-breaking co-op beside them, and no other room has one")]
    TieBreaker,
    #[error("each voter and tie-breaking co-op needs its key, in their order")]
    VoterKeys,
    #[error("a room needs at least one facilitator")]
    NoFacilitator,
}

impl RoomContext {
    pub fn role(&self, pseudonym: &Pseudonym) -> Role {
        self.roles.iter().find(|(who, _)| who == pseudonym).map_or(Role::Member, |(_, role)| *role)
    }

    pub fn invite(&self, key: &PublicKey) -> Option<&Invite> {
        self.invites.iter().find(|invite| invite.key == *key)
    }

    /// The root key by which a voter or tie-breaker votes.
    pub fn voter_key(&self, name: &CoopName) -> Option<PublicKey> {
        self.voters.everybody().zip(&self.voter_keys).find(|(voter, _)| *voter == name).map(|(_, key)| *key)
    }

    pub fn check(&self) -> Result<(), ContextError> {
        fn twice<T: Ord + Clone>(items: impl Iterator<Item = T>) -> bool {
            let mut items: Vec<T> = items.collect();
            items.sort();
            items.windows(2).any(|pair| pair[0] == pair[1])
        }
        let (roles, invites, voters) = (&self.roles, &self.invites, &self.voters);
        if roles.len() > limits::ROLE_GRANTS_MAX || invites.len() > limits::ROOM_INVITES_MAX || voters.names.len() > limits::VOTERS_MAX {
            return Err(ContextError::TooMany);
        }
        if twice(roles.iter().map(|(who, _)| *who)) || twice(invites.iter().map(|i| i.key)) || twice(voters.names.iter()) {
            return Err(ContextError::Twice);
        }
        if invites.iter().any(|invite| invite.uses == 0 || invite.uses > limits::INVITE_USES_MAX) {
            return Err(ContextError::Uses);
        }
        if voters.names.is_empty() {
            return Err(ContextError::NoVoter);
        }
        let tie_ok = match &voters.tie_breaker {
            None => voters.names.len() != 2,
            Some(key) => voters.names.len() == 2 && !voters.names.contains(key),
        };
        if !tie_ok {
            return Err(ContextError::TieBreaker);
        }
        if self.voter_keys.len() != voters.everybody().count() {
            return Err(ContextError::VoterKeys);
        }
        if !roles.iter().any(|(_, role)| *role == Role::Facilitator) {
            return Err(ContextError::NoFacilitator);
        }
        Ok(())
    }

    /// Voters change one at a time, so that every two majorities share a voter.
    pub fn voters_may_become(&self, next: &Voters) -> bool {
        let added = next.names.iter().filter(|name| !self.voters.names.contains(name)).count();
        let removed = self.voters.names.iter().filter(|name| !next.names.contains(name)).count();
        added + removed <= 1
    }
}

/// How a room began. Its id is the hash of these exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    pub nonce: [u8; 32],
    pub creator_key: PublicKey,
    pub context: RoomContext,
    pub hub: Coop,
    pub created: UnixSeconds,
}

/// The room that begins with these bytes.
pub fn room_id(creation: &[u8]) -> RoomId {
    RoomId(Sha256::new().chain_update(b"kith/room/v1\0").chain_update(creation).finalize().into())
}

/// Body of a creation entry: the creation, and the group's first GroupInfo and tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreationBody {
    pub creation: Vec<u8>,
    pub group_info: Vec<u8>,
    pub tree: Vec<u8>,
}

/// Statement of a member that leaves.
pub fn leave_statement(room: &RoomId, leave: &EntryId) -> crate::sign::Transcript {
    crate::sign::Transcript::new(crate::sign::Label::Leave)
        .field(&room.0)
        .field(&leave.sender.0)
        .number(u64::from(leave.counter.device))
        .number(leave.counter.number)
}

/// A member's signed word that it leaves: holds wherever it is shown, for whoever knows the leaf's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedLeave {
    pub id: EntryId,
    pub signature: crate::sign::Signature,
}

/// Hash of an exact GroupInfo.
pub fn group_info_hash(bytes: &[u8]) -> Hash {
    crate::log::header::hash_bytes(bytes)
}

/// Co-ops that have members in a room, each once, sorted.
pub fn coops_of<'a>(members: impl Iterator<Item = &'a CoopName>) -> Vec<CoopName> {
    let mut names: Vec<CoopName> = members.cloned().collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(voters: &[&str], tie: Option<&str>) -> RoomContext {
        RoomContext {
            roles: vec![(Pseudonym([1; 16]), Role::Facilitator)],
            invites: vec![Invite { key: PublicKey([2; 32]), expires: UnixSeconds(9), uses: 1 }],
            voters: Voters {
                names: voters.iter().map(|name| name.parse().unwrap()).collect(),
                tie_breaker: tie.map(|name| name.parse().unwrap()),
            },
            voter_keys: vec![PublicKey([3; 32]); voters.len() + tie.iter().len()],
        }
    }

    #[test]
    fn the_role_table() {
        for (role, speak, remove, change) in
            [(Role::Member, true, false, false), (Role::Moderator, true, true, false), (Role::Facilitator, true, true, true)]
        {
            assert_eq!([Action::Speak, Action::Remove, Action::ChangeContext].map(|action| may(role, action)), [speak, remove, change]);
        }
    }

    #[test]
    fn contexts_have_bounds() {
        assert_eq!(context(&["a"], None).check(), Ok(()));
        assert_eq!(context(&["a", "b"], Some("c")).check(), Ok(()));
        assert_eq!(context(&["a", "b"], None).check(), Err(ContextError::TieBreaker));
        assert_eq!(context(&["a", "b"], Some("a")).check(), Err(ContextError::TieBreaker));
        assert_eq!(context(&["a"], Some("c")).check(), Err(ContextError::TieBreaker));
        assert_eq!(context(&[], None).check(), Err(ContextError::NoVoter));
        assert_eq!(context(&["a", "a"], None).check(), Err(ContextError::Twice));
        let mut keyless = context(&["a"], None);
        keyless.voter_keys.clear();
        assert_eq!(keyless.check(), Err(ContextError::VoterKeys));
        let mut many = context(&["a"], None);
        many.invites = vec![many.invites[0]; limits::ROOM_INVITES_MAX + 1];
        assert_eq!(many.check(), Err(ContextError::TooMany));
        let mut nobody = context(&["a"], None);
        nobody.roles.clear();
        assert_eq!(nobody.check(), Err(ContextError::NoFacilitator));
        let mut uses = context(&["a"], None);
        uses.invites[0].uses = 0;
        assert_eq!(uses.check(), Err(ContextError::Uses));
    }

    #[test]
    fn voters_change_one_at_a_time() {
        let now = context(&["a", "b", "c"], None);
        for (next, ok) in
            [(vec!["a", "b", "c"], true), (vec!["a", "b"], true), (vec!["a", "b", "c", "d"], true), (vec!["a", "b", "d"], false)]
        {
            let next = context(&next, None).voters;
            assert_eq!(now.voters_may_become(&next), ok, "{next:?}");
        }
    }
}
