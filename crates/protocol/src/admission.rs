//! Why a leaf came into the tree: the signature of an open invite, bound to this leaf, this GroupInfo and one use.
//!
//! Whoever has the invite's private half authorises the join; no server ever sees it, so no server can put anybody in.

use crate::ids::{CoopName, Hash, PublicKey, RoomId};
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

/// The authenticated data of the external commit: in the log for ever, and not in every tree that is served after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    pub invite: PublicKey,
    /// 1 … the invite's uses; each number once.
    pub use_number: u32,
    /// Of the GroupInfo from which the external commit was made: a bogus one convicts its signer, not the joiner.
    pub group_info_hash: Hash,
    pub signature: Signature,
}

fn statement(room: &RoomId, leaf_key: &PublicKey, group_info_hash: &Hash, use_number: u32) -> Transcript {
    Transcript::new(Label::RoomInvite).field(&room.0).field(&leaf_key.0).field(&group_info_hash.0).number(u64::from(use_number))
}

impl Admission {
    pub fn sign(invite: &SecretKey, room: &RoomId, leaf_key: &PublicKey, group_info_hash: Hash, use_number: u32) -> Self {
        let signature = invite.sign(&statement(room, leaf_key, &group_info_hash, use_number));
        Self { invite: invite.public(), use_number, group_info_hash, signature }
    }

    pub fn verify(&self, room: &RoomId, leaf_key: &PublicKey) -> Result<(), BadSignature> {
        verify(&self.invite, &statement(room, leaf_key, &self.group_info_hash, self.use_number), &self.signature)
    }
}

/// What shows a holder of the room that a co-op asks for somebody who has an invite.
pub fn fetch_statement(room: &RoomId, asking: &CoopName) -> Transcript {
    Transcript::new(Label::FetchGroup).field(&room.0).field(asking.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bound_to_room_leaf_group_info_and_use() {
        let invite = SecretKey::from_seed([1; 32]);
        let (room, leaf) = (RoomId([2; 32]), PublicKey([3; 32]));
        let good = Admission::sign(&invite, &room, &leaf, Hash([4; 32]), 1);
        assert_eq!(good.verify(&room, &leaf), Ok(()));
        assert_eq!(good.verify(&RoomId([9; 32]), &leaf), Err(BadSignature));
        assert_eq!(good.verify(&room, &PublicKey([9; 32])), Err(BadSignature));
        assert_eq!(Admission { use_number: 2, ..good }.verify(&room, &leaf), Err(BadSignature));
        assert_eq!(Admission { group_info_hash: Hash([9; 32]), ..good }.verify(&room, &leaf), Err(BadSignature));
    }
}
