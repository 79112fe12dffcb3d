//! What a mirror checks before it takes a hub's word: the batch extends the log that it has, and the hub signed the
//! outcome. Whether an entry is *valid* is judged afterwards, by the room.

use kith_protocol::ids::{Coop, Pseudonym, RoomId, Seq, Term, UnixSeconds};
use kith_protocol::limits::BATCH_ENTRIES_MAX;
use kith_protocol::link::Batch;
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::{Frontier, verify_consistency};
use kith_protocol::log::pack::{PackError, Unpacked, unpack};

/// The batch is refused; the link and the room live on. Blame lies with the hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch begins at {got}, the log ends at {expected}")]
    Gap { expected: Seq, got: Seq },
    #[error("the batch is of term {got}, the room is in term {expected}")]
    Term { expected: Term, got: Term },
    #[error("the batch is empty or too long")]
    Length,
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("a GroupInfo is missing or not the one that its header names")]
    GroupInfo,
    #[error("the entries do not lead to the root that the hub signed")]
    Root,
    #[error("the checkpoint is not signed by the room's hub")]
    Signature,
    #[error("the log does not lead from the batch to the checkpoint")]
    Proof,
}

/// Where the mirror's copy stands; hub and term are those of the batch.
#[derive(Debug, Clone)]
pub struct Position<'a> {
    pub room: &'a RoomId,
    pub hub: &'a Coop,
    pub term: Term,
    pub created: UnixSeconds,
    pub frontier: &'a Frontier,
    pub senders: &'a [Pseudonym],
}

/// A batch that extends the log, ready to be judged and appended.
#[derive(Debug, Clone)]
pub struct Verified {
    pub entries: Vec<(Unpacked, bytes::Bytes)>,
    pub attestation: Attestation,
}

/// Verifies a batch against the mirror's position: sequence, headers, root, and the hub's signature over it, or over more
/// of the same log to which the batch's proof leads (so that any holder can hand on what the hub signed once). Marks in
/// its attestation are kept only where they verify under `key_of`.
pub fn verify_batch(
    at: &Position<'_>,
    batch: &Batch,
    key_of: impl Fn(&kith_protocol::ids::CoopName) -> Option<kith_protocol::ids::PublicKey>,
) -> Result<Verified, BatchError> {
    let entries = &batch.entries;
    let expected = Seq(at.frontier.size());
    if entries.first != expected {
        return Err(BatchError::Gap { expected, got: entries.first });
    }
    if entries.term != at.term {
        return Err(BatchError::Term { expected: at.term, got: entries.term });
    }
    if entries.entries.is_empty() || entries.entries.len() > BATCH_ENTRIES_MAX {
        return Err(BatchError::Length);
    }
    let mut senders = at.senders.to_vec();
    let unpacked = unpack(entries, at.room, at.created, &mut senders)?;
    let mut frontier = at.frontier.clone();
    let mut rows = Vec::with_capacity(unpacked.len());
    for (index, entry) in unpacked.into_iter().enumerate() {
        frontier.push(entry.leaf());
        let info = batch.group_infos.iter().find(|(i, _)| *i as usize == index).map(|(_, info)| info.clone()).unwrap_or_default();
        if entry.header.kind == Kind::Commit && hash_bytes(&info) != entry.header.extra {
            return Err(BatchError::GroupInfo);
        }
        rows.push((entry, info));
    }
    let mut attestation = batch.attestation.clone();
    attestation.checkpoint.room = *at.room;
    let checkpoint = attestation.checkpoint;
    if checkpoint.term != at.term || checkpoint.size < frontier.size() {
        return Err(BatchError::Root);
    }
    let leads_on = checkpoint.size > frontier.size() && !batch.proof.is_empty();
    if !leads_on && (checkpoint.size, checkpoint.root) != (frontier.size(), frontier.root()) {
        return Err(BatchError::Root);
    }
    verify_consistency(frontier.size(), checkpoint.size, &frontier.root(), &checkpoint.root, &batch.proof)
        .map_err(|_| BatchError::Proof)?;
    if attestation.hub != at.hub.name || checkpoint.verify(&at.hub.key, &attestation.signature).is_err() {
        return Err(BatchError::Signature);
    }
    let marks = std::mem::take(&mut attestation.marks);
    attestation.marks = marks
        .into_iter()
        .filter(|mark| {
            let alone = Attestation { marks: vec![mark.clone()], ..attestation.clone() };
            alone.verify(|name| if *name == at.hub.name { Some(at.hub.key) } else { key_of(name) }).is_ok()
        })
        .collect();
    Ok(Verified { entries: rows, attestation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kith_protocol::ids::{CoopName, Counter, EntryId, Epoch, Hash, RoomNumber};
    use kith_protocol::log::Header;
    use kith_protocol::log::checkpoint::{Checkpoint, Mark};
    use kith_protocol::log::pack::pack;
    use kith_protocol::sign::SecretKey;

    struct World {
        room: RoomId,
        key: SecretKey,
        hub: Coop,
        frontier: Frontier,
    }

    impl World {
        fn new() -> Self {
            let key = SecretKey::from_seed([1; 32]);
            let hub = Coop { name: "alder.test".parse().unwrap(), key: key.public() };
            Self { room: RoomId([7; 32]), key, hub, frontier: Frontier::default() }
        }

        fn batch(&self, count: u64) -> Batch {
            let body: Bytes = [vec![5; 32], vec![1, 2, 1, 9]].concat().into();
            let rows: Vec<_> = (0..count)
                .map(|i| {
                    let id = EntryId { sender: Pseudonym([2; 16]), counter: Counter { device: 0, number: i + 1 } };
                    let header = Header {
                        room: self.room,
                        seq: Seq(i),
                        term: Term(1),
                        epoch: Epoch(0),
                        kind: Kind::Message,
                        id,
                        time: UnixSeconds(100 + i),
                        body_hash: hash_bytes(&body),
                        extra: Hash([5; 32]),
                    };
                    (header, body.clone())
                })
                .collect();
            let mut frontier = self.frontier.clone();
            rows.iter().for_each(|(header, _)| {
                frontier.push(kith_protocol::log::merkle::leaf_hash(&header.encode()));
            });
            let checkpoint = Checkpoint { room: self.room, term: Term(1), size: frontier.size(), root: frontier.root() };
            let senders = [Pseudonym([2; 16])];
            let mark = Mark { coop: self.hub.name.clone(), cosignature: None, held: Some(checkpoint.sign_held(&self.key)) };
            Batch {
                entries: pack(RoomNumber(4), UnixSeconds(100), &rows, &senders, |_| Some(0)).unwrap(),
                group_infos: vec![],
                attestation: Attestation {
                    checkpoint,
                    hub: self.hub.name.clone(),
                    signature: checkpoint.sign(&self.key),
                    marks: vec![mark],
                },
                proof: vec![],
            }
        }

        fn verify(&self, batch: &Batch) -> Result<Verified, BatchError> {
            let at = Position {
                room: &self.room,
                hub: &self.hub,
                term: Term(1),
                created: UnixSeconds(100),
                frontier: &self.frontier,
                senders: &[],
            };
            verify_batch(&at, batch, |_: &CoopName| None)
        }
    }

    #[test]
    fn what_the_hub_signed_is_taken_and_nothing_else() {
        let world = World::new();
        let good = world.batch(3);
        assert_eq!(world.verify(&good).unwrap().entries.len(), 3);
        assert_eq!(world.verify(&good).unwrap().attestation.marks.len(), 1);
        let altered = |change: &dyn Fn(&mut Batch)| {
            let mut batch = good.clone();
            change(&mut batch);
            world.verify(&batch).map(|_| ()).unwrap_err()
        };
        assert_eq!(altered(&|b| b.entries.first = Seq(1)), BatchError::Gap { expected: Seq(0), got: Seq(1) });
        assert_eq!(altered(&|b| b.entries.term = Term(2)), BatchError::Term { expected: Term(1), got: Term(2) });
        assert_eq!(altered(&|b| b.entries.entries[1].time_delta += 1), BatchError::Root);
        assert_eq!(altered(&|b| b.entries.entries.swap(0, 2)), BatchError::Root);
        assert_eq!(altered(&|b| drop(b.entries.entries.pop())), BatchError::Root);
        assert_eq!(altered(&|b| b.entries.entries.clear()), BatchError::Length);
        assert_eq!(altered(&|b| b.attestation.signature.0[3] ^= 1), BatchError::Signature);
        assert_eq!(altered(&|b| b.attestation.hub = "birch.test".parse().unwrap()), BatchError::Signature);
    }

    #[test]
    fn fault_08_a_batch_of_another_room_is_refused() {
        let (mut here, there) = (World::new(), World::new());
        here.room = RoomId([8; 32]);
        assert!(matches!(here.verify(&there.batch(2)), Err(BatchError::Root)));
    }

    #[test]
    fn a_forged_mark_is_dropped_and_the_batch_lives() {
        let world = World::new();
        let mut batch = world.batch(1);
        batch.attestation.marks[0].held = Some(kith_protocol::sign::Signature([3; 64]));
        assert_eq!(world.verify(&batch).unwrap().attestation.marks, []);
    }
}
