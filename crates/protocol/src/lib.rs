//! What may be said: types, limits, ids, framing, the log's hashing and signatures, and the rules of a room.
//!
//! Pure: no clock, no task, no randomness of its own; builds for wasm32. It knows nothing of sockets, databases or MLS
//! group state. Generated protobuf types stay inside [`codec`]'s private `wire` module.
//!
//! ```text
//! ids, limits, time ── sign ── log (header, merkle, note, checkpoint) ── judge ── contest
//!                         └── credential, admission, room, frank, invite_link
//! member, link, content ── codec ── wire (generated, private)
//! deflate, mls_framing ── ratchet_tree
//! ```

pub mod admission;
pub mod agreement;
pub mod codec;
pub mod content;
pub mod contest;
pub mod credential;
pub mod deflate;
pub mod error;
pub mod frank;
pub mod ids;
pub mod invite_link;
pub mod judge;
pub mod limits;
pub mod link;
pub mod log;
pub mod member;
pub mod mls_framing;
pub mod ratchet_tree;
pub mod rate;
pub mod room;
pub mod sign;
pub mod snapshot;
mod wire;
