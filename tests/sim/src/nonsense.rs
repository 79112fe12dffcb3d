//! A member whose commits nobody can follow: everything that the public view of a group checks is right, the confirmation tag
//! is not.

use bytes::Bytes;
use kith_protocol::member::Send;
use kith_protocol::sign::SecretKey;

/// A tag or a MAC: its length, then 32 bytes.
const TAG: usize = 1 + 32;
/// The signer's index and its signature, with the length in two bytes, at the end of a GroupInfo.
const SIGNER: usize = 4;
const SIGNATURE: usize = 2 + 64;
/// Version and wire format before what is in an MLSMessage (RFC 9420, section 6).
const MESSAGE_HEAD: usize = 4;

/// RFC 9000 section 16, as far as it is needed here.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let length = match bytes.len() {
        len @ 0..=63 => vec![len as u8],
        len => (0x4000 | u16::try_from(len).expect("a short one")).to_be_bytes().to_vec(),
    };
    [&length, bytes].concat()
}

/// What RFC 9420 section 5.1.2 has signed.
fn labelled(label: &str, content: &[u8]) -> Vec<u8> {
    [with_length(format!("MLS 1.0 {label}").as_bytes()), with_length(content)].concat()
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonsense {
    /// Another confirmation tag.
    Confirmation,
    /// No membership tag. Nothing that is signed covers it, and servers have no key to check it with.
    Membership,
}

/// Turns a member's good commit into one that nobody can follow.
pub fn spoil(send: &mut Send, leaf: &SecretKey, nonsense: Nonsense) {
    match nonsense {
        Nonsense::Confirmation => confirm_nothing(send, leaf),
        Nonsense::Membership => {
            let whole = send.body.len() - TAG;
            assert_eq!(send.body[whole], 32, "the tag's length");
            send.body = [&send.body[..whole], &[0]].concat().into();
        }
    }
}

/// With a GroupInfo that fits it.
fn confirm_nothing(send: &mut Send, leaf: &SecretKey) {
    let mut commit = send.body.to_vec();
    // The confirmation tag stands before the membership tag at the very end, and outside of what is signed.
    let tag = commit.len() - 2 * TAG + 1;
    commit[tag] ^= 1;
    let mut info = send.group_info.to_vec();
    let signature = info.len() - SIGNATURE;
    let same_tag = signature - SIGNER - TAG + 1;
    assert_eq!(info[same_tag - 1], 32, "the tag's length");
    info[same_tag] ^= 1;
    assert_eq!(info[same_tag..same_tag + 32], commit[tag..tag + 32], "the GroupInfo has the commit's tag");
    let signed = leaf.sign_mls(&labelled("GroupInfoTBS", &info[MESSAGE_HEAD..signature]));
    info[signature + 2..].copy_from_slice(&signed.0);
    (send.body, send.group_info) = (Bytes::from(commit), Bytes::from(info));
}
