//! What is certified: marks of co-ops, verified against the roots that this session computed itself, and counted by the
//! room's voters.

use kith_protocol::codec;
use kith_protocol::ids::{CoopName, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::pack::Unpacked;
use kith_protocol::log::voters::{Electorate, Voters};
use kith_protocol::room::RoomContext;

use super::machine::Core;
use super::state::{Intent, Votes};
use crate::mls::group::Handshake;

impl Votes {
    pub fn of(voters: &Voters) -> Self {
        let tie_breaker = voters.tie_breaker.as_ref().map(ToString::to_string);
        Self { names: voters.names.iter().map(ToString::to_string).collect(), tie_breaker }
    }

    /// What was stored was parsed before; a name that does not parse any longer has no vote.
    pub fn voters(&self) -> Voters {
        let parse = |name: &String| name.parse().ok();
        Voters { names: self.names.iter().filter_map(parse).collect(), tie_breaker: self.tie_breaker.as_ref().and_then(parse) }
    }
}

impl Core {
    /// Marks over the log: verified against the root that this session computed itself.
    pub(super) fn attestation_came(&mut self, number: RoomNumber, attestation: Attestation) {
        let Some(room) = self.room_by_number(number) else { return };
        let mut attestation = codec::of_room(attestation, room);
        self.answer_watch(&room);
        self.audit_attested(&room, &attestation);
        let Some(state) = self.rooms.get(&room) else { return };
        let coops = state.coops.clone();
        let Some(view) = self.view(&room) else { return };
        let size = attestation.checkpoint.size;
        if size > view.frontier.size() {
            view.early = Some(attestation);
            return;
        }
        // A term that has ended, or begins with what has not come yet, and a size that this session has not reached, or
        // has forgotten, say nothing to it.
        if attestation.checkpoint.term != view.term {
            return;
        }
        let Some((_, root)) = view.roots.iter().find(|(known, _)| *known == size) else { return };
        if attestation.checkpoint.root != *root || Some(&attestation.hub) != view.hub.as_ref().map(|hub| &hub.name) {
            return self.distrust_history(&room, "your co-op sent another history than the one that the room's hub signed".to_owned());
        }
        // A co-op whose first member's join is still waiting to be certified cannot be judged yet: its mark counts for nothing.
        attestation.marks.retain(|mark| coops.contains_key(mark.coop.as_str()));
        let key_of = |name: &CoopName| coops.get(name.as_str()).copied().map(PublicKey);
        if let Err(error) = attestation.verify(key_of) {
            return self.distrust(&room, error.to_string());
        }
        let Some(state) = self.rooms.get_mut(&room) else { return };
        for holder in attestation.holders() {
            let held = state.held.entry(holder.to_string()).or_default();
            *held = (*held).max(size);
        }
        self.recertify(&room);
        self.apply_waiting(&room);
    }

    /// Counts anew. What is certified stays so; what of one's own is certified leaves the outbox.
    pub(super) fn recertify(&mut self, room: &RoomId) {
        let Some(electorate) = self.electorate(room) else { return };
        let Some(state) = self.rooms.get_mut(room) else { return };
        let held: Vec<(CoopName, u64)> = state.held.iter().filter_map(|(name, size)| name.parse().ok().map(|name| (name, *size))).collect();
        state.certified = state.certified.max(electorate.certified_size(&held));
        let certified = state.certified;
        state.outbox.retain(|item| item.seq.is_none_or(|seq| seq >= certified));
        self.touch(room);
    }

    /// Whose votes count at the end of what has come. A commit that waits may change them: it is looked into, not merged.
    pub(super) fn electorate(&mut self, room: &RoomId) -> Option<Electorate> {
        let state = self.rooms.get(room)?;
        let (voters, before, commit) = (state.voters.voters(), state.voters_before.voters(), Seq(state.last_commit));
        let size = state.size;
        let waiting =
            self.session.logs.get(room).and_then(|view| {
                view.waiting.iter().find(|entry| entry.header.seq.0 >= size && entry.header.kind == Kind::Commit).cloned()
            });
        match waiting {
            None => Some(Electorate { before, after: voters, commit }),
            Some(entry) => {
                let after = self.voters_after(room, &entry).unwrap_or_else(|| voters.clone());
                Some(Electorate { before: voters, after, commit: entry.header.seq })
            }
        }
    }

    fn voters_after(&mut self, room: &RoomId, commit: &Unpacked) -> Option<Voters> {
        let counter = commit.header.id.counter.number;
        match self.with_group(room, |group, provider| group.stage(provider, &commit.body)).ok()? {
            Handshake::Other(staged) => staged.facts.new_context.map(|context: RoomContext| context.voters),
            Handshake::Own => {
                let items = &self.rooms.get(room)?.outbox;
                let item = items.iter().find(|item| item.made.as_ref().is_some_and(|made| made.counter == counter))?;
                if let Intent::SetVoters(votes) = &item.intent { Some(votes.voters()) } else { None }
            }
        }
    }
}
