//! What a member knows of a room, for the rules that everybody judges by. A member that joined late knows nothing of what
//! was before: where the log's beginning would be needed, the hub's and the mirrors' judgement stands.

use kith_protocol::contest::Docket;
use kith_protocol::ids::{CoopName, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, UnixSeconds};
use kith_protocol::judge::{RoomFacts, Standing};
use kith_protocol::room::RoomContext;

use super::state::RoomState;

pub struct Facts<'a> {
    pub id: RoomId,
    pub state: &'a RoomState,
    pub context: RoomContext,
    pub group_info_hash: Hash,
    pub members: Vec<Pseudonym>,
    pub docket: Docket,
}

impl RoomFacts for Facts<'_> {
    fn room(&self) -> &RoomId {
        &self.id
    }
    fn epoch(&self) -> Epoch {
        Epoch(self.state.epoch)
    }
    fn last_time(&self) -> UnixSeconds {
        UnixSeconds(self.state.last_time)
    }
    fn context(&self) -> &RoomContext {
        &self.context
    }
    fn group_info_hash(&self) -> &Hash {
        &self.group_info_hash
    }
    fn standing(&self, who: &Pseudonym) -> Standing {
        if self.state.contests.convicted.contains(&who.0) {
            Standing::Convicted
        } else if self.state.removed.contains(&who.0) {
            Standing::Removed
        } else if self.state.left.contains(&who.0) {
            Standing::Left
        } else if self.members.contains(who) {
            Standing::Member
        } else {
            Standing::Unknown
        }
    }
    fn last_counter(&self, id: &EntryId) -> u64 {
        let known = self.state.counters.get(&(id.sender.0, id.counter.device)).copied();
        known.unwrap_or_else(|| id.counter.number.saturating_sub(1))
    }
    fn is_use_taken(&self, invite: &PublicKey, number: u32) -> bool {
        self.state.uses.contains(&(invite.0, number))
    }
    fn coop_key(&self, name: &CoopName) -> Option<PublicKey> {
        self.state.coops.get(name.as_str()).copied().map(PublicKey)
    }
    fn convicted(&self) -> Vec<Pseudonym> {
        self.state.contests.convicted.iter().map(|who| Pseudonym(*who)).collect()
    }
    fn docket(&self) -> &Docket {
        &self.docket
    }
    fn index_of(&self, who: &Pseudonym) -> Option<u32> {
        self.state.senders.iter().position(|known| *known == who.0).map(|at| at as u32)
    }
    fn has_seen(&self, name: &CoopName) -> bool {
        // A joiner knows the co-ops that have members now, not those that had some.
        self.state.joined_at > 0 || self.coop_key(name).is_some()
    }
}
