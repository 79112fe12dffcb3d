//! The simulator: co-ops and members in virtual time, from a seed, over the very machines that the drivers run, with real
//! MLS and the stores' model.
//!
//! The same seed takes the same decisions ([`Outcome::trace`]). [`witness`] says at once, and [`checks`] in the end, what
//! did not hold; [`mutant`] and [`tamper`] make it so, to see that they say it.

mod audit;
pub mod checks;
pub mod clock;
pub mod coop;
pub mod dice;
pub mod drive;
mod lies;
pub mod member;
pub mod mutant;
pub mod network;
pub mod nonsense;
pub mod plan;
mod restore;
pub mod script;
pub mod stand;
pub mod tamper;
pub mod trace;
pub mod weather;
pub mod wire;
pub mod witness;
pub mod world;

pub use checks::hub_of;
pub use plan::Plan;
pub use world::{Failure, Outcome, World, run};
