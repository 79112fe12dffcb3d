//! Proofs that a co-op broke its word.

use prost::Message;

use super::convert::{self as c, Result, bytes_of, list_of};
use super::log::{vote_from_wire, vote_to_wire};
use super::{DecodeError, scan};
use crate::ids::{Coop, Term};
use crate::limits::{PROOF_BYTES_MAX, TREE_LEVELS_MAX};
use crate::log::proof::{DoubleVote, Fork, Proof, SignedRoot};
use crate::wire::v1 as w;

fn root_to_wire(of: &SignedRoot) -> w::SignedRoot {
    w::SignedRoot { size: of.size, root: bytes_of(&of.root.0), signature: bytes_of(&of.signature.0) }
}

fn root_from_wire(of: Option<&w::SignedRoot>) -> Result<SignedRoot> {
    let of = of.ok_or(DecodeError::Field("checkpoint"))?;
    let signature = c::signature(&of.signature, "checkpoint")?;
    Ok(SignedRoot { size: c::number(of.size, "size")?, root: c::hash(&of.root, "root")?, signature })
}

pub(super) fn proof_to_wire(proof: &Proof) -> w::Proof {
    let what = match proof {
        Proof::Fork(fork) => w::proof::What::Fork(w::Fork {
            room_id: bytes_of(&fork.room.0),
            term: fork.term.0,
            hub: fork.hub.name.to_string(),
            hub_key: bytes_of(&fork.hub.key.0),
            shorter: Some(root_to_wire(&fork.shorter)),
            longer: Some(root_to_wire(&fork.longer)),
            prefix_root: bytes_of(&fork.prefix_root.0),
            consistency: list_of(fork.consistency.iter().map(|node| node.0)),
        }),
        Proof::DoubleVote(votes) => w::proof::What::DoubleVote(w::DoubleVote {
            voter_key: bytes_of(&votes.voter.key.0),
            first: Some(vote_to_wire(&votes.first)),
            second: Some(vote_to_wire(&votes.second)),
        }),
    };
    w::Proof { what: Some(what) }
}

pub(super) fn proof_from_wire(proof: &w::Proof) -> Result<Proof> {
    Ok(match proof.what.as_ref().ok_or(DecodeError::Field("proof"))? {
        w::proof::What::Fork(fork) => Proof::Fork(Box::new(Fork {
            room: c::room_id(&fork.room_id)?,
            term: Term(fork.term),
            hub: c::coop(&fork.hub, &fork.hub_key)?,
            shorter: root_from_wire(fork.shorter.as_ref())?,
            longer: root_from_wire(fork.longer.as_ref())?,
            prefix_root: c::hash(&fork.prefix_root, "root")?,
            consistency: c::hashes(&fork.consistency, "proof", TREE_LEVELS_MAX + 1)?,
        })),
        w::proof::What::DoubleVote(votes) => {
            let vote = |vote: &Option<w::Vote>| vote_from_wire(vote.as_ref().ok_or(DecodeError::Field("vote"))?);
            let (first, second) = (vote(&votes.first)?, vote(&votes.second)?);
            let voter = Coop { name: first.voter.clone(), key: c::key(&votes.voter_key, "voter")? };
            Proof::DoubleVote(Box::new(DoubleVote { voter, first, second }))
        }
    })
}

/// As it is stored and handed around.
pub fn encode_proof(proof: &Proof) -> Vec<u8> {
    proof_to_wire(proof).encode_to_vec()
}

pub fn decode_proof(bytes: &[u8]) -> Result<Proof> {
    if bytes.len() > PROOF_BYTES_MAX {
        return Err(DecodeError::TooLarge("proof"));
    }
    scan::check(bytes, &scan::PROOF)?;
    proof_from_wire(&w::Proof::decode(bytes).map_err(|_| DecodeError::Schema)?)
}
