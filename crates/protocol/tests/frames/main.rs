//! The bytes of everything that travels or is stored: their golden form, their way there and back, and their bounds.
//!
//! A new variant does not compile until it is named in `forms.rs`, and then the tests fail until it has a golden sample
//! in `samples.rs` and a strategy in `arbitrary.rs`.

mod allocation;
mod arbitrary;
mod arbitrary_agreements;
mod arbitrary_proofs;
mod arbitrary_snapshots;
mod bounds;
mod forms;
mod golden;
mod numbers;
mod round_trip;
mod samples;
mod shapes;
