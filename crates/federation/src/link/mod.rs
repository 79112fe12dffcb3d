//! One link between this co-op and a neighbour.
//!
//! [`machine`] is the protocol, pure; [`tls`] is how both ends authenticate; [`driver`] is the sockets.

pub mod driver;
pub mod error;
pub mod machine;
pub mod tls;

pub use error::Refusal;
pub use machine::{Event, Link, Pins};
