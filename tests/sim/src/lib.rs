//! The simulator: co-ops and members in virtual time, from a seed, over the very machines that the drivers run, with real
//! MLS and the stores' model. A connection delivers in order until it is cut; what was on its way is lost then.
//!
//! The same seed takes the same decisions ([`Outcome::trace`]). [`checks`] says what must hold in the end.

pub mod checks;
pub mod coop;
pub mod dice;
pub mod member;
pub mod stand;
pub mod tamper;
pub mod world;

pub use world::{Outcome, Plan, World, run};
