//! Commits that members complain of: the states before them are kept, and with a majority's complaints the room goes on from
//! one of these.

use std::sync::OnceLock;

use kith_protocol::contest::{Complaint, Contest, Verdict, day_of, jury};
use kith_protocol::ids::{EntryId, Epoch, Pseudonym, Seq};
use kith_protocol::judge::{RoomFacts, Standing};
use kith_protocol::log::Header;
use kith_protocol::log::merkle::leaf_hash;
use kith_protocol::room::group_info_hash;
use kith_protocol::sign::verify;
use kith_protocol::snapshot::Before;

use super::error::EntryError;
use super::log::Log;
use super::view::{GroupView, ViewError};

impl Log {
    /// What a commit is about to change, and who may complain of it.
    pub(super) fn before(&self, header: &Header) -> (Before, Contest) {
        let before = Before {
            epoch: self.epoch(),
            group_info: self.group_info.clone(),
            tree: self.tree.clone(),
            invite_uses: self.uses.clone(),
            standings: self.senders.iter().map(|sender| sender.standing).collect(),
        };
        let members = self.senders.iter().zip(0..).filter(|(sender, _)| sender.standing == Standing::Member);
        let members = members.map(|(_, index)| (index, self.activity[index as usize].day));
        // A joiner's place is the next one.
        let author = self.index_of(&header.id.sender).unwrap_or(self.senders.len() as u32);
        let contest = Contest {
            seq: header.seq,
            leaf: leaf_hash(&header.encode()),
            epoch: self.epoch(),
            time: header.time,
            author,
            jury: jury(day_of(self.created, header.time), members),
            complaints: Vec::new(),
        };
        (before, contest)
    }

    /// The commit has taken effect.
    pub(super) fn contestable(&mut self, before: Before, contest: Contest) {
        self.befores.push(before);
        self.docket.begin(contest);
        self.drop_befores();
    }

    fn drop_befores(&mut self) {
        let kept = &self.docket.kept;
        self.befores.retain(|before| kept.contains(&before.epoch));
    }

    /// What may no longer be complained of by now is forgotten. It follows from the log so far, whenever it is done.
    pub(super) fn settle(&mut self) {
        let (now, epoch) = (self.last_time, self.epoch());
        let activity = &self.activity;
        self.docket.settle(now, epoch, |index| activity.get(index as usize).copied().unwrap_or_default());
        self.drop_befores();
    }

    pub(super) fn check_complaint(&mut self, id: &EntryId, complaint: &Complaint) -> Result<(), EntryError> {
        let key = self.view()?.leaf_key(&id.sender, id.counter.device).ok_or(EntryError::Body)?;
        let statement = Complaint::statement(self.room(), id, complaint.commit, &complaint.leaf);
        verify(&key, &statement, &complaint.signature).map_err(|_| EntryError::Body)
    }

    /// A complaint that counts has its place.
    pub(super) fn complained(&mut self, header: &Header, complaint: &Complaint) -> Result<(), ViewError> {
        let Some(index) = self.index_of(&header.id.sender) else { return Ok(()) };
        self.docket.complain(index, complaint);
        self.reconsider(header)
    }

    /// After a complaint or a leave: perhaps a majority cannot follow a commit.
    pub(super) fn reconsider(&mut self, header: &Header) -> Result<(), ViewError> {
        let (epoch, senders) = (self.epoch(), &self.senders);
        let has_left =
            |index: u32| senders.get(index as usize).is_some_and(|sender| matches!(sender.standing, Standing::Left | Standing::Unknown));
        let Some(verdict) = self.docket.verdict(epoch, has_left) else { return Ok(()) };
        let before = self.befores.iter().find(|before| before.epoch == verdict.back_to).cloned();
        self.drop_befores();
        before.map_or(Err(ViewError::Open), |before| self.go_back(before, &verdict, header.seq))
    }

    /// The commit that was complained of, and all since the state that it goes back to, are void. What is no matter of the
    /// group stays as it is: counters, places, the hub, and that somebody has left.
    fn go_back(&mut self, before: Before, verdict: &Verdict, seq: Seq) -> Result<(), ViewError> {
        let view = GroupView::open(&before.group_info, &before.tree)?;
        let context = view.context()?;
        self.voters_before = std::mem::replace(&mut self.context, context).voters;
        self.set_epoch(before.epoch, group_info_hash(&before.group_info));
        self.group_info = before.group_info;
        self.tree = before.tree;
        self.short_tree = OnceLock::new();
        self.view = Some(view);
        self.uses = before.invite_uses;
        self.last_commit = seq;
        let earlier = self.went_back.map_or(before.epoch, |(_, epoch)| epoch);
        self.went_back = Some((seq, before.epoch.min(earlier)));
        let old = before.standings.into_iter().chain(std::iter::repeat(Standing::Unknown));
        for ((sender, old), index) in self.senders.iter_mut().zip(old).zip(0u32..) {
            let stands = |standing| matches!(standing, Standing::Member | Standing::Left | Standing::Convicted);
            let stood = stands(sender.standing);
            sender.standing = match (sender.standing, old) {
                _ if index == verdict.author && old == Standing::Member => Standing::Convicted,
                // It joined by that very commit: there is no leaf to take out.
                _ if index == verdict.author => Standing::Removed,
                // Left since; perhaps its leaf had been taken out, which is undone.
                (Standing::Left | Standing::Unknown, Standing::Member) => Standing::Left,
                _ => old,
            };
            if stands(sender.standing) {
                sender.out_at = None;
            } else if stood {
                // Whose join is undone is told how it came to that, and so is its co-op.
                sender.out_at = Some(seq);
            }
        }
        for activity in &mut self.activity {
            activity.epoch = activity.epoch.min(before.epoch);
        }
        tracing::warn!(commit = verdict.commit.0, epoch = before.epoch.0, "members could not follow a commit: it is void");
        Ok(())
    }

    /// Whether the room went back with an entry of that range, and to which epoch. It is told once.
    pub fn take_went_back(&mut self, entries: std::ops::Range<u64>) -> Option<Epoch> {
        self.went_back.take_if(|(seq, _)| entries.contains(&seq.0)).map(|(_, epoch)| epoch)
    }

    /// The entry that last took its leaf out.
    pub fn out_at(&self, who: &Pseudonym) -> Option<Seq> {
        self.index_of(who).and_then(|index| self.senders[index as usize].out_at)
    }

    /// Whose entry has its place was there, in that epoch.
    pub(super) fn note_activity(&mut self, header: &Header) {
        let (day, epoch) = (day_of(self.created, header.time), header.epoch.min(self.epoch()));
        if let Some(index) = self.index_of(&header.id.sender) {
            let activity = &mut self.activity[index as usize];
            activity.day = activity.day.max(day);
            activity.epoch = activity.epoch.max(epoch);
        }
    }
}
