//! Entries, attestations, certificates and snapshots.

use bytes::Bytes;
use prost::Message;

use super::convert::{self as c, Result, bytes_of, list_of};
use super::{DecodeError, contest, scan};
use crate::admission::Admission;
use crate::contest::{Activity, Docket};
use crate::credential::LeafCertificate;
use crate::ids::{Counter, EntryId, Epoch, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use crate::judge::Standing;
use crate::limits;
use crate::log::checkpoint::{Attestation, Checkpoint, Mark};
use crate::log::provisional::Provisional;
use crate::log::succession::{Succession, Vote};
use crate::log::voters::Voters;
use crate::member::{Entries, Entry};
use crate::room::{Creation, CreationBody, Invite, Role, RoomContext, SignedLeave};
use crate::snapshot::{GroupSnapshot, RoomSnapshot, Sender};
use crate::wire::v1 as w;

fn schema(_: prost::DecodeError) -> DecodeError {
    DecodeError::Schema
}

pub(super) fn entries_to_wire(e: &Entries) -> w::Entries {
    w::Entries {
        room: e.room.0,
        first_seq: e.first.0,
        term: e.term.0,
        epoch: e.epoch.0,
        time_s: e.time,
        first_new_sender: e.first_new_sender,
        new_senders: list_of(e.new_senders.iter().map(|p| p.0)),
        entries: e
            .entries
            .iter()
            .map(|entry| w::Entry {
                sender: entry.sender,
                device: entry.device.into(),
                counter: entry.counter,
                kind: entry.kind as u32,
                epoch_delta: entry.epoch_delta,
                time_delta_s: entry.time_delta,
                body: entry.body.clone(),
                group_info_hash: entry.group_info_hash.map_or_else(Bytes::new, |hash| bytes_of(&hash.0)),
            })
            .collect(),
    }
}

pub(super) fn entries_from_wire(e: w::Entries) -> Result<Entries> {
    c::bounded(&e.entries, "entries", limits::BATCH_ENTRIES_MAX)?;
    let entries = e.entries.into_iter().map(|entry| {
        let kind = c::kind(entry.kind)?;
        let group_info_hash = match kind {
            crate::log::Kind::Commit | crate::log::Kind::Creation => Some(c::hash(&entry.group_info_hash, "GroupInfo hash")?),
            _ => None,
        };
        let limit = if kind == crate::log::Kind::Creation { limits::TREE_BYTES_MAX } else { limits::BODY_BYTES_MAX };
        Ok(Entry {
            sender: entry.sender,
            device: c::device(entry.device)?,
            counter: c::number(entry.counter, "counter")?,
            kind,
            epoch_delta: entry.epoch_delta,
            time_delta: c::number(entry.time_delta_s, "time")?,
            body: c::blob(entry.body, "body", limit)?,
            group_info_hash,
        })
    });
    Ok(Entries {
        room: RoomNumber(e.room),
        first: Seq(c::number(e.first_seq, "sequence number")?),
        term: Term(e.term),
        epoch: Epoch(c::number(e.epoch, "epoch")?),
        time: c::number(e.time_s, "time")?,
        first_new_sender: e.first_new_sender,
        new_senders: c::bounded(&e.new_senders, "senders", limits::SENDERS_MAX)?.iter().map(|p| c::pseudonym(p)).collect::<Result<_>>()?,
        entries: entries.collect::<Result<_>>()?,
    })
}

pub(super) fn mark_to_wire(mark: &Mark) -> w::Mark {
    w::Mark {
        coop: mark.coop.to_string(),
        cosigned_at_s: mark.cosignature.map_or(0, |(at, _)| at.0),
        cosignature: mark.cosignature.map_or_else(Bytes::new, |(_, signature)| bytes_of(&signature.0)),
        held: mark.held.map_or_else(Bytes::new, |signature| bytes_of(&signature.0)),
    }
}

pub(super) fn mark_from_wire(mark: &w::Mark) -> Result<Mark> {
    let optional = |bytes: &[u8]| if bytes.is_empty() { Ok(None) } else { c::signature(bytes, "mark").map(Some) };
    let at = UnixSeconds(c::number(mark.cosigned_at_s, "time")?);
    Ok(Mark {
        coop: c::coop_name(&mark.coop)?,
        cosignature: optional(&mark.cosignature)?.map(|signature| (at, signature)),
        held: optional(&mark.held)?,
    })
}

pub(super) fn attestation_to_wire(room: RoomNumber, a: &Attestation) -> w::Attestation {
    w::Attestation {
        room: room.0,
        size: a.checkpoint.size,
        term: a.checkpoint.term.0,
        root: bytes_of(&a.checkpoint.root.0),
        hub: a.hub.to_string(),
        checkpoint: bytes_of(&a.signature.0),
        marks: a.marks.iter().map(mark_to_wire).collect(),
    }
}

/// The wire names the room by number; the caller knows its id and puts it in.
pub(super) fn attestation_from_wire(a: &w::Attestation) -> Result<(RoomNumber, Attestation)> {
    let checkpoint =
        Checkpoint { room: RoomId([0; 32]), term: Term(a.term), size: c::number(a.size, "size")?, root: c::hash(&a.root, "root")? };
    let marks = c::bounded(&a.marks, "marks", limits::MARKS_MAX)?.iter().map(mark_from_wire).collect::<Result<_>>()?;
    let attestation = Attestation { checkpoint, hub: c::coop_name(&a.hub)?, signature: c::signature(&a.checkpoint, "checkpoint")?, marks };
    Ok((RoomNumber(a.room), attestation))
}

/// As it is stored. The room's id is not in the bytes.
pub fn encode_attestation(attestation: &Attestation) -> Bytes {
    attestation_to_wire(RoomNumber(0), attestation).encode_to_vec().into()
}

pub fn decode_attestation(room: RoomId, bytes: &[u8]) -> Result<Attestation> {
    scan::check(bytes, &scan::ATTESTATION)?;
    let wire = w::Attestation::decode(bytes).map_err(schema)?;
    let (_, mut attestation) = attestation_from_wire(&wire)?;
    attestation.checkpoint.room = room;
    // What stands on disk is what was written: a changed byte that still parses is no attestation of ours.
    if encode_attestation(&attestation) != bytes { Err(DecodeError::Schema) } else { Ok(attestation) }
}

fn context_to_wire(context: &RoomContext) -> w::RoomContext {
    w::RoomContext {
        roles: context.roles.iter().map(|(who, role)| w::RoleGrant { pseudonym: bytes_of(&who.0), role: *role as u32 }).collect(),
        invites: context
            .invites
            .iter()
            .map(|invite| w::Invite { key: bytes_of(&invite.key.0), expires_s: invite.expires.0, uses: invite.uses })
            .collect(),
        voters: context.voters.names.iter().map(ToString::to_string).collect(),
        tie_breaker: context.voters.tie_breaker.as_ref().map(ToString::to_string).unwrap_or_default(),
        voter_keys: list_of(context.voter_keys.iter().map(|key| key.0)),
    }
}

pub fn encode_context(context: &RoomContext) -> Vec<u8> {
    context_to_wire(context).encode_to_vec()
}

/// Its own bounds are for [`RoomContext::check`].
pub fn decode_context(bytes: &[u8]) -> Result<RoomContext> {
    scan::check(bytes, &scan::CONTEXT)?;
    let wire = w::RoomContext::decode(bytes).map_err(schema)?;
    let roles = c::bounded(&wire.roles, "roles", limits::ROLE_GRANTS_MAX)?
        .iter()
        .map(|grant| Ok((c::pseudonym(&grant.pseudonym)?, Role::from_number(grant.role).ok_or(DecodeError::Field("role"))?)));
    let invites = c::bounded(&wire.invites, "invites", limits::ROOM_INVITES_MAX)?.iter().map(|invite| {
        let expires = UnixSeconds(c::number(invite.expires_s, "expiry")?);
        Ok(Invite { key: c::key(&invite.key, "invite key")?, expires, uses: invite.uses })
    });
    Ok(RoomContext {
        roles: roles.collect::<Result<_>>()?,
        invites: invites.collect::<Result<_>>()?,
        voters: voters_from_wire(&wire.voters, &wire.tie_breaker)?,
        voter_keys: c::bounded(&wire.voter_keys, "voters' keys", limits::VOTERS_MAX + 1)?
            .iter()
            .map(|key| c::key(key, "voter's key"))
            .collect::<Result<_>>()?,
    })
}

fn voters_from_wire(names: &[String], tie_breaker: &str) -> Result<Voters> {
    let names = c::bounded(names, "voters", limits::VOTERS_MAX)?.iter().map(|name| c::coop_name(name)).collect::<Result<_>>()?;
    let tie_breaker = if tie_breaker.is_empty() { None } else { Some(c::coop_name(tie_breaker)?) };
    Ok(Voters { names, tie_breaker })
}

pub(super) fn vote_to_wire(vote: &Vote) -> w::Vote {
    w::Vote {
        room_id: bytes_of(&vote.room.0),
        term: vote.term.0,
        candidate: vote.candidate.name.to_string(),
        candidate_key: bytes_of(&vote.candidate.key.0),
        voter: vote.voter.to_string(),
        last: Some(attestation_to_wire(RoomNumber(0), &vote.last)),
        signature: bytes_of(&vote.signature.0),
    }
}

pub(super) fn vote_from_wire(vote: &w::Vote) -> Result<Vote> {
    let room = c::room_id(&vote.room_id)?;
    let (_, mut last) = attestation_from_wire(vote.last.as_ref().ok_or(DecodeError::Field("checkpoint"))?)?;
    last.checkpoint.room = room;
    c::bounded(&last.marks, "marks", 0)?;
    Ok(Vote {
        room,
        term: Term(vote.term),
        candidate: c::coop(&vote.candidate, &vote.candidate_key)?,
        voter: c::coop_name(&vote.voter)?,
        last,
        signature: c::signature(&vote.signature, "vote")?,
    })
}

/// As it is stored.
pub fn encode_vote(vote: &Vote) -> Bytes {
    vote_to_wire(vote).encode_to_vec().into()
}

pub fn decode_vote(bytes: &[u8]) -> Result<Vote> {
    scan::check(bytes, &scan::VOTE)?;
    vote_from_wire(&w::Vote::decode(bytes).map_err(schema)?)
}

pub fn encode_succession(succession: &Succession) -> Vec<u8> {
    w::Succession {
        room_id: bytes_of(&succession.room.0),
        term: succession.term.0,
        hub: succession.hub.name.to_string(),
        hub_key: bytes_of(&succession.hub.key.0),
        votes: succession.votes.iter().map(vote_to_wire).collect(),
    }
    .encode_to_vec()
}

pub fn decode_succession(bytes: &[u8]) -> Result<Succession> {
    if bytes.len() > limits::SUCCESSION_BYTES_MAX {
        return Err(DecodeError::TooLarge("succession"));
    }
    scan::check(bytes, &scan::SUCCESSION)?;
    let wire = w::Succession::decode(bytes).map_err(schema)?;
    Ok(Succession {
        room: c::room_id(&wire.room_id)?,
        term: Term(wire.term),
        hub: c::coop(&wire.hub, &wire.hub_key)?,
        votes: c::bounded(&wire.votes, "votes", limits::VOTERS_MAX + 1)?.iter().map(vote_from_wire).collect::<Result<_>>()?,
    })
}

pub(super) fn provisional_to_wire(provisional: &Provisional) -> w::Provisional {
    w::Provisional {
        pseudonym: bytes_of(&provisional.id.sender.0),
        device: provisional.id.counter.device.into(),
        counter: provisional.id.counter.number,
        epoch: provisional.epoch.0,
        time_s: provisional.time.0,
        body: provisional.body.clone(),
        signature: bytes_of(&provisional.signature.0),
    }
}

pub(super) fn provisional_from_wire(wire: w::Provisional) -> Result<Provisional> {
    let counter = Counter { device: c::device(wire.device)?, number: c::number(wire.counter, "counter")? };
    Ok(Provisional {
        id: EntryId { sender: c::pseudonym(&wire.pseudonym)?, counter },
        epoch: Epoch(c::number(wire.epoch, "epoch")?),
        time: UnixSeconds(c::number(wire.time_s, "time")?),
        body: c::blob(wire.body, "body", limits::BODY_BYTES_MAX)?,
        signature: c::signature(&wire.signature, "provisional")?,
    })
}

pub fn encode_creation(creation: &Creation) -> Vec<u8> {
    w::Creation {
        nonce: bytes_of(&creation.nonce),
        creator_key: bytes_of(&creation.creator_key.0),
        context: encode_context(&creation.context).into(),
        hub: creation.hub.name.to_string(),
        hub_key: bytes_of(&creation.hub.key.0),
        created_s: creation.created.0,
    }
    .encode_to_vec()
}

pub fn decode_creation(bytes: &[u8]) -> Result<Creation> {
    let wire = w::Creation::decode(bytes).map_err(schema)?;
    Ok(Creation {
        nonce: c::array(&wire.nonce, "nonce")?,
        creator_key: c::key(&wire.creator_key, "creator's key")?,
        context: decode_context(&wire.context)?,
        hub: c::coop(&wire.hub, &wire.hub_key)?,
        created: UnixSeconds(c::number(wire.created_s, "time")?),
    })
}

pub fn encode_creation_body(body: &CreationBody) -> Vec<u8> {
    w::CreationBody { creation: bytes_of(&body.creation), group_info: bytes_of(&body.group_info), tree: bytes_of(&body.tree) }
        .encode_to_vec()
}

pub fn decode_creation_body(bytes: &[u8]) -> Result<CreationBody> {
    let wire = w::CreationBody::decode(bytes).map_err(schema)?;
    Ok(CreationBody {
        creation: c::blob(wire.creation, "creation", limits::CREATION_BYTES_MAX)?.into(),
        group_info: c::blob(wire.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?.into(),
        tree: c::blob(wire.tree, "tree", limits::TREE_BYTES_MAX)?.into(),
    })
}

pub fn encode_admission(admission: &Admission) -> Vec<u8> {
    w::Admission {
        invite_key: bytes_of(&admission.invite.0),
        use_number: admission.use_number,
        group_info_hash: bytes_of(&admission.group_info_hash.0),
        signature: bytes_of(&admission.signature.0),
    }
    .encode_to_vec()
}

pub fn decode_admission(bytes: &[u8]) -> Result<Admission> {
    let wire = w::Admission::decode(bytes).map_err(schema)?;
    Ok(Admission {
        invite: c::key(&wire.invite_key, "invite key")?,
        use_number: wire.use_number,
        group_info_hash: c::hash(&wire.group_info_hash, "GroupInfo hash")?,
        signature: c::signature(&wire.signature, "admission")?,
    })
}

pub(super) fn certificate_to_wire(certificate: &LeafCertificate) -> w::LeafCertificate {
    w::LeafCertificate {
        pseudonym: bytes_of(&certificate.pseudonym.0),
        device: certificate.device.into(),
        coop: certificate.coop.name.to_string(),
        coop_key: bytes_of(&certificate.coop.key.0),
        not_after_s: certificate.not_after.0,
        signature: bytes_of(&certificate.signature.0),
    }
}

pub(super) fn certificate_from_wire(wire: &w::LeafCertificate) -> Result<LeafCertificate> {
    Ok(LeafCertificate {
        pseudonym: c::pseudonym(&wire.pseudonym)?,
        device: c::device(wire.device)?,
        coop: c::coop(&wire.coop, &wire.coop_key)?,
        not_after: UnixSeconds(c::number(wire.not_after_s, "expiry")?),
        signature: c::signature(&wire.signature, "certificate")?,
    })
}

pub fn encode_certificate(certificate: &LeafCertificate) -> Vec<u8> {
    certificate_to_wire(certificate).encode_to_vec()
}

pub fn decode_certificate(bytes: &[u8]) -> Result<LeafCertificate> {
    certificate_from_wire(&w::LeafCertificate::decode(bytes).map_err(schema)?)
}

pub(super) fn leave_to_wire(leave: &SignedLeave) -> w::SignedLeave {
    w::SignedLeave {
        pseudonym: bytes_of(&leave.id.sender.0),
        device: leave.id.counter.device.into(),
        counter: leave.id.counter.number,
        signature: bytes_of(&leave.signature.0),
    }
}

pub(super) fn leave_from_wire(leave: &w::SignedLeave) -> Result<SignedLeave> {
    let counter = Counter { device: c::device(leave.device)?, number: c::number(leave.counter, "counter")? };
    let id = EntryId { sender: c::pseudonym(&leave.pseudonym)?, counter };
    Ok(SignedLeave { id, signature: c::signature(&leave.signature, "leave")? })
}

pub fn encode_room_snapshot(s: &RoomSnapshot) -> Bytes {
    w::RoomSnapshot {
        size: s.size,
        frontier: list_of(s.frontier.iter().map(|hash| hash.0)),
        term: s.term.0,
        epoch: s.epoch.0,
        created_s: s.created.0,
        last_time_s: s.last_time.0,
        counters: s
            .counters
            .iter()
            .zip(s.activity.iter().copied().chain(std::iter::repeat(Activity::default())))
            .map(|(last, Activity { day, epoch })| w::DeviceCounters { last: last.clone(), day, epoch: epoch.0 })
            .collect(),
    }
    .encode_to_vec()
    .into()
}

pub fn decode_room_snapshot(bytes: &[u8]) -> Result<RoomSnapshot> {
    scan::check(bytes, &scan::ROOM_SNAPSHOT)?;
    let s = w::RoomSnapshot::decode(bytes).map_err(schema)?;
    let activity = s.counters.iter().map(|sender| Ok(Activity { day: sender.day, epoch: Epoch(c::number(sender.epoch, "epoch")?) }));
    let activity = activity.collect::<Result<_>>()?;
    let counters = s.counters.into_iter().map(|counters| {
        c::bounded(&counters.last, "devices", limits::DEVICES_MAX)?;
        Ok(counters.last)
    });
    Ok(RoomSnapshot {
        size: c::number(s.size, "size")?,
        frontier: c::hashes(&s.frontier, "frontier", limits::TREE_LEVELS_MAX)?,
        term: Term(s.term),
        epoch: Epoch(c::number(s.epoch, "epoch")?),
        created: UnixSeconds(c::number(s.created_s, "time")?),
        last_time: UnixSeconds(c::number(s.last_time_s, "time")?),
        counters: counters.collect::<Result<_>>()?,
        activity,
    })
}

pub fn encode_group_snapshot(s: &GroupSnapshot) -> Bytes {
    w::GroupSnapshot {
        creation: s.creation.clone(),
        group_info: s.group_info.clone(),
        tree: s.tree.clone(),
        last_commit_seq: s.last_commit.0,
        senders: s
            .senders
            .iter()
            .map(|sender| w::Sender {
                pseudonym: bytes_of(&sender.pseudonym.0),
                standing: sender.standing as u32,
                leave: sender.leave.as_ref().map(leave_to_wire),
                coop: sender.coop.to_string(),
                out_at: sender.out_at.map_or(0, |seq| seq.0 + 1),
            })
            .collect(),
        invite_uses: s.invite_uses.iter().map(|(key, numbers)| w::InviteUses { key: bytes_of(&key.0), numbers: numbers.clone() }).collect(),
        coops: s.coops.iter().map(|coop| w::CoopKey { name: coop.name.to_string(), key: bytes_of(&coop.key.0) }).collect(),
        hub: s.hub.name.to_string(),
        hub_key: bytes_of(&s.hub.key.0),
        voters_before: s.voters_before.names.iter().map(ToString::to_string).collect(),
        tie_breaker_before: s.voters_before.tie_breaker.as_ref().map(ToString::to_string).unwrap_or_default(),
        ended: s.ended.iter().map(|attestation| attestation_to_wire(RoomNumber(0), attestation)).collect(),
        succession: s.succession.clone(),
        contests: s.docket.contests.iter().map(contest::contest_to_wire).collect(),
        befores: s.befores.iter().map(contest::before_to_wire).collect(),
    }
    .encode_to_vec()
    .into()
}

pub fn decode_group_snapshot(room: RoomId, bytes: &[u8]) -> Result<GroupSnapshot> {
    scan::check(bytes, &scan::GROUP_SNAPSHOT)?;
    let s = w::GroupSnapshot::decode(Bytes::copy_from_slice(bytes)).map_err(schema)?;
    let senders = s.senders.iter().map(|sender| {
        Ok(Sender {
            pseudonym: c::pseudonym(&sender.pseudonym)?,
            standing: Standing::from_number(sender.standing).ok_or(DecodeError::Field("standing"))?,
            coop: c::coop_name(&sender.coop)?,
            leave: sender.leave.as_ref().map(leave_from_wire).transpose()?,
            out_at: c::number(sender.out_at, "sequence number")?.checked_sub(1).map(Seq),
        })
    });
    let befores = s.befores.into_iter().map(contest::before_from_wire).collect::<Result<Vec<_>>>()?;
    let docket = Docket { kept: befores.iter().map(|before| before.epoch).collect(), contests: contest::contests_from_wire(s.contests)? };
    let ended = c::bounded(&s.ended, "terms", limits::TERMS_MAX)?.iter().map(|attestation| {
        let (_, mut attestation) = attestation_from_wire(attestation)?;
        attestation.checkpoint.room = room;
        Ok(attestation)
    });
    Ok(GroupSnapshot {
        creation: c::blob(s.creation, "creation", limits::CREATION_BYTES_MAX)?,
        group_info: c::blob(s.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?,
        tree: c::blob(s.tree, "tree", limits::TREE_BYTES_MAX)?,
        last_commit: Seq(c::number(s.last_commit_seq, "sequence number")?),
        senders: senders.collect::<Result<_>>()?,
        invite_uses: contest::uses_from_wire(s.invite_uses)?,
        coops: s.coops.iter().map(|coop| c::coop(&coop.name, &coop.key)).collect::<Result<_>>()?,
        hub: c::coop(&s.hub, &s.hub_key)?,
        voters_before: voters_from_wire(&s.voters_before, &s.tie_breaker_before)?,
        ended: ended.collect::<Result<_>>()?,
        succession: c::blob(s.succession, "succession", limits::SUCCESSION_BYTES_MAX)?,
        docket,
        befores,
    })
}
