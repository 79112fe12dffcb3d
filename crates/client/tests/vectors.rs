//! The cryptography that OpenMLS is handed, against published vectors for its one ciphersuite: RFC 9180 appendix A.2.1
//! (base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305), and the working group's `crypto-basics` for
//! RFC 9420, cipher suite 3.

use kith_client::mls::provider::{CIPHERSUITE, Provider};
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{HashType, HpkeCiphertext, SignatureScheme};

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn provider() -> Provider {
    Provider::new([7; 32])
}

/// A vector of bytes with its length before it (RFC 9420 section 2.1.2); these are all short.
fn opaque(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 64);
    [&[bytes.len() as u8], bytes].concat()
}

fn labelled(label: &str, content: &[u8]) -> Vec<u8> {
    [opaque(format!("MLS 1.0 {label}").as_bytes()), opaque(content)].concat()
}

/// RFC 9420 section 8.
fn expand_with_label(secret: &str, label: &str, context: &[u8], length: u16) -> Vec<u8> {
    let info = [length.to_be_bytes().as_slice(), &labelled(label, context)].concat();
    provider().crypto().hkdf_expand(HashType::Sha2_256, &hex(secret), &info, length.into()).unwrap().as_slice().to_vec()
}

const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const IKM: &str = "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df";
const PRIVATE: &str = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
const PUBLIC: &str = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
const ENC: &str = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
const AAD: &str = "436f756e742d30";
const CIPHERTEXT: &str = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";
const PLAINTEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";

#[test]
fn hpke_keys_are_derived() {
    let pair = provider().crypto().derive_hpke_keypair(CIPHERSUITE.hpke_config(), &hex(IKM)).unwrap();
    assert_eq!((&*pair.private, pair.public), (hex(PRIVATE).as_slice(), hex(PUBLIC)));
}

#[test]
fn hpke_opens() {
    let sealed = HpkeCiphertext { kem_output: hex(ENC).into(), ciphertext: hex(CIPHERTEXT).into() };
    let (provider, config) = (provider(), || CIPHERSUITE.hpke_config());
    let open = |sealed: &HpkeCiphertext, aad: &str| provider.crypto().hpke_open(config(), sealed, &hex(PRIVATE), &hex(INFO), &hex(aad));
    assert_eq!(open(&sealed, AAD).unwrap(), hex(PLAINTEXT));
    assert!(open(&sealed, "436f756e742d31").is_err(), "what was sealed beside other data");
    let mut broken = hex(CIPHERTEXT);
    broken[0] ^= 1;
    assert!(open(&HpkeCiphertext { kem_output: hex(ENC).into(), ciphertext: broken.into() }, AAD).is_err());
    // What is sealed here opens by the way that the vector has shown right.
    let sealed = provider.crypto().hpke_seal(config(), &hex(PUBLIC), &hex(INFO), &hex(AAD), b"and back").unwrap();
    assert_eq!(open(&sealed, AAD).unwrap(), b"and back");
}

#[test]
fn hpke_exports() {
    let (provider, config) = (provider(), || CIPHERSUITE.hpke_config());
    for (context, exported) in [
        ("", "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e"),
        ("00", "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69"),
        ("54657374436f6e74657874", "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53"),
    ] {
        let crypto = provider.crypto();
        let secret = crypto.hpke_setup_receiver_and_export(config(), &hex(ENC), &hex(PRIVATE), &hex(INFO), &hex(context), 32).unwrap();
        assert_eq!(&*secret, hex(exported), "{context}");
        let (enc, sent) = crypto.hpke_setup_sender_and_export(config(), &hex(PUBLIC), &hex(INFO), &hex(context), 32).unwrap();
        let received = crypto.hpke_setup_receiver_and_export(config(), &enc, &hex(PRIVATE), &hex(INFO), &hex(context), 32).unwrap();
        assert_eq!(&*sent, &*received);
    }
}

#[test]
fn mls_ref_hash() {
    let input = [opaque(b"RefHash"), opaque(&hex("73020b3d087e7b5471a3f0b7aff803fd5085161d7fd0138dc41deb1a2a93ea12"))].concat();
    let out = provider().crypto().hash(HashType::Sha2_256, &input).unwrap();
    assert_eq!(out, hex("354e71224cd883d8994ab553e2c88a50fb4df2432cc871fe87caa92b945524ac"));
}

#[test]
fn mls_derivations() {
    let secret = "fca0057fbcbc257a219ca00eda7b932c19cd284666666d73da7d2e9ba0050b85";
    let context = hex("e5da8bb590c7736fc27a1f634cb8ac2884ff242ad174fb715a3a261953522a8f");
    let out = expand_with_label(secret, "ExpandWithLabel", &context, 32);
    assert_eq!(out, hex("7fbb9f71ba33733f875935644d430916eac8c20a3d358015ad536aad295d5a03"));
    let out = expand_with_label("9dafd47e71e2133cb115f22d77931c70fd819db20710dd90abe8509f5da36c52", "DeriveSecret", &[], 32);
    assert_eq!(out, hex("0c73ea9a78c55d60aa7e7754593f7fef44a1052a43067f82f363f01fdec37b3a"));
    let secret = "168b187171d90947aedac49980939b2dd71041e40350b046e540e0191cf99e0f";
    let out = expand_with_label(secret, "DeriveTreeSecret", &2_694_881_440u32.to_be_bytes(), 32);
    assert_eq!(out, hex("a59537e982b032f55b8f00eb853ca1200cf7c1ff7ce2898da85ccaf0ac9c0d69"));
}

#[test]
fn mls_signatures() {
    let private = hex("4cc2127e86b88ef7799ce235fc1cbff6391a29b56df0ec0f27cd4007d953ae66");
    let public = hex("0060dd83fadcb2055773a74f4f1f0cc6ebffc47d5eadcb036a960495169da50f");
    let content = labelled("SignWithLabel", &hex("e310c8359a2858fb77e91ddab46e94d5dac71914a631c0f80a3efa495033d0f9"));
    let signature = hex(
        "27c24992dd39e24b7bbca1164b430f67d0508a96b0c59e153b27d68313d31b57226a6c939f2c8e80c58947d926167498514b4ba7ba6c8441418cef32b360700d",
    );
    let (provider, scheme) = (provider(), SignatureScheme::ED25519);
    assert_eq!(provider.crypto().sign(scheme, &content, &private).unwrap(), signature);
    provider.crypto().verify_signature(scheme, &content, &public, &signature).unwrap();
    for at in [0, 31, 32, 63] {
        let mut other = signature.clone();
        other[at] ^= 1;
        assert!(provider.crypto().verify_signature(scheme, &content, &public, &other).is_err(), "byte {at}");
    }
}

#[test]
fn mls_encryption() {
    let info = labelled("EncryptWithLabel", &hex("12b0c535b1e5f4f40fabf70c1bd780080a2223d9d090be9bdeca1935497e489d"));
    let sealed = HpkeCiphertext {
        kem_output: hex("8ab65d6b6311b64b850bad990e50763083c5b9f45ea3de2d97a0defd0799f61f").into(),
        ciphertext: hex("9bc51f706abe79109fcf89e9b6fb3d44222b07509a105e4f2740bfeeee01f3b16d3f5b8cd8e38925335ea12ec99348ca").into(),
    };
    let private = hex("a4583e93da26fbed2aefa063952c791925a868944314ea99542b58a1b72c5fe2");
    let opened = provider().crypto().hpke_open(CIPHERSUITE.hpke_config(), &sealed, &private, &info, &[]).unwrap();
    assert_eq!(opened, hex("0eb9423b4c8e4b6b31c8987be66d7af96458e93d8539150d093b750dfeab7058"));
}
