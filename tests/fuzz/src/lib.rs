//! What each fuzzer does with its bytes: one function a target, panicking when a promise is broken.
//!
//! The fuzzers themselves (`src/bin/`) are built only with the feature `libfuzzer` and `config.toml`; plain builds have
//! these functions, and plain tests run them over `seeds/` and its close relatives. A crash that a fuzzer finds becomes
//! a file in `seeds/`.

pub mod device;
pub mod golden;

use std::fmt::Debug;

use bytes::Bytes;
use kith_client::pack;
use kith_protocol::agreement::Agreement;
use kith_protocol::codec::{self, DecodeError, Encoding};
use kith_protocol::contest::Complaint;
use kith_protocol::ids::{Epoch, Pseudonym, PublicKey, RoomId, UnixSeconds};
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use kith_protocol::limits::CONTENT_BYTES_MAX;
use kith_protocol::link::LinkFrame;
use kith_protocol::log::checkpoint::Checkpoint;
use kith_protocol::log::note::Note;
use kith_protocol::log::proof::Proof;
use kith_protocol::log::{self, Header};
use kith_protocol::member::{Entries, ToMember};
use kith_protocol::mls_framing;
use kith_protocol::ratchet_tree::{restore, shorten};
use kith_relay::room::view::GroupView;
use kith_relay::terms::TermsFile;

/// The room of everything here that needs one.
const ROOM: RoomId = RoomId([9; 32]);

/// Takes any bytes, and panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also its binary's and its seeds'.
pub const TARGETS: [(&str, Target); 17] = [
    ("device_group", device_group),
    ("proof", proof),
    ("to_server", to_server),
    ("to_member", to_member),
    ("link", link),
    ("content", content),
    ("pack", pack),
    ("header", header),
    ("note", note),
    ("mls_framing", mls_framing),
    ("room", room),
    ("invite_links", invite_links),
    ("snapshots", snapshots),
    ("group_view", group_view),
    ("agreement", agreement),
    ("ratchet_tree", ratchet_tree),
    ("terms", terms),
];

/// What decodes is encoded again, and that decodes to the same.
fn is_stable<T: PartialEq + Debug, B: AsRef<[u8]>>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> B,
) -> Option<T> {
    let value = decode(bytes).ok()?;
    assert_eq!(decode(encode(&value).as_ref()).as_ref(), Ok(&value));
    Some(value)
}

/// What anybody may hand to anybody: checking it needs nothing but itself.
pub fn proof(data: &[u8]) {
    if let Some(proof) = is_stable(data, codec::decode_proof, codec::encode_proof) {
        let _ = proof.verify();
        assert_eq!(Proof::from_file(&proof.to_file()), Ok(proof));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Proof::from_file(text);
    }
}

/// A frame that a member sends, in both encodings.
pub fn to_server(data: &[u8]) {
    for encoding in Encoding::ALL {
        let decode = |bytes: &[u8]| codec::decode_to_server(Bytes::copy_from_slice(bytes), encoding);
        let frame = is_stable(data, decode, |frame| codec::encode_to_server(frame, encoding));
        if let Some(frame) = frame {
            for other in Encoding::ALL {
                assert_eq!(codec::decode_to_server(codec::encode_to_server(&frame, other), other), Ok(frame.clone()));
            }
        }
    }
}

/// A frame that a co-op sends to its member, in both encodings, and the headers that the member rebuilds.
pub fn to_member(data: &[u8]) {
    for encoding in Encoding::ALL {
        let decode = |bytes: &[u8]| codec::decode_to_member(Bytes::copy_from_slice(bytes), encoding);
        let frame = is_stable(data, decode, |frame| codec::encode_to_member(frame, encoding));
        if let Some(ToMember::Entries(entries)) = &frame {
            unpack(entries);
        }
    }
}

/// A frame of a link, and the headers that a mirror rebuilds.
pub fn link(data: &[u8]) {
    let decode = |bytes: &[u8]| codec::decode_link(Bytes::copy_from_slice(bytes));
    if let Some(LinkFrame::Batch(batch)) = is_stable(data, decode, codec::encode_link) {
        unpack(&batch.entries);
    }
}

fn unpack(entries: &Entries) {
    let mut senders = vec![Pseudonym([1; 16]); entries.first_new_sender.min(8) as usize];
    let created = UnixSeconds(1_790_000_000);
    if let Ok(unpacked) = log::pack::unpack(entries, &ROOM, created, &mut senders) {
        assert_eq!(unpacked.len(), entries.entries.len());
        assert!(unpacked.iter().all(|entry| Header::decode(&entry.header.encode()) == Ok(entry.header)));
    }
}

/// What members say, and the franking around it.
pub fn content(data: &[u8]) {
    is_stable(data, codec::decode_content, codec::encode_content);
    if let Some(franked) = is_stable(data, codec::decode_franked, codec::encode_franked) {
        let _ = pack::unpack(franked.packing, &franked.packed).map(|content| codec::decode_content(&content));
    }
}

/// Packing and padding: what comes from others stays within its bound, and what goes out comes back.
pub fn pack(data: &[u8]) {
    let unpadded = pack::unpad(data);
    assert!(unpadded.is_none_or(|inner| inner.len() < data.len()));
    for packing in [pack::PLAIN, pack::DEFLATE_1] {
        assert!(pack::unpack(packing, data).map_or(0, |content| content.len()) <= CONTENT_BYTES_MAX);
    }
    if data.len() <= CONTENT_BYTES_MAX {
        let (packing, packed) = pack::pack(data);
        assert_eq!(pack::unpack(packing, &packed).as_deref(), Ok(data));
        assert_eq!(pack::unpad(&pack::pad(packed.clone())), Some(packed.as_slice()));
    }
}

/// The canonical header: one encoding.
pub fn header(data: &[u8]) {
    if let Ok(header) = Header::decode(data) {
        assert_eq!(header.encode(), data);
    }
    // The body of an entry that says of another that it cannot be followed; it has one form, too.
    if let Some(complaint) = Complaint::decode(data) {
        assert_eq!(complaint.encode(), data);
    }
}

/// Signed notes and the checkpoints in them: one rendering.
pub fn note(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.render(), text);
        let _ = note.verify("alder.test", &PublicKey([1; 32]));
        let _ = Checkpoint::parse(&note.text);
    }
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.text(), text);
    }
}

/// What a steward writes of an agreement: terms that are taken come out of their own rendering as they were.
pub fn terms(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(terms) = TermsFile::parse(text).and_then(TermsFile::into_terms) {
        assert_eq!(TermsFile::from(&terms).into_terms().ok(), Some(terms));
    }
}

/// The short form of an application message and the MLS message: each gives back the other's exact bytes.
pub fn mls_framing(data: &[u8]) {
    let epoch = Epoch(258);
    if let Ok(full) = mls_framing::restore(data, &ROOM, epoch) {
        assert_eq!(mls_framing::shorten(&full, &ROOM, epoch).as_deref(), Ok(data));
    }
    if let Ok(short) = mls_framing::shorten(data, &ROOM, epoch) {
        assert_eq!(mls_framing::restore(&short, &ROOM, epoch).as_deref(), Ok(data));
    }
}

/// What stands in groups: contexts, creations, certificates and admissions.
pub fn room(data: &[u8]) {
    let context = is_stable(data, codec::decode_context, codec::encode_context);
    let _ = context.map(|context| context.check());
    is_stable(data, codec::decode_creation, codec::encode_creation);
    is_stable(data, codec::decode_creation_body, codec::encode_creation_body);
    is_stable(data, codec::decode_certificate, codec::encode_certificate);
    is_stable(data, codec::decode_admission, codec::encode_admission);
}

/// Links that people paste.
pub fn invite_links(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(link) = MembershipLink::parse(text) {
        assert_eq!(MembershipLink::parse(&link.render()).map(|again| again.render()), Ok(link.render()));
    }
    if let Ok(link) = RoomLink::parse(text) {
        assert_eq!(RoomLink::parse(&link.render()).map(|again| again.render()), Ok(link.render()));
    }
}

/// The text of an agreement: one writing. And what a co-op remembers of one.
pub fn agreement(data: &[u8]) {
    if let Ok(agreement) = Agreement::parse(data) {
        assert_eq!(agreement.document(), data);
    }
    is_stable(data, codec::decode_agreement_record, codec::encode_agreement_record);
}

/// What a co-op reads back from its disk.
pub fn snapshots(data: &[u8]) {
    is_stable(data, codec::decode_room_snapshot, codec::encode_room_snapshot);
    is_stable(data, |bytes| codec::decode_group_snapshot(ROOM, bytes), codec::encode_group_snapshot);
    if let Ok(attestation) = codec::decode_attestation(ROOM, data) {
        assert_eq!(codec::encode_attestation(&attestation), data);
    }
    is_stable(data, codec::decode_docket, codec::encode_docket);
    is_stable(data, codec::decode_vote, codec::encode_vote);
    is_stable(data, codec::decode_succession, codec::encode_succession);
}

/// A server's public view of a group. The first byte chooses: 0 opens one from a pair of GroupInfo (after its length, two
/// bytes) and tree; anything else stages the rest as a commit of a real group.
pub fn group_view(data: &[u8]) {
    thread_local! {
        static REAL: GroupView = real_group();
    }
    match data.split_first() {
        Some((0, rest)) => {
            let Some((len, rest)) = rest.split_first_chunk::<2>() else { return };
            let (group_info, tree) = rest.split_at(rest.len().min(u16::from_be_bytes(*len).into()));
            if let Ok(view) = GroupView::open(group_info, tree) {
                let _ = (view.context(), view.leaves(), view.epoch());
                assert!(GroupView::open(group_info, &view.tree_bytes()).is_ok());
            }
        }
        Some((_, commit)) => {
            let _ = REAL.with(|view| view.stage(commit).map(|staged| staged.facts));
        }
        None => {}
    }
}

/// A ratchet tree, whole or in short form.
pub fn ratchet_tree(data: &[u8]) {
    let senders = [Pseudonym([9; 16])];
    for tree in [Ok(data.to_vec()), restore(data, &senders)].into_iter().flatten() {
        if let Ok(short) = shorten(&tree, &senders) {
            assert_eq!(restore(&short, &senders), Ok(tree));
        } else {
            assert_eq!(tree, data, "what was restored has a short form");
        }
    }
}

/// A device's side of a group. The first byte chooses: 0 joins by a pair of GroupInfo (after its length, two bytes) and tree;
/// 1 stages the rest as a commit, anything else opens it as a message, both in a real group of two.
pub fn device_group(data: &[u8]) {
    thread_local! {
        static REAL: std::cell::RefCell<device::Device> = device::Device::real().into();
    }
    REAL.with_borrow_mut(|device| match data.split_first() {
        Some((0, rest)) => {
            let Some((len, rest)) = rest.split_first_chunk::<2>() else { return };
            let (group_info, tree) = rest.split_at(rest.len().min(u16::from_be_bytes(*len).into()));
            let _ = device.join(group_info, tree);
        }
        Some((1, commit)) => drop(device.stage(commit)),
        Some((_, message)) => drop(device.open(message)),
        None => {}
    });
}

/// Of the seeds `commit` and `join`, each made by OpenMLS for this group of one.
fn real_group() -> GroupView {
    let (group_info, tree) = (include_bytes!("group/group_info.bin"), include_bytes!("group/tree.bin"));
    GroupView::open(group_info, tree).expect("the group was real when it was written")
}

#[cfg(test)]
mod tests;
