//! Any value of what two co-ops sign and remember of it.

use kith_protocol::agreement::{Date, Limits, Line, Notice, Offer, Record, Rooms, RootSuccession, Signed, Standing, Terms};
use kith_protocol::limits;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::arbitrary::{Arbitrary, key, room, signature, time};

fn line() -> impl Strategy<Value = Line> + Clone {
    vec(select(vec!['a', 'é', '☕', '"']), 0..8).prop_map(|chars| String::from_iter(chars).parse().unwrap())
}

pub fn notice() -> impl Strategy<Value = Notice> + Clone {
    let standing = select([Standing::Open, Standing::Suspended, Standing::Ended].as_slice());
    (standing, time(), time(), line(), signature()).prop_map(|(standing, at, effective, reason, signature)| Notice {
        standing,
        at,
        effective,
        reason,
        signature,
    })
}

pub fn succession() -> impl Strategy<Value = RootSuccession> + Clone {
    (key(), key(), time(), time(), signature(), signature()).prop_map(|(from, to, not_before, not_after, old_signature, new_signature)| {
        RootSuccession { from, to, not_before, not_after, old_signature, new_signature }
    })
}

pub fn terms() -> impl Strategy<Value = Terms> + Clone {
    let listed = proptest::collection::btree_set(room(), 1..4).prop_map(Rooms::Listed);
    let rooms = prop_oneof![Just(Rooms::Shared), listed];
    let limits = (1..=limits::AGREEMENT_ENTRIES_PER_DAY_MAX, 1..=limits::AGREEMENT_BYTES_PER_DAY_MAX, 1..=limits::ROOMS_MAX as u32)
        .prop_map(|(entries_per_day, bytes_per_day, rooms)| Limits { entries_per_day, bytes_per_day, rooms });
    let days = || 0..=limits::AGREEMENT_DAYS_MAX;
    let review = option::of(time().prop_map(Date::at));
    (1..=limits::AGREEMENT_REVISION_MAX, rooms, (line(), line(), line()), limits, (days(), review, days())).prop_map(
        |(revision, rooms, (conduct, crisis, moderation), limits, (retention_days, review, notice_days))| Terms {
            revision,
            rooms,
            conduct,
            crisis,
            moderation,
            limits,
            retention_days,
            review,
            notice_days,
        },
    )
}

fn agreement_record() -> impl Strategy<Value = Record> + Clone {
    let offer = (terms(), signature()).prop_map(|(terms, signature)| Offer { terms, signature });
    let signed = (vec(any::<u8>(), 1..40), signature(), signature(), time()).prop_map(|(document, ours, theirs, since)| Signed {
        document,
        ours,
        theirs,
        since,
    });
    (vec(terms(), 0..=2), option::of(offer), option::of(signed), option::of(notice()), option::of(notice()), option::of(key())).prop_map(
        |(accepted, offer, signed, our_notice, their_notice, rooms_key)| Record {
            accepted,
            offer,
            signed,
            our_notice,
            their_notice,
            rooms_key,
        },
    )
}

impl Arbitrary for Record {
    fn of(_: &str) -> BoxedStrategy<Self> {
        agreement_record().boxed()
    }
}
