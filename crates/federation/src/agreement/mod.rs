//! The agreement with one neighbour: who proposed what, what both signed, and whether it stands.
//!
//! ```text
//!            both signed the same                    review date passed
//! proposed ──────────────────────▶ active ─────────────────────────────▶ due for review (goes on)
//!     ▲                             │  ▲
//!     │ propose                     │  │ resume
//!     └────────── ended ◀───────────┴──┴─── suspended
//! ```
//!
//! [`machine`] decides, pure; the link carries what is signed.

pub mod machine;

pub use machine::{Heard, Pact, PactError, Parties, State};

#[cfg(test)]
mod tests;
