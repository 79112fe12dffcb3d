//! What can be made wrong on purpose, so that each check is seen failing. All of it lies in the simulator: the machines
//! are as they are.

use kith_protocol::log::header::HEADER_LEN;
use kith_storage::{Append, Write};

use crate::script::SECRET;

/// A way in which a world is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The first co-op's disk says that it has written, and has not: a crash finds what was before.
    LosesWrites,
    /// A co-op stores the text of a message beside an entry.
    StoresText,
    /// A co-op stores the checkpoint over one append with the next.
    OldCheckpoint,
    /// The second co-op stores other headers than the first.
    OtherHeaders,
    /// The first two co-ops never find each other again.
    StaysCut,
}

/// What a broken co-op keeps from one commit to the next.
#[derive(Debug, Default)]
pub struct Keeps {
    checkpoint: Option<bytes::Bytes>,
}

impl Mutant {
    /// Breaks a transaction.
    pub fn spoil(self, coop: usize, writes: &mut [Write], keeps: &mut Keeps) {
        for write in writes {
            let Write::Append(append) = write else { continue };
            match self {
                Self::StoresText => spoil_row(append, |row| row.body = bytes::Bytes::from_static(SECRET.as_bytes())),
                Self::OtherHeaders if coop == 1 => spoil_row(append, |row| {
                    let mut header = row.header.to_vec();
                    header[HEADER_LEN - 1] ^= 1;
                    row.header = header.into();
                }),
                Self::OldCheckpoint => {
                    let newer = append.checkpoint.clone();
                    append.checkpoint = keeps.checkpoint.replace(newer.clone()).unwrap_or(newer);
                }
                _ => {}
            }
        }
    }
}

fn spoil_row(append: &mut Append, spoil: impl FnOnce(&mut kith_storage::LogRow)) {
    if let Some(row) = append.rows.last_mut() {
        spoil(row);
    }
}
