//! What a decoder allocates for bytes that promise more than they hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kith_protocol::codec::DecodeError;
use kith_protocol::content::Content;
use kith_protocol::contest::Docket;
use kith_protocol::limits::{self, BODY_BYTES_MAX, CONTENT_BYTES_MAX, LINK_FRAME_BYTES_MAX, MEMBER_FRAME_BYTES_MAX, SUCCESSION_BYTES_MAX};
use kith_protocol::link::LinkFrame;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::succession::{Succession, Vote};
use kith_protocol::member::{ToMember, ToServer};
use kith_protocol::room::RoomContext;
use kith_protocol::snapshot::{GroupSnapshot, RoomSnapshot};

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
    check::<Content>();
    check::<kith_protocol::codec::OpenedContent>();
    check::<RoomContext>();
    check::<kith_protocol::room::Creation>();
    check::<kith_protocol::room::CreationBody>();
    check::<kith_protocol::admission::Admission>();
    check::<kith_protocol::credential::LeafCertificate>();
    check::<RoomSnapshot>();
    check::<GroupSnapshot>();
    check::<Docket>();
    check::<Attestation>();
    check::<Vote>();
    check::<Succession>();
}

#[test]
fn nested_json_costs_nothing() {
    let deep = "{\"send\":".repeat(30_000);
    let (read, peak) = peak(|| ToServer::from_json(deep.as_bytes()));
    assert!(read.is_err());
    assert!(peak < deep.len() * 2, "{peak}");
}

fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    let len = inner.len() as u32;
    let len = [len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8 | 0x80, (len >> 21) as u8];
    [&tag(number)[..], &len, inner].concat()
}

/// Two bytes make an empty item of a list, and the schema has room for it before anybody can count the list.
#[test]
fn fault_16_lists_of_nothing_cost_nothing() {
    fn check<T: Form>(frame_bytes_max: usize, wrap: impl Fn(&[u8]) -> Vec<u8>, item: u8) {
        let items = [item << 3 | 2, 0].repeat(frame_bytes_max / 2 - 16);
        // In one part, and in many, whose lists the schema adds up.
        let few = [item << 3 | 2, 0].repeat(8);
        for bytes in [wrap(&items), wrap(&few).repeat(frame_bytes_max / (few.len() + 16))] {
            let (read, peak) = peak(|| T::decode(&bytes));
            assert!(read.is_err() && bytes.len() <= frame_bytes_max);
            // The copy that a test decodes is one.
            assert!(peak <= 2 * bytes.len(), "{peak} for {} bytes", bytes.len());
        }
    }
    let (member, link) = (MEMBER_FRAME_BYTES_MAX, LINK_FRAME_BYTES_MAX);
    for item in [7, 8] {
        check::<ToMember>(member, |items| field(5, items), item);
        check::<LinkFrame>(link, |items| field(3, &field(1, items)), item);
    }
    for item in [7, 8, 12] {
        check::<ToMember>(member, |items| field(10, items), item);
        check::<LinkFrame>(link, |items| field(9, items), item);
    }
    check::<ToMember>(member, |items| field(10, &field(11, items)), 7);
    check::<ToMember>(member, |items| field(11, items), 3);
    check::<ToMember>(member, |items| field(12, items), 7);
    check::<ToMember>(member, |items| field(14, items), 2);
    check::<LinkFrame>(link, |items| field(3, items), 2);
    check::<LinkFrame>(link, |items| field(3, items), 4);
    check::<LinkFrame>(link, |items| field(3, &field(3, items)), 7);
    check::<LinkFrame>(link, |items| field(5, items), 7);
    check::<LinkFrame>(link, |items| field(19, &field(6, items)), 7);
    for item in [1, 2, 3] {
        check::<RoomContext>(BODY_BYTES_MAX, <[u8]>::to_vec, item);
    }
    for item in [2, 7] {
        check::<RoomSnapshot>(link, <[u8]>::to_vec, item);
    }
    for item in [5, 6, 7, 10, 12, 14, 15] {
        check::<GroupSnapshot>(link, <[u8]>::to_vec, item);
    }
    check::<GroupSnapshot>(link, |items| field(12, items), 7);
    check::<GroupSnapshot>(link, |items| field(15, items), 4);
    check::<Docket>(link, <[u8]>::to_vec, 1);
    check::<Content>(CONTENT_BYTES_MAX, |items| field(2, items), 3);
    check::<Attestation>(link, <[u8]>::to_vec, 7);
    check::<Vote>(link, |items| field(6, items), 7);
    check::<Succession>(SUCCESSION_BYTES_MAX, <[u8]>::to_vec, 5);
    check::<Succession>(SUCCESSION_BYTES_MAX, |items| field(5, &field(6, items)), 7);
    // What an authenticated or unknown device sends has no lists.
    for (_, frame) in crate::samples::to_server() {
        let bytes = frame.encode();
        let repeated = bytes.repeat(MEMBER_FRAME_BYTES_MAX / bytes.len());
        assert!(peak(|| ToServer::decode(&repeated)).1 <= 2 * repeated.len());
    }
}

/// As many items as a list may have, as short as they may be.
#[test]
fn the_longest_lists_have_a_price() {
    fn price<T: Form>(frame: Vec<u8>) -> usize {
        let (_, peak) = peak(|| T::decode(&frame));
        peak - frame.len()
    }
    let items = |field: u8, items: usize, bytes: usize| [&[field << 3 | 2, bytes as u8][..], &vec![0; bytes]].concat().repeat(items);
    let prices = [
        price::<ToMember>(field(5, &items(8, limits::BATCH_ENTRIES_MAX, 0))),
        price::<ToMember>(field(5, &items(7, limits::SENDERS_MAX, 16))),
        price::<ToMember>(field(10, &[items(8, limits::SENDERS_MAX, 16), items(12, limits::LEAVES_MAX, 84)].concat())),
        price::<ToMember>(field(11, &items(3, limits::HEADERS_PAGE_MAX, 0))),
        price::<LinkFrame>(field(3, &items(2, limits::BATCH_ENTRIES_MAX, 0))),
    ];
    assert!(prices.iter().all(|price| *price <= 512 * 1024), "{prices:?}");
}

/// JSON is for debugging, and bounded as a whole.
#[test]
fn json_lists_of_nothing_have_a_price() {
    for (frame, list) in [("entries", "entries"), ("group", "leaves"), ("attestation", "marks")] {
        let items = vec!["{}"; MEMBER_FRAME_BYTES_MAX / 3 - 32].join(",");
        assert!(items.matches(',').count() > limits::JSON_COMMAS_MAX);
        let json = format!("{{\"{frame}\":{{\"{list}\":[{items}]}}}}");
        let (read, peak) = peak(|| ToMember::from_json(json.as_bytes()));
        assert_eq!(read, Err(DecodeError::TooLarge("frame")));
        assert!(peak <= 2 * json.len(), "{peak}");
    }
}
