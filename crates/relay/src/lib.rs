//! Who is connected: sessions, rooms, fan-out, and the server `kithd`.

pub mod coop;
pub mod room;
pub mod session;
