//! What two neighbouring co-ops sign: their agreement and whether it stands, a new root key, a link key.
//!
//! No agreement, no traffic. A co-op signs only documents that it has rendered itself, from values that it has parsed
//! and its steward has said yes to; never bytes that the other supplied.

mod certificate;
mod date;
mod document;
mod record;
mod standing;
mod succession;
mod terms;

pub use certificate::LinkCertificate;
pub use date::{BadDate, Date};
pub use document::{Agreement, DocumentError};
pub use record::{Offer, Record, Signed};
pub use standing::{Notice, Standing};
pub use succession::{Inherited, RootSuccession, SuccessionError, inherit, rooms_key};
pub use terms::{Limits, Line, Rooms, Terms, TermsError};
