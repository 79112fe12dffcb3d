//! Groups: OpenMLS behind the few operations that a room needs. Nothing outside this folder sees OpenMLS.

pub mod group;
pub mod provider;
