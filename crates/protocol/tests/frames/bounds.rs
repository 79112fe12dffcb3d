//! Each bound of the decoders, reached and passed.

use std::cell::RefCell;

use bytes::Bytes;
use kith_protocol::codec::DecodeError;
use kith_protocol::content::{CheckIn, Content};
use kith_protocol::ids::{CoopName, Epoch, Hash, Pseudonym, PublicKey, RoomId, Seq, UnixSeconds};
use kith_protocol::limits;
use kith_protocol::link::{LinkFrame, Submission};
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::header::HEADER_LEN;
use kith_protocol::log::proof::{Fork, Proof};
use kith_protocol::log::provisional::Provisional;
use kith_protocol::log::succession::Vote;
use kith_protocol::member::{Entries, Group, Join, Send, ToMember, ToServer};
use kith_protocol::room::room_id;

use crate::forms::Form;
use crate::samples::{self, Samples};

/// The first number that is out of bounds.
const TOO_MUCH: u64 = 1 << 48;

pub fn sample<T: Clone>(samples: Samples<T>, name: &str) -> T {
    samples.into_iter().find(|(found, _)| *found == name).unwrap().1
}

/// The value decodes at its bound, and past it gives the field's name: as one that is too large if it takes more bytes,
/// and else as one that is out of range.
#[track_caller]
fn bound<T: Form>(field: &'static str, value: &T, change: impl Fn(&mut T, bool)) {
    let (mut within, mut past) = (value.clone(), value.clone());
    change(&mut within, false);
    change(&mut past, true);
    let error = if past.encode().len() > within.encode().len() { DecodeError::TooLarge(field) } else { DecodeError::Field(field) };
    bound_as(error, value, change);
}

#[track_caller]
fn bound_as<T: Form>(error: DecodeError, value: &T, change: impl Fn(&mut T, bool)) {
    let (mut within, mut past) = (value.clone(), value.clone());
    change(&mut within, false);
    change(&mut past, true);
    assert!(T::decode(&within.encode()) == Ok(within), "what is at its bound decodes, and past it gives {error}");
    assert_eq!(T::decode(&past.encode()).map(drop), Err(error));
}

fn number(past: bool) -> u64 {
    TOO_MUCH - u64::from(!past)
}

fn len(max: usize, past: bool) -> usize {
    max + usize::from(past)
}

fn blob(max: usize, past: bool) -> Bytes {
    vec![1; len(max, past)].into()
}

fn list<T: Clone>(item: T, max: usize, past: bool) -> Vec<T> {
    vec![item; len(max, past)]
}

/// Brings a value to a bound, or past it.
type Change<'a, T> = &'a dyn Fn(&mut T, bool);
/// Checks a field's bound with a change of the part that has it.
type Bounds<'a, T> = dyn Fn(&'static str, Change<'_, T>) + 'a;

macro_rules! variant {
    ($value:expr, $pattern:pat => $field:expr) => {
        match $value {
            $pattern => $field,
            other => panic!("not {}: {other:?}", stringify!($pattern)),
        }
    };
}
pub(crate) use variant;

#[test]
fn to_server() {
    let bound = |name, field, change: Change<'_, ToServer>| bound(field, &sample(samples::to_server(), name), change);
    let send = |field, change: Change<'_, Send>| {
        bound("send", field, &|frame, past| change(variant!(frame, ToServer::Send(send) => send), past));
    };
    let join = |field, change: Change<'_, Join>| {
        bound("join", field, &|frame, past| change(variant!(frame, ToServer::Join(join) => join), past));
    };
    bound("cursor", "cursor", &|frame, past| *variant!(frame, ToServer::Cursor { next, .. } => next) = Seq(number(past)));
    bound("open", "sequence number", &|frame, past| *variant!(frame, ToServer::Open { from, .. } => from) = Seq(number(past)));
    bound("create_room", "body", &|frame, past| {
        *variant!(frame, ToServer::CreateRoom { body, .. } => body) = blob(limits::BODY_BYTES_MAX, past);
    });
    bound("fetch_headers", "sequence number", &|frame, past| {
        *variant!(frame, ToServer::FetchHeaders { from, .. } => from) = Seq(number(past));
    });
    bound("watch", "size", &|frame, past| *variant!(frame, ToServer::Watch { size, .. } => size) = number(past));
    send("counter", &|send, past| send.counter = number(past));
    send("epoch", &|send, past| send.epoch = Epoch(number(past)));
    send("body", &|send, past| send.body = blob(limits::BODY_BYTES_MAX, past));
    send("GroupInfo", &|send, past| send.group_info = blob(limits::GROUP_INFO_BYTES_MAX, past));
    join("epoch", &|join, past| join.epoch = Epoch(number(past)));
    join("commit", &|join, past| join.commit = blob(limits::BODY_BYTES_MAX, past));
    join("GroupInfo", &|join, past| join.group_info = blob(limits::GROUP_INFO_BYTES_MAX, past));
    join("sequence number", &|join, past| join.from = Seq(number(past)));
}

fn entries_bounds(bound: &Bounds<'_, Entries>) {
    bound("entries", &|x, past| x.entries = list(x.entries[0].clone(), limits::BATCH_ENTRIES_MAX, past));
    bound("senders", &|x, past| x.new_senders = list(x.new_senders[0], limits::SENDERS_MAX, past));
    bound("sequence number", &|x, past| x.first = Seq(number(past)));
    bound("epoch", &|x, past| x.epoch = Epoch(number(past)));
    bound("time", &|x, past| x.time = number(past));
    bound("device", &|x, past| x.entries[0].device = len(limits::DEVICES_MAX - 1, past) as u16);
    bound("counter", &|x, past| x.entries[0].counter = number(past));
    bound("time", &|x, past| x.entries[0].time_delta = number(past));
    bound("body", &|x, past| x.entries[0].body = blob(limits::BODY_BYTES_MAX, past));
    bound("body", &|x, past| {
        let creation = x.entries.iter_mut().find(|entry| entry.kind == Kind::Creation).unwrap();
        creation.body = blob(limits::TREE_BYTES_MAX, past);
    });
}

fn group_bounds(bound: &Bounds<'_, Group>) {
    bound("GroupInfo", &|x, past| x.group_info = blob(limits::GROUP_INFO_BYTES_MAX, past));
    bound("tree", &|x, past| x.short_tree = blob(limits::TREE_BYTES_MAX, past));
    bound("creation", &|x, past| {
        x.creation = blob(limits::CREATION_BYTES_MAX, past);
        x.attestation.checkpoint.room = room_id(&x.creation);
    });
    bound("size", &|x, past| x.size = number(past));
    bound("frontier", &|x, past| x.frontier = list(Hash([1; 32]), limits::TREE_LEVELS_MAX, past));
    bound("senders", &|x, past| x.senders = list(Pseudonym([1; 16]), limits::SENDERS_MAX, past));
    bound("time", &|x, past| x.last_time = UnixSeconds(number(past)));
    bound("leaves", &|x, past| x.leaves = list(x.leaves[0], limits::LEAVES_MAX, past));
    bound("days", &|x, past| x.days = list(300, limits::SENDERS_MAX, past));
    bound("device", &|x, past| x.leaves[0].id.counter.device = len(limits::DEVICES_MAX - 1, past) as u16);
    bound("counter", &|x, past| x.leaves[0].id.counter.number = number(past));
    bound("succession", &|x, past| x.succession = blob(limits::SUCCESSION_BYTES_MAX, past));
    attestation_bounds(&|field, change| bound(field, &|x, past| change(&mut x.attestation, past)));
}

fn attestation_bounds(bound: &Bounds<'_, Attestation>) {
    bound("size", &|x, past| x.checkpoint.size = number(past));
    bound("marks", &|x, past| x.marks = list(x.marks[0].clone(), limits::MARKS_MAX, past));
    bound("time", &|x, past| x.marks[0].cosignature.as_mut().unwrap().0 = UnixSeconds(number(past)));
}

/// A vote's checkpoint stands without marks.
fn vote_bounds(bound: &Bounds<'_, Vote>) {
    let mark = samples::attestation(RoomId([0; 32])).marks.swap_remove(0);
    bound("size", &|x, past| x.last.checkpoint.size = number(past));
    bound("marks", &|x, past| x.last.marks = list(mark.clone(), 0, past));
}

#[test]
fn to_member() {
    let bound = |name, field, change: Change<'_, ToMember>| bound(field, &sample(samples::to_member(), name), change);
    bound("registered", "device", &|frame, past| {
        *variant!(frame, ToMember::Registered { number, .. } => number) = len(limits::DEVICES_MAX - 1, past) as u16;
    });
    bound("provisionals", "messages", &|frame, past| {
        let entries = variant!(frame, ToMember::Provisionals { entries, .. } => entries);
        *entries = list(entries[0].clone(), limits::PROVISIONALS_MAX, past);
    });
    let provisional = |field, change: Change<'_, Provisional>| {
        bound("provisionals", field, &|frame, past| {
            change(&mut variant!(frame, ToMember::Provisionals { entries, .. } => entries)[0], past);
        });
    };
    provisional("device", &|x, past| x.id.counter.device = len(limits::DEVICES_MAX - 1, past) as u16);
    provisional("counter", &|x, past| x.id.counter.number = number(past));
    provisional("epoch", &|x, past| x.epoch = Epoch(number(past)));
    provisional("time", &|x, past| x.time = UnixSeconds(number(past)));
    provisional("body", &|x, past| x.body = blob(limits::BODY_BYTES_MAX, past));
    bound("ack.stored", "counter", &|frame, past| *variant!(frame, ToMember::Ack { counter, .. } => counter) = number(past));
    bound("ack.ordered", "sequence number", &|frame, past| {
        *variant!(frame, ToMember::Ack { ordered, .. } => ordered) = Some((Seq(number(past) - 1), 60));
    });
    bound("ack.ordered", "time", &|frame, past| {
        *variant!(frame, ToMember::Ack { ordered, .. } => ordered) = Some((Seq(300), number(past)));
    });
    bound("headers", "sequence number", &|frame, past| {
        *variant!(frame, ToMember::Headers { first, .. } => first) = Seq(number(past));
    });
    bound("headers", "headers", &|frame, past| {
        *variant!(frame, ToMember::Headers { headers, .. } => headers) = list(vec![1; HEADER_LEN].into(), limits::HEADERS_PAGE_MAX, past);
    });
    bound("headers", "header", &|frame, past| {
        variant!(frame, ToMember::Headers { headers, .. } => headers)[0] = blob(HEADER_LEN, past);
    });
    entries_bounds(&|field, change| {
        bound("entries", field, &|frame, past| change(variant!(frame, ToMember::Entries(entries) => entries), past));
    });
    group_bounds(&|field, change| {
        bound("group", field, &|frame, past| change(variant!(frame, ToMember::Group { group, .. } => group), past));
    });
}

/// Whoever joins gets everything in one frame, however much of each part there is.
#[test]
fn a_group_at_all_its_limits_fits_a_frame() {
    let mut frame = sample(samples::to_member(), "group");
    let group = variant!(&mut frame, ToMember::Group { group, .. } => group);
    let coop: CoopName = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".").parse().unwrap();
    assert_eq!(coop.as_str().len(), limits::COOP_NAME_BYTES_MAX);
    group.attestation.hub = coop.clone();
    group.attestation.marks[0].coop = coop;
    let group = RefCell::new(group);
    group_bounds(&|_, change| change(&mut group.borrow_mut(), false));
    let bytes = frame.encode();
    assert!(bytes.len() <= limits::MEMBER_FRAME_BYTES_MAX, "{}", bytes.len());
    assert_eq!(ToMember::decode(&bytes), Ok(frame));
}

#[test]
fn link() {
    let bound = |name, field, change: Change<'_, LinkFrame>| bound(field, &sample(samples::link(), name), change);
    bound("hello", "expiry", &|frame, past| {
        variant!(frame, LinkFrame::Hello { certificate, .. } => certificate).not_after = UnixSeconds(number(past));
    });
    bound("hello", "incarnation", &|frame, past| {
        *variant!(frame, LinkFrame::Hello { incarnation, .. } => incarnation) = number(past);
    });
    bound("hello", "successions", &|frame, past| {
        let successions = variant!(frame, LinkFrame::Hello { successions, .. } => successions);
        *successions = list(successions[0], limits::ROOT_SUCCESSIONS_MAX, past);
    });
    bound("hello", "time", &|frame, past| {
        variant!(frame, LinkFrame::Hello { successions, .. } => successions)[0].not_after = UnixSeconds(number(past));
    });
    bound("standing", "time", &|frame, past| variant!(frame, LinkFrame::Standing(notice) => notice).at = UnixSeconds(number(past)));
    bound("agreement", "agreement", &|frame, past| {
        *variant!(frame, LinkFrame::Agreement { document, .. } => document) = blob(limits::NOTE_BYTES_MAX, past);
    });
    bound("follow", "sequence number", &|frame, past| *variant!(frame, LinkFrame::Follow { from, .. } => from) = Seq(number(past)));
    bound("attest", "size", &|frame, past| *variant!(frame, LinkFrame::Attest { size, .. } => size) = number(past));
    bound("batch", "GroupInfos", &|frame, past| {
        variant!(frame, LinkFrame::Batch(batch) => batch).group_infos = list((1, Bytes::new()), limits::BATCH_ENTRIES_MAX, past);
    });
    bound("batch", "GroupInfo", &|frame, past| {
        variant!(frame, LinkFrame::Batch(batch) => batch).group_infos[0].1 = blob(limits::GROUP_INFO_BYTES_MAX, past);
    });
    bound("batch", "proof", &|frame, past| {
        let batch = variant!(frame, LinkFrame::Batch(batch) => batch);
        batch.proof = list(batch.proof[0], limits::TREE_LEVELS_MAX + 1, past);
    });
    bound("status", "size", &|frame, past| *variant!(frame, LinkFrame::Status { size, .. } => size) = number(past));
    attestation_bounds(&|field, change| {
        bound("batch", field, &|frame, past| change(&mut variant!(frame, LinkFrame::Batch(batch) => batch).attestation, past));
    });
    bound("status", "succession", &|frame, past| {
        *variant!(frame, LinkFrame::Status { succession, .. } => succession) = blob(limits::SUCCESSION_BYTES_MAX, past);
    });
    bound("status.attested", "size", &|frame, past| *variant!(frame, LinkFrame::Status { size, .. } => size) = number(past));
    attestation_bounds(&|field, change| {
        bound("status.attested", field, &|frame, past| {
            change(variant!(frame, LinkFrame::Status { attestation, .. } => attestation).as_mut().unwrap(), past);
        });
    });
    vote_bounds(&|field, change| {
        bound("vote", field, &|frame, past| change(variant!(frame, LinkFrame::Vote(vote) => vote), past));
    });
    let submit = |field, change: Change<'_, Submission>| {
        bound("submit", field, &|frame, past| change(variant!(frame, LinkFrame::Submit { submission, .. } => submission), past));
    };
    submit("device", &|x, past| x.id.counter.device = len(limits::DEVICES_MAX - 1, past) as u16);
    submit("counter", &|x, past| x.id.counter.number = number(past));
    submit("size", &|x, past| x.base = Some((kith_protocol::ids::Term(1), Seq(number(past)))));
    submit("epoch", &|x, past| x.epoch = Epoch(number(past)));
    submit("body", &|x, past| x.body = blob(limits::BODY_BYTES_MAX, past));
    submit("GroupInfo", &|x, past| x.group_info = blob(limits::GROUP_INFO_BYTES_MAX, past));
    entries_bounds(&|field, change| {
        bound("batch", field, &|frame, past| change(&mut variant!(frame, LinkFrame::Batch(batch) => batch).entries, past));
    });
    group_bounds(&|field, change| {
        bound("group", field, &|frame, past| change(variant!(frame, LinkFrame::Group { group, .. } => group), past));
    });
}

#[test]
fn content() {
    let text = |chars: usize| "é".repeat(chars);
    let bound_as = |error, change: &dyn Fn(bool) -> Content| bound_as(error, &Content::Withdrawn, |content, past| *content = change(past));
    let content = |change: &dyn Fn(bool) -> Content| bound_as(DecodeError::Field("content"), change);
    let check_in = |error, change: Change<'_, CheckIn>| {
        bound_as(error, &|past| {
            let mut check_in = CheckIn::default();
            change(&mut check_in, past);
            Content::CheckIn(check_in)
        });
    };
    content(&|past| Content::Text(text(len(limits::TEXT_CHARS_MAX, past))));
    content(&|past| Content::Profile { name: text(len(limits::NAME_CHARS_MAX, past)) });
    let in_range = || DecodeError::Field("content");
    check_in(in_range(), &|x, past| x.pleasant = Some(len(2, past) as i8));
    check_in(in_range(), &|x, past| x.energy = Some(-(len(2, past) as i8)));
    check_in(DecodeError::TooLarge("words"), &|x, past| x.words = list("calm".into(), limits::WORDS_MAX, past));
    check_in(in_range(), &|x, past| x.words = vec![text(len(limits::WORD_CHARS_MAX, past))]);
    check_in(in_range(), &|x, past| x.note = text(len(limits::NOTE_CHARS_MAX, past)));
    check_in(in_range(), &|x, past| x.about = text(len(limits::NAME_CHARS_MAX, past)));
    check_in(DecodeError::Field("expiry"), &|x, past| x.expires = Some(UnixSeconds(number(past))));
    let key = PublicKey([0x44; 32]);
    bound_as(DecodeError::Field("expiry"), &|past| Content::InviteNotice { key, uses: 1, expires: UnixSeconds(number(past)) });
    // A scale that no i8 holds: pleasant = 128, zigzag 256.
    assert_eq!(Content::decode(&[0x12, 3, 0x08, 0x80, 0x02]), Err(DecodeError::Field("scale")));
    let franked = sample(samples::franked(), "franked");
    bound("content", &franked, |x, past| x.packed = blob(limits::CONTENT_BYTES_MAX, past));
    bound("message id", &franked, |x, past| x.message_id = number(past));
}

#[test]
fn what_stands_in_groups() {
    let context = sample(samples::room_context(), "room_context");
    bound("roles", &context, |x, past| x.roles = list(x.roles[0], limits::ROLE_GRANTS_MAX, past));
    bound("invites", &context, |x, past| x.invites = list(x.invites[0], limits::ROOM_INVITES_MAX, past));
    bound("voters' keys", &context, |x, past| x.voter_keys = list(x.voter_keys[0], limits::VOTERS_MAX + 1, past));
    bound("voters", &context, |x, past| x.voters.names = list(x.voters.names[0].clone(), limits::VOTERS_MAX, past));
    bound("expiry", &context, |x, past| x.invites[0].expires = UnixSeconds(number(past)));
    let creation = sample(samples::creation(), "creation");
    bound("time", &creation, |x, past| x.created = UnixSeconds(number(past)));
    bound("roles", &creation, |x, past| x.context.roles = list(x.context.roles[0], limits::ROLE_GRANTS_MAX, past));
    let body = sample(samples::creation_body(), "creation_body");
    bound("GroupInfo", &body, |x, past| x.group_info = blob(limits::GROUP_INFO_BYTES_MAX, past).into());
    bound("tree", &body, |x, past| x.tree = blob(limits::TREE_BYTES_MAX, past).into());
    bound("creation", &body, |x, past| x.creation = blob(limits::CREATION_BYTES_MAX, past).into());
    let certificate = sample(samples::leaf_certificate(), "leaf_certificate");
    bound("device", &certificate, |x, past| x.device = len(limits::DEVICES_MAX - 1, past) as u16);
    bound("expiry", &certificate, |x, past| x.not_after = UnixSeconds(number(past)));
}

#[test]
fn what_is_stored() {
    let room = sample(samples::room_snapshot(), "room_snapshot");
    bound("size", &room, |x, past| x.size = number(past));
    bound("frontier", &room, |x, past| x.frontier = list(x.frontier[0], limits::TREE_LEVELS_MAX, past));
    bound("epoch", &room, |x, past| x.epoch = Epoch(number(past)));
    bound("time", &room, |x, past| x.created = UnixSeconds(number(past)));
    bound("time", &room, |x, past| x.last_time = UnixSeconds(number(past)));
    bound("senders", &room, |x, past| {
        x.counters = list(vec![1], limits::SENDERS_MAX, past);
        x.activity = list(x.activity[0], limits::SENDERS_MAX, past);
    });
    bound("devices", &room, |x, past| x.counters[0] = list(1, limits::DEVICES_MAX, past));
    let group = sample(samples::group_snapshot(), "group_snapshot");
    bound("sequence number", &group, |x, past| x.last_commit = Seq(number(past)));
    bound("creation", &group, |x, past| x.creation = blob(limits::CREATION_BYTES_MAX, past));
    bound("GroupInfo", &group, |x, past| x.group_info = blob(limits::GROUP_INFO_BYTES_MAX, past));
    bound("tree", &group, |x, past| x.tree = blob(limits::TREE_BYTES_MAX, past));
    bound("senders", &group, |x, past| x.senders = list(x.senders[0].clone(), limits::SENDERS_MAX, past));
    bound("invites", &group, |x, past| x.invite_uses = list(x.invite_uses[0].clone(), limits::ROOM_INVITES_MAX, past));
    bound("uses", &group, |x, past| x.invite_uses[0].1 = list(1, limits::INVITE_USES_MAX as usize, past));
    bound("co-ops", &group, |x, past| x.coops = list(x.coops[0].clone(), limits::SENDERS_MAX, past));
    bound("succession", &group, |x, past| x.succession = blob(limits::SUCCESSION_BYTES_MAX, past));
    bound("voters", &group, |x, past| x.voters_before.names = list(x.hub.name.clone(), limits::VOTERS_MAX, past));
    attestation_bounds(&|field, change| bound(field, &group, |x, past| change(&mut x.ended[0], past)));
    bound("terms", &group, |x, past| x.ended = list(x.ended[0].clone(), limits::TERMS_MAX, past));
    bound("contests", &group, |x, past| x.docket.contests = list(x.docket.contests[0].clone(), limits::CONTESTS_MAX, past));
    bound("jury", &group, |x, past| x.docket.contests[0].jury = list(1, limits::SENDERS_MAX, past));
    bound("complaints", &group, |x, past| x.docket.contests[0].complaints = list(1, limits::SENDERS_MAX, past));
    bound("states", &group, |x, past| {
        x.befores = list(x.befores[0].clone(), limits::CONTESTS_MAX, past);
        x.docket.kept = x.befores.iter().map(|before| before.epoch).collect();
    });
    bound("tree", &group, |x, past| x.befores[0].tree = blob(limits::TREE_BYTES_MAX, past));
    bound("GroupInfo", &group, |x, past| x.befores[0].group_info = blob(limits::GROUP_INFO_BYTES_MAX, past));
    bound("senders", &group, |x, past| x.befores[0].standings = list(x.befores[0].standings[0], limits::SENDERS_MAX, past));
    let docket = sample(samples::stored_docket(), "docket");
    bound("states", &docket, |x, past| x.kept = list(Epoch(1), limits::CONTESTS_MAX, past));
    bound("contests", &docket, |x, past| x.contests = list(x.contests[0].clone(), limits::CONTESTS_MAX, past));
    let succession = sample(samples::succession(), "succession");
    bound("votes", &succession, |x, past| x.votes = list(x.votes[0].clone(), limits::VOTERS_MAX + 1, past));
    vote_bounds(&|field, change| bound(field, &succession, |x, past| change(&mut x.votes[1], past)));
    let vote = sample(samples::stored_vote(), "stored_vote");
    let fork = sample(samples::proof(), "fork");
    let in_fork =
        |change: fn(&mut Fork, bool)| move |proof: &mut Proof, past: bool| change(variant!(proof, Proof::Fork(fork) => fork), past);
    bound("size", &fork, in_fork(|x, past| x.shorter.size = number(past)));
    bound("size", &fork, in_fork(|x, past| x.longer.size = number(past)));
    bound("proof", &fork, in_fork(|x, past| x.consistency = list(Hash([1; 32]), limits::TREE_LEVELS_MAX + 1, past)));
    let votes = sample(samples::proof(), "double_vote");
    vote_bounds(&|field, change| {
        bound(field, &votes, |proof, past| change(&mut variant!(proof, Proof::DoubleVote(votes) => votes).second, past));
    });
    vote_bounds(&|field, change| bound(field, &vote, change));
    let attestation = sample(samples::stored_attestation(), "stored_attestation");
    attestation_bounds(&|field, change| bound(field, &attestation, change));
}

#[test]
fn agreement_records() {
    let record = sample(samples::agreement_record(), "agreement_record");
    bound("agreement", &record, |x, past| x.signed.as_mut().unwrap().document = vec![1; len(limits::NOTE_BYTES_MAX, past)]);
    bound("time", &record, |x, past| x.signed.as_mut().unwrap().since = UnixSeconds(number(past)));
    bound("terms", &record, |x, past| x.accepted = list(x.accepted[0].clone(), 2, past));
    bound("terms", &record, |x, past| x.accepted[0].revision = limits::AGREEMENT_REVISION_MAX + u32::from(past));
    bound("terms", &record, |x, past| x.accepted[0].notice_days = limits::AGREEMENT_DAYS_MAX + u32::from(past));
}

/// Disks flip bits: whatever is not byte for byte what was written is no attestation.
#[test]
fn a_stored_attestation_has_one_encoding() {
    let attestation = sample(samples::stored_attestation(), "stored_attestation");
    let bytes = attestation.encode();
    let numbered = [&[0x08, 5][..], &bytes].concat();
    let unknown = [&bytes[..], &[0x78, 1]].concat();
    for other in [numbered, unknown] {
        assert_eq!(Attestation::decode(&other), Err(DecodeError::Schema));
    }
}

/// Details are for people: a long one is cut at a character, both ways.
#[test]
fn long_details_are_cut() {
    let long = "a".to_owned() + &"é".repeat(limits::DETAIL_BYTES_MAX);
    let mut refused = sample(samples::to_member(), "refused");
    variant!(&mut refused, ToMember::Refused(refused) => refused).detail = long;
    let read = ToMember::decode(&refused.encode()).unwrap();
    assert_eq!(variant!(read, ToMember::Refused(refused) => refused.detail.len()), limits::DETAIL_BYTES_MAX - 1);
}
