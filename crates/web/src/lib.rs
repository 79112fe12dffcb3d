//! The wasm bridge: the client's core for a worker in a browser to drive. It adds nothing of its
//! own; the web app comes on top of it.
//!
//! So far it opens a device from what was persisted and takes binary frames of the session protocol.

use kith_client::core::{Core, Effect};
use kith_protocol::codec::{Encoding, decode_to_member};
use kith_protocol::ids::UnixSeconds;

/// A device in a worker.
pub struct Device {
    core: Core,
}

impl Device {
    /// From the entries that were persisted, and a fresh seed from the browser's randomness.
    pub fn open(seed: [u8; 32], entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Self, String> {
        Core::load(seed, entries).map(|core| Self { core }).map_err(|error| error.to_string())
    }

    /// Takes a frame from the socket; what must be persisted and sent comes back in order.
    pub fn handle_frame(&mut self, now_s: u64, bytes: Vec<u8>) -> Result<Vec<Effect>, String> {
        let frame = decode_to_member(bytes.into(), Encoding::Binary).map_err(|error| error.to_string())?;
        self.core.handle_frame(UnixSeconds(now_s), frame);
        Ok(std::iter::from_fn(|| self.core.poll_effect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_opens_and_takes_frames() {
        let mut device = Device::open([1; 32], Vec::new()).unwrap();
        assert!(device.handle_frame(1, b"\xff\xff".to_vec()).is_err());
        let ready = kith_protocol::codec::encode_to_member(&kith_protocol::member::ToMember::Ready, Encoding::Binary);
        let effects = device.handle_frame(1, ready.to_vec()).unwrap();
        assert_eq!(effects, [Effect::Event(kith_client::core::Event::Ready)]);
    }
}
