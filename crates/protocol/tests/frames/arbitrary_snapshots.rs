//! Parts of what a co-op remembers of a room.

use kith_protocol::contest::{Activity, Contest, Docket};
use kith_protocol::ids::{Counter, EntryId, Seq};
use kith_protocol::judge::Standing;
use kith_protocol::room::SignedLeave;
use kith_protocol::snapshot::{Before, Sender};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::arbitrary::{blob, coop_name, device, epoch, hash, key, number, pseudonym, seq, signature, time};

pub fn snapshot_sender() -> impl Strategy<Value = Sender> {
    let standing = (0..5u32).prop_map(|number| Standing::from_number(number).unwrap());
    (pseudonym(), standing, coop_name(), option::of(leave()), option::of(number())).prop_map(
        |(pseudonym, standing, coop, leave, out_at)| Sender {
            pseudonym,
            standing,
            coop,
            leave,
            out_at: out_at.and_then(|past| past.checked_sub(1)).map(Seq),
        },
    )
}

pub fn activity() -> impl Strategy<Value = Activity> {
    (any::<u32>(), epoch()).prop_map(|(day, epoch)| Activity { day, epoch })
}

pub fn contest() -> impl Strategy<Value = Contest> {
    let indexes = || vec(any::<u32>(), 0..4);
    (seq(), hash(), epoch(), time(), any::<u32>(), indexes(), indexes())
        .prop_map(|(seq, leaf, epoch, time, author, jury, complaints)| Contest { seq, leaf, epoch, time, author, jury, complaints })
}

pub fn before() -> impl Strategy<Value = Before> {
    let uses = vec((key(), vec(any::<u32>(), 0..4)), 0..3);
    let standings = vec(select(&[Standing::Unknown, Standing::Member, Standing::Left, Standing::Removed, Standing::Convicted][..]), 0..4);
    (epoch(), blob(), blob(), uses, standings).prop_map(|(epoch, group_info, tree, invite_uses, standings)| Before {
        epoch,
        group_info,
        tree,
        invite_uses,
        standings,
    })
}

pub fn docket() -> impl Strategy<Value = Docket> {
    (vec(contest(), 0..3), vec(epoch(), 0..4)).prop_map(|(contests, kept)| Docket { contests, kept })
}

pub fn leave() -> impl Strategy<Value = SignedLeave> + Clone {
    (pseudonym(), device(), number(), signature()).prop_map(|(sender, device, number, signature)| SignedLeave {
        id: EntryId { sender, counter: Counter { device, number } },
        signature,
    })
}
