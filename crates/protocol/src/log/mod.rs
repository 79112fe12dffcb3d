//! The log of a room: canonical headers, their Merkle tree, and the signed notes over it.

pub mod checkpoint;
pub mod header;
pub mod merkle;
pub mod note;
pub mod pack;
pub mod provisional;
pub mod succession;
pub mod voters;

pub use header::{Header, Kind};
