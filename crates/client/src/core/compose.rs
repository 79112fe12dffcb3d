//! What a member can say and do in a room. Each takes its place in the outbox, durable before anything is sent.

use kith_protocol::codec;
use kith_protocol::content::Content;
use kith_protocol::ids::{Coop, Pseudonym, PublicKey, RoomId, UnixSeconds};
use kith_protocol::invite_link::RoomLink;
use kith_protocol::limits::{INVITE_USES_MAX, ROOM_INVITES_MAX};
use kith_protocol::log::voters::Voters;
use kith_protocol::room::{Action, RoomContext, may};
use kith_protocol::sign::SecretKey;

use super::machine::{Core, CoreError};
use super::state::{Intent, Phase, RoomState, Votes};

impl Core {
    /// Says something. Returns the outbox item.
    pub fn say(&mut self, now: UnixSeconds, room: &RoomId, content: &Content) -> Result<u64, CoreError> {
        self.now = now;
        content.check()?;
        self.writable(room)?;
        let item = self.push_item(room, Intent::Content(codec::encode_content(content)))?;
        self.pump();
        self.finish();
        Ok(item)
    }

    fn writable(&self, room: &RoomId) -> Result<(), CoreError> {
        let state = self.room(room)?;
        match state.phase {
            Phase::Gone => Err(CoreError::Gone),
            _ if state.is_shut_out => Err(CoreError::ShutOut),
            _ if state.out_of_step.is_some() => Err(CoreError::OutOfStep),
            // A room that is still being made or joined takes the message with it.
            Phase::Active | Phase::Creating { .. } | Phase::Joining(_) => Ok(()),
        }
    }

    /// Opens an invite. Returns the outbox item and the link, which is good once the item has its place.
    pub fn invite(&mut self, now: UnixSeconds, room: &RoomId, uses: u32) -> Result<(u64, String), CoreError> {
        self.now = now;
        self.writable(room)?;
        let state = self.active(room)?;
        let (who, name, coop) = (Pseudonym(state.pseudonym), state.name.clone(), self.hub(room)?);
        let waiting = state.outbox.iter().filter(|item| item.seq.is_none() && matches!(item.intent, Intent::OpenInvite { .. })).count();
        let known_uses = state.uses.clone();
        let mut context = self.with_group(room, |group, _| Ok(group.context()))?.ok_or(CoreError::NotReady)?;
        if !may(context.role(&who), Action::ChangeContext) {
            return Err(CoreError::NotFacilitator);
        }
        Self::close_invites(&mut context, &known_uses, now);
        if context.invites.len() + waiting >= ROOM_INVITES_MAX {
            return Err(CoreError::TooManyInvites);
        }
        let invite = SecretKey::from_seed(self.random());
        let intent = Intent::OpenInvite { key: invite.public().0, uses: uses.clamp(1, INVITE_USES_MAX), expires_s: self.invite_expiry().0 };
        let item = self.push_item(room, intent)?;
        self.pump();
        self.finish();
        Ok((item, RoomLink { room: *room, holder: coop, invite, name }.render()))
    }

    /// Whose votes count in a room, as its members have agreed.
    pub fn voters(&self, room: &RoomId) -> Result<Voters, CoreError> {
        self.active(room).map(|state| state.voters.voters())
    }

    /// Changes whose votes count, by one co-op at a time. Returns the outbox item.
    pub fn set_voters(&mut self, now: UnixSeconds, room: &RoomId, voters: &Voters) -> Result<u64, CoreError> {
        self.now = now;
        self.writable(room)?;
        let who = Pseudonym(self.active(room)?.pseudonym);
        let context = self.with_group(room, |group, _| Ok(group.context()))?.ok_or(CoreError::NotReady)?;
        if !may(context.role(&who), Action::ChangeContext) {
            return Err(CoreError::NotFacilitator);
        }
        let state = self.room(room)?;
        let stranger = voters.names.iter().chain(&voters.tie_breaker).find(|name| !state.coops.contains_key(name.as_str()));
        if let Some(name) = stranger {
            return Err(CoreError::NoMembersThere(name.to_string()));
        }
        if !context.voters_may_become(voters) {
            return Err(CoreError::OneVoterAtATime);
        }
        let next = Self::with_voters(state, context, voters).ok_or(CoreError::NotReady)?;
        next.check().map_err(|error| CoreError::Voters(error.to_string()))?;
        let item = self.push_item(room, Intent::SetVoters(Votes::of(voters)))?;
        self.pump();
        self.finish();
        Ok(item)
    }

    /// The context with other voters, and the keys by which the room's records know them.
    pub(super) fn with_voters(state: &RoomState, context: RoomContext, voters: &Voters) -> Option<RoomContext> {
        let keys: Option<Vec<PublicKey>> = voters.everybody().map(|name| state.coops.get(name.as_str()).copied().map(PublicKey)).collect();
        Some(RoomContext { voters: voters.clone(), voter_keys: keys?, ..context })
    }

    fn hub(&self, room: &RoomId) -> Result<Coop, CoreError> {
        let state = self.room(room)?;
        let name = state.hub_name.parse().map_err(|_| CoreError::Damaged("the hub's name".to_owned()))?;
        Ok(Coop { name, key: PublicKey(state.hub_key) })
    }

    /// Leaves. What was read stays readable here; the room's keys are forgotten once the leave has its place.
    pub fn leave(&mut self, now: UnixSeconds, room: &RoomId) -> Result<u64, CoreError> {
        self.now = now;
        self.active(room)?;
        let item = self.push_item(room, Intent::Leave)?;
        self.pump();
        self.finish();
        Ok(item)
    }
}
