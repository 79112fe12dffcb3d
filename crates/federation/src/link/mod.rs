//! One link between this co-op and a neighbour.
//!
//! [`machine`] is the protocol, pure, and `greeting` its beginning; [`tls`] is how both ends authenticate; [`driver`] is the sockets.

mod address;
pub mod driver;
pub mod error;
mod greeting;
pub mod machine;
pub mod tls;

pub use error::Refusal;
pub use machine::{Event, Face, Link, Pins, Position};
