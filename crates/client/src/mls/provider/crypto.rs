//! The cryptography of the one ciphersuite Kith speaks,
//! `MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519` (RFC 9420, section 17.1, value 3).
//!
//! It only connects OpenMLS to the RustCrypto, dalek and `hpke` crates; no primitive is written here. It knows
//! nothing of groups and keeps no state but the random stream it shares with the provider.

use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{CryptoRng, RngCore};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use openmls::prelude::tls_codec::SecretVLBytes;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeAeadType, HpkeCiphertext, HpkeConfig, HpkeKdfType, HpkeKemType,
    HpkeKeyPair, KemOutput, SignatureScheme,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::rand::Rand;

/// The only ciphersuite; groups of any other are refused.
pub const CIPHERSUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

type HpkeAead = hpke::aead::ChaCha20Poly1305;
type HpkeKdf = hpke::kdf::HkdfSha256;
type HpkeKem = X25519HkdfSha256;
type HpkePublic = <HpkeKem as Kem>::PublicKey;
type HpkePrivate = <HpkeKem as Kem>::PrivateKey;
type HpkeEncapped = <HpkeKem as Kem>::EncappedKey;

/// The cryptography of [`CIPHERSUITE`].
pub struct Crypto {
    rand: Arc<Rand>,
}

impl Crypto {
    pub(super) fn new(rand: Arc<Rand>) -> Self {
        Self { rand }
    }
}

/// The provider's stream as `hpke` wants it: that crate is a generation of `rand_core` ahead of `rand_chacha` 0.3.
struct HpkeRng<'a>(&'a Rand);

impl RngCore for HpkeRng<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

impl CryptoRng for HpkeRng<'_> {}

fn check_hash(hash: HashType) -> Result<(), CryptoError> {
    match hash {
        HashType::Sha2_256 => Ok(()),
        _ => Err(CryptoError::UnsupportedHashAlgorithm),
    }
}

fn check_scheme(scheme: SignatureScheme) -> Result<(), CryptoError> {
    match scheme {
        SignatureScheme::ED25519 => Ok(()),
        _ => Err(CryptoError::UnsupportedSignatureScheme),
    }
}

fn check_hpke(HpkeConfig(kem, kdf, aead): HpkeConfig) -> Result<(), CryptoError> {
    match (kem, kdf, aead) {
        (HpkeKemType::DhKem25519, HpkeKdfType::HkdfSha256, HpkeAeadType::ChaCha20Poly1305) => Ok(()),
        _ => Err(CryptoError::UnsupportedCiphersuite),
    }
}

fn aead(kind: AeadType, key: &[u8], nonce: &[u8]) -> Result<(ChaCha20Poly1305, Nonce), CryptoError> {
    if kind != AeadType::ChaCha20Poly1305 {
        return Err(CryptoError::UnsupportedAeadAlgorithm);
    }
    let cipher = ChaCha20Poly1305::new_from_slice(key).map_err(|_| CryptoError::InvalidLength)?;
    let nonce: [u8; 12] = nonce.try_into().map_err(|_| CryptoError::InvalidLength)?;
    Ok((cipher, nonce.into()))
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        match ciphersuite {
            CIPHERSUITE => Ok(()),
            _ => Err(CryptoError::UnsupportedCiphersuite),
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![CIPHERSUITE]
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        Ok(Hkdf::<Sha256>::extract(Some(salt), ikm).0.as_slice().into())
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).map_err(|_| CryptoError::InvalidLength)?;
        mac.update(message);
        Ok(mac.finalize().into_bytes().as_slice().into())
    }

    fn hkdf_expand(&self, hash: HashType, prk: &[u8], info: &[u8], okm_len: usize) -> Result<SecretVLBytes, CryptoError> {
        check_hash(hash)?;
        let mut okm = vec![0; okm_len];
        Hkdf::<Sha256>::from_prk(prk)
            .map_err(|_| CryptoError::HkdfOutputLengthInvalid)?
            .expand(info, &mut okm)
            .map_err(|_| CryptoError::HkdfOutputLengthInvalid)?;
        Ok(okm.into())
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_hash(hash)?;
        Ok(Sha256::digest(data).to_vec())
    }

    fn aead_encrypt(&self, kind: AeadType, key: &[u8], data: &[u8], nonce: &[u8], aad: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (cipher, nonce) = aead(kind, key, nonce)?;
        cipher.encrypt(&nonce, Payload { msg: data, aad }).map_err(|_| CryptoError::CryptoLibraryError)
    }

    fn aead_decrypt(&self, kind: AeadType, key: &[u8], ct_tag: &[u8], nonce: &[u8], aad: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (cipher, nonce) = aead(kind, key, nonce)?;
        cipher.decrypt(&nonce, Payload { msg: ct_tag, aad }).map_err(|_| CryptoError::AeadDecryptionError)
    }

    fn signature_key_gen(&self, scheme: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        check_scheme(scheme)?;
        let mut secret = Zeroizing::new([0; 32]);
        self.rand.fill(secret.as_mut());
        let key = SigningKey::from_bytes(&secret);
        Ok((secret.to_vec(), key.verifying_key().to_bytes().to_vec()))
    }

    fn verify_signature(&self, scheme: SignatureScheme, data: &[u8], pk: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        check_scheme(scheme)?;
        let key = VerifyingKey::try_from(pk).map_err(|_| CryptoError::CryptoLibraryError)?;
        let signature = Signature::from_slice(signature).map_err(|_| CryptoError::SignatureDecodingError)?;
        // Strict, because two verifiers which disagree about one signature would fork a group.
        key.verify_strict(data, &signature).map_err(|_| CryptoError::InvalidSignature)
    }

    fn sign(&self, scheme: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_scheme(scheme)?;
        let key = SigningKey::try_from(key).map_err(|_| CryptoError::CryptoLibraryError)?;
        Ok(key.sign(data).to_bytes().to_vec())
    }

    fn hpke_seal(&self, config: HpkeConfig, pk_r: &[u8], info: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<HpkeCiphertext, CryptoError> {
        check_hpke(config)?;
        let public = HpkePublic::from_bytes(pk_r).map_err(|_| CryptoError::InvalidLength)?;
        let (encapped, ciphertext) = hpke::single_shot_seal::<HpkeAead, HpkeKdf, HpkeKem, _>(
            &OpModeS::Base,
            &public,
            info,
            plaintext,
            aad,
            &mut HpkeRng(&self.rand),
        )
        .map_err(|_| CryptoError::HpkeEncryptionError)?;
        Ok(HpkeCiphertext { kem_output: encapped.to_bytes().to_vec().into(), ciphertext: ciphertext.into() })
    }

    fn hpke_open(&self, config: HpkeConfig, input: &HpkeCiphertext, sk_r: &[u8], info: &[u8], aad: &[u8]) -> Result<Vec<u8>, CryptoError> {
        check_hpke(config)?;
        let secret = HpkePrivate::from_bytes(sk_r).map_err(|_| CryptoError::InvalidLength)?;
        let encapped = HpkeEncapped::from_bytes(input.kem_output.as_slice()).map_err(|_| CryptoError::HpkeDecryptionError)?;
        hpke::single_shot_open::<HpkeAead, HpkeKdf, HpkeKem>(&OpModeR::Base, &secret, &encapped, info, input.ciphertext.as_slice(), aad)
            .map_err(|_| CryptoError::HpkeDecryptionError)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        check_hpke(config)?;
        let public = HpkePublic::from_bytes(pk_r).map_err(|_| CryptoError::InvalidLength)?;
        let (encapped, context) =
            hpke::setup_sender::<HpkeAead, HpkeKdf, HpkeKem, _>(&OpModeS::Base, &public, info, &mut HpkeRng(&self.rand))
                .map_err(|_| CryptoError::SenderSetupError)?;
        let mut secret = vec![0; exporter_length];
        context.export(exporter_context, &mut secret).map_err(|_| CryptoError::ExporterError)?;
        Ok((encapped.to_bytes().to_vec(), secret.into()))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        check_hpke(config)?;
        let private = HpkePrivate::from_bytes(sk_r).map_err(|_| CryptoError::InvalidLength)?;
        let encapped = HpkeEncapped::from_bytes(enc).map_err(|_| CryptoError::ReceiverSetupError)?;
        let context = hpke::setup_receiver::<HpkeAead, HpkeKdf, HpkeKem>(&OpModeR::Base, &private, &encapped, info)
            .map_err(|_| CryptoError::ReceiverSetupError)?;
        let mut secret = vec![0; exporter_length];
        context.export(exporter_context, &mut secret).map_err(|_| CryptoError::ExporterError)?;
        Ok(secret.into())
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        check_hpke(config)?;
        let (private, public) = HpkeKem::derive_keypair(ikm);
        Ok(HpkeKeyPair { private: private.to_bytes().as_slice().into(), public: public.to_bytes().to_vec() })
    }
}
