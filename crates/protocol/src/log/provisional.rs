//! Messages that a mirror has taken and the hub has not ordered: what its own members see while the hub is away.
//!
//! The mirror signs what it took and when. A provisional message has no place in the log; its entry id is the one under
//! which it gets its place later, as it is or encrypted anew.

use bytes::Bytes;

use super::header::hash_bytes;
use crate::ids::{EntryId, Epoch, PublicKey, RoomId, UnixSeconds};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// A message without its place. Only messages are delivered like that: what changes a room waits for its hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisional {
    pub id: EntryId,
    pub epoch: Epoch,
    /// When the mirror took it.
    pub time: UnixSeconds,
    pub body: Bytes,
    pub signature: Signature,
}

fn statement(room: &RoomId, id: &EntryId, epoch: Epoch, time: UnixSeconds, body: &[u8]) -> Transcript {
    Transcript::new(Label::Provisional)
        .field(&room.0)
        .field(&id.sender.0)
        .number(u64::from(id.counter.device))
        .number(id.counter.number)
        .number(epoch.0)
        .number(time.0)
        .field(&hash_bytes(body).0)
}

impl Provisional {
    pub fn sign(root: &SecretKey, room: &RoomId, id: EntryId, epoch: Epoch, time: UnixSeconds, body: Bytes) -> Self {
        let signature = root.sign(&statement(room, &id, epoch, time, &body));
        Self { id, epoch, time, body, signature }
    }

    /// `key` is the root key of the co-op that delivers it.
    pub fn verify(&self, room: &RoomId, key: &PublicKey) -> Result<(), BadSignature> {
        verify(key, &statement(room, &self.id, self.epoch, self.time, &self.body), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Counter, Pseudonym};

    #[test]
    fn it_is_bound_to_room_entry_epoch_time_and_body() {
        let root = SecretKey::from_seed([1; 32]);
        let (room, id) = (RoomId([2; 32]), EntryId { sender: Pseudonym([3; 16]), counter: Counter { device: 0, number: 4 } });
        let good = Provisional::sign(&root, &room, id, Epoch(5), UnixSeconds(6), Bytes::from_static(b"body"));
        let holds = |provisional: &Provisional| provisional.verify(&room, &root.public());
        assert_eq!(holds(&good), Ok(()));
        assert_eq!(good.verify(&RoomId([9; 32]), &root.public()), Err(BadSignature));
        assert_eq!(holds(&Provisional { epoch: Epoch(9), ..good.clone() }), Err(BadSignature));
        assert_eq!(holds(&Provisional { time: UnixSeconds(9), ..good.clone() }), Err(BadSignature));
        assert_eq!(holds(&Provisional { body: Bytes::from_static(b"bodY"), ..good.clone() }), Err(BadSignature));
        let other = EntryId { counter: Counter { device: 0, number: 9 }, ..id };
        assert_eq!(holds(&Provisional { id: other, ..good }), Err(BadSignature));
    }
}
