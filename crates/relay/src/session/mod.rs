//! One member's connection.

pub mod machine;

pub use machine::{Identity, Session, Subscription};
