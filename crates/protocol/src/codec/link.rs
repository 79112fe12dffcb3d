//! Frames of a link between co-ops. Binary only.

use bytes::Bytes;
use prost::Message;

use super::agreement::{notice_from_wire, notice_to_wire, succession_from_wire, succession_to_wire};
use super::convert::{self as c, Result, bytes_of, list_of};
use super::log::{
    attestation_from_wire, attestation_to_wire, entries_from_wire, entries_to_wire, mark_from_wire, mark_to_wire, vote_from_wire,
    vote_to_wire,
};
use super::member::{clip, fetch_group_from_wire, fetch_group_to_wire, group_from_wire, group_to_wire, of_room};
use super::proof::{proof_from_wire, proof_to_wire};
use super::{DecodeError, scan};
use crate::agreement::LinkCertificate;
use crate::error::Code;
use crate::ids::{Counter, EntryId, Epoch, RoomNumber, Seq, Term, UnixSeconds};
use crate::limits;
use crate::link::{Batch, LinkFrame, Submission, Versions};
use crate::wire::v1 as w;

pub fn encode_link(frame: &LinkFrame) -> Bytes {
    use w::link_frame::Frame as F;
    let frame = match frame {
        LinkFrame::Hello { versions, coop, certificate, successions, incarnation } => F::Hello(w::Hello {
            version: versions.newest,
            oldest_version: versions.oldest,
            successions: successions.iter().map(succession_to_wire).collect(),
            name: coop.name.to_string(),
            root_key: bytes_of(&coop.key.0),
            link_key_not_after_s: certificate.not_after.0,
            link_key_signature: bytes_of(&certificate.signature.0),
            incarnation: *incarnation,
        }),
        LinkFrame::Agreement { document, signature } => {
            F::Agreement(w::Agreement { document: document.clone(), signature: bytes_of(&signature.0) })
        }
        LinkFrame::Standing(notice) => F::Standing(notice_to_wire(notice)),
        LinkFrame::Follow { room, id, from, term } => {
            F::Follow(w::Follow { room: room.0, room_id: bytes_of(&id.0), from_seq: from.0, term: term.0 })
        }
        LinkFrame::Unfollow { room } => F::Unfollow(w::Unfollow { room: room.0 }),
        LinkFrame::Batch(batch) => F::Batch(w::Batch {
            entries: Some(entries_to_wire(&batch.entries)),
            group_infos: batch.group_infos.iter().map(|(index, bytes)| w::GroupInfo { index: *index, group_info: bytes.clone() }).collect(),
            attestation: Some(attestation_to_wire(batch.entries.room, &batch.attestation)),
            proof: list_of(batch.proof.iter().map(|hash| hash.0)),
        }),
        LinkFrame::Attest { room, size, mark } => F::Attest(w::Attest { room: room.0, size: *size, mark: Some(mark_to_wire(mark)) }),
        LinkFrame::Attested { room, attestation } => F::Attested(attestation_to_wire(*room, attestation)),
        LinkFrame::Submit { id, submission } => F::Submit(w::Submit {
            id: *id,
            room_id: bytes_of(&submission.room.0),
            pseudonym: bytes_of(&submission.id.sender.0),
            device: submission.id.counter.device.into(),
            counter: submission.id.counter.number,
            epoch: submission.epoch.0,
            kind: submission.kind as u32,
            body: submission.body.clone(),
            group_info: submission.group_info.clone(),
            base_term: submission.base.map_or(0, |(term, _)| term.0),
            base_size: submission.base.map_or(0, |(_, size)| size.0),
        }),
        LinkFrame::Submitted { id, outcome } => F::Submitted(match outcome {
            Ok(()) => w::Submitted { id: *id, code: 0, detail: String::new() },
            Err((code, detail)) => w::Submitted { id: *id, code: *code as u32, detail: clip(detail) },
        }),
        LinkFrame::FetchGroup(fetch) => F::FetchGroup(fetch_group_to_wire(fetch)),
        LinkFrame::Group { request, group } => F::Group(group_to_wire(*request, group)),
        LinkFrame::NoGroup { request } => F::NoGroup(w::NoGroup { request: *request }),
        LinkFrame::Status { room, term, size, fence, attestation, succession } => F::Status(w::Status {
            room_id: bytes_of(&room.0),
            term: term.0,
            size: *size,
            fence: fence.0,
            succession: succession.clone(),
            attestation: attestation.as_ref().map(|attestation| attestation_to_wire(RoomNumber(0), attestation)),
        }),
        LinkFrame::Call { room, term, candidate, probe } => F::Call(w::Call {
            room_id: bytes_of(&room.0),
            term: term.0,
            candidate: candidate.name.to_string(),
            candidate_key: bytes_of(&candidate.key.0),
            probe: *probe,
        }),
        LinkFrame::Willing { room, term } => F::Willing(w::Willing { room_id: bytes_of(&room.0), term: term.0 }),
        LinkFrame::Vote(vote) => F::Vote(vote_to_wire(vote)),
        LinkFrame::Proof(proof) => F::Proof(proof_to_wire(proof)),
        LinkFrame::Error { code, detail } => F::Error(w::LinkError { code: *code as u32, detail: clip(detail) }),
        LinkFrame::Ping { id } => F::Ping(w::Ping { id: *id }),
        LinkFrame::Pong { id } => F::Pong(w::Pong { id: *id }),
    };
    w::LinkFrame { frame: Some(frame) }.encode_to_vec().into()
}

/// Room ids in attestations are left zero: the follower knows its number. A group's is the hash of the creation in it.
pub fn decode_link(bytes: Bytes) -> Result<LinkFrame> {
    use w::link_frame::Frame as F;
    scan::check(&bytes, &scan::LINK)?;
    let frame = w::LinkFrame::decode(bytes).map_err(|_| DecodeError::Schema)?;
    Ok(match frame.frame.ok_or(DecodeError::UnknownFrame)? {
        F::Hello(x) => LinkFrame::Hello {
            versions: Versions { oldest: if x.oldest_version == 0 { x.version } else { x.oldest_version }, newest: x.version },
            coop: c::coop(&x.name, &x.root_key)?,
            certificate: LinkCertificate {
                not_after: UnixSeconds(c::number(x.link_key_not_after_s, "expiry")?),
                signature: c::signature(&x.link_key_signature, "link key")?,
            },
            successions: c::bounded(&x.successions, "successions", limits::ROOT_SUCCESSIONS_MAX)?
                .iter()
                .map(succession_from_wire)
                .collect::<Result<_>>()?,
            incarnation: c::number(x.incarnation, "incarnation")?,
        },
        F::Agreement(x) => LinkFrame::Agreement {
            document: c::blob(x.document, "agreement", limits::NOTE_BYTES_MAX)?,
            signature: c::signature(&x.signature, "agreement")?,
        },
        F::Standing(x) => LinkFrame::Standing(notice_from_wire(&x)?),
        F::Follow(x) => LinkFrame::Follow {
            room: RoomNumber(x.room),
            id: c::room_id(&x.room_id)?,
            from: Seq(c::number(x.from_seq, "sequence number")?),
            term: Term(x.term),
        },
        F::Unfollow(x) => LinkFrame::Unfollow { room: RoomNumber(x.room) },
        F::Batch(x) => {
            let entries = entries_from_wire(x.entries.ok_or(DecodeError::Field("entries"))?)?;
            c::bounded(&x.group_infos, "GroupInfos", limits::BATCH_ENTRIES_MAX)?;
            let group_infos = x
                .group_infos
                .into_iter()
                .map(|info| Ok((info.index, c::blob(info.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?)))
                .collect::<Result<_>>()?;
            let (room, attestation) = attestation_from_wire(x.attestation.as_ref().ok_or(DecodeError::Field("attestation"))?)?;
            if room != entries.room {
                return Err(DecodeError::Field("attestation"));
            }
            let proof = c::hashes(&x.proof, "proof", limits::TREE_LEVELS_MAX + 1)?;
            LinkFrame::Batch(Box::new(Batch { entries, group_infos, attestation, proof }))
        }
        F::Attest(x) => LinkFrame::Attest {
            room: RoomNumber(x.room),
            size: c::number(x.size, "size")?,
            mark: mark_from_wire(x.mark.as_ref().ok_or(DecodeError::Field("mark"))?)?,
        },
        F::Attested(x) => {
            let (room, attestation) = attestation_from_wire(&x)?;
            LinkFrame::Attested { room, attestation }
        }
        F::Submit(x) => LinkFrame::Submit {
            id: x.id,
            submission: Submission {
                room: c::room_id(&x.room_id)?,
                id: EntryId {
                    sender: c::pseudonym(&x.pseudonym)?,
                    counter: Counter { device: c::device(x.device)?, number: c::number(x.counter, "counter")? },
                },
                epoch: Epoch(c::number(x.epoch, "epoch")?),
                kind: c::kind(x.kind)?,
                body: c::blob(x.body, "body", limits::BODY_BYTES_MAX)?,
                group_info: c::blob(x.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?,
                base: if x.base_term == 0 { None } else { Some((Term(x.base_term), Seq(c::number(x.base_size, "size")?))) },
            },
        },
        F::Submitted(x) => {
            let outcome = if x.code == 0 { Ok(()) } else { Err((Code::from_wire(x.code), clip(&x.detail))) };
            LinkFrame::Submitted { id: x.id, outcome }
        }
        F::FetchGroup(x) => LinkFrame::FetchGroup(fetch_group_from_wire(&x)?),
        F::Group(x) => LinkFrame::Group { request: x.request, group: Box::new(group_from_wire(x)?) },
        F::NoGroup(x) => LinkFrame::NoGroup { request: x.request },
        F::Status(x) => {
            let room = c::room_id(&x.room_id)?;
            let attestation = x.attestation.as_ref().map(attestation_from_wire).transpose()?;
            let attestation = attestation.map(|(_, attestation)| of_room(attestation, room));
            let (term, size, fence) = (Term(x.term), c::number(x.size, "size")?, Term(x.fence));
            let succession = c::blob(x.succession, "succession", limits::SUCCESSION_BYTES_MAX)?;
            LinkFrame::Status { room, term, size, fence, attestation, succession }
        }
        F::Call(x) => LinkFrame::Call {
            room: c::room_id(&x.room_id)?,
            term: Term(x.term),
            candidate: c::coop(&x.candidate, &x.candidate_key)?,
            probe: x.probe,
        },
        F::Willing(x) => LinkFrame::Willing { room: c::room_id(&x.room_id)?, term: Term(x.term) },
        F::Vote(x) => LinkFrame::Vote(Box::new(vote_from_wire(&x)?)),
        F::Proof(x) => LinkFrame::Proof(proof_from_wire(&x)?),
        F::Error(x) => LinkFrame::Error { code: Code::from_wire(x.code), detail: clip(&x.detail) },
        F::Ping(x) => LinkFrame::Ping { id: x.id },
        F::Pong(x) => LinkFrame::Pong { id: x.id },
    })
}
