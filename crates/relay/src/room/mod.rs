//! One room at this co-op, as its hub or as a mirror: two roles of one machine.

mod certified;
mod contest;
mod error;
pub mod ledger;
pub mod log;
pub mod machine;
pub mod offer;
mod proofs;
mod restored;
mod succession;
pub mod view;

pub use machine::{Committed, Order, Room};
pub use succession::Extent;
