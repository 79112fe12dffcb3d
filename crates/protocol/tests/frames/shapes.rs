//! What is missing, cut short, unknown, or of a kind that there is not.

use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith_protocol::codec::DecodeError;
use kith_protocol::content::Content;
use kith_protocol::ids::{RoomId, RoomNumber};
use kith_protocol::link::LinkFrame;
use kith_protocol::log::succession::Vote;
use kith_protocol::member::{ToMember, ToServer};
use serde_json::{Value, json};

use crate::bounds::{sample, variant};
use crate::forms::{Form, JsonForm};
use crate::samples::{self, Samples};

#[test]
fn empty_and_unknown_frames() {
    fn check<T: Form + Debug>() {
        assert_eq!(T::decode(b""), Err(DecodeError::UnknownFrame));
        // Field 100, which no version has.
        assert_eq!(T::decode(&[0xa2, 0x06, 0]), Err(DecodeError::UnknownFrame));
        assert_eq!(T::decode(&[0xff; 16]), Err(DecodeError::Schema));
    }
    fn check_json<T: JsonForm>() {
        assert_eq!(T::from_json(b"{}"), Err(DecodeError::UnknownFrame));
        for bad in ["", "[]", "{\"newer\":{}}", "{\"", "\u{feff}{}", &"[".repeat(100_000), &"{\"send\":".repeat(100_000)] {
            assert_eq!(T::from_json(bad.as_bytes()), Err(DecodeError::Schema));
        }
    }
    check::<ToServer>();
    check::<ToMember>();
    check::<LinkFrame>();
    check_json::<ToServer>();
    check_json::<ToMember>();
    // A kind of content that this version does not know is content.
    assert_eq!(Content::decode(&[0xa2, 0x06, 0]), Ok(Content::Unknown));
}

/// Every place in a JSON value, as the keys and indexes that lead there.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), out)),
        _ => {}
    }
}

/// Ids, keys, hashes and signatures have one length: a byte less or none at all is an error, wherever it stands.
#[test]
fn fixed_lengths_and_missing_parts() {
    fn check<T: JsonForm>(samples: Samples<T>) {
        for (name, frame) in samples {
            let good: Value = serde_json::from_str(&frame.to_json()).unwrap();
            let mut all = Vec::new();
            places(&good, "", &mut all);
            for place in all {
                let value = good.pointer(&place).unwrap();
                let changes = match value {
                    Value::String(text) => match STANDARD.decode(text).map(|bytes| bytes.len()) {
                        Ok(fixed @ (16 | 32 | 64)) => vec![fixed - 1, fixed + 1],
                        _ => continue,
                    },
                    _ => continue,
                };
                for change in changes {
                    let mut bad = good.clone();
                    *bad.pointer_mut(&place).unwrap() = json!(STANDARD.encode(vec![1; change]));
                    let read = T::from_json(bad.to_string().as_bytes());
                    assert!(matches!(read, Err(DecodeError::Field(_))), "{name}{place} with {change} bytes: {read:?}");
                }
            }
        }
    }
    check(samples::to_server());
    check(samples::to_member());
}

#[test]
fn fields_of_a_kind() {
    let to_server = |json: Value| ToServer::from_json(json.to_string().as_bytes());
    let to_member = |json: Value| ToMember::from_json(json.to_string().as_bytes());
    assert_eq!(to_server(json!({"send": {"kind": 6}})), Err(DecodeError::Field("kind")));
    assert_eq!(to_member(json!({"entries": {"entries": [{"kind": 256}]}})), Err(DecodeError::Field("kind")));
    // Commits and creations carry the hash of their GroupInfo.
    for kind in [1, 2] {
        let commit = json!({"entries": {"entries": [{"kind": kind}]}});
        assert_eq!(to_member(commit), Err(DecodeError::Field("GroupInfo hash")));
    }
    assert_eq!(to_member(json!({"certificate": {}})), Err(DecodeError::Field("certificate")));
    assert_eq!(to_member(json!({"group": {}})), Err(DecodeError::Field("attestation")));
    for name in ["", "Alder.test", "alder..test", &"a.".repeat(150)] {
        let mut json: Value = serde_json::from_str(&sample(samples::to_server(), "fetch_group").to_json()).unwrap();
        json["fetchGroup"]["holder"] = json!(name);
        assert_eq!(to_server(json), Err(DecodeError::Field("co-op name")));
    }
    // A batch, and an attest, without their parts.
    assert_eq!(LinkFrame::decode(&[0x1a, 0]), Err(DecodeError::Field("entries")));
    assert_eq!(LinkFrame::decode(&[0x1a, 2, 0x0a, 0]), Err(DecodeError::Field("attestation")));
    assert_eq!(LinkFrame::decode(&[0x22, 0]), Err(DecodeError::Field("mark")));
    // A vote without the checkpoint that it stands on.
    let room_id = [&[0x0a, 32][..], &[1; 32]].concat();
    assert_eq!(Vote::decode(&room_id), Err(DecodeError::Field("checkpoint")));
    assert_eq!(LinkFrame::decode(&[&[0x9a, 0x01, 34][..], &room_id].concat()), Err(DecodeError::Field("checkpoint")));
}

/// The bytes of a frame's one field.
fn inner(frame: &[u8]) -> &[u8] {
    let len_at = frame.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let len_end = len_at + frame[len_at..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    &frame[len_end..]
}

/// A batch and what is attested over it are of one room.
#[test]
fn a_batch_of_one_room_attested_in_another() {
    let batch = |attested: u32| {
        let entries = sample(samples::to_member(), "entries");
        let mut attestation = sample(samples::to_member(), "attestation");
        let number = variant!(&entries, ToMember::Entries(entries) => entries.room);
        *variant!(&mut attestation, ToMember::Attestation { room, .. } => room) = RoomNumber(number.0 + attested);
        let part = |field: u8, bytes: &[u8]| [&[field << 3 | 2, bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8], bytes].concat();
        let (entries, attestation) = (entries.encode(), attestation.encode());
        LinkFrame::decode(&part(3, &[part(1, inner(&entries)), part(3, inner(&attestation))].concat()))
    };
    assert!(batch(0).is_ok());
    assert_eq!(batch(1), Err(DecodeError::Field("attestation")));
}

/// What the wire leaves out is put in by whoever knows the room.
#[test]
fn the_room_of_an_attestation() {
    let nowhere = samples::attestation(RoomId([0; 32]));
    let (room, here) = (RoomId([7; 32]), samples::attestation(RoomId([7; 32])));
    assert_eq!(kith_protocol::codec::of_room(nowhere, room), here);
    assert_eq!(here.checkpoint.room, room);
}

#[test]
fn a_role_a_standing_and_a_key_that_nobody_has() {
    let role = [&[0x0a, 20, 0x0a, 16][..], &[1; 16], &[0x10, 3]].concat();
    assert_eq!(kith_protocol::room::RoomContext::decode(&role), Err(DecodeError::Field("role")));
    let standing = [&[0x2a, 20, 0x0a, 16][..], &[1; 16], &[0x10, 5]].concat();
    assert_eq!(kith_protocol::snapshot::GroupSnapshot::decode(&standing), Err(DecodeError::Field("standing")));
    let key = [&[0x12, 35, 0x0a, 33][..], &[1; 33]].concat();
    assert_eq!(kith_protocol::room::RoomContext::decode(&key), Err(DecodeError::Field("invite key")));
}
