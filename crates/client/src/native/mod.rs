//! Drives the core on a machine with files and sockets.

pub mod client;
pub mod connection;
pub mod home;

pub use client::{Client, ClientError};
pub use home::{Home, HomeError};
