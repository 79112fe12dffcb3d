//! Generated from `proto/`. Private: only the codecs see these types.

#[allow(clippy::all, clippy::pedantic)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/kith.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/kith.v1.serde.rs"));
}

#[allow(clippy::all, clippy::pedantic)]
pub mod content {
    include!(concat!(env!("OUT_DIR"), "/kith.content.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/kith.content.v1.serde.rs"));
}
