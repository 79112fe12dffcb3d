//! TLS of a link between two co-ops: TLS 1.3, and both ends prove possession of an Ed25519 *raw public key*
//! (RFC 7250; Ed25519 keys as in RFC 8410). No X.509, no names, no certificate authorities, no clock.
//!
//! What a finished handshake says is exactly one thing: *the peer holds the private half of this key*
//! ([`peer_link_key`]). The verifiers here accept **any** well-formed Ed25519 key, because which neighbour the key
//! belongs to is decided one layer up, by the first frame on the link: a certificate by the pinned root over exactly
//! this key. Until that frame has been checked the peer is a stranger, and nothing it sends is processed. That also
//! makes rotation of keys and pins a matter of certificates: no configuration is rebuilt.
//!
//! ```text
//!   TCP ── TLS 1.3 (this file) ── peer_link_key ── first frame: certificate over that key ── link is up
//!          "holds key K"          ALPN, version     "K is neighbour N"
//! ```
//!
//! Three properties the layer above builds on:
//!
//! - **No resumption, no early data, on either end.** A resumed session replays an identity without a new proof, and so
//!   would outlive the removal of a pin.
//! - **A client's finished handshake is not yet the server's consent.** In TLS 1.3 the client is done before the server
//!   has looked at the client's key, so a link counts as up only after the server's first frame.
//! - **A peer that offers no ALPN passes the handshake** (RFC 7301 makes the extension optional). [`peer_link_key`]
//!   refuses it, and so is the only way to learn who is on the other end.
//!
//! This file knows nothing of sockets, pins, neighbours or frames, and reads neither a process-wide crypto provider nor
//! the environment.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, PeerIncompatible, PeerMisbehaved,
    ProtocolVersion, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use thiserror::Error;

/// The application protocol both ends of a link negotiate (ALPN, RFC 7301).
///
/// The number changes when frames change so that older software could not even refuse them politely.
pub const ALPN: &[u8] = b"kith-link/1";

/// Length of an Ed25519 seed and of an Ed25519 public key, in bytes (RFC 8032, section 5.1).
const KEY_LEN: usize = 32;

/// Everything before the seed in a PKCS#8 version 1 private key (RFC 8410, section 7): version 0, id-Ed25519, and the
/// seed as an OCTET STRING within an OCTET STRING.
///
/// Version 1 leaves the public key out, so there is no second value that could disagree with the seed.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, // SEQUENCE, 46 bytes
    0x02, 0x01, 0x00, // INTEGER 0, version
    0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, // SEQUENCE { OID 1.3.101.112, id-Ed25519 }
    0x04, 0x22, // OCTET STRING, 34 bytes
    0x04, 0x20, // OCTET STRING, 32 bytes: the seed follows
];

/// Everything before the key in an Ed25519 SubjectPublicKeyInfo (RFC 8410, section 4).
///
/// DER has one encoding for each value, so a comparison with these bytes is the whole parser.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, // SEQUENCE, 42 bytes
    0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, // SEQUENCE { OID 1.3.101.112, id-Ed25519 }
    0x03, 0x21, 0x00, // BIT STRING, 33 bytes, no unused bits: the key follows
];

/// The encodings of the points of small order, sign bit cleared; with either sign bit they are all there are.
///
/// Under such a key a signature can be made without any secret, and the TLS library's verifier takes it (RFC 8032 leaves
/// the check out). Nobody has one by accident. Refusing them keeps it true that a handshake proves possession.
const WEAK_KEYS: [[u8; KEY_LEN]; 7] = [
    // y = 0, order 4
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    // y = 1, the neutral point
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    // order 8
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
        0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    // order 8, the other y
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
        0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    // y = -1, order 2
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    // y = 0, not reduced
    [
        0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    // y = 1, not reduced
    [
        0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
];

/// Why a link has no TLS identity or no TLS peer. Variants are by blame.
///
/// A handshake that fails is not among them: that arrives as a [`rustls::Error`] from the connection.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Our own state is wrong: the TLS library does not take the seed of this co-op's link key.
    #[error("this co-op's link key cannot be used; restore it from a backup or make a new one")]
    OwnKey(#[source] rustls::Error),
    /// We are broken: the TLS library refuses the configuration that this file makes.
    #[error("the TLS library refuses the link configuration; this is a bug in kith")]
    Library(#[source] rustls::Error),
    /// The caller asked too early: the peer has proved nothing before the handshake is over.
    #[error("the TLS handshake of the link is not finished; this is a bug in kith")]
    Handshaking,
    /// The peer is incompatible: it does not speak this protocol, most likely not a co-op or a newer one.
    #[error("the other end did not agree on the link protocol kith-link/1; check the address and its version")]
    PeerProtocol,
    /// The peer is incompatible: another version than TLS 1.3 was agreed.
    ///
    /// Cannot happen with the configurations made here; it protects against one made elsewhere.
    #[error("the other end did not agree on TLS 1.3 but on {0:?}")]
    PeerVersion(Option<ProtocolVersion>),
    /// The peer misbehaved: it authenticated with something else than one Ed25519 raw public key.
    ///
    /// Cannot happen with the configurations made here; it protects against one made elsewhere.
    #[error("the other end did not present an Ed25519 key")]
    PeerKey,
}

/// The key with which this co-op authenticates on its links, in both roles.
///
/// Cloning is cheap and shares the key. The private half stays in memory, unwiped, for as long as a clone or a
/// configuration made from it lives. Who learns it can pass for this co-op on a link until the root's certificate over
/// the key ends; it signs nothing but handshakes.
#[derive(Clone)]
pub struct LinkIdentity {
    certified: Arc<CertifiedKey>,
    public_key: [u8; KEY_LEN],
}

impl LinkIdentity {
    /// Makes the identity from a 32-byte Ed25519 seed (RFC 8032, section 5.1.5: the private key).
    ///
    /// Any 32 bytes are a valid seed; that they are secret and random is the caller's promise.
    ///
    /// # Errors
    ///
    /// [`TlsError::OwnKey`] if the TLS library does not take the key.
    pub fn from_seed(seed: &[u8; KEY_LEN]) -> Result<Self, TlsError> {
        let mut pkcs8 = [0; PKCS8_PREFIX.len() + KEY_LEN];
        pkcs8[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
        pkcs8[PKCS8_PREFIX.len()..].copy_from_slice(seed);

        let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(TlsError::OwnKey)?;
        // The public half comes from the signing key itself, so the two cannot disagree.
        let spki =
            key.public_key().ok_or(TlsError::OwnKey(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)))?.into_owned();
        let public_key = ed25519_key(&spki).ok_or(TlsError::OwnKey(bad_key()))?;
        Ok(Self { certified: Arc::new(certified_key(&spki, key)), public_key })
    }

    /// The public half: what the peer's [`peer_link_key`] returns, and what the root certifies.
    pub fn public_key(&self) -> [u8; KEY_LEN] {
        self.public_key
    }

    /// The configuration of the end that accepts links. Make it once; it fits every neighbour.
    ///
    /// The peer must authenticate. Any Ed25519 key is accepted: see the module's description.
    ///
    /// # Errors
    ///
    /// [`TlsError::Library`] if the TLS library refuses the configuration.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyEd25519Key::new(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Library)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.certified.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each of these alone ends resumption or early data. They are stated, all of them, because a resumed session
        // does not come past the verifier, and because a default may change.
        config.send_tls13_tickets = 0;
        config.max_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        // Nothing is said to a client that has not authenticated yet.
        config.send_half_rtt_data = false;
        Ok(Arc::new(config))
    }

    /// The configuration of the end that opens links. Make it once; it fits every neighbour, as no state of one
    /// connection is kept for the next.
    ///
    /// Any Ed25519 key is accepted from the server: see the module's description. Connect with [`dummy_server_name`].
    ///
    /// # Errors
    ///
    /// [`TlsError::Library`] if the TLS library refuses the configuration.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyEd25519Key::new(&provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Library)?
            // The verifier proves possession of a key; what the builder calls dangerous is that it checks no name.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.certified.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for LinkIdentity {
    /// Shows the public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkIdentity").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// The Ed25519 key that the peer of a finished handshake has proved to hold.
///
/// The key says nothing yet about *who* the peer is, and may even be our own. On the client's side the server may still
/// refuse us after this returned. Works on either end: `peer_link_key(stream.get_ref().1)` with tokio-rustls.
///
/// # Errors
///
/// - [`TlsError::Handshaking`] before the handshake is finished;
/// - [`TlsError::PeerVersion`] unless TLS 1.3 was agreed;
/// - [`TlsError::PeerProtocol`] unless [`ALPN`] was agreed;
/// - [`TlsError::PeerKey`] unless the peer authenticated with one Ed25519 raw public key.
pub fn peer_link_key(conn: &CommonState) -> Result<[u8; KEY_LEN], TlsError> {
    if conn.is_handshaking() {
        return Err(TlsError::Handshaking);
    }
    match conn.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => {}
        other => return Err(TlsError::PeerVersion(other)),
    }
    if conn.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::PeerProtocol);
    }
    match conn.peer_certificates() {
        Some([spki]) => ed25519_key(spki).ok_or(TlsError::PeerKey),
        _ => Err(TlsError::PeerKey),
    }
}

/// The server name to open a link with. The TLS library asks for one; it is neither sent nor checked.
pub fn dummy_server_name() -> ServerName<'static> {
    ServerName::from(Ipv4Addr::UNSPECIFIED)
}

/// Accepts every peer that proves possession of an Ed25519 raw public key, and nobody else.
///
/// If this fails, an attacker is whoever it wishes to be on a link.
#[derive(Debug)]
struct AnyEd25519Key {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyEd25519Key {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }

    /// The peer sends one key and no chain (RFC 8446, section 4.4.2).
    fn check_key(key: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !chain.is_empty() {
            return Err(bad_key());
        }
        ed25519_key(key).map(drop).ok_or_else(bad_key)
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // The provider's algorithms are more than the one that we offer.
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for AnyEd25519Key {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::check_key(key, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyEd25519Key {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::check_key(key, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// The key within an Ed25519 SubjectPublicKeyInfo of 44 bytes; `None` for anything else, and for a key of small order.
fn ed25519_key(spki: &[u8]) -> Option<[u8; KEY_LEN]> {
    let key: [u8; KEY_LEN] = spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    let mut unsigned = key;
    unsigned[KEY_LEN - 1] &= 0x7f;
    (!WEAK_KEYS.contains(&unsigned)).then_some(key)
}

/// With raw public keys the TLS library carries the SubjectPublicKeyInfo where a certificate would be.
fn certified_key(spki: &[u8], key: Arc<dyn SigningKey>) -> CertifiedKey {
    CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], key)
}

/// The error, and by it the alert `bad_certificate`, for all that is no Ed25519 raw public key.
fn bad_key() -> rustls::Error {
    CertificateError::BadEncoding.into()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Write};
    use std::ops::DerefMut;

    use rustls::client::ResolvesClientCert;
    use rustls::server::ResolvesServerCert;
    use rustls::{AlertDescription, ClientConnection, ConnectionCommon, HandshakeKind, ServerConnection, SideData};

    use super::*;

    /// RFC 8410, section 10.3: a seed and the public key that belongs to it, after their DER prefixes.
    const RFC8410_SEED: [u8; KEY_LEN] = [
        0xd4, 0xee, 0x72, 0xdb, 0xf9, 0x13, 0x58, 0x4a, 0xd5, 0xb6, 0xd8, 0xf1, 0xf7, 0x69, 0xf8, 0xad, 0x3a, 0xfe, 0x7c, 0x28, 0xcb, 0xf1,
        0xd4, 0xfb, 0xe0, 0x97, 0xa8, 0x8f, 0x44, 0x75, 0x58, 0x42,
    ];
    const RFC8410_KEY: [u8; KEY_LEN] = [
        0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96, 0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6,
        0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
    ];

    /// A handshake takes three flights; whatever needs this many does not end.
    const ROUNDS_MAX: usize = 16;

    struct Pair {
        client: ClientConnection,
        server: ServerConnection,
    }

    /// Which end refused, and with what. The other end then has an alert in its hands.
    #[derive(Debug)]
    enum Refused {
        ByClient(rustls::Error),
        ByServer(rustls::Error),
    }

    fn identity(seed: u8) -> LinkIdentity {
        LinkIdentity::from_seed(&[seed; KEY_LEN]).unwrap()
    }

    fn server_config(seed: u8) -> ServerConfig {
        Arc::unwrap_or_clone(identity(seed).server_config().unwrap())
    }

    fn client_config(seed: u8) -> ClientConfig {
        Arc::unwrap_or_clone(identity(seed).client_config().unwrap())
    }

    fn new_pair(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Pair {
        Pair {
            client: ClientConnection::new(client.clone(), dummy_server_name()).unwrap(),
            server: ServerConnection::new(server.clone()).unwrap(),
        }
    }

    /// Moves what `from` has to say to `to`. Says how many bytes that was.
    fn carry<S: SideData, T: SideData>(
        from: &mut impl DerefMut<Target = ConnectionCommon<S>>,
        to: &mut impl DerefMut<Target = ConnectionCommon<T>>,
    ) -> Result<usize, rustls::Error> {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).unwrap();
        }
        let mut wire_in = Cursor::new(&wire);
        while (wire_in.position() as usize) < wire.len() {
            to.read_tls(&mut wire_in).unwrap();
            to.process_new_packets()?;
        }
        Ok(wire.len())
    }

    /// Carries flights to and fro until neither end has anything to say.
    fn run(pair: &mut Pair) -> Result<(), Refused> {
        for _ in 0..ROUNDS_MAX {
            let sent = carry(&mut pair.client, &mut pair.server).map_err(Refused::ByServer)?;
            let answered = carry(&mut pair.server, &mut pair.client).map_err(Refused::ByClient)?;
            if sent + answered == 0 {
                return Ok(());
            }
        }
        panic!("the handshake does not end");
    }

    fn handshake(client: ClientConfig, server: ServerConfig) -> Result<Pair, Refused> {
        let mut pair = new_pair(&Arc::new(client), &Arc::new(server));
        run(&mut pair).map(|()| pair)
    }

    /// A raw public key of one identity with the private key of another.
    fn stolen_key(shown: u8, held: u8) -> Arc<CertifiedKey> {
        let spki = identity(shown).certified.cert[0].to_vec();
        Arc::new(certified_key(&spki, identity(held).certified.key.clone()))
    }

    #[derive(Debug)]
    struct SaysRawKeysButHasNone;

    impl ResolvesClientCert for SaysRawKeysButHasNone {
        fn resolve(&self, _root_hint_subjects: &[&[u8]], _sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn only_raw_public_keys(&self) -> bool {
            true
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    /// Offers a certificate in the X.509 way: without the extension of RFC 7250.
    #[derive(Debug)]
    struct OffersX509(Arc<CertifiedKey>);

    impl ResolvesClientCert for OffersX509 {
        fn resolve(&self, _root_hint_subjects: &[&[u8]], _sigschemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    impl ResolvesServerCert for OffersX509 {
        fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
    }

    #[test]
    fn seed_and_public_key_are_those_of_rfc_8410() {
        let identity = LinkIdentity::from_seed(&RFC8410_SEED).unwrap();
        assert_eq!(identity.public_key(), RFC8410_KEY);
        let spki = &identity.certified.cert[0];
        assert_eq!(spki.len(), 44);
        assert_eq!(spki[..12], SPKI_PREFIX);
        assert_eq!(spki[12..], RFC8410_KEY);
    }

    #[test]
    fn debug_shows_no_private_key() {
        let identity = LinkIdentity::from_seed(&RFC8410_SEED).unwrap();
        let shown = format!("{identity:?}");
        assert!(shown.contains(&format!("{RFC8410_KEY:?}")));
        assert!(!shown.contains(&format!("{RFC8410_SEED:?}")));
    }

    #[test]
    fn both_ends_learn_the_key_of_the_other() {
        let mut pair = handshake(client_config(1), server_config(2)).unwrap();
        assert_eq!(peer_link_key(&pair.server).unwrap(), identity(1).public_key());
        assert_eq!(peer_link_key(&pair.client).unwrap(), identity(2).public_key());
        assert_eq!(pair.server.server_name(), None);

        pair.client.writer().write_all(b"hello").unwrap();
        run(&mut pair).unwrap();
        let mut heard = [0; 5];
        pair.server.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn no_key_before_the_handshake_is_over() {
        let mut pair = new_pair(&Arc::new(client_config(1)), &Arc::new(server_config(2)));
        carry(&mut pair.client, &mut pair.server).unwrap();
        carry(&mut pair.server, &mut pair.client).unwrap();
        // The client is done; the server has not seen the client's key yet.
        assert!(peer_link_key(&pair.client).is_ok());
        assert!(matches!(peer_link_key(&pair.server), Err(TlsError::Handshaking)));
    }

    #[test]
    fn no_alpn_passes_the_handshake_but_gives_no_key() {
        let mut client = client_config(1);
        client.alpn_protocols.clear();
        let pair = handshake(client, server_config(2)).unwrap();
        for end in [peer_link_key(&pair.client), peer_link_key(&pair.server)] {
            assert!(matches!(end, Err(TlsError::PeerProtocol)), "{end:?}");
        }

        let mut server = server_config(2);
        server.alpn_protocols.clear();
        let pair = handshake(client_config(1), server).unwrap();
        for end in [peer_link_key(&pair.client), peer_link_key(&pair.server)] {
            assert!(matches!(end, Err(TlsError::PeerProtocol)), "{end:?}");
        }
    }

    #[test]
    fn another_alpn_fails_the_handshake() {
        let mut client = client_config(1);
        client.alpn_protocols = vec![b"kith-link/2".to_vec()];
        let refused = handshake(client, server_config(2)).err();
        assert!(matches!(refused, Some(Refused::ByServer(rustls::Error::NoApplicationProtocol))), "{refused:?}");
    }

    #[test]
    fn another_alpn_on_both_ends_gives_no_key() {
        let mut client = client_config(1);
        let mut server = server_config(2);
        client.alpn_protocols = vec![b"h2".to_vec()];
        server.alpn_protocols = vec![b"h2".to_vec()];
        let pair = handshake(client, server).unwrap();
        assert!(matches!(peer_link_key(&pair.client), Err(TlsError::PeerProtocol)));
    }

    #[test]
    fn client_without_a_key_is_refused() {
        let mut client = client_config(1);
        client.client_auth_cert_resolver = Arc::new(SaysRawKeysButHasNone);
        let mut pair = new_pair(&Arc::new(client), &Arc::new(server_config(2)));
        let refused = run(&mut pair).err();
        assert!(matches!(refused, Some(Refused::ByServer(rustls::Error::NoCertificatesPresented))), "{refused:?}");
        // The client believed itself connected; only the alert tells it.
        assert!(peer_link_key(&pair.client).is_ok());
        let told = carry(&mut pair.server, &mut pair.client);
        assert_eq!(told, Err(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)));
    }

    #[test]
    fn client_showing_the_key_of_another_is_refused() {
        let mut client = client_config(1);
        client.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(stolen_key(3, 1)));
        let refused = handshake(client, server_config(2)).err();
        assert!(
            matches!(refused, Some(Refused::ByServer(rustls::Error::InvalidCertificate(CertificateError::BadSignature)))),
            "{refused:?}"
        );
    }

    #[test]
    fn server_showing_the_key_of_another_is_refused() {
        let mut server = server_config(2);
        server.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(stolen_key(3, 2)));
        let refused = handshake(client_config(1), server).err();
        assert!(
            matches!(refused, Some(Refused::ByClient(rustls::Error::InvalidCertificate(CertificateError::BadSignature)))),
            "{refused:?}"
        );
    }

    #[test]
    fn second_handshake_is_no_resumption() {
        let client = Arc::new(client_config(1));
        let server = Arc::new(server_config(2));
        for _ in 0..2 {
            let mut pair = new_pair(&client, &server);
            run(&mut pair).unwrap();
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(pair.client.tls13_tickets_received(), 0);
        }
    }

    #[test]
    fn neither_end_alone_brings_a_resumption_about() {
        let mut eager_client = client_config(1);
        eager_client.resumption = Resumption::in_memory_sessions(8);
        let mut eager_server = server_config(2);
        eager_server.send_tls13_tickets = 2;
        eager_server.session_storage = rustls::server::ServerSessionMemoryCache::new(8);

        for (client, server, second) in [
            (eager_client.clone(), server_config(2), HandshakeKind::Full),
            (client_config(1), eager_server.clone(), HandshakeKind::Full),
            // The control: two eager ends do resume, so the two cases above could have.
            (eager_client, eager_server, HandshakeKind::Resumed),
        ] {
            let (client, server) = (Arc::new(client), Arc::new(server));
            for kind in [HandshakeKind::Full, second] {
                let mut pair = new_pair(&client, &server);
                run(&mut pair).unwrap();
                assert_eq!(pair.client.handshake_kind(), Some(kind));
                assert_eq!(pair.server.handshake_kind(), Some(kind));
            }
        }
    }

    #[test]
    fn x509_is_refused_in_the_hello() {
        let x509 = Arc::new(OffersX509(identity(1).certified));
        let mut client = client_config(1);
        client.client_auth_cert_resolver = x509.clone();
        let refused = handshake(client, server_config(2)).err();
        assert!(
            matches!(
                refused,
                Some(Refused::ByServer(rustls::Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension)))
            ),
            "{refused:?}"
        );

        let mut server = server_config(2);
        server.cert_resolver = x509;
        let refused = handshake(client_config(1), server).err();
        assert!(
            matches!(
                refused,
                Some(Refused::ByServer(rustls::Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension)))
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn all_but_one_ed25519_key_is_refused() {
        let verifier = AnyEd25519Key::new(&ring::default_provider());
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        let good = identity(1).certified.cert[0].to_vec();
        let mut x25519 = good.clone();
        x25519[8] = 0x6e;
        let mut unused_bits = good.clone();
        unused_bits[11] = 1;
        let mut trailing = good.clone();
        trailing.push(0);

        let good = CertificateDer::from(good);
        let chain = [good.clone()];
        verifier.verify_client_cert(&good, &[], now).unwrap();
        verifier.verify_server_cert(&good, &[], &dummy_server_name(), &[], now).unwrap();
        let bad = [
            (CertificateDer::from(vec![]), &[][..]),
            (CertificateDer::from(good[..43].to_vec()), &[]),
            (CertificateDer::from(good[12..].to_vec()), &[]),
            (CertificateDer::from(x25519), &[]),
            (CertificateDer::from(unused_bits), &[]),
            (CertificateDer::from(trailing), &[]),
            (good, &chain),
        ];
        for (key, chain) in bad {
            assert_eq!(verifier.verify_client_cert(&key, chain, now).err(), Some(bad_key()));
            assert_eq!(verifier.verify_server_cert(&key, chain, &dummy_server_name(), &[], now).err(), Some(bad_key()));
        }
    }

    /// Every entry of the table is one for which a signature made of constants passes for some message, so it belongs
    /// there; and is refused with either sign bit.
    #[test]
    fn keys_that_need_no_secret_are_refused() {
        let provider = ring::default_provider();
        let (_, ed25519) =
            provider.signature_verification_algorithms.mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::ED25519).unwrap();
        // R is the neutral point and S is 0: good whenever hash times key is neutral, for one message in 8 or more.
        let mut forged = [0; 64];
        forged[0] = 1;
        let strong = identity(1).public_key();
        let forgeable = |key: &[u8; KEY_LEN]| (0..=255u8).any(|message| ed25519[0].verify_signature(key, &[message], &forged).is_ok());
        assert!(!forgeable(&strong));

        for weak in WEAK_KEYS {
            assert!(forgeable(&weak), "{weak:02x?}");
            for sign in [0, 0x80] {
                let mut spki = SPKI_PREFIX.to_vec();
                spki.extend(weak);
                spki[43] |= sign;
                assert_eq!(ed25519_key(&spki), None);
            }
        }
    }
}
