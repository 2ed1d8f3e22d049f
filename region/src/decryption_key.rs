//! The private keys with which a region opens encrypted exports.

use std::sync::Arc;

use causeway_relocation::encrypted::{KeyError, PrivateKey};

/// The region's private keys, and the public key with which exports are encrypted for it.
#[derive(Debug, Clone)]
pub(crate) struct DecryptionKeys {
    /// At least one. An export is opened with the one that it was encrypted for.
    pub(crate) private: Arc<[Arc<PrivateKey>]>,
    /// The public key of the first one, as PEM of a SubjectPublicKeyInfo.
    pub(crate) public_pem: String,
}

impl DecryptionKeys {
    /// The keys, the current one first; `None` if there are none.
    ///
    /// # Errors
    /// If exports should not be encrypted with the first key.
    pub(crate) fn new(private: Vec<Arc<PrivateKey>>) -> Result<Option<Self>, KeyError> {
        let Some(current) = private.first() else { return Ok(None) };
        let public_pem = current.public_key()?.to_pem().map_err(|_| KeyError::NotPublic)?;
        Ok(Some(Self { private: private.into(), public_pem }))
    }
}
