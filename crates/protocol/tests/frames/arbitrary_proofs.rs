//! Proofs of every kind.

use kith_protocol::ids::Coop;
use kith_protocol::log::proof::{DoubleVote, Fork, Proof, SignedRoot};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::{Arbitrary, coop, hash, key, number, room, signature, term, vote};

fn fork() -> impl Strategy<Value = Proof> + Clone {
    let signed = || (number(), hash(), signature()).prop_map(|(size, root, signature)| SignedRoot { size, root, signature });
    (room(), term(), coop(), (signed(), signed()), hash(), vec(hash(), 0..4)).prop_map(
        |(room, term, hub, (shorter, longer), prefix_root, consistency)| {
            Proof::Fork(Box::new(Fork { room, term, hub, shorter, longer, prefix_root, consistency }))
        },
    )
}

fn double_vote() -> impl Strategy<Value = Proof> + Clone {
    (key(), vote(), vote()).prop_map(|(key, first, second)| {
        let voter = Coop { name: first.voter.clone(), key };
        Proof::DoubleVote(Box::new(DoubleVote { voter, first, second }))
    })
}

pub fn proof() -> impl Strategy<Value = Proof> + Clone {
    prop_oneof![fork(), double_vote()]
}

impl Arbitrary for Proof {
    fn of(name: &str) -> BoxedStrategy<Self> {
        if name == "fork" { fork().boxed() } else { double_vote().boxed() }
    }
}
