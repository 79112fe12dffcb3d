//! Proofs of every kind, and messages without a place.

use kith_protocol::ids::{Coop, Counter, EntryId};
use kith_protocol::log::proof::{DoubleVote, Fork, Proof, SignedRoot};
use kith_protocol::log::provisional::Provisional;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::{Arbitrary, blob, coop, device, epoch, hash, key, number, pseudonym, room, signature, term, time, vote};

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

pub fn provisional() -> impl Strategy<Value = Provisional> + Clone {
    let id = (pseudonym(), device(), number());
    (id, epoch(), time(), blob(), signature()).prop_map(|((sender, device, number), epoch, time, body, signature)| Provisional {
        id: EntryId { sender, counter: Counter { device, number } },
        epoch,
        time,
        body,
        signature,
    })
}
