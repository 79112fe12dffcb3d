//! Notices, successions, and what is stored of an agreement.

use bytes::Bytes;
use prost::Message;

use super::DecodeError;
use super::convert::{self as c, Result, bytes_of};
use crate::agreement::{Limits, Notice, Offer, Record, Rooms, RootSuccession, Signed, Standing, Terms};
use crate::ids::UnixSeconds;
use crate::limits;
use crate::wire::v1 as w;

/// What is in force, and what is proposed.
const WAYS_ACCEPTED: usize = 2;

pub(super) fn notice_to_wire(notice: &Notice) -> w::Standing {
    w::Standing {
        standing: notice.standing as u32,
        at_s: notice.at.0,
        effective_s: notice.effective.0,
        reason: notice.reason.to_string(),
        signature: bytes_of(&notice.signature.0),
    }
}

pub(super) fn notice_from_wire(wire: &w::Standing) -> Result<Notice> {
    Ok(Notice {
        standing: Standing::from_number(wire.standing).ok_or(DecodeError::Field("standing"))?,
        at: UnixSeconds(c::number(wire.at_s, "time")?),
        effective: UnixSeconds(c::number(wire.effective_s, "time")?),
        reason: wire.reason.parse().map_err(|_| DecodeError::Field("reason"))?,
        signature: c::signature(&wire.signature, "standing")?,
    })
}

pub(super) fn succession_to_wire(step: &RootSuccession) -> w::RootSuccession {
    w::RootSuccession {
        from: bytes_of(&step.from.0),
        to: bytes_of(&step.to.0),
        not_before_s: step.not_before.0,
        not_after_s: step.not_after.0,
        old_signature: bytes_of(&step.old_signature.0),
        new_signature: bytes_of(&step.new_signature.0),
    }
}

pub(super) fn succession_from_wire(wire: &w::RootSuccession) -> Result<RootSuccession> {
    Ok(RootSuccession {
        from: c::key(&wire.from, "root key")?,
        to: c::key(&wire.to, "root key")?,
        not_before: UnixSeconds(c::number(wire.not_before_s, "time")?),
        not_after: UnixSeconds(c::number(wire.not_after_s, "time")?),
        old_signature: c::signature(&wire.old_signature, "succession")?,
        new_signature: c::signature(&wire.new_signature, "succession")?,
    })
}

fn terms_to_wire(terms: &Terms) -> w::AgreementTerms {
    w::AgreementTerms {
        revision: terms.revision,
        rooms: match &terms.rooms {
            Rooms::Shared => Vec::new(),
            Rooms::Listed(rooms) => rooms.iter().map(|room| bytes_of(&room.0)).collect(),
        },
        conduct: terms.conduct.to_string(),
        crisis: terms.crisis.to_string(),
        moderation: terms.moderation.to_string(),
        entries_per_day: terms.limits.entries_per_day,
        bytes_per_day: terms.limits.bytes_per_day,
        rooms_max: terms.limits.rooms,
        retention_days: terms.retention_days,
        review: terms.review.map(|date| date.to_string()).unwrap_or_default(),
        notice_days: terms.notice_days,
    }
}

fn terms_from_wire(wire: &w::AgreementTerms) -> Result<Terms> {
    let bad = DecodeError::Field("terms");
    let line = |text: &str| text.parse().map_err(|_| bad.clone());
    let terms = Terms {
        revision: wire.revision,
        rooms: match wire.rooms.as_slice() {
            [] => Rooms::Shared,
            rooms => Rooms::Listed(rooms.iter().map(|room| c::room_id(room)).collect::<Result<_>>()?),
        },
        conduct: line(&wire.conduct)?,
        crisis: line(&wire.crisis)?,
        moderation: line(&wire.moderation)?,
        limits: Limits { entries_per_day: wire.entries_per_day, bytes_per_day: wire.bytes_per_day, rooms: wire.rooms_max },
        retention_days: wire.retention_days,
        review: if wire.review.is_empty() { None } else { Some(wire.review.parse().map_err(|_| bad.clone())?) },
        notice_days: wire.notice_days,
    };
    terms.check().map_err(|_| bad)?;
    Ok(terms)
}

pub fn encode_agreement_record(record: &Record) -> Bytes {
    let signed = record.signed.as_ref();
    let signature = |signature: Option<&crate::sign::Signature>| signature.map(|signature| bytes_of(&signature.0)).unwrap_or_default();
    w::AgreementRecord {
        accepted: record.accepted.iter().map(terms_to_wire).collect(),
        offered: record.offer.as_ref().map(|offer| terms_to_wire(&offer.terms)),
        offer_signature: signature(record.offer.as_ref().map(|offer| &offer.signature)),
        signed_document: signed.map(|signed| signed.document.clone().into()).unwrap_or_default(),
        our_signature: signature(signed.map(|signed| &signed.ours)),
        their_signature: signature(signed.map(|signed| &signed.theirs)),
        since_s: signed.map_or(0, |signed| signed.since.0),
        our_notice: record.our_notice.as_ref().map(notice_to_wire),
        their_notice: record.their_notice.as_ref().map(notice_to_wire),
        rooms_key: record.rooms_key.map(|key| bytes_of(&key.0)).unwrap_or_default(),
    }
    .encode_to_vec()
    .into()
}

pub fn decode_agreement_record(bytes: &[u8]) -> Result<Record> {
    let wire = w::AgreementRecord::decode(bytes).map_err(|_| DecodeError::Schema)?;
    c::bounded(&wire.accepted, "terms", WAYS_ACCEPTED)?;
    let offer = wire
        .offered
        .as_ref()
        .map(|terms| Ok(Offer { terms: terms_from_wire(terms)?, signature: c::signature(&wire.offer_signature, "offer")? }));
    let signed = if wire.signed_document.is_empty() {
        None
    } else {
        Some(Signed {
            document: c::blob(wire.signed_document, "agreement", limits::NOTE_BYTES_MAX)?.into(),
            ours: c::signature(&wire.our_signature, "agreement")?,
            theirs: c::signature(&wire.their_signature, "agreement")?,
            since: UnixSeconds(c::number(wire.since_s, "time")?),
        })
    };
    Ok(Record {
        accepted: wire.accepted.iter().map(terms_from_wire).collect::<Result<_>>()?,
        offer: offer.transpose()?,
        signed,
        our_notice: wire.our_notice.as_ref().map(notice_from_wire).transpose()?,
        their_notice: wire.their_notice.as_ref().map(notice_from_wire).transpose()?,
        rooms_key: if wire.rooms_key.is_empty() { None } else { Some(c::key(&wire.rooms_key, "rooms key")?) },
    })
}
