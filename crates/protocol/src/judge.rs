//! The one function that judges an entry, from plain facts.
//!
//! Validity depends on the log's prefix and the monotone header time only, never on a local clock, so hub, mirrors and
//! members all judge alike. Whoever follows the group's state gathers the facts; the rules are here.

use crate::admission::Admission;
use crate::contest::{Complaint, Docket};
use crate::credential::LeafCertificate;
use crate::error::Code;
use crate::ids::{CoopName, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, UnixSeconds};
use crate::limits::PAST_EPOCHS_MAX;
use crate::room::{Action, RoomContext, may};

/// How a pseudonym stands to the room, by the log so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Standing {
    /// Never seen.
    Unknown = 0,
    Member = 1,
    /// Left by itself; its leaf may still stand until the next commit.
    Left = 2,
    /// Removed by somebody; never comes back under this pseudonym.
    Removed = 3,
    /// A commit of its was voided; its leaf stands until the next commit, which takes it out.
    Convicted = 4,
}

impl Standing {
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Unknown, Self::Member, Self::Left, Self::Removed, Self::Convicted].into_iter().find(|standing| *standing as u32 == number)
    }
}

/// What the log so far says.
pub trait RoomFacts {
    fn room(&self) -> &RoomId;
    fn epoch(&self) -> Epoch;
    /// Header time of the last entry.
    fn last_time(&self) -> UnixSeconds;
    fn context(&self) -> &RoomContext;
    /// Hash of the GroupInfo of the current epoch.
    fn group_info_hash(&self) -> &Hash;
    fn standing(&self, who: &Pseudonym) -> Standing;
    /// The last counter of that sender's device; 0 before its first entry.
    fn last_counter(&self, id: &EntryId) -> u64;
    fn is_use_taken(&self, invite: &PublicKey, number: u32) -> bool;
    /// The root key that the room's records give this co-op, if it has been seen.
    fn coop_key(&self, name: &CoopName) -> Option<PublicKey>;
    /// Whether the room's records show that co-op. Who has not read them from the beginning cannot say no.
    /// Pseudonyms that stand as convicted.
    fn convicted(&self) -> Vec<Pseudonym>;
    /// Commits that may still be complained of, as far as they are not settled by now.
    fn docket(&self) -> &Docket;
    /// The sender's index by first appearance in the log.
    fn index_of(&self, who: &Pseudonym) -> Option<u32>;
    fn has_seen(&self, name: &CoopName) -> bool {
        self.coop_key(name).is_some()
    }
}

/// One entry, as far as the rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFacts {
    pub id: EntryId,
    pub epoch: Epoch,
    pub time: UnixSeconds,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Message,
    /// Its signature by the leaf has been checked.
    Leave,
    /// Its votes, and that they lead to this place, have been checked ([`crate::log::succession::Succession`]).
    Succession,
    Commit(Box<CommitFacts>),
    /// Its signature by the leaf has been checked.
    Complaint(Complaint),
}

/// What a commit does, as its (already verified) MLS content says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitFacts {
    /// Present if it is an external commit; its author is then the joiner.
    pub join: Option<JoinFacts>,
    /// The pseudonym in the leaf that signed, for a member's commit.
    pub author: Option<Pseudonym>,
    pub removes: Vec<Pseudonym>,
    /// Leaves added by Add proposals.
    pub adds: usize,
    pub new_context: Option<RoomContext>,
    /// A group-context change that is no well-formed room context, or that drops what must stay.
    pub broken_context: bool,
    /// Proposals that Kith does not use: by reference, PSK, re-init, custom.
    pub foreign_proposals: bool,
    /// The author's leaf no longer carries the identity, key or capabilities that it had.
    pub identity_changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinFacts {
    pub certificate: LeafCertificate,
    pub leaf_key: PublicKey,
    pub admission: Option<Admission>,
    pub lists_all_extensions: bool,
}

/// Why an entry is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the counter is {got}, but the next is {expected}")]
    Counter { expected: u64, got: u64 },
    #[error("the entry was taken before")]
    Duplicate,
    #[error("the header's time goes back")]
    Time,
    #[error("the sender is no member of the room")]
    NotMember,
    #[error("the entry is of epoch {got}, the room is at {current}")]
    Epoch { current: Epoch, got: Epoch },
    #[error("the sender's role does not allow it")]
    Role,
    #[error("the commit's author is not the entry's sender")]
    Author,
    #[error("the commit uses proposals that rooms do not take")]
    Proposals,
    #[error("the commit changes its author's identity")]
    Identity,
    #[error("the room's new context is out of bounds")]
    Context,
    #[error("the joiner's certificate does not hold")]
    Certificate,
    #[error("the co-op's key is not the one that the room knows")]
    CoopKey,
    #[error("the invite is closed, used up or does not fit")]
    Invite,
    #[error("the pseudonym was removed from the room or is in it already")]
    Standing,
    #[error("whose commit was voided must be taken out first")]
    Convicted,
    #[error("the commit does not take out whose commit was voided")]
    TakeOut,
    #[error("there is no such commit to complain of, or it is not this sender's to judge")]
    Complaint,
}

impl Refusal {
    /// The wire's code.
    pub fn code(self) -> Code {
        match self {
            Self::Counter { .. } | Self::Duplicate => Code::OutOfOrder,
            Self::Epoch { .. } => Code::WrongEpoch,
            Self::Time => Code::Malformed,
            Self::NotMember => Code::NoSuchRoom,
            Self::Role | Self::Standing | Self::Context | Self::Complaint => Code::Forbidden,
            // The next commit takes it out, and then there is room again.
            Self::Convicted => Code::EpochBusy,
            // Made anew from the room as it is now, it does.
            Self::TakeOut => Code::WrongEpoch,
            Self::Author | Self::Proposals | Self::Identity => Code::InvalidCommit,
            Self::Certificate | Self::CoopKey => Code::BadCertificate,
            Self::Invite => Code::InviteClosed,
        }
    }
}

/// Is this entry valid as the next one of the log?
pub fn judge(room: &impl RoomFacts, entry: &EntryFacts) -> Result<(), Refusal> {
    let (last, got) = (room.last_counter(&entry.id), entry.id.counter.number);
    if got <= last {
        return Err(Refusal::Duplicate);
    }
    if got != last + 1 {
        return Err(Refusal::Counter { expected: last + 1, got });
    }
    if entry.time < room.last_time() {
        return Err(Refusal::Time);
    }
    match &entry.what {
        What::Message => {
            member(room, &entry.id.sender)?;
            let (current, got) = (room.epoch(), entry.epoch);
            if got > current || current.0 - got.0 > PAST_EPOCHS_MAX {
                return Err(Refusal::Epoch { current, got });
            }
            Ok(())
        }
        What::Leave => member(room, &entry.id.sender),
        What::Succession if entry.id.sender == Pseudonym::ROOM && entry.id.counter.device == 0 => Ok(()),
        What::Succession => Err(Refusal::Author),
        What::Commit(commit) => judge_commit(room, entry, commit),
        // Whom the commit took out may complain of it, too: standing is as it was before.
        What::Complaint(complaint) => {
            let index = room.index_of(&entry.id.sender).ok_or(Refusal::NotMember)?;
            if room.docket().admits(index, entry.epoch, complaint) { Ok(()) } else { Err(Refusal::Complaint) }
        }
    }
}

fn member(room: &impl RoomFacts, who: &Pseudonym) -> Result<(), Refusal> {
    if room.standing(who) == Standing::Member { Ok(()) } else { Err(Refusal::NotMember) }
}

fn judge_commit(room: &impl RoomFacts, entry: &EntryFacts, commit: &CommitFacts) -> Result<(), Refusal> {
    let (current, got) = (room.epoch(), entry.epoch);
    if got != current {
        return Err(Refusal::Epoch { current, got });
    }
    if commit.foreign_proposals || commit.adds > 0 {
        return Err(Refusal::Proposals);
    }
    match &commit.join {
        Some(join) => judge_join(room, entry, commit, join),
        None => judge_member_commit(room, entry, commit),
    }
}

fn judge_member_commit(room: &impl RoomFacts, entry: &EntryFacts, commit: &CommitFacts) -> Result<(), Refusal> {
    let sender = &entry.id.sender;
    if commit.author.as_ref() != Some(sender) {
        return Err(Refusal::Author);
    }
    member(room, sender)?;
    if commit.identity_changed {
        return Err(Refusal::Identity);
    }
    let role = room.context().role(sender);
    if !room.convicted().iter().all(|who| commit.removes.contains(who)) {
        return Err(Refusal::TakeOut);
    }
    let is_out = |who: &Pseudonym| matches!(room.standing(who), Standing::Left | Standing::Convicted);
    let removes_members = commit.removes.iter().any(|who| !is_out(who));
    if removes_members && !may(role, Action::Remove) {
        return Err(Refusal::Role);
    }
    if commit.broken_context {
        return Err(Refusal::Context);
    }
    if let Some(next) = &commit.new_context {
        if !may(role, Action::ChangeContext) {
            return Err(Refusal::Role);
        }
        if next.check().is_err() || !room.context().voters_may_become(&next.voters) {
            return Err(Refusal::Context);
        }
        // The word of a co-op whose key nobody knows could never be counted, and nothing would be certified any more.
        let is_known = |(name, key): (&CoopName, &PublicKey)| match room.coop_key(name) {
            Some(known) => known == *key,
            None => room.has_seen(name),
        };
        if !next.voters.everybody().zip(&next.voter_keys).all(is_known) {
            return Err(Refusal::Context);
        }
    }
    Ok(())
}

fn judge_join(room: &impl RoomFacts, entry: &EntryFacts, commit: &CommitFacts, join: &JoinFacts) -> Result<(), Refusal> {
    let certificate = &join.certificate;
    if certificate.pseudonym != entry.id.sender || certificate.device != entry.id.counter.device {
        return Err(Refusal::Author);
    }
    if certificate.verify(room.room(), &join.leaf_key, entry.time).is_err() || !join.lists_all_extensions {
        return Err(Refusal::Certificate);
    }
    if room.coop_key(&certificate.coop.name).is_some_and(|known| known != certificate.coop.key) {
        return Err(Refusal::CoopKey);
    }
    if commit.new_context.is_some() || commit.broken_context || !commit.removes.is_empty() {
        return Err(Refusal::Proposals);
    }
    if !room.convicted().is_empty() {
        return Err(Refusal::Convicted);
    }
    match room.standing(&entry.id.sender) {
        Standing::Unknown => {}
        Standing::Member | Standing::Left | Standing::Removed | Standing::Convicted => return Err(Refusal::Standing),
    }
    let admission = join.admission.as_ref().ok_or(Refusal::Invite)?;
    let invite = room.context().invite(&admission.invite).ok_or(Refusal::Invite)?;
    let open = entry.time <= invite.expires
        && (1..=invite.uses).contains(&admission.use_number)
        && !room.is_use_taken(&admission.invite, admission.use_number);
    let fits = admission.group_info_hash == *room.group_info_hash() && admission.verify(room.room(), &join.leaf_key).is_ok();
    if open && fits { Ok(()) } else { Err(Refusal::Invite) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Contest;
    use crate::ids::{Coop, Counter, Seq};
    use crate::log::voters::Voters;
    use crate::room::{Invite, Role};
    use crate::sign::{SecretKey, Signature};

    struct Room {
        docket: Docket,
        id: RoomId,
        context: RoomContext,
        group_info: Hash,
        taken: Vec<(PublicKey, u32)>,
        coop: Coop,
        convicted: Vec<Pseudonym>,
    }

    const FACILITATOR: Pseudonym = Pseudonym([1; 16]);
    const MODERATOR: Pseudonym = Pseudonym([2; 16]);
    const MEMBER: Pseudonym = Pseudonym([3; 16]);
    const LEFT: Pseudonym = Pseudonym([4; 16]);
    const REMOVED: Pseudonym = Pseudonym([5; 16]);
    const CONVICTED: Pseudonym = Pseudonym([7; 16]);
    const JOINER: Pseudonym = Pseudonym([6; 16]);
    const EPOCH: Epoch = Epoch(20);
    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    impl RoomFacts for Room {
        fn room(&self) -> &RoomId {
            &self.id
        }
        fn epoch(&self) -> Epoch {
            EPOCH
        }
        fn last_time(&self) -> UnixSeconds {
            NOW
        }
        fn context(&self) -> &RoomContext {
            &self.context
        }
        fn group_info_hash(&self) -> &Hash {
            &self.group_info
        }
        fn standing(&self, who: &Pseudonym) -> Standing {
            match *who {
                FACILITATOR | MODERATOR | MEMBER => Standing::Member,
                LEFT => Standing::Left,
                REMOVED => Standing::Removed,
                CONVICTED => Standing::Convicted,
                _ => Standing::Unknown,
            }
        }
        fn last_counter(&self, id: &EntryId) -> u64 {
            if self.standing(&id.sender) == Standing::Unknown { 0 } else { 7 }
        }
        fn is_use_taken(&self, invite: &PublicKey, number: u32) -> bool {
            self.taken.contains(&(*invite, number))
        }
        fn convicted(&self) -> Vec<Pseudonym> {
            self.convicted.clone()
        }
        fn docket(&self) -> &Docket {
            &self.docket
        }
        fn index_of(&self, who: &Pseudonym) -> Option<u32> {
            [FACILITATOR, MODERATOR, MEMBER, LEFT, REMOVED, CONVICTED].iter().position(|known| known == who).map(|at| at as u32)
        }
        fn coop_key(&self, name: &CoopName) -> Option<PublicKey> {
            ["alder.test", "birch.test", "cedar.test"].contains(&name.as_str()).then_some(self.coop.key)
        }
    }

    fn invite() -> SecretKey {
        SecretKey::from_seed([9; 32])
    }

    fn root() -> SecretKey {
        SecretKey::from_seed([8; 32])
    }

    fn room() -> Room {
        Room {
            docket: Docket::default(),
            convicted: Vec::new(),
            id: RoomId([7; 32]),
            context: RoomContext {
                roles: vec![(FACILITATOR, Role::Facilitator), (MODERATOR, Role::Moderator)],
                invites: vec![Invite { key: invite().public(), expires: UnixSeconds(NOW.0 + 10), uses: 2 }],
                voters: Voters { names: vec!["alder.test".parse().unwrap()], tie_breaker: None },
                voter_keys: vec![root().public()],
            },
            group_info: Hash([3; 32]),
            taken: vec![(invite().public(), 1)],
            coop: Coop { name: "birch.test".parse().unwrap(), key: root().public() },
        }
    }

    fn entry(sender: Pseudonym, number: u64, what: What) -> EntryFacts {
        EntryFacts { id: EntryId { sender, counter: Counter { device: 0, number } }, epoch: EPOCH, time: NOW, what }
    }

    fn commit(sender: Pseudonym, change: impl FnOnce(&mut CommitFacts)) -> EntryFacts {
        let mut facts = CommitFacts { author: Some(sender), ..CommitFacts::default() };
        change(&mut facts);
        entry(sender, 8, What::Commit(Box::new(facts)))
    }

    fn join(change: impl FnOnce(&mut JoinFacts, &mut CommitFacts)) -> EntryFacts {
        let room = room();
        let leaf_key = PublicKey([4; 32]);
        let mut join = JoinFacts {
            certificate: LeafCertificate::issue(&root(), room.coop.clone(), &room.id, &leaf_key, JOINER, 0, NOW),
            leaf_key,
            admission: Some(Admission::sign(&invite(), &room.id, &leaf_key, room.group_info, 2)),
            lists_all_extensions: true,
        };
        let mut facts = CommitFacts::default();
        change(&mut join, &mut facts);
        facts.join = Some(join);
        entry(JOINER, 1, What::Commit(Box::new(facts)))
    }

    #[test]
    fn messages() {
        let room = room();
        let epoch = |epoch| EntryFacts { epoch: Epoch(epoch), ..entry(MEMBER, 8, What::Message) };
        let wrong = |got| Err(Refusal::Epoch { current: EPOCH, got: Epoch(got) });
        for (entry, verdict) in [
            (entry(MEMBER, 8, What::Message), Ok(())),
            (entry(MEMBER, 7, What::Message), Err(Refusal::Duplicate)),
            (entry(MEMBER, 9, What::Message), Err(Refusal::Counter { expected: 8, got: 9 })),
            (entry(LEFT, 8, What::Message), Err(Refusal::NotMember)),
            (entry(JOINER, 1, What::Message), Err(Refusal::NotMember)),
            (EntryFacts { time: UnixSeconds(NOW.0 - 1), ..entry(MEMBER, 8, What::Message) }, Err(Refusal::Time)),
            (epoch(EPOCH.0 - PAST_EPOCHS_MAX), Ok(())),
            (epoch(EPOCH.0 - PAST_EPOCHS_MAX - 1), wrong(EPOCH.0 - PAST_EPOCHS_MAX - 1)),
            (epoch(21), wrong(21)),
            (entry(MEMBER, 8, What::Leave), Ok(())),
            (entry(REMOVED, 8, What::Leave), Err(Refusal::NotMember)),
        ] {
            assert_eq!(judge(&room, &entry), verdict, "{entry:?}");
        }
    }

    /// A second voter, and who breaks ties; all three with that key.
    fn vote(context: &mut RoomContext, voter: &str, tie_breaker: &str, key: PublicKey) {
        context.voters.names.push(voter.parse().unwrap());
        context.voters.tie_breaker = Some(tie_breaker.parse().unwrap());
        context.voter_keys = vec![key; 3];
    }

    #[test]
    fn commits_of_members() {
        let room = room();
        let context = |change: fn(&mut RoomContext)| {
            let mut next = self::room().context;
            change(&mut next);
            Some(next)
        };
        for (entry, verdict) in [
            (commit(MEMBER, |_| {}), Ok(())),
            (commit(MEMBER, |c| c.author = Some(MODERATOR)), Err(Refusal::Author)),
            (commit(LEFT, |_| {}), Err(Refusal::NotMember)),
            (commit(MEMBER, |c| c.removes = vec![LEFT]), Ok(())),
            (commit(MEMBER, |c| c.removes = vec![MODERATOR]), Err(Refusal::Role)),
            (commit(MODERATOR, |c| c.removes = vec![MEMBER]), Ok(())),
            (commit(MEMBER, |c| c.adds = 1), Err(Refusal::Proposals)),
            (commit(MEMBER, |c| c.foreign_proposals = true), Err(Refusal::Proposals)),
            (commit(MEMBER, |c| c.identity_changed = true), Err(Refusal::Identity)),
            (commit(MEMBER, |c| c.new_context = context(|_| {})), Err(Refusal::Role)),
            (commit(MODERATOR, |c| c.new_context = context(|_| {})), Err(Refusal::Role)),
            (commit(FACILITATOR, |c| c.new_context = context(|x| x.invites.clear())), Ok(())),
            (commit(FACILITATOR, |c| c.new_context = context(|x| x.roles.clear())), Err(Refusal::Context)),
            (commit(FACILITATOR, |c| c.new_context = context(|x| vote(x, "birch.test", "cedar.test", root().public()))), Ok(())),
            (
                commit(FACILITATOR, |c| c.new_context = context(|x| vote(x, "nobody.test", "cedar.test", root().public()))),
                Err(Refusal::Context),
            ),
            (
                commit(FACILITATOR, |c| c.new_context = context(|x| vote(x, "birch.test", "nobody.test", root().public()))),
                Err(Refusal::Context),
            ),
            (
                commit(FACILITATOR, |c| c.new_context = context(|x| vote(x, "birch.test", "cedar.test", invite().public()))),
                Err(Refusal::Context),
            ),
            (commit(FACILITATOR, |c| c.broken_context = true), Err(Refusal::Context)),
            (EntryFacts { epoch: Epoch(19), ..commit(MEMBER, |_| {}) }, Err(Refusal::Epoch { current: EPOCH, got: Epoch(19) })),
        ] {
            assert_eq!(judge(&room, &entry), verdict, "{entry:?}");
        }
    }

    #[test]
    fn complaints() {
        let mut room = room();
        let complaint = Complaint { commit: Seq(40), leaf: Hash([4; 32]), signature: Signature([0; 64]) };
        let contest = Contest {
            seq: complaint.commit,
            leaf: complaint.leaf,
            epoch: EPOCH,
            time: NOW,
            author: 0,
            jury: vec![0, 2, 4],
            complaints: Vec::new(),
        };
        room.docket.begin(contest);
        let of = |sender, epoch| EntryFacts { epoch: Epoch(epoch), ..entry(sender, 8, What::Complaint(complaint)) };
        for (entry, verdict) in [
            (of(MEMBER, EPOCH.0), Ok(())),
            (of(REMOVED, EPOCH.0), Ok(())),
            (of(FACILITATOR, EPOCH.0), Err(Refusal::Complaint)),
            (of(MODERATOR, EPOCH.0), Err(Refusal::Complaint)),
            (of(MEMBER, EPOCH.0 + 1), Err(Refusal::Complaint)),
            (of(JOINER, EPOCH.0), Err(Refusal::Counter { expected: 1, got: 8 })),
            (
                EntryFacts { id: EntryId { counter: Counter { device: 0, number: 7 }, sender: MEMBER }, ..of(MEMBER, EPOCH.0) },
                Err(Refusal::Duplicate),
            ),
        ] {
            assert_eq!(judge(&room, &entry), verdict, "{entry:?}");
        }
    }

    /// Until its leaf is out nothing else is committed, and nobody joins.
    #[test]
    fn whose_commit_was_voided_goes_first() {
        let mut room = room();
        room.convicted = vec![CONVICTED];
        for (entry, verdict) in [
            (commit(MEMBER, |_| {}), Err(Refusal::TakeOut)),
            (commit(MEMBER, |c| c.removes = vec![CONVICTED]), Ok(())),
            (commit(MEMBER, |c| c.removes = vec![CONVICTED, LEFT]), Ok(())),
            (commit(MEMBER, |c| c.removes = vec![CONVICTED, MODERATOR]), Err(Refusal::Role)),
            (commit(CONVICTED, |_| {}), Err(Refusal::NotMember)),
            (entry(CONVICTED, 8, What::Message), Err(Refusal::NotMember)),
            (join(|_, _| {}), Err(Refusal::Convicted)),
        ] {
            assert_eq!(judge(&room, &entry), verdict, "{entry:?}");
        }
    }

    #[test]
    fn fault_01_nobody_joins_without_an_open_invite() {
        let leaf = PublicKey([4; 32]);
        let sign = |room: RoomId, hash: Hash, number| Some(Admission::sign(&invite(), &room, &leaf, hash, number));
        let (id, hash) = (room().id, room().group_info);
        for (name, entry, verdict) in [
            ("good", join(|_, _| {}), Ok(())),
            ("no invite", join(|j, _| j.admission = None), Err(Refusal::Invite)),
            ("use taken", join(|j, _| j.admission = sign(id, hash, 1)), Err(Refusal::Invite)),
            ("use beyond", join(|j, _| j.admission = sign(id, hash, 3)), Err(Refusal::Invite)),
            ("use zero", join(|j, _| j.admission = sign(id, hash, 0)), Err(Refusal::Invite)),
            ("other room", join(|j, _| j.admission = sign(RoomId([1; 32]), hash, 2)), Err(Refusal::Invite)),
            ("other GroupInfo", join(|j, _| j.admission = sign(id, Hash([1; 32]), 2)), Err(Refusal::Invite)),
            ("a server's own key", join(|j, _| j.admission = Some(Admission::sign(&root(), &id, &leaf, hash, 2))), Err(Refusal::Invite)),
            ("expired", EntryFacts { time: UnixSeconds(NOW.0 + 11), ..join(|_, _| {}) }, Err(Refusal::Invite)),
            ("removes somebody", join(|_, c| c.removes = vec![MEMBER]), Err(Refusal::Proposals)),
            (
                "another co-op's key",
                join(|j, _| {
                    let other = SecretKey::from_seed([1; 32]);
                    let coop = Coop { key: other.public(), ..room().coop };
                    j.certificate = LeafCertificate::issue(&other, coop, &id, &leaf, JOINER, 0, NOW);
                }),
                Err(Refusal::CoopKey),
            ),
            ("forged certificate", join(|j, _| j.certificate.not_after.0 += 1), Err(Refusal::Certificate)),
            ("missing capabilities", join(|j, _| j.lists_all_extensions = false), Err(Refusal::Certificate)),
        ] {
            assert_eq!(judge(&room(), &entry), verdict, "{name}");
        }
    }
}
