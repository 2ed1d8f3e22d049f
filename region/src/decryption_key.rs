//! The private key with which a region opens encrypted exports.

use std::sync::Arc;

use causeway_relocation::encrypted::{KeyError, PrivateKey};

/// The region's private key, and the public key with which exports are encrypted for it.
#[derive(Debug, Clone)]
pub(crate) struct DecryptionKey {
    pub(crate) private: Arc<PrivateKey>,
    /// The public key as PEM of a SubjectPublicKeyInfo.
    pub(crate) public_pem: String,
}

impl DecryptionKey {
    /// # Errors
    /// If exports should not be encrypted with this key.
    pub(crate) fn new(private: Arc<PrivateKey>) -> Result<Self, KeyError> {
        let public_pem = private.public_key()?.to_pem().map_err(|_| KeyError::NotPublic)?;
        Ok(Self { private, public_pem })
    }
}
