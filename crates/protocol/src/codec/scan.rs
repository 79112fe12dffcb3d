//! A look at the wire before anything is made of it: how many items its lists have, and that none is shorter than the
//! shortest that is valid.
//!
//! The schema's decoder makes every item of a list before anybody can count them, and two bytes make an empty one. So
//! counting afterwards bounds what is kept, but not what it takes to get there.

use super::DecodeError;
use super::convert::Result;
use crate::limits;

/// What of a message may cost more than its bytes.
pub struct Shape {
    lists: &'static [List],
    /// Messages in it that have lists, by field. Each may stand once: the decoder would add up the lists of two.
    parts: &'static [(u64, &'static Shape)],
}

/// A repeated field of messages, bytes or strings.
struct List {
    field: u64,
    /// As a refusal calls it.
    name: &'static str,
    items_max: usize,
    /// No valid item has fewer bytes.
    item_bytes_min: usize,
    /// Of items that are messages with lists.
    item: Option<&'static Shape>,
}

const fn list(field: u64, name: &'static str, items_max: usize, item_bytes_min: usize) -> List {
    List { field, name, items_max, item_bytes_min, item: None }
}

const fn list_of(field: u64, name: &'static str, items_max: usize, item_bytes_min: usize, item: &'static Shape) -> List {
    List { field, name, items_max, item_bytes_min, item: Some(item) }
}

/// Tag, length and bytes of a field that is always there.
const fn field(bytes: usize) -> usize {
    2 + bytes
}

const PSEUDONYM: usize = 16;
const KEY: usize = 32;
const HASH: usize = 32;
const SIGNATURE: usize = 64;

static ENTRIES: Shape =
    Shape { lists: &[list(7, "senders", limits::SENDERS_MAX, PSEUDONYM), list(8, "entries", limits::BATCH_ENTRIES_MAX, 0)], parts: &[] };
static HEADERS: Shape = Shape { lists: &[list(3, "headers", limits::HEADERS_PAGE_MAX, 0)], parts: &[] };
pub static ATTESTATION: Shape = Shape { lists: &[list(7, "marks", limits::MARKS_MAX, field(1))], parts: &[] };
/// What a voter holds: without marks.
static VOTED: Shape = Shape { lists: &[list(7, "marks", 0, 0)], parts: &[] };
pub static VOTE: Shape = Shape { lists: &[], parts: &[(6, &VOTED)] };
pub static SUCCESSION: Shape = Shape {
    lists: &[list_of(5, "votes", limits::VOTERS_MAX + 1, field(HASH) + field(KEY) + field(HASH) + field(SIGNATURE), &VOTE)],
    parts: &[],
};
static FORK: Shape = Shape { lists: &[list(8, "proof", limits::TREE_LEVELS_MAX + 1, HASH)], parts: &[] };
static DOUBLE_VOTE: Shape = Shape { lists: &[], parts: &[(2, &VOTE), (3, &VOTE)] };
pub static PROOF: Shape = Shape { lists: &[], parts: &[(1, &FORK), (2, &DOUBLE_VOTE)] };
/// With the hub's checkpoint as it stands, and its marks.
static STATUS: Shape = Shape { lists: &[], parts: &[(4, &ATTESTATION)] };
static FROZEN: Shape = Shape { lists: &[], parts: &[(2, &PROOF)] };
static PROVISIONALS: Shape =
    Shape { lists: &[list(2, "messages", limits::PROVISIONALS_MAX, field(PSEUDONYM) + field(SIGNATURE))], parts: &[] };
static GROUP: Shape = Shape {
    lists: &[
        list(7, "frontier", limits::TREE_LEVELS_MAX, HASH),
        list(8, "senders", limits::SENDERS_MAX, PSEUDONYM),
        list(12, "leaves", limits::LEAVES_MAX, field(PSEUDONYM) + field(SIGNATURE)),
    ],
    parts: &[(11, &ATTESTATION)],
};
static BATCH: Shape = Shape {
    lists: &[list(2, "GroupInfos", limits::BATCH_ENTRIES_MAX, 0), list(4, "proof", limits::TREE_LEVELS_MAX + 1, HASH)],
    parts: &[(1, &ENTRIES), (3, &ATTESTATION)],
};

pub static TO_SERVER: Shape = Shape { lists: &[], parts: &[] };
pub static TO_MEMBER: Shape =
    Shape { lists: &[], parts: &[(5, &ENTRIES), (10, &GROUP), (11, &HEADERS), (12, &ATTESTATION), (14, &PROVISIONALS), (15, &FROZEN)] };
pub static LINK: Shape =
    Shape { lists: &[], parts: &[(3, &BATCH), (5, &ATTESTATION), (9, &GROUP), (16, &STATUS), (19, &VOTE), (20, &PROOF)] };
pub static CONTEXT: Shape = Shape {
    lists: &[
        list(1, "roles", limits::ROLE_GRANTS_MAX, field(PSEUDONYM)),
        list(2, "invites", limits::ROOM_INVITES_MAX, field(KEY)),
        list(3, "voters", limits::VOTERS_MAX, 1),
        list(5, "voters' keys", limits::VOTERS_MAX + 1, KEY),
    ],
    parts: &[],
};
pub static ROOM_SNAPSHOT: Shape =
    Shape { lists: &[list(2, "frontier", limits::TREE_LEVELS_MAX, HASH), list(7, "senders", limits::SENDERS_MAX, 0)], parts: &[] };
pub static GROUP_SNAPSHOT: Shape = Shape {
    lists: &[
        list(5, "senders", limits::SENDERS_MAX, field(PSEUDONYM)),
        list(6, "invites", limits::ROOM_INVITES_MAX, field(KEY)),
        list(7, "co-ops", limits::SENDERS_MAX, field(KEY)),
        list(10, "voters", limits::VOTERS_MAX, 1),
        list_of(12, "terms", limits::TERMS_MAX, field(HASH), &ATTESTATION),
        list(14, "contests", limits::CONTESTS_MAX, field(HASH)),
        list_of(15, "states", limits::CONTESTS_MAX, 2, &BEFORE),
    ],
    parts: &[],
};
static BEFORE: Shape = Shape { lists: &[list(4, "invites", limits::ROOM_INVITES_MAX, field(KEY))], parts: &[] };
pub static DOCKET: Shape = Shape { lists: &[list(1, "contests", limits::CONTESTS_MAX, field(HASH))], parts: &[] };
static CHECK_IN: Shape = Shape { lists: &[list(3, "words", limits::WORDS_MAX, 1)], parts: &[] };
pub static CONTENT: Shape = Shape { lists: &[], parts: &[(2, &CHECK_IN)] };

/// Most lists and parts of one shape together.
const WIDEST: usize = 7;

/// Passes bytes whose lists are within their bounds. What else is wrong with them is for the decoder to find.
pub fn check(mut bytes: &[u8], shape: &Shape) -> Result<()> {
    let mut counts = [0; WIDEST];
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (field, len) = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => (0, 8),
            2 => (key >> 3, varint(&mut bytes)?),
            5 => (0, 4),
            // Groups: no version of the schema has any.
            _ => return Err(DecodeError::Schema),
        };
        let len = usize::try_from(len).map_err(|_| DecodeError::Schema)?;
        let (inner, rest) = bytes.split_at_checked(len).ok_or(DecodeError::Schema)?;
        bytes = rest;
        if let Some(at) = shape.lists.iter().position(|list| list.field == field) {
            count(&mut counts[at], &shape.lists[at], len)?;
            if let Some(item) = shape.lists[at].item {
                check(inner, item)?;
            }
        } else if let Some(at) = shape.parts.iter().position(|(part, _)| *part == field) {
            let seen = &mut counts[shape.lists.len() + at];
            if *seen > 0 {
                return Err(DecodeError::Schema);
            }
            *seen = 1;
            check(inner, shape.parts[at].1)?;
        }
    }
    Ok(())
}

/// The same for JSON, which is for debugging: its items stand between commas, and base64 has none.
pub fn check_json(bytes: &[u8]) -> Result<()> {
    if bytes.iter().filter(|byte| **byte == b',').count() <= limits::JSON_COMMAS_MAX { Ok(()) } else { Err(DecodeError::TooLarge("frame")) }
}

fn count(items: &mut usize, list: &List, len: usize) -> Result<()> {
    *items += 1;
    if *items > list.items_max {
        return Err(DecodeError::TooLarge(list.name));
    }
    if len < list.item_bytes_min { Err(DecodeError::Field(list.name)) } else { Ok(()) }
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    prost::encoding::decode_varint(bytes).map_err(|_| DecodeError::Schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(shape: &Shape) -> usize {
        let parts = shape.parts.iter().map(|(_, part)| widest(part));
        let items = shape.lists.iter().filter_map(|list| list.item).map(widest);
        parts.chain(items).chain([shape.lists.len() + shape.parts.len()]).max().unwrap_or(0)
    }

    #[test]
    fn every_field_has_its_place_in_the_count() {
        let shapes = [&TO_SERVER, &TO_MEMBER, &LINK, &CONTEXT, &ROOM_SNAPSHOT, &GROUP_SNAPSHOT, &CONTENT, &VOTE, &SUCCESSION, &PROOF];
        assert_eq!(shapes.into_iter().map(widest).max(), Some(WIDEST));
    }

    #[test]
    fn a_part_stands_once() {
        let headers = [0x5a, 0];
        assert_eq!(check(&headers, &TO_MEMBER), Ok(()));
        assert_eq!(check(&headers.repeat(2), &TO_MEMBER), Err(DecodeError::Schema));
        // Others may, as the schema has it: the last one counts.
        assert_eq!(check(&[0x22, 0].repeat(2), &TO_MEMBER), Ok(()));
    }

    #[test]
    fn what_is_cut_short_or_of_no_kind() {
        for bytes in [&[0x5a][..], &[0x5a, 1], &[0x08], &[0x09, 0], &[0x0d, 0], &[0x0b], &[0xff; 11]] {
            assert_eq!(check(bytes, &TO_MEMBER), Err(DecodeError::Schema), "{bytes:02x?}");
        }
    }
}
