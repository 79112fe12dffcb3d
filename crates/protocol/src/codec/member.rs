//! Frames of a member's session, in binary or as JSON of the same schema.

use bytes::Bytes;
use prost::Message;

use super::convert::{self as c, Result, bytes_of, list_of};
use super::log::{
    attestation_from_wire, attestation_to_wire, certificate_from_wire, certificate_to_wire, entries_from_wire, entries_to_wire,
    leave_from_wire, leave_to_wire, provisional_from_wire, provisional_to_wire,
};
use super::proof::{proof_from_wire, proof_to_wire};
use super::{DecodeError, scan};
use crate::error::Code;
use crate::ids::{DeviceHandle, Epoch, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use crate::limits;
use crate::log::header::HEADER_LEN;
use crate::member::{FetchGroup, Group, Join, Refused, Send, ToMember, ToServer};
use crate::wire::v1 as w;

/// How a session's messages look on the wire: subprotocol `kith.v1`, or `kith.v1+json` for debugging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Binary,
    Json,
}

impl Encoding {
    pub const ALL: [Self; 2] = [Self::Binary, Self::Json];

    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Binary => "kith.v1",
            Self::Json => "kith.v1+json",
        }
    }

    fn write<M: Message + serde::Serialize>(self, message: &M) -> Bytes {
        match self {
            Self::Binary => message.encode_to_vec().into(),
            Self::Json => serde_json::to_vec(message).expect("generated messages always serialise").into(),
        }
    }

    fn read<M: Message + Default + serde::de::DeserializeOwned>(self, bytes: Bytes, shape: &scan::Shape) -> Result<M> {
        match self {
            Self::Binary => {
                scan::check(&bytes, shape)?;
                M::decode(bytes).map_err(|_| DecodeError::Schema)
            }
            Self::Json => {
                scan::check_json(&bytes)?;
                serde_json::from_slice(&bytes).map_err(|_| DecodeError::Schema)
            }
        }
    }
}

pub(super) fn fetch_group_to_wire(f: &FetchGroup) -> w::FetchGroup {
    w::FetchGroup {
        request: f.request,
        room_id: bytes_of(&f.room.0),
        holder: f.holder.name.to_string(),
        holder_key: bytes_of(&f.holder.key.0),
        invite_key: bytes_of(&f.invite.0),
        proof: bytes_of(&f.proof.0),
    }
}

pub(super) fn fetch_group_from_wire(f: &w::FetchGroup) -> Result<FetchGroup> {
    Ok(FetchGroup {
        request: f.request,
        room: c::room_id(&f.room_id)?,
        holder: c::coop(&f.holder, &f.holder_key)?,
        invite: c::key(&f.invite_key, "invite key")?,
        proof: c::signature(&f.proof, "proof")?,
    })
}

pub(super) fn group_to_wire(request: u32, g: &Group) -> w::Group {
    w::Group {
        request,
        group_info: g.group_info.clone(),
        tree: g.short_tree.clone(),
        creation: g.creation.clone(),
        size: g.size,
        term: g.term.0,
        frontier: list_of(g.frontier.iter().map(|hash| hash.0)),
        senders: list_of(g.senders.iter().map(|p| p.0)),
        last_time_s: g.last_time.0,
        next_use: g.next_use,
        attestation: Some(attestation_to_wire(RoomNumber(0), &g.attestation)),
        leaves: g.leaves.iter().map(leave_to_wire).collect(),
        succession: g.succession.clone(),
        days: g.days.clone(),
    }
}

pub(super) fn group_from_wire(g: w::Group) -> Result<Group> {
    let attestation = g.attestation.as_ref().ok_or(DecodeError::Field("attestation"))?;
    let (_, mut attestation) = attestation_from_wire(attestation)?;
    let creation = c::blob(g.creation, "creation", limits::CREATION_BYTES_MAX)?;
    attestation.checkpoint.room = crate::room::room_id(&creation);
    Ok(Group {
        group_info: c::blob(g.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?,
        short_tree: c::blob(g.tree, "tree", limits::TREE_BYTES_MAX)?,
        creation,
        size: c::number(g.size, "size")?,
        term: Term(g.term),
        frontier: c::hashes(&g.frontier, "frontier", limits::TREE_LEVELS_MAX)?,
        senders: c::bounded(&g.senders, "senders", limits::SENDERS_MAX)?.iter().map(|p| c::pseudonym(p)).collect::<Result<_>>()?,
        last_time: UnixSeconds(c::number(g.last_time_s, "time")?),
        next_use: g.next_use,
        attestation,
        leaves: c::bounded(&g.leaves, "leaves", limits::LEAVES_MAX)?.iter().map(leave_from_wire).collect::<Result<_>>()?,
        succession: c::blob(g.succession, "succession", limits::SUCCESSION_BYTES_MAX)?,
        days: c::bounded(&g.days, "days", limits::SENDERS_MAX)?.to_vec(),
    })
}

fn to_server_wire(frame: &ToServer) -> w::ToServer {
    use w::to_server::Frame as F;
    let frame = match frame {
        ToServer::Register { invite, invite_signature, device, device_signature } => F::Register(w::Register {
            invite_key: bytes_of(&invite.0),
            invite_signature: bytes_of(&invite_signature.0),
            device_key: bytes_of(&device.0),
            device_signature: bytes_of(&device_signature.0),
        }),
        ToServer::Authenticate { device, signature } => {
            F::Authenticate(w::Authenticate { device: device.0, signature: bytes_of(&signature.0) })
        }
        ToServer::Cursor { room, next } => F::Cursor(w::Cursor { room: room.0, next_seq: next.0 }),
        ToServer::Open { room, from } => F::Open(w::Open { room: room.0, from_seq: from.0 }),
        ToServer::Send(send) => F::Send(w::Send {
            room: send.room.0,
            counter: send.counter,
            epoch: send.epoch.0,
            kind: send.kind as u32,
            body: send.body.clone(),
            group_info: send.group_info.clone(),
        }),
        ToServer::Certify { request, room, pseudonym, leaf_key } => F::Certify(w::Certify {
            request: *request,
            room_id: bytes_of(&room.0),
            pseudonym: bytes_of(&pseudonym.0),
            leaf_key: bytes_of(&leaf_key.0),
        }),
        ToServer::CreateRoom { request, room, pseudonym, body } => F::CreateRoom(w::CreateRoom {
            request: *request,
            room_id: bytes_of(&room.0),
            pseudonym: bytes_of(&pseudonym.0),
            body: body.clone(),
        }),
        ToServer::FetchGroup(fetch) => F::FetchGroup(fetch_group_to_wire(fetch)),
        ToServer::Join(join) => F::Join(w::Join {
            request: join.request,
            room_id: bytes_of(&join.room.0),
            holder: join.holder.name.to_string(),
            holder_key: bytes_of(&join.holder.key.0),
            pseudonym: bytes_of(&join.pseudonym.0),
            epoch: join.epoch.0,
            commit: join.commit.clone(),
            group_info: join.group_info.clone(),
            from_seq: join.from.0,
            term: join.term.0,
        }),
        ToServer::FetchHeaders { request, room, from } => {
            F::FetchHeaders(w::FetchHeaders { request: *request, room: room.0, from_seq: from.0 })
        }
        ToServer::Watch { request, room, size, held } => F::Watch(w::Watch { room: room.0, size: *size, held: *held, request: *request }),
    };
    w::ToServer { frame: Some(frame) }
}

fn to_server_domain(frame: w::ToServer) -> Result<ToServer> {
    use w::to_server::Frame as F;
    Ok(match frame.frame.ok_or(DecodeError::UnknownFrame)? {
        F::Register(r) => ToServer::Register {
            invite: c::key(&r.invite_key, "invite key")?,
            invite_signature: c::signature(&r.invite_signature, "invite signature")?,
            device: c::key(&r.device_key, "device key")?,
            device_signature: c::signature(&r.device_signature, "device signature")?,
        },
        F::Authenticate(a) => {
            ToServer::Authenticate { device: DeviceHandle(a.device), signature: c::signature(&a.signature, "signature")? }
        }
        F::Cursor(x) => ToServer::Cursor { room: RoomNumber(x.room), next: Seq(c::number(x.next_seq, "cursor")?) },
        F::Open(x) => ToServer::Open { room: RoomNumber(x.room), from: Seq(c::number(x.from_seq, "sequence number")?) },
        F::Send(s) => ToServer::Send(Send {
            room: RoomNumber(s.room),
            counter: c::number(s.counter, "counter")?,
            epoch: Epoch(c::number(s.epoch, "epoch")?),
            kind: c::kind(s.kind)?,
            body: c::blob(s.body, "body", limits::BODY_BYTES_MAX)?,
            group_info: c::blob(s.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?,
        }),
        F::Certify(x) => ToServer::Certify {
            request: x.request,
            room: c::room_id(&x.room_id)?,
            pseudonym: c::pseudonym(&x.pseudonym)?,
            leaf_key: c::key(&x.leaf_key, "leaf key")?,
        },
        F::CreateRoom(x) => ToServer::CreateRoom {
            request: x.request,
            room: c::room_id(&x.room_id)?,
            pseudonym: c::pseudonym(&x.pseudonym)?,
            body: c::blob(x.body, "body", limits::BODY_BYTES_MAX)?,
        },
        F::FetchGroup(x) => ToServer::FetchGroup(fetch_group_from_wire(&x)?),
        F::Join(x) => ToServer::Join(Join {
            request: x.request,
            room: c::room_id(&x.room_id)?,
            holder: c::coop(&x.holder, &x.holder_key)?,
            pseudonym: c::pseudonym(&x.pseudonym)?,
            epoch: Epoch(c::number(x.epoch, "epoch")?),
            commit: c::blob(x.commit, "commit", limits::BODY_BYTES_MAX)?,
            group_info: c::blob(x.group_info, "GroupInfo", limits::GROUP_INFO_BYTES_MAX)?,
            from: Seq(c::number(x.from_seq, "sequence number")?),
            term: Term(x.term),
        }),
        F::FetchHeaders(x) => {
            ToServer::FetchHeaders { request: x.request, room: RoomNumber(x.room), from: Seq(c::number(x.from_seq, "sequence number")?) }
        }
        F::Watch(x) => ToServer::Watch { request: x.request, room: RoomNumber(x.room), size: c::number(x.size, "size")?, held: x.held },
    })
}

pub(super) fn clip(detail: &str) -> String {
    let mut end = detail.len().min(limits::DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail[..end].to_owned()
}

fn to_member_wire(frame: &ToMember) -> w::ToMember {
    use w::to_member::Frame as F;
    let frame = match frame {
        ToMember::Challenge { nonce } => F::Challenge(w::Challenge { nonce: bytes_of(nonce) }),
        ToMember::Registered { device, number } => F::Registered(w::Registered { device: device.0, device_number: (*number).into() }),
        ToMember::Ready => F::Ready(w::Ready {}),
        ToMember::Synced => F::Synced(w::Synced {}),
        ToMember::Entries(entries) => F::Entries(entries_to_wire(entries)),
        ToMember::Ack { room, counter, ordered } => F::Ack(w::Ack {
            room: room.0,
            counter: *counter,
            seq_plus_one: ordered.map_or(0, |(seq, _)| seq.0 + 1),
            time_s: ordered.map_or(0, |(_, time)| time),
        }),
        ToMember::Refused(r) => F::Refused(w::Refused {
            code: r.code as u32,
            detail: clip(&r.detail),
            request: r.request,
            room: r.room.0,
            counter: r.counter,
            retry_after_ms: r.retry_after_ms,
            epoch_plus_one: r.epoch.map_or(0, |epoch| epoch.0 + 1),
        }),
        ToMember::Certificate { request, certificate } => {
            F::Certificate(w::Certificate { request: *request, certificate: Some(certificate_to_wire(certificate)) })
        }
        ToMember::RoomNumber { request, room, number } => {
            F::RoomNumber(w::RoomNumber { request: *request, room_id: bytes_of(&room.0), room: number.0 })
        }
        ToMember::Group { request, group } => F::Group(group_to_wire(*request, group)),
        ToMember::Headers { request, first, headers } => {
            F::Headers(w::Headers { request: *request, first_seq: first.0, headers: headers.clone() })
        }
        ToMember::Attestation { room, attestation } => F::Attestation(attestation_to_wire(*room, attestation)),
        ToMember::Frozen { room, proof } => F::Frozen(w::Frozen { room: room.0, proof: Some(proof_to_wire(proof)) }),
        ToMember::Provisionals { room, entries } => {
            F::Provisionals(w::Provisionals { room: room.0, entries: entries.iter().map(provisional_to_wire).collect() })
        }
        ToMember::Draining => F::Draining(w::Draining {}),
    };
    w::ToMember { frame: Some(frame) }
}

fn to_member_domain(frame: w::ToMember) -> Result<ToMember> {
    use w::to_member::Frame as F;
    Ok(match frame.frame.ok_or(DecodeError::UnknownFrame)? {
        F::Challenge(x) => ToMember::Challenge { nonce: c::array(&x.nonce, "challenge")? },
        F::Registered(x) => ToMember::Registered { device: DeviceHandle(x.device), number: c::device(x.device_number)? },
        F::Ready(_) => ToMember::Ready,
        F::Synced(_) => ToMember::Synced,
        F::Entries(x) => ToMember::Entries(entries_from_wire(x)?),
        F::Ack(x) => {
            let seq = c::number(x.seq_plus_one, "sequence number")?;
            let ordered = seq.checked_sub(1).map(|seq| (Seq(seq), x.time_s));
            c::number(x.time_s, "time")?;
            ToMember::Ack { room: RoomNumber(x.room), counter: c::number(x.counter, "counter")?, ordered }
        }
        F::Refused(x) => ToMember::Refused(Refused {
            code: Code::from_wire(x.code),
            detail: clip(&x.detail),
            request: x.request,
            room: RoomNumber(x.room),
            counter: x.counter,
            retry_after_ms: x.retry_after_ms,
            epoch: c::number(x.epoch_plus_one, "epoch")?.checked_sub(1).map(Epoch),
        }),
        F::Certificate(x) => {
            let certificate = x.certificate.as_ref().ok_or(DecodeError::Field("certificate"))?;
            ToMember::Certificate { request: x.request, certificate: certificate_from_wire(certificate)? }
        }
        F::RoomNumber(x) => ToMember::RoomNumber { request: x.request, room: c::room_id(&x.room_id)?, number: RoomNumber(x.room) },
        F::Group(x) => ToMember::Group { request: x.request, group: Box::new(group_from_wire(x)?) },
        F::Headers(x) => {
            c::bounded(&x.headers, "headers", limits::HEADERS_PAGE_MAX)?;
            let headers = x.headers.into_iter().map(|header| c::blob(header, "header", HEADER_LEN)).collect::<Result<_>>()?;
            ToMember::Headers { request: x.request, first: Seq(c::number(x.first_seq, "sequence number")?), headers }
        }
        F::Attestation(x) => {
            let (room, attestation) = attestation_from_wire(&x)?;
            ToMember::Attestation { room, attestation }
        }
        F::Draining(_) => ToMember::Draining,
        F::Frozen(x) => {
            let proof = proof_from_wire(x.proof.as_ref().ok_or(DecodeError::Field("proof"))?)?;
            ToMember::Frozen { room: RoomNumber(x.room), proof }
        }
        F::Provisionals(x) => {
            c::bounded(&x.entries, "messages", limits::PROVISIONALS_MAX)?;
            let entries = x.entries.into_iter().map(provisional_from_wire).collect::<Result<_>>()?;
            ToMember::Provisionals { room: RoomNumber(x.room), entries }
        }
    })
}

pub fn encode_to_server(frame: &ToServer, encoding: Encoding) -> Bytes {
    encoding.write(&to_server_wire(frame))
}

pub fn decode_to_server(bytes: Bytes, encoding: Encoding) -> Result<ToServer> {
    to_server_domain(encoding.read(bytes, &scan::TO_SERVER)?)
}

pub fn encode_to_member(frame: &ToMember, encoding: Encoding) -> Bytes {
    encoding.write(&to_member_wire(frame))
}

/// The room id in an attestation is left zero; the receiver, who knows the room by its number, puts it in.
pub fn decode_to_member(bytes: Bytes, encoding: Encoding) -> Result<ToMember> {
    to_member_domain(encoding.read(bytes, &scan::TO_MEMBER)?)
}

/// Puts the room's id into an attestation that named it by number.
pub fn of_room(mut attestation: crate::log::checkpoint::Attestation, room: RoomId) -> crate::log::checkpoint::Attestation {
    attestation.checkpoint.room = room;
    attestation
}
