//! The member's side: groups, typed content, outbox and timeline.
//!
//! [`core`] is pure and builds for wasm32; [`native`] drives it with files and sockets. It knows nothing of storage,
//! federation or the server's crates: what it needs of them is in the protocol.

pub mod core;
pub mod mls;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
pub mod pack;
pub mod pulse;
