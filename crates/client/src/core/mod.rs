//! A member's device as one pure machine: account, rooms, outbox, timeline. It knows no socket, file, clock or task.
//!
//! Whatever changes is persisted first ([`Effect::Persist`]) and sent after: ratchet state is never used twice, and nothing
//! that was promised is lost. All state is a map of keys to values, so that any store can hold it.

mod account;
mod audit;
mod certify;
mod commits;
mod compose;
mod contest;
mod facts;
mod incoming;
mod joining;
mod loose;
pub mod machine;
mod membership;
mod outbox;
mod proofs;
pub mod state;
mod terms;
pub mod timeline;

#[cfg(test)]
mod tests;

pub use machine::{Ask, Core, CoreError, Effect, Event, Item, ItemState, VerifyReport};
pub use timeline::{Row, RowState};
