//! How co-ops agree: the peer link, the agreement, and the verification of what a hub sends.
//!
//! Knows nothing of sessions, of MLS groups or of fan-out; what it has verified it hands up as [`link::Event`]s, and the
//! relay's rooms decide what they mean.

pub mod agreement;
pub mod backoff;
pub mod link;
pub mod mirror;
