//! Randomness for OpenMLS: one ChaCha20 stream per provider, fixed by its seed.
//!
//! It knows nothing of MLS and never asks the operating system: the caller brings the seed, so that the simulator
//! can repeat a run byte for byte. The seed is as secret as every key drawn from it.

use std::convert::Infallible;
use std::sync::Mutex;

use openmls_traits::random::OpenMlsRand;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// The random stream of one provider.
///
/// Two streams of one seed are equal. Reusing a seed in production reuses keys and nonces: draw it afresh from the
/// operating system at each start.
pub struct Rand {
    stream: Mutex<ChaCha20Rng>,
}

impl Rand {
    /// Starts the stream of `seed`.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self { stream: Mutex::new(ChaCha20Rng::from_seed(seed)) }
    }

    /// Fills `bytes` from the stream.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.stream.lock().expect("nothing panics while it holds the random stream").fill_bytes(bytes);
    }
}

impl OpenMlsRand for Rand {
    type Error = Infallible;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        Ok(bytes)
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Self::Error> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        Ok(bytes)
    }
}
