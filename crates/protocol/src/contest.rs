//! Commits that members may still complain of.
//!
//! Servers follow the public view of a group, which sees neither a commit's confirmation tag nor whether the secrets in it can be
//! opened: a member can make one that nobody can follow. Whoever cannot follow it says so in the log, signed; when more than
//! half of those who were active have, the commit and everything after it is void, and the room goes on from the state before
//! it. Everybody who reads the log comes to the same verdict at the same entry.
//!
//! The state before a commit must be kept for as long as the commit may be voided. Of many commits in a row that nobody has
//! answered yet not every state is kept: the further back, the fewer ([`Docket::kept`]). A verdict then goes back to the newest
//! one that is kept.

use crate::ids::{EntryId, Epoch, Hash, RoomId, Seq, UnixSeconds};
use crate::limits::{ACTIVE_DAYS, CONTESTABLE_S, CONTESTS_MAX, DAY_S, JURY_MIN};
use crate::sign::{Label, Signature, Transcript};

/// The body of a complaint: which commit, and the complainant's signature by its leaf over all of it and the entry's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complaint {
    pub commit: Seq,
    /// Leaf hash of the commit's header: a complaint is of one commit, whatever stands at that place in another term.
    pub leaf: Hash,
    pub signature: Signature,
}

/// Length of a complaint's body: place, hash and signature, one behind the other.
pub const COMPLAINT_LEN: usize = 8 + 32 + 64;

impl Complaint {
    /// Exactly [`COMPLAINT_LEN`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.commit.0.to_be_bytes()[..], &self.leaf.0, &self.signature.0].concat()
    }

    /// `None`: not as long as it must be.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (commit, rest) = body.split_first_chunk::<8>()?;
        let (leaf, signature) = rest.split_first_chunk::<32>()?;
        let signature = Signature::from_slice(signature).ok()?;
        Some(Self { commit: Seq(u64::from_be_bytes(*commit)), leaf: Hash(*leaf), signature })
    }

    /// What its member signs.
    pub fn statement(room: &RoomId, id: &EntryId, commit: Seq, leaf: &Hash) -> Transcript {
        Transcript::new(Label::Complaint)
            .field(&room.0)
            .field(&id.sender.0)
            .number(u64::from(id.counter.device))
            .number(id.counter.number)
            .number(commit.0)
            .field(&leaf.0)
    }
}

/// What a sender's entries say of it beside their counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Of its newest entry: whole days of header time since the room's creation ([`day_of`]).
    pub day: u32,
    /// The newest epoch that one of them was of.
    pub epoch: Epoch,
}

/// Whole days of header time since a room's creation.
pub fn day_of(created: UnixSeconds, time: UnixSeconds) -> u32 {
    u32::try_from(time.0.saturating_sub(created.0) / DAY_S).unwrap_or(u32::MAX)
}

/// A commit that may still be voided. Senders by their indexes in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    pub seq: Seq,
    pub leaf: Hash,
    /// In which it was made.
    pub epoch: Epoch,
    pub time: UnixSeconds,
    pub author: u32,
    /// Whose complaints count, in ascending order.
    pub jury: Vec<u32>,
    /// Who has complained, in the order of the log.
    pub complaints: Vec<u32>,
}

impl Contest {
    /// Whoever has left since without a word no longer counts.
    fn is_lost(&self, has_left: impl Fn(u32) -> bool) -> bool {
        let counts = |index: &&u32| self.complaints.contains(index) || !has_left(**index);
        2 * self.complaints.len() > self.jury.iter().filter(counts).count()
    }
}

/// What a majority's complaints come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The commit that was complained of.
    pub commit: Seq,
    pub author: u32,
    /// The epoch whose state the room goes on from.
    pub back_to: Epoch,
}

/// Everything that may still be voided, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Docket {
    pub contests: Vec<Contest>,
    /// Epochs whose states are kept, in ascending order.
    pub kept: Vec<Epoch>,
}

/// Whose complaints of a commit count: the members who said anything lately, or all where these are too few to judge. Members by
/// index, with the day of their newest entry.
pub fn jury(today: u32, members: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    let members: Vec<_> = members.collect();
    let active: Vec<u32> = members.iter().filter(|(_, day)| today.saturating_sub(*day) <= ACTIVE_DAYS).map(|(index, _)| *index).collect();
    let mut jury = if active.len() < JURY_MIN { members.iter().map(|(index, _)| *index).collect() } else { active };
    jury.sort_unstable();
    jury
}

/// The oldest state that may stand in for the one of `epoch` when the room is at `current`: itself while it is one of the newest
/// four, then one of each four, of each sixteen, and so on.
fn stand_in(epoch: Epoch, current: Epoch) -> Epoch {
    let distance = current.0.saturating_sub(epoch.0);
    let mut step = 1u64;
    while distance > 4 * step {
        step = step.saturating_mul(4);
    }
    Epoch(epoch.0 - epoch.0 % step)
}

impl Docket {
    /// A commit has taken effect, and the room is at the next epoch.
    pub fn begin(&mut self, contest: Contest) {
        let current = Epoch(contest.epoch.0 + 1);
        self.kept.push(contest.epoch);
        self.contests.push(contest);
        if self.contests.len() > CONTESTS_MAX {
            self.contests.remove(0);
        }
        self.thin(current);
    }

    /// The state to go back to if the commit made in that epoch is voided.
    fn pick(&self, epoch: Epoch, current: Epoch) -> Option<Epoch> {
        let (oldest, first) = (stand_in(epoch, current), self.contests.first()?.epoch);
        let mut may = self.kept.iter().copied().filter(|kept| (oldest..=epoch).contains(kept));
        // A commit that stands is touched only where no later state is kept.
        may.clone().find(|kept| *kept >= first).or_else(|| may.next_back())
    }

    fn thin(&mut self, current: Epoch) {
        let needed: Vec<Epoch> = self.contests.iter().filter_map(|contest| self.pick(contest.epoch, current)).collect();
        self.kept.retain(|kept| needed.contains(kept));
    }

    /// A commit that most of its own jury has answered in a later epoch stands, and so does one that is old, once everything
    /// before it does. The jury of a later one has no part in it: whoever made a bad commit may have let its friends in since.
    pub fn settle(&mut self, now: UnixSeconds, current: Epoch, activity: impl Fn(u32) -> Activity) {
        let stands = |contest: &Contest| {
            let followed = contest.jury.iter().filter(|index| activity(**index).epoch > contest.epoch).count();
            2 * followed > contest.jury.len() || now.0.saturating_sub(contest.time.0) > CONTESTABLE_S
        };
        let settled = self.contests.iter().take_while(|contest| stands(contest)).count();
        self.contests.drain(..settled);
        self.thin(current);
    }

    fn find(&self, complaint: &Complaint) -> Option<usize> {
        self.contests.iter().position(|contest| contest.seq == complaint.commit && contest.leaf == complaint.leaf)
    }

    /// Whether a complaint counts: of a commit that may still be voided, by one of its jury that is at the epoch in which it was
    /// made, once, and not by its author.
    pub fn admits(&self, who: u32, epoch: Epoch, complaint: &Complaint) -> bool {
        self.find(complaint).map(|at| &self.contests[at]).is_some_and(|contest| {
            let counts = contest.jury.binary_search(&who).is_ok() && contest.author != who;
            counts && contest.epoch == epoch && !contest.complaints.contains(&who)
        })
    }

    /// Takes down a complaint that counts. What it comes to [`Self::verdict`] says.
    pub fn complain(&mut self, who: u32, complaint: &Complaint) {
        if let Some(at) = self.find(complaint) {
            self.contests[at].complaints.push(who);
        }
    }

    /// After each complaint, and after each leave: the oldest commit that more than half of its jury complain of, not counting
    /// who has left without a word. With a verdict nothing that is void is left here.
    pub fn verdict(&mut self, current: Epoch, has_left: impl Fn(u32) -> bool) -> Option<Verdict> {
        let lost = self.contests.iter().find(|contest| !contest.complaints.is_empty() && contest.is_lost(&has_left))?;
        let Contest { seq, epoch, author, .. } = *lost;
        let back_to = self.pick(epoch, current)?;
        self.contests.retain(|contest| contest.epoch < back_to);
        self.kept.retain(|kept| *kept < back_to);
        Some(Verdict { commit: seq, author, back_to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(seq: u64) -> Complaint {
        Complaint { commit: Seq(seq), leaf: Hash([seq as u8; 32]), signature: Signature([7; 64]) }
    }

    fn contest(epoch: u64, author: u32, jury: &[u32]) -> Contest {
        let Complaint { commit, leaf, .. } = complaint(10 + epoch);
        Contest { seq: commit, leaf, epoch: Epoch(epoch), time: UnixSeconds(epoch), author, jury: jury.to_vec(), complaints: Vec::new() }
    }

    fn docket(epochs: std::ops::Range<u64>) -> Docket {
        let mut docket = Docket::default();
        epochs.for_each(|epoch| docket.begin(contest(epoch, 0, &[0, 1, 2, 3])));
        docket
    }

    #[test]
    fn a_body_has_one_form() {
        let some = complaint(300);
        let bytes = some.encode();
        assert_eq!((bytes.len(), Complaint::decode(&bytes)), (COMPLAINT_LEN, Some(some)));
        assert_eq!((Complaint::decode(&bytes[1..]), Complaint::decode(&[&bytes[..], &[0]].concat())), (None, None));
    }

    #[test]
    fn who_said_something_lately_judges() {
        let members = [(3, 100), (1, 100 - ACTIVE_DAYS), (2, 99 - ACTIVE_DAYS), (0, 98)];
        let active = jury(100, members.into_iter());
        assert_eq!((active.len(), active), (JURY_MIN, vec![0, 1, 3]));
        assert_eq!(jury(100, members[1..].iter().copied()), [0, 1, 2], "two are too few: all of them");
        assert_eq!(jury(0, members.into_iter()).len(), 4);
        assert_eq!(day_of(UnixSeconds(DAY_S), UnixSeconds(3 * DAY_S - 1)), 1);
        assert_eq!(day_of(UnixSeconds(9), UnixSeconds(0)), 0);
    }

    #[test]
    fn more_than_half_of_the_jury_voids() {
        let mut docket = docket(0..2);
        for (who, epoch, admitted) in [(1, 1, true), (0, 1, false), (4, 1, false), (1, 0, false), (1, 2, false)] {
            assert_eq!(docket.admits(who, Epoch(epoch), &complaint(11)), admitted, "{who} in {epoch}");
        }
        let elsewhere = Complaint { leaf: Hash([9; 32]), ..complaint(11) };
        assert!(!docket.admits(1, Epoch(1), &elsewhere) && !docket.admits(1, Epoch(1), &complaint(12)));
        let nobody = |_: u32| false;
        docket.complain(1, &complaint(11));
        assert_eq!(docket.verdict(Epoch(2), nobody), None);
        assert!(!docket.admits(1, Epoch(1), &complaint(11)), "once");
        docket.complain(2, &complaint(11));
        assert_eq!(docket.verdict(Epoch(2), nobody), None, "two of four are no majority");
        assert_eq!(docket.clone().verdict(Epoch(2), |who| who == 1), None, "who complained counts, also once it has left");
        let gone = docket.clone().verdict(Epoch(2), |who| who == 3);
        assert_eq!(gone.map(|verdict| verdict.back_to), Some(Epoch(1)), "two of three are one");
        let verdict = Verdict { commit: Seq(11), author: 0, back_to: Epoch(1) };
        docket.complain(3, &complaint(11));
        assert_eq!(docket.verdict(Epoch(2), nobody), Some(verdict));
        assert_eq!((docket.contests.len(), docket.kept), (1, vec![Epoch(0)]));
    }

    #[test]
    fn what_most_have_answered_stands() {
        let seen = |epochs: [u64; 4]| move |who: u32| Activity { day: 0, epoch: Epoch(epochs[who as usize]) };
        for (epochs, left) in [([0, 0, 0, 0], 3), ([3, 3, 0, 0], 3), ([3, 1, 1, 0], 2), ([3, 3, 2, 0], 1), ([3, 3, 3, 0], 0)] {
            let mut docket = docket(0..3);
            docket.settle(UnixSeconds(9), Epoch(3), seen(epochs));
            assert_eq!((docket.contests.len(), docket.kept.len()), (left, left), "{epochs:?}");
        }
        // Those who came in by the second commit answer it: that says nothing of the first.
        let mut docket = Docket::default();
        docket.begin(contest(0, 0, &[0, 1, 2, 3]));
        docket.begin(contest(1, 0, &[0, 1, 2, 3, 4, 5, 6, 7, 8]));
        docket.settle(UnixSeconds(9), Epoch(2), |who| Activity { day: 0, epoch: Epoch(if who > 3 { 2 } else { 0 }) });
        assert_eq!((docket.contests.len(), docket.admits(1, Epoch(0), &complaint(10))), (2, true));
        let mut docket = self::docket(0..3);
        docket.settle(UnixSeconds(1 + CONTESTABLE_S), Epoch(3), seen([0; 4]));
        assert_eq!(docket.contests.len(), 2, "seven days of header time");
    }

    /// However long the silence, few states are kept, and each commit can be voided, at the price of those before it that share
    /// its state.
    #[test]
    fn of_many_unanswered_commits_few_states_are_kept() {
        for settled in [0, 5, 13] {
            let mut docket = Docket::default();
            for epoch in 0..CONTESTS_MAX as u64 {
                docket.begin(contest(epoch, 0, &[0, 1, 2, 3]));
                let current = Epoch(epoch + 1);
                if epoch == settled {
                    docket.settle(UnixSeconds(0), current, |_| Activity { day: 0, epoch: Epoch(settled) });
                }
                let oldest = docket.contests[0].epoch;
                assert!(docket.kept.len() <= 24, "{} at {epoch}", docket.kept.len());
                for contest in &docket.contests {
                    let pick = docket.pick(contest.epoch, current).expect("a state to go back to");
                    assert!((oldest..=contest.epoch).contains(&pick), "{pick:?} for {:?}", contest.epoch);
                    assert!(current.0 - contest.epoch.0 > 4 || pick == contest.epoch, "the newest have their own");
                }
            }
        }
    }

    #[test]
    fn the_oldest_of_too_many_stands() {
        let docket = docket(0..CONTESTS_MAX as u64 + 1);
        assert_eq!((docket.contests.len(), docket.contests[0].epoch), (CONTESTS_MAX, Epoch(1)));
    }
}
