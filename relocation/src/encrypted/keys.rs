//! RSA keys, and the encryption of an export's Fernet key with them.

use causeway_silo::env::Environment;
use rsa::{
    Oaep, RsaPrivateKey, RsaPublicKey,
    pkcs1::DecodeRsaPrivateKey as _,
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding},
    rand_core::{self, CryptoRng, RngCore},
    sha2::Sha256,
    traits::PublicKeyParts as _,
};
use zeroize::Zeroizing;

use super::{EncryptError, KeyError};

/// The minimum length of a key for new exports, in bits.
const LEAST_BITS: usize = 2048;

/// An RSA private key, which opens encrypted exports.
pub struct PrivateKey(RsaPrivateKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// Reads a private key from PEM, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// If it is not an RSA private key, or is protected by a passphrase.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        // The first is PKCS#8's own form, the second the older one around PKCS#1.
        if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Locked);
        }
        let key = if pem.contains("-----BEGIN RSA PRIVATE KEY-----") {
            RsaPrivateKey::from_pkcs1_pem(pem.trim()).ok()
        } else {
            RsaPrivateKey::from_pkcs8_pem(pem.trim()).ok()
        };
        key.map(Self).ok_or(KeyError::NotPrivate)
    }

    /// The public key that exports must be encrypted with so that this key opens them.
    ///
    /// # Errors
    /// If the key must not be used for new exports, see [`PublicKey::from_pem`].
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        let pem = PublicKey(self.0.to_public_key()).to_pem().map_err(|_| KeyError::NotPublic)?;
        PublicKey::from_pem(&pem)
    }

    /// Whether this key opens what was encrypted with `public`.
    pub(super) fn belongs_to(&self, public: &PublicKey) -> bool {
        self.0.to_public_key() == public.0
    }

    /// Decrypts the result of [`PublicKey::encrypt`]; `None` if it was not encrypted for this key.
    pub(super) fn decrypt(&self, env: &Environment, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.0.decrypt_blinded(&mut Random(env), Oaep::new::<Sha256>(), encrypted).ok().map(Zeroizing::new)
    }
}

/// An RSA public key, which exports are encrypted with.
#[derive(Debug, Clone)]
pub struct PublicKey(RsaPublicKey);

impl PublicKey {
    /// Reads a public key from PEM, to encrypt with it.
    ///
    /// # Errors
    /// If it is not an RSA public key, or is too short to be safe.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = Self::of_file(pem).ok_or(KeyError::NotPublic)?;
        match key.0.n().bits() {
            bits if bits < LEAST_BITS => Err(KeyError::Weak { bits, least: LEAST_BITS }),
            _ => Ok(key),
        }
    }

    /// The public key in an encrypted export, however short it is.
    pub(super) fn of_file(pem: &str) -> Option<Self> {
        RsaPublicKey::from_public_key_pem(pem.trim()).ok().map(Self)
    }

    /// The key in the form in which an encrypted export has it: PEM of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// If it cannot be encoded. No key that was read from PEM is known to cause that.
    pub fn to_pem(&self) -> Result<String, EncryptError> {
        let written = self.0.to_public_key_pem(LineEnding::LF);
        written.map_err(|error| EncryptError::Key(rsa::pkcs8::Error::PublicKey(error).into()))
    }

    /// Encrypts a Fernet key, so that only the private key opens it.
    pub(super) fn encrypt(&self, env: &Environment, key: &[u8]) -> Result<Vec<u8>, EncryptError> {
        self.0.encrypt(&mut Random(env), Oaep::new::<Sha256>(), key).map_err(EncryptError::Key)
    }
}

/// Adapts the randomness of the environment to the interface that RSA needs.
struct Random<'a>(&'a Environment);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.0.bytes())
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.0.bytes())
    }

    fn fill_bytes(&mut self, filled: &mut [u8]) {
        for chunk in filled.chunks_mut(32) {
            let bytes: [u8; 32] = self.0.bytes();
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }

    fn try_fill_bytes(&mut self, filled: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(filled);
        Ok(())
    }
}

impl CryptoRng for Random<'_> {}
