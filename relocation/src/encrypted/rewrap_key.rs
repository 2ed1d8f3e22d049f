//! An encrypted export for another key: the token is unchanged, its Fernet key is encrypted again.

use std::{
    io::{self, Cursor, Read},
    sync::Arc,
};

use causeway_silo::env::Environment;

use super::{
    EXPORT, EncryptError, Encrypted, PublicKey, ReadAt,
    container::{Span, begin},
    encrypt::{after, now},
    fernet::Token,
};

/// An encrypted export for another key. It can be read any number of times, and the export is not decrypted for that.
pub struct Rewrapped<R> {
    token: Arc<Token<R>>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl<R> std::fmt::Debug for Rewrapped<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewrapped")
    }
}

impl<R: ReadAt> Encrypted<R> {
    /// The same export for the owner of the private key that belongs to `key`.
    ///
    /// # Errors
    /// If the encryption with the key fails.
    pub fn rewrap_key(&self, key: &PublicKey, env: &Environment) -> Result<Rewrapped<R>, EncryptError> {
        let length = self.token.text.length;
        let mut before = Vec::new();
        begin(&mut before, EXPORT, length, now(env)?).map_err(EncryptError::Write)?;
        let after = after(&self.token.key, length, key, env)?;
        Ok(Rewrapped { token: Arc::clone(&self.token), before, after })
    }
}

impl<R: ReadAt> Rewrapped<R> {
    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.token.text.length + (self.before.len() + self.after.len()) as u64
    }

    /// Its bytes, the same each time.
    pub fn reader(&self) -> impl Read + use<R> {
        let text = Text { token: Arc::clone(&self.token), at: 0 };
        Cursor::new(self.before.clone()).chain(text).chain(Cursor::new(self.after.clone()))
    }
}

/// The characters of a token.
struct Text<R> {
    token: Arc<Token<R>>,
    at: u64,
}

impl<R: ReadAt> Read for Text<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Span { start, length } = self.token.text;
        let left = usize::try_from(length - self.at).unwrap_or(usize::MAX);
        let count = out.len().min(left);
        let (out, _) = out.split_at_mut(count);
        if out.is_empty() {
            return Ok(0);
        }
        match self.token.source.read_at(out, start + self.at)? {
            // The file was complete when it was opened.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.at += u64::try_from(count).map_err(io::Error::other)?;
                Ok(count)
            }
        }
    }
}
