//! A whole co-op's server as one pure machine: it routes between sessions, rooms and links, and knows no socket, disk,
//! clock or randomness. The driver and the simulator run the very same.
//!
//! ```text
//! inputs ──▶ [sessions] ⇄ [rooms] ⇄ [links] ──▶ effects (frames out, reads)
//!                            └──▶ one list of writes ──▶ commit ──▶ committed ──▶ acks, fan-out, forwarding
//! ```
//!
//! One commit is under way at a time; whatever is decided meanwhile goes into the next. Nothing that depends on a write
//! is told to anybody before that write is durable.

pub mod agreements;
mod compare;
pub mod driver;
mod elections;
mod feed;
mod full;
mod holders;
mod links;
pub mod machine;
mod marks;
mod members;
mod outbox;
mod parting;
mod provisional;
mod rebuild;
mod repair;
mod restore;
mod rivals;
mod scrub;
mod standstill;
pub mod status;
pub mod steward;
mod turns;
mod types;
mod undone;
mod waiting;

pub use machine::Coop;
pub use types::{Boot, Effect, Identity, Input, Read, ReadResult, Secrets};
