//! Between the rows of a log and the compact [`Entries`] of the wire.
//!
//! Senders travel as indexes into the list of pseudonyms by first appearance in the log, which everybody who has the log
//! from its start derives alike; a pseudonym is named where its first entry (counter 1) stands.

use bytes::Bytes;

use super::header::{Header, hash_bytes};
use super::{Kind, merkle};
use crate::ids::{Counter, EntryId, Epoch, Hash, Pseudonym, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use crate::limits::SENDERS_MAX;
use crate::member::{Entries, Entry};
use crate::mls_framing;

/// An entry with its rebuilt header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    pub header: Header,
    pub body: Bytes,
}

impl Unpacked {
    pub fn leaf(&self) -> Hash {
        merkle::leaf_hash(&self.header.encode())
    }
}

/// The batch does not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    #[error("a sender is unknown or named twice")]
    Sender,
    #[error("an epoch or a time is out of range")]
    Range,
    #[error("a body is no message of this room")]
    Body,
    #[error("a batch is empty")]
    Empty,
}

/// What the log's header keeps of a body beside its hash.
pub fn extra_of(kind: Kind, body: &[u8], group_info_hash: Option<Hash>) -> Result<Hash, PackError> {
    match kind {
        Kind::Message => mls_framing::check(body).map_err(|_| PackError::Body),
        Kind::Commit | Kind::Creation => group_info_hash.ok_or(PackError::Body),
        Kind::Leave | Kind::Succession | Kind::Complaint => Ok(Hash([0; 32])),
    }
}

/// Rows of one term, consecutive and not empty, for a receiver that has everything before them.
pub fn pack(
    number: RoomNumber,
    created: UnixSeconds,
    rows: &[(Header, Bytes)],
    senders: &[Pseudonym],
    index_of: impl Fn(&Pseudonym) -> Option<u32>,
) -> Result<Entries, PackError> {
    let (first, _) = rows.first().ok_or(PackError::Empty)?;
    let (epoch, time) = (first.epoch, first.time);
    let mut entries = Vec::with_capacity(rows.len());
    let mut new: Option<(u32, u32)> = None;
    for (header, body) in rows {
        let sender = index_of(&header.id.sender).ok_or(PackError::Sender)?;
        if header.id.counter.number == 1 {
            new = Some(new.map_or((sender, sender), |(low, high)| (low.min(sender), high.max(sender))));
        }
        entries.push(Entry {
            sender,
            device: header.id.counter.device,
            counter: header.id.counter.number,
            kind: header.kind,
            epoch_delta: signed(header.epoch.0)? - signed(epoch.0)?,
            time_delta: header.time.0.checked_sub(time.0).ok_or(PackError::Range)?,
            body: body.clone(),
            group_info_hash: matches!(header.kind, Kind::Commit | Kind::Creation).then_some(header.extra),
        });
    }
    let new_senders = match new {
        None => Vec::new(),
        Some((low, high)) => senders.get(low as usize..=high as usize).ok_or(PackError::Sender)?.to_vec(),
    };
    Ok(Entries {
        room: number,
        first: first.seq,
        term: first.term,
        epoch,
        time: time.0.checked_sub(created.0).ok_or(PackError::Range)?,
        first_new_sender: new.map_or(0, |(low, _)| low),
        new_senders,
        entries,
    })
}

fn signed(value: u64) -> Result<i64, PackError> {
    i64::try_from(value).map_err(|_| PackError::Range)
}

/// Rebuilds the headers. Adds newly named senders to `senders`, which must be complete up to the batch.
pub fn unpack(entries: &Entries, room: &RoomId, created: UnixSeconds, senders: &mut Vec<Pseudonym>) -> Result<Vec<Unpacked>, PackError> {
    for (i, pseudonym) in entries.new_senders.iter().enumerate() {
        let at = (entries.first_new_sender as usize).checked_add(i).ok_or(PackError::Sender)?;
        match senders.get(at) {
            Some(known) if known == pseudonym => {}
            None if at == senders.len() && at < SENDERS_MAX && !senders.contains(pseudonym) => senders.push(*pseudonym),
            _ => return Err(PackError::Sender),
        }
    }
    let base = created.0 + entries.time;
    let mut unpacked = Vec::with_capacity(entries.entries.len());
    for (i, entry) in entries.entries.iter().enumerate() {
        let sender = *senders.get(entry.sender as usize).ok_or(PackError::Sender)?;
        let epoch = signed(entries.epoch.0)?
            .checked_add(entry.epoch_delta)
            .and_then(|epoch| u64::try_from(epoch).ok())
            .filter(|epoch| epoch >> 48 == 0)
            .ok_or(PackError::Range)?;
        let header = Header {
            room: *room,
            seq: Seq(entries.first.0 + i as u64),
            term: Term(entries.term.0),
            epoch: Epoch(epoch),
            kind: entry.kind,
            id: EntryId { sender, counter: Counter { device: entry.device, number: entry.counter } },
            time: UnixSeconds(base + entry.time_delta),
            body_hash: hash_bytes(&entry.body),
            extra: extra_of(entry.kind, &entry.body, entry.group_info_hash)?,
        };
        unpacked.push(Unpacked { header, body: entry.body.clone() });
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(fill: u8) -> Bytes {
        [vec![fill; 32], vec![1, 2, 3, 9, 9, 9]].concat().into()
    }

    proptest! {
        #[test]
        fn unpacking_gives_back_the_headers(
            shape in prop::collection::vec((0u32..4, 0u64..5, 0u64..3, any::<u8>()), 1..20), first in 0u64..1000
        ) {
            let (room, created) = (RoomId([1; 32]), UnixSeconds(1_000));
            let senders: Vec<_> = (0..4).map(|i| Pseudonym([i; 16])).collect();
            let mut counters = [0u64; 4];
            let mut seen = 0;
            let mut time = 1_500;
            let rows: Vec<_> = shape.iter().enumerate().map(|(i, (who, step, epoch, fill))| {
                // Senders appear in the order of their indexes.
                let who = (*who).min(seen);
                seen = seen.max(who + 1).min(3);
                counters[who as usize] += 1;
                time += step;
                let body = message(*fill);
                let header = Header {
                    room, seq: Seq(first + i as u64), term: Term(1), epoch: Epoch(10 - epoch), kind: Kind::Message,
                    id: EntryId { sender: senders[who as usize], counter: Counter { device: 0, number: counters[who as usize] } },
                    time: UnixSeconds(time), body_hash: hash_bytes(&body), extra: Hash([*fill; 32]),
                };
                (header, body)
            }).collect();
            let index = |p: &Pseudonym| Some(u32::from(p.0[0]));
            let packed = pack(RoomNumber(3), created, &rows, &senders, index).unwrap();
            let mut known = Vec::new();
            let unpacked = unpack(&packed, &room, created, &mut known).unwrap();
            let again: Vec<_> = unpacked.into_iter().map(|u| (u.header, u.body)).collect();
            prop_assert_eq!(again, rows);
        }
    }

    #[test]
    fn an_unknown_sender_is_an_error() {
        let entries = Entries {
            room: RoomNumber(1),
            first: Seq(0),
            term: Term(1),
            epoch: Epoch(0),
            time: 0,
            first_new_sender: 2,
            new_senders: vec![Pseudonym([1; 16])],
            entries: vec![],
        };
        assert_eq!(unpack(&entries, &RoomId([1; 32]), UnixSeconds(0), &mut Vec::new()), Err(PackError::Sender));
    }
}
