//! Who is connected: sessions, rooms, fan-out, and the server `kithd`.
//!
//! ```text
//! listener ─ connection ┐                       ┌ session
//! neighbours (links) ───┼─▶ coop/driver ─▶ coop ┼ room (view, log, ledger)
//! admin (steward) ──────┘        │              └ federation's link
//!                                └─▶ storage
//! ```

pub mod admin;
pub mod config;
pub mod connection;
pub mod coop;
pub mod keys;
pub mod listener;
pub mod metrics;
pub mod neighbours;
mod queue;
pub mod room;
pub mod server;
pub mod session;
pub mod terms;
