//! The private key of a region, with which it opens encrypted exports.

use std::sync::Arc;

use causeway_relocation::encrypted::{KeyError, PrivateKey};

/// A private key, and what exports are encrypted with so that it opens them.
#[derive(Debug, Clone)]
pub(crate) struct DecryptionKey {
    pub(crate) private: Arc<PrivateKey>,
    /// PEM of a SubjectPublicKeyInfo.
    pub(crate) public_pem: String,
}

impl DecryptionKey {
    /// # Errors
    /// If exports should not be encrypted with such a key.
    pub(crate) fn new(private: Arc<PrivateKey>) -> Result<Self, KeyError> {
        let public_pem = private.public_key()?.to_pem().map_err(|_| KeyError::NotPublic)?;
        Ok(Self { private, public_pem })
    }
}
