//! Opening an encrypted export.

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicBool},
};

use causeway_silo::env::Environment;

use super::{
    OpenError, Plaintext, PrivateKey, PublicKey, ReadAt, TokenError,
    container::{Members, Span, members},
    fernet::{Key, Token},
};

/// An encrypted export that has been authenticated. It can be decrypted from any offset, any number of times. Cheap to
/// clone.
pub struct Encrypted<R> {
    pub(super) token: Arc<Token<R>>,
    size: u64,
    sha256: [u8; 32],
}

impl<R> Clone for Encrypted<R> {
    fn clone(&self) -> Self {
        Self { token: Arc::clone(&self.token), ..*self }
    }
}

impl<R> std::fmt::Debug for Encrypted<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encrypted").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<R: ReadAt> Encrypted<R> {
    /// Opens an encrypted export with the private key that it was encrypted for, and reads all of it to verify that
    /// nobody has changed it. `env` supplies the randomness that blinds the use of the key.
    ///
    /// # Errors
    /// If it is not an encrypted export, is damaged or changed, or was encrypted for another key.
    pub fn open(source: R, key: &PrivateKey, env: &Environment) -> Result<Self, OpenError> {
        Self::open_unless(source, key, env, &AtomicBool::new(false))
    }

    /// The same as [`Encrypted::open`], but ends as soon as `stop` is set.
    ///
    /// # Errors
    /// As [`Encrypted::open`], and [`OpenError::Stopped`].
    pub fn open_unless(
        source: R,
        key: &PrivateKey,
        env: &Environment,
        stop: &AtomicBool,
    ) -> Result<Self, OpenError> {
        let Members { export: text, data_key, public_key } = members(&source)?;
        let public_key = str::from_utf8(&public_key).ok().and_then(PublicKey::of_file);
        if !key.belongs_to(&public_key.ok_or(OpenError::BadPublicKey)?) {
            return Err(OpenError::WrongKey);
        }
        let data_key = key.decrypt(env, &data_key).ok_or(OpenError::DataKeyDamaged)?;
        let key = Key::from_text(&data_key).ok_or(OpenError::DataKeyMalformed)?;

        let padding = padding(&source, text)?;
        let token = Arc::new(Token::new(source, text, padding, key)?);
        let (size, sha256) = token.authenticate(stop)?;
        Ok(Self { token, size, sha256 })
    }

    /// How many bytes the export has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The SHA-256 of the export, lowercase hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex::encode(self.sha256)
    }

    /// The export, from its beginning. If the file has changed since it was opened, a read fails with an error that
    /// contains a [`TokenError`]. Then the caller must discard what it has read.
    #[must_use]
    pub fn plaintext(&self) -> Plaintext<R> {
        Plaintext::whole(Arc::clone(&self.token))
    }

    /// A part of the export. A range that goes beyond the end is cut there. The part is not authenticated a second
    /// time.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Plaintext<R> {
        let end = range.end.min(self.size);
        Plaintext::part(Arc::clone(&self.token), range.start.min(end)..end)
    }
}

/// How many characters at the end of the token are `=`: at most two.
fn padding(source: &impl ReadAt, text: Span) -> Result<u64, OpenError> {
    let mut end = [0; 2];
    let count = text.length.min(2);
    let (end, _) = end.split_at_mut(usize::try_from(count).map_err(std::io::Error::other)?);
    source.read_exact_at(end, text.start + text.length - count)?;
    Ok(end.iter().rev().take_while(|character| **character == b'=').map(|_| 1).sum())
}

/// The [`TokenError`] in a read error, or the read error itself.
impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TokenError>()) {
            Some(token) => Self::Token(*token),
            None => Self::Read(error),
        }
    }
}
