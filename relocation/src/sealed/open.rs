//! Opening an encrypted export.

use std::io::{Read, Seek, SeekFrom};

use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use zeroize::Zeroizing;

use super::{
    OpenError, Plaintext, PrivateKey, PublicKey, TokenError,
    container::{Members, Span, members},
    fernet::{Key, authenticate},
};
use crate::ambient::Ambient;

/// An encrypted export that is authentic and can be decrypted, as often as it is wanted.
pub struct Sealed<R> {
    source: R,
    token: Span,
    /// How many characters at the end of the token are `=`.
    padding: u64,
    key: Key,
    size: u64,
}

impl<R> std::fmt::Debug for Sealed<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<R: Read + Seek> Sealed<R> {
    /// Opens an encrypted export with the private key that it was encrypted for, and reads all of it to know that
    /// nobody has changed it. `ambient` blinds the use of the key.
    ///
    /// # Errors
    /// If it is no encrypted export, is damaged or changed, or was encrypted for another key.
    pub fn open(mut source: R, key: &PrivateKey, ambient: &Ambient) -> Result<Self, OpenError> {
        let Members { export: token, data_key, public_key } = members(&mut source)?;
        let public_key = str::from_utf8(&public_key).ok().and_then(PublicKey::of_file);
        if !key.belongs_to(&public_key.ok_or(OpenError::BadPublicKey)?) {
            return Err(OpenError::WrongKey);
        }
        let data_key = key.decrypt(ambient, &data_key).ok_or(OpenError::DataKeyDamaged)?;
        let key = fernet_key(&data_key).ok_or(OpenError::DataKeyMalformed)?;

        let padding = padding(&mut source, token)?;
        source.seek(SeekFrom::Start(token.start))?;
        let size = authenticate(&key, (&mut source).take(token.length), padding).map_err(token_error)?;
        Ok(Self { source, token, padding, key, size })
    }

    /// How many bytes the export has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The export, from its beginning. A read fails with a [`TokenError`] inside if the file has been changed since
    /// it was opened; what was read until then is to be thrown away.
    ///
    /// # Errors
    /// If the file cannot be read, or has been changed.
    pub fn plaintext(&mut self) -> Result<Plaintext<&mut R>, OpenError> {
        self.source.seek(SeekFrom::Start(self.token.start))?;
        let token = (&mut self.source).take(self.token.length);
        Plaintext::new(&self.key, token, self.padding).map_err(token_error)
    }
}

/// The key out of what `data.key` holds.
fn fernet_key(text: &[u8]) -> Option<Key> {
    let decoded = Zeroizing::new(BASE64_URL_SAFE.decode(text).ok()?);
    let bytes = Zeroizing::new(decoded.as_slice().try_into().ok()?);
    Some(Key::new(bytes))
}

/// How many characters at the end of the token are `=`: at most two.
fn padding<R: Read + Seek>(source: &mut R, token: Span) -> Result<u64, OpenError> {
    let count = token.length.min(2);
    source.seek(SeekFrom::Start(token.start + token.length - count))?;
    let mut end = Vec::with_capacity(2);
    source.take(count).read_to_end(&mut end)?;
    Ok(end.iter().rev().take_while(|character| **character == b'=').map(|_| 1).sum())
}

/// The error of a token out of that of a read, or of the read itself.
fn token_error(error: std::io::Error) -> OpenError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TokenError>()) {
        Some(token) => OpenError::Token(*token),
        None => OpenError::Read(error),
    }
}
