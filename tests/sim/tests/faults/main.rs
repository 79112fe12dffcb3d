//! Faults and attacks against a co-op and a device, with real MLS: a test is the neighbour, the hub or the member that lies.
//! Each was seen to fail with its defence taken out.

mod device;
mod forge;
mod hub;
mod insider;
mod mirror;
