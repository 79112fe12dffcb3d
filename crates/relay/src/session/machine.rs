//! The session machine: who is connected, what they may still send, and how far they have been sent each room.
//!
//! Knows nothing of rooms but their numbers.

use std::collections::BTreeMap;

use kith_protocol::codec::Encoding;
use kith_protocol::ids::{AccountHandle, ConnectionId, CoopName, DeviceHandle, Millis, PublicKey, RoomNumber, Seq};
use kith_protocol::limits::{AUTHENTICATION_MS_MAX, SESSION_FRAMES_BURST, SESSION_FRAMES_PER_SECOND, SESSION_WATCHES_MAX};
use kith_protocol::member::{RequestId, auth_statement};
use kith_protocol::rate::Bucket;
use kith_protocol::sign::{BadSignature, Signature, verify};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub device: DeviceHandle,
    pub account: AccountHandle,
    pub device_number: u16,
}

/// How far this session has been sent a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    pub next: Seq,
    /// A page is being read for it.
    pub reading: bool,
    /// Its queue was full; it reads on when the queue has drained.
    pub lagging: bool,
    /// Something was sent since it was last at the end.
    pub behind: bool,
}

/// A question that is answered when the room has come that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    pub request: RequestId,
    pub room: RoomNumber,
    pub size: u64,
    pub held: usize,
}

#[derive(Debug)]
pub struct Session {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    /// Single use: gone once it has been answered.
    nonce: Option<[u8; 32]>,
    opened: Millis,
    pub identity: Option<Identity>,
    pub subscriptions: BTreeMap<RoomNumber, Subscription>,
    pub watches: Vec<Watch>,
    /// The place of the join that this session has just handed in: it knows the body.
    pub joined: Option<(RoomNumber, Seq)>,
    /// Cursors have been read, and not every room has come to its end yet.
    pub syncing: bool,
    frames: Bucket,
}

impl Session {
    /// `nonce` must be fresh from the system's randomness.
    pub fn open(now: Millis, connection: ConnectionId, encoding: Encoding, nonce: [u8; 32]) -> Self {
        Self {
            connection,
            encoding,
            nonce: Some(nonce),
            opened: now,
            identity: None,
            subscriptions: BTreeMap::new(),
            watches: Vec::new(),
            joined: None,
            syncing: false,
            frames: Bucket::new(SESSION_FRAMES_BURST, u64::from(SESSION_FRAMES_PER_SECOND) * 1000, now),
        }
    }

    /// When it must have authenticated.
    pub fn poll_deadline(&self) -> Option<Millis> {
        self.identity.is_none().then_some(Millis(self.opened.0 + AUTHENTICATION_MS_MAX))
    }

    /// Counts a frame. `Err`: milliseconds until the next may come.
    pub fn admit(&mut self, now: Millis) -> Result<(), u32> {
        self.frames.take(now, 1)
    }

    /// The challenge, for a check that must succeed or end the session: it is gone afterwards.
    pub fn take_challenge(&mut self) -> Option<[u8; 32]> {
        self.nonce.take()
    }

    /// Checks a device's answer to this session's challenge.
    pub fn authenticate(
        &mut self,
        coop: &CoopName,
        key: &PublicKey,
        signature: &Signature,
        identity: Identity,
    ) -> Result<(), BadSignature> {
        let nonce = self.take_challenge().ok_or(BadSignature)?;
        verify(key, &auth_statement(coop, &nonce, key), signature)?;
        self.identity = Some(identity);
        Ok(())
    }

    /// `false`: too many are open.
    pub fn watch(&mut self, watch: Watch) -> bool {
        if self.watches.len() >= SESSION_WATCHES_MAX {
            return false;
        }
        self.watches.push(watch);
        true
    }

    /// All rooms have come to their end since the session began.
    pub fn is_synced(&self) -> bool {
        self.subscriptions.values().all(|subscription| !subscription.reading && !subscription.lagging)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_protocol::sign::SecretKey;

    const IDENTITY: Identity = Identity { device: DeviceHandle(1), account: AccountHandle(1), device_number: 0 };

    fn session(nonce: u8) -> Session {
        Session::open(Millis(0), ConnectionId(1), Encoding::Binary, [nonce; 32])
    }

    #[test]
    fn fault_17_a_challenge_is_answered_once_on_its_own_connection() {
        let device = SecretKey::from_seed([1; 32]);
        let coop: CoopName = "alder.test".parse().unwrap();
        let answer = |coop: &CoopName, nonce: u8| device.sign(&auth_statement(coop, &[nonce; 32], &device.public()));
        let mut here = session(7);
        let good = answer(&coop, 7);
        assert_eq!(here.authenticate(&coop, &device.public(), &good, IDENTITY), Ok(()));
        assert_eq!(here.authenticate(&coop, &device.public(), &good, IDENTITY), Err(BadSignature), "a second time");
        let mut later = session(8);
        assert_eq!(later.authenticate(&coop, &device.public(), &good, IDENTITY), Err(BadSignature), "replayed");
        assert_eq!(later.authenticate(&coop, &device.public(), &answer(&coop, 8), IDENTITY), Err(BadSignature), "one try");
        let other = answer(&"birch.test".parse().unwrap(), 9);
        assert_eq!(session(9).authenticate(&coop, &device.public(), &other, IDENTITY), Err(BadSignature), "another co-op's");
    }

    #[test]
    fn an_unauthenticated_session_has_a_deadline() {
        let mut session = session(1);
        assert_eq!(session.poll_deadline(), Some(Millis(AUTHENTICATION_MS_MAX)));
        session.identity = Some(IDENTITY);
        assert_eq!(session.poll_deadline(), None);
    }

    #[test]
    fn frames_have_a_rate() {
        let mut session = session(1);
        for _ in 0..SESSION_FRAMES_BURST {
            assert_eq!(session.admit(Millis(0)), Ok(()));
        }
        assert!(session.admit(Millis(0)).is_err_and(|wait| (1..=10).contains(&wait)));
        for _ in 0..SESSION_FRAMES_PER_SECOND {
            assert_eq!(session.admit(Millis(1000)), Ok(()));
        }
        assert!(session.admit(Millis(1000)).is_err());
    }

    #[test]
    fn watches_are_bounded() {
        let mut session = session(1);
        let watch = Watch { request: 1, room: RoomNumber(1), size: 1, held: 1 };
        (0..SESSION_WATCHES_MAX).for_each(|_| assert!(session.watch(watch)));
        assert!(!session.watch(watch));
    }
}
