//! Commits that may still be voided, and the states before them.

use bytes::Bytes;
use prost::Message as _;

use super::convert::{self as c, Result, bytes_of};
use super::{DecodeError, scan};
use crate::contest::{Contest, Docket};
use crate::ids::{Epoch, Seq, UnixSeconds};
use crate::judge::Standing;
use crate::limits;
use crate::snapshot::Before;
use crate::wire::v1 as w;

pub(super) fn contest_to_wire(contest: &Contest) -> w::Contest {
    w::Contest {
        seq: contest.seq.0,
        leaf: bytes_of(&contest.leaf.0),
        epoch: contest.epoch.0,
        time_s: contest.time.0,
        author: contest.author,
        jury: contest.jury.clone(),
        complaints: contest.complaints.clone(),
    }
}

pub(super) fn contest_from_wire(contest: w::Contest) -> Result<Contest> {
    c::bounded(&contest.jury, "jury", limits::SENDERS_MAX)?;
    c::bounded(&contest.complaints, "complaints", limits::SENDERS_MAX)?;
    Ok(Contest {
        seq: Seq(c::number(contest.seq, "sequence number")?),
        leaf: c::hash(&contest.leaf, "leaf")?,
        epoch: Epoch(c::number(contest.epoch, "epoch")?),
        time: UnixSeconds(c::number(contest.time_s, "time")?),
        author: contest.author,
        jury: contest.jury,
        complaints: contest.complaints,
    })
}

pub(super) fn contests_from_wire(contests: Vec<w::Contest>) -> Result<Vec<Contest>> {
    c::bounded(&contests, "contests", limits::CONTESTS_MAX)?;
    contests.into_iter().map(contest_from_wire).collect()
}

pub(super) fn before_to_wire(before: &Before) -> w::Before {
    w::Before {
        epoch: before.epoch.0,
        group_info: before.group_info.clone(),
        tree: before.tree.clone(),
        invite_uses: before
            .invite_uses
            .iter()
            .map(|(key, numbers)| w::InviteUses { key: bytes_of(&key.0), numbers: numbers.clone() })
            .collect(),
        standings: before.standings.iter().map(|standing| *standing as u32).collect(),
    }
}

pub(super) fn before_from_wire(before: w::Before) -> Result<Before> {
    c::bounded(&before.standings, "senders", limits::SENDERS_MAX)?;
    let standing = |number| Standing::from_number(number).ok_or(DecodeError::Field("standing"));
    Ok(Before {
        epoch: Epoch(c::number(before.epoch, "epoch")?),
        group_info: c::blob(before.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?,
        tree: c::blob(before.tree, "tree", limits::TREE_BYTES_MAX)?,
        invite_uses: uses_from_wire(before.invite_uses)?,
        standings: before.standings.into_iter().map(standing).collect::<Result<_>>()?,
    })
}

type Uses = Vec<(crate::ids::PublicKey, Vec<u32>)>;

pub(super) fn uses_from_wire(uses: Vec<w::InviteUses>) -> Result<Uses> {
    let uses = uses.into_iter().map(|uses| {
        c::bounded(&uses.numbers, "uses", limits::INVITE_USES_MAX as usize)?;
        Ok((c::key(&uses.key, "invite key")?, uses.numbers))
    });
    uses.collect()
}

/// What a device stores of a room's contests.
pub fn encode_docket(docket: &Docket) -> Vec<u8> {
    let contests = docket.contests.iter().map(contest_to_wire).collect();
    w::Docket { contests, kept: docket.kept.iter().map(|epoch| epoch.0).collect() }.encode_to_vec()
}

pub fn decode_docket(bytes: &[u8]) -> Result<Docket> {
    scan::check(bytes, &scan::DOCKET)?;
    let docket = w::Docket::decode(Bytes::copy_from_slice(bytes)).map_err(|_| DecodeError::Schema)?;
    let kept = c::bounded(&docket.kept, "states", limits::CONTESTS_MAX)?.iter().map(|epoch| Ok(Epoch(c::number(*epoch, "epoch")?)));
    Ok(Docket { kept: kept.collect::<Result<_>>()?, contests: contests_from_wire(docket.contests)? })
}
