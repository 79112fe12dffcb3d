//! What a decoder allocates for bytes that promise more than they hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kith_protocol::limits::{BODY_BYTES_MAX, LINK_FRAME_BYTES_MAX, MEMBER_FRAME_BYTES_MAX};
use kith_protocol::link::LinkFrame;
use kith_protocol::log::succession::Succession;
use kith_protocol::member::{ToMember, ToServer};

use crate::forms::{Form, JsonForm};

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call goes to the system's allocator unchanged; the counters neither allocate nor are dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that this thread held at once while it ran `work`, beyond what it held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before).unsigned_abs())
}

/// What begins a field of bytes, below field 32.
fn tag(number: u8) -> Vec<u8> {
    let first = number << 3 | 2;
    if number < 16 { vec![first] } else { vec![first | 0x80, number >> 4] }
}

/// A field of `number` that claims 4 GiB, and nothing behind it.
fn claim(number: u8) -> Vec<u8> {
    [&tag(number)[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat()
}

fn within(number: u8, inner: &[u8]) -> Vec<u8> {
    [&tag(number)[..], &[inner.len() as u8], inner].concat()
}

/// A few bytes that claim 4 GiB, at the top, within a frame, and within what a frame holds.
#[test]
fn fault_16_claimed_lengths_cost_nothing() {
    fn check<T: Form>() {
        let fields = 1..20u8;
        let mut claims: Vec<_> = fields.clone().map(claim).collect();
        for (outer, inner) in fields.clone().flat_map(|outer| fields.clone().map(move |inner| (outer, inner))) {
            claims.push(within(outer, &claim(inner)));
            claims.extend(fields.clone().map(|deepest| within(outer, &within(inner, &claim(deepest)))));
        }
        for bytes in claims {
            let (read, peak) = peak(|| T::decode(&bytes));
            // A schema that does not know the field skips it, if its parts are there.
            assert!(read.is_err() || bytes.len() > 7, "{bytes:02x?}");
            assert!(peak < 4_096, "{bytes:02x?} took {peak} bytes");
        }
    }
    check::<ToServer>();
    check::<ToMember>();
    check::<LinkFrame>();
    check::<kith_protocol::content::Content>();
    check::<kith_protocol::codec::OpenedContent>();
    check::<kith_protocol::room::RoomContext>();
    check::<kith_protocol::room::Creation>();
    check::<kith_protocol::room::CreationBody>();
    check::<kith_protocol::admission::Admission>();
    check::<kith_protocol::credential::LeafCertificate>();
    check::<kith_protocol::snapshot::RoomSnapshot>();
    check::<kith_protocol::snapshot::GroupSnapshot>();
    check::<kith_protocol::log::checkpoint::Attestation>();
    check::<kith_protocol::log::succession::Vote>();
    check::<Succession>();
}

#[test]
fn nested_json_costs_nothing() {
    let deep = "{\"send\":".repeat(30_000);
    let (read, peak) = peak(|| ToServer::from_json(deep.as_bytes()));
    assert!(read.is_err());
    assert!(peak < deep.len() * 2, "{peak}");
}

/// Two bytes make an empty item of a list, and the schema has room for it before the codec counts the list: the largest
/// frame that anybody may send costs this often its length.
#[test]
fn lists_of_nothing_have_a_price() {
    fn field(number: u8, inner: &[u8]) -> Vec<u8> {
        let len = inner.len() as u32;
        let len = [len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8 | 0x80, (len >> 21) as u8];
        [&tag(number)[..], &len, inner].concat()
    }
    fn price<T: Form>(frame_bytes_max: usize, wrap: impl Fn(&[u8]) -> Vec<u8>, item: u8) -> usize {
        let bytes = wrap(&[item << 3 | 2, 0].repeat(frame_bytes_max / 2 - 8));
        let (read, peak) = peak(|| T::decode(&bytes));
        assert!(read.is_err() && bytes.len() <= frame_bytes_max);
        peak / bytes.len()
    }
    const PRICE_MAX: usize = 96;
    let (member, link) = (MEMBER_FRAME_BYTES_MAX, LINK_FRAME_BYTES_MAX);
    let prices = [
        price::<ToMember>(member, |items| field(5, items), 8),
        price::<ToMember>(member, |items| field(10, items), 8),
        price::<ToMember>(member, |items| field(10, items), 12),
        price::<ToMember>(member, |items| field(11, items), 3),
        price::<LinkFrame>(link, |items| field(3, &field(1, items)), 8),
        price::<LinkFrame>(link, |items| field(3, items), 2),
        price::<LinkFrame>(link, |items| field(3, items), 4),
        price::<LinkFrame>(link, |items| field(5, items), 7),
        price::<LinkFrame>(link, |items| field(19, &field(6, items)), 7),
    ];
    assert!(prices.iter().all(|price| *price <= PRICE_MAX), "{prices:?}");
    // The largest of empty items, 128 bytes; only a member's own co-op sends it, in a frame of a quarter of a link's.
    let provisionals = price::<ToMember>(member, |items| field(14, items), 2);
    assert!(provisionals <= 98, "{provisionals}");
    // A vote is larger still, but its list is no longer than a body.
    let succession = price::<Succession>(BODY_BYTES_MAX, |items| items.to_vec(), 5);
    assert!(succession * BODY_BYTES_MAX <= PRICE_MAX * MEMBER_FRAME_BYTES_MAX, "{succession}");
    // What an authenticated or unknown device sends has no lists.
    for (_, frame) in crate::samples::to_server() {
        let bytes = frame.encode();
        let repeated = bytes.repeat(MEMBER_FRAME_BYTES_MAX / bytes.len());
        assert!(peak(|| ToServer::decode(&repeated)).1 <= 2 * repeated.len());
    }
}
