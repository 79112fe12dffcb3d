//! What OpenMLS needs from outside: cryptography, randomness and a place for group state.
//!
//! Our own rather than `openmls_rust_crypto`, for three reasons: every random byte comes from one seed, so a
//! simulated run can be repeated; there is one ciphersuite, which keeps the wasm client small; and the store reports
//! what changed, so that the driver can persist it before a message leaves.
//!
//! It knows nothing of rooms, files, clocks or tasks.
//!
//! ```text
//! MlsGroup ──► Provider ─┬─ Crypto ──┐
//!                        ├─ Rand  ◄──┘  one stream for both
//!                        └─ Store ──► take_delta() ──► the driver's database
//! ```

mod crypto;
mod rand;
mod storage;

use std::sync::Arc;

use openmls_traits::OpenMlsProvider;

pub use crypto::{CIPHERSUITE, Crypto};
pub use rand::Rand;
pub use storage::{Delta, Store, StoreError};

/// The provider handed to every OpenMLS call of one client.
pub struct Provider {
    crypto: Crypto,
    rand: Arc<Rand>,
    store: Store,
}

impl Provider {
    /// A provider without any state. `seed` fixes all its randomness: see [`Rand`].
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self::from_parts(seed, [])
    }

    /// A provider over persisted state: the sum of all deltas which [`Store::take_delta`] gave out.
    #[must_use]
    pub fn from_parts(seed: [u8; 32], entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let rand = Arc::new(Rand::new(seed));
        let store = Store::default();
        store.load(entries);
        Self { crypto: Crypto::new(Arc::clone(&rand)), rand, store }
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Crypto;
    type RandProvider = Rand;
    type StorageProvider = Store;

    fn storage(&self) -> &Store {
        &self.store
    }

    fn crypto(&self) -> &Crypto {
        &self.crypto
    }

    fn rand(&self) -> &Rand {
        &self.rand
    }
}
