//! Commits: judged by the rules that everybody shares, merged, and what follows from them.

use kith_protocol::ids::{Hash, Pseudonym, RoomId};
use kith_protocol::judge::{CommitFacts, EntryFacts, What, judge};
use kith_protocol::log::pack::Unpacked;

use super::facts::Facts;
use super::machine::{Core, Event};
use super::state::{Intent, Phase, RowWhat, Votes};
use crate::mls::group::{Group, Handshake};

impl Core {
    pub(super) fn apply_commit(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let Some(state) = self.rooms.get(room) else { return RowWhat::Nothing };
        if let Phase::Joining(joining) = &state.phase {
            let ours =
                joining.offer.as_ref().is_some_and(|offer| offer.commit == entry.body && entry.header.id.sender.0 == state.pseudonym);
            return if ours { self.join_ordered(room, entry) } else { RowWhat::Nothing };
        }
        match self.with_group(room, |group, provider| group.stage(provider, &entry.body)) {
            Ok(Handshake::Own) => self.own_commit_ordered(room, entry),
            Ok(Handshake::Other(staged)) => {
                let facts = staged.facts.clone();
                if let Err(why) = self.judge_commit(room, entry, &facts) {
                    return RowWhat::Unreadable(why);
                }
                let before = self.contest_before(room, entry);
                if let Err(error) = self.with_group(room, |group, provider| group.merge(provider, *staged)) {
                    return self.cannot_follow(room, entry, error.to_string());
                }
                self.contestable(room, before);
                self.commit_took_effect(room, entry, &facts)
            }
            Err(error) => self.cannot_follow(room, entry, error.to_string()),
        }
    }

    fn judge_commit(&mut self, room: &RoomId, entry: &Unpacked, facts: &CommitFacts) -> Result<(), String> {
        let (context, members) = self.facts(room)?;
        let state = self.rooms.get(room).ok_or("no such room")?;
        let known = Facts { id: *room, state, context, group_info_hash: Hash(state.group_info_hash), members, docket: Self::docket(state) };
        let header = &entry.header;
        let what = What::Commit(Box::new(facts.clone()));
        let entry = EntryFacts { id: header.id, epoch: header.epoch, time: header.time, what };
        judge(&known, &entry).map_err(|refusal| refusal.to_string())
    }

    fn own_commit_ordered(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let before = self.contest_before(room, entry);
        if let Err(error) = self.with_group(room, |group, provider| group.merge_own(provider)) {
            return RowWhat::Unreadable(error.to_string());
        }
        self.contestable(room, before);
        let counter = entry.header.id.counter.number;
        let context = self.with_group(room, |group, _| Ok(group.context())).ok().flatten();
        let mut facts = CommitFacts::default();
        if let Some(state) = self.rooms.get_mut(room) {
            let found = state.outbox.iter_mut().find(|item| item.made.as_ref().is_some_and(|made| made.counter == counter));
            if let Some(item) = found {
                item.stored = true;
                item.seq = Some(entry.header.seq.0);
                let id = item.id;
                let changes = matches!(item.intent, Intent::OpenInvite { .. } | Intent::SetVoters(_));
                facts.new_context = context.filter(|_| changes);
                let removes = item.made.iter().flat_map(|made| &made.removes);
                facts.removes = removes.map(|who| Pseudonym(*who)).collect();
                Self::done(state, id, entry.header.seq);
            }
        }
        self.commit_took_effect(room, entry, &facts)
    }

    /// The group has moved on: what this device knows of the room follows.
    fn commit_took_effect(&mut self, room: &RoomId, entry: &Unpacked, facts: &CommitFacts) -> RowWhat {
        self.learn_members(room);
        let is_active = self.with_group(room, |group, _| Ok(group.is_active())).unwrap_or(false);
        let votes = self.with_group(room, |group, _| Ok(group.context())).ok().flatten().map(|context| Votes::of(&context.voters));
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        let votes = votes.unwrap_or_else(|| state.voters.clone());
        let has_new_voters = votes != state.voters;
        state.voters_before = std::mem::replace(&mut state.voters, votes);
        state.epoch += 1;
        state.contests.room_epoch = state.epoch;
        state.group_info_hash = entry.header.extra.0;
        let removed: Vec<[u8; 16]> = facts.removes.iter().map(|who| who.0).collect();
        state.contests.convicted.retain(|who| !removed.contains(who));
        let (gone, expelled): (Vec<_>, Vec<_>) = removed.iter().partition(|who| state.left.contains(who));
        state.left.retain(|who| !gone.contains(who));
        state.removed.extend(expelled.iter().copied());
        if let Some(join) = &facts.join {
            state.contests.leavers.retain(|who| *who != join.certificate.pseudonym.0);
            state.profile_due = true;
            if let Some(admission) = &join.admission {
                state.uses.push((admission.invite.0, admission.use_number));
            }
        }
        if !is_active {
            self.gone(room);
            return RowWhat::Removed(removed);
        }
        if let Some(state) = self.rooms.get_mut(room) {
            // What was made for the epoch before, and has no place yet, is made anew if the hub no longer takes it.
            Self::drop_needless(state);
        }
        match (&facts.join, expelled.is_empty(), &facts.new_context) {
            (Some(join), _, _) => RowWhat::Joined(join.certificate.pseudonym.0),
            (None, false, _) => RowWhat::Removed(expelled),
            (None, true, Some(_)) if has_new_voters => RowWhat::VotersChanged,
            (None, true, Some(_)) => RowWhat::InviteOpened,
            (None, true, None) => RowWhat::Nothing,
        }
    }

    /// Keys of members and their co-ops, as the room's own tree shows them. The first key seen of a co-op stays.
    pub(super) fn learn_members(&mut self, room: &RoomId) {
        let members = self.with_group(room, |group, _| Ok(group.members())).unwrap_or_default();
        let Some(state) = self.rooms.get_mut(room) else { return };
        for member in members {
            let certificate = member.certificate;
            state.coops.entry(certificate.coop.name.to_string()).or_insert(certificate.coop.key.0);
            state.leaf_keys.insert((certificate.pseudonym.0, certificate.device), Self::key_array(&member.key));
        }
    }

    /// This device's external commit has its place: the group that it made is the room's.
    fn join_ordered(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        let Phase::Joining(joining) = std::mem::replace(&mut state.phase, Phase::Active) else { return RowWhat::Nothing };
        let Some(offer) = joining.offer else { return RowWhat::Nothing };
        state.epoch = offer.epoch + 1;
        state.contests.room_epoch = state.epoch;
        state.group_info_hash = entry.header.extra.0;
        state.joined_at = entry.header.seq.0;
        state.joined_epoch = offer.epoch + 1;
        let who = state.pseudonym;
        match Group::adopt(&self.provider, room, offer.state) {
            Ok(group) => drop(self.groups.insert(*room, group)),
            Err(error) => {
                self.distrust(room, error.to_string());
                return RowWhat::Nothing;
            }
        }
        self.learn_members(room);
        self.tell_name(room);
        self.events.push(Event::RoomReady(*room));
        RowWhat::Joined(who)
    }
}
