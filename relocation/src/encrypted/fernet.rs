//! Fernet tokens, decrypted from any offset.
//!
//! Both base64 and AES-CBC allow that: four characters are three bytes wherever they are, and decrypting a block needs
//! only the block before it and the key. So a read costs what it reads, and one more block.

use std::{
    io::{self, Read},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aes::Aes128;
use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use cbc::{
    Decryptor,
    cipher::{Array, BlockModeDecrypt as _, KeyIvInit as _, typenum::U16},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{OpenError, ReadAt, TokenError, container::Span};

pub(super) const VERSION: u8 = 0x80;
/// The size of a cipher block, and of the initialization vector.
pub(super) const BLOCK: usize = 16;
/// The bytes before the initialization vector: one of version, eight of time.
const BEFORE: usize = 1 + 8;
/// Version, time, initialization vector.
pub(super) const PREFIX: usize = BEFORE + BLOCK;
pub(super) const TAG: usize = 32;
/// The size of half a key in bytes. The first half signs, the second half encrypts.
const HALF: usize = 16;
/// How many bytes are decrypted at once: some 64 KiB. A multiple of 48, so that the next chunk begins both with a block
/// and with a group of four characters.
const CHUNK: usize = 48 * 1365;

/// A Fernet key of 32 bytes, which is overwritten when it is dropped.
pub(super) struct Key(Zeroizing<[u8; 2 * HALF]>);

impl Key {
    pub(super) fn new(bytes: Zeroizing<[u8; 2 * HALF]>) -> Self {
        Self(bytes)
    }

    /// Decodes a key; `None` if the text is not one.
    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        let decoded = Zeroizing::new(BASE64_URL_SAFE.decode(text).ok()?);
        Some(Self(Zeroizing::new(decoded.as_slice().try_into().ok()?)))
    }

    /// The key as text. An encrypted export contains the text, encrypted with RSA.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_URL_SAFE.encode(*self.0))
    }

    fn halves(&self) -> ([u8; HALF], [u8; HALF]) {
        let (mut signing, mut encrypting) = ([0; HALF], [0; HALF]);
        for ((signing, encrypting), pair) in
            signing.iter_mut().zip(&mut encrypting).zip(self.0.iter().zip(self.0.iter().skip(HALF)))
        {
            (*signing, *encrypting) = (*pair.0, *pair.1);
        }
        (signing, encrypting)
    }

    /// Computes the authentication code.
    pub(super) fn signer(&self) -> Hmac<Sha256> {
        // Any length is a key for HMAC; one shorter than a block of the hash is filled up with zeros.
        let mut block = Zeroizing::new([0; 64]);
        for (to, from) in block.iter_mut().zip(self.halves().0) {
            *to = from;
        }
        Hmac::new(&(*block).into())
    }

    /// The half that encrypts.
    pub(super) fn cipher(&self) -> Zeroizing<[u8; HALF]> {
        Zeroizing::new(self.halves().1)
    }

    fn decryptor(&self, iv: [u8; BLOCK]) -> Decryptor<Aes128> {
        Decryptor::new(&(*self.cipher()).into(), &iv.into())
    }
}

/// A slice as cipher blocks. A rest that is shorter than a block is left out; slices of whole blocks have none.
pub(super) fn blocks(bytes: &mut [u8]) -> &mut [Array<u8, U16>] {
    Array::slice_as_chunks_mut(bytes).0
}

fn length(count: usize) -> u64 {
    count as u64
}

/// How many bytes of ciphertext a token of `characters` contains, if the last `padding` of them are `=`.
fn ciphertext_bytes(characters: u64, padding: u64) -> Result<u64, TokenError> {
    let truncated = TokenError::Truncated(characters);
    if !characters.is_multiple_of(4) {
        return Err(truncated);
    }
    let bytes = (characters / 4 * 3).checked_sub(padding + length(PREFIX + TAG)).ok_or(truncated)?;
    if bytes == 0 || !bytes.is_multiple_of(length(BLOCK)) { Err(truncated) } else { Ok(bytes) }
}

/// A token somewhere in a file, with its key.
pub(super) struct Token<R> {
    pub(super) source: R,
    /// Where its characters are.
    pub(super) text: Span,
    pub(super) key: Key,
    /// How many bytes of ciphertext it contains.
    ciphertext: u64,
}

impl<R: ReadAt> Token<R> {
    /// A token. Only its length is checked. `padding` is how many characters at its end are `=`.
    pub(super) fn new(source: R, text: Span, padding: u64, key: Key) -> Result<Self, TokenError> {
        let ciphertext = ciphertext_bytes(text.length, padding)?;
        Ok(Self { source, text, key, ciphertext })
    }

    /// Decodes `count` bytes of the token from `position` on, and returns where in `decoded` they are.
    fn decode(
        &self,
        position: u64,
        count: usize,
        characters: &mut Vec<u8>,
        decoded: &mut Vec<u8>,
    ) -> io::Result<Range<usize>> {
        let (first, skip) = (position / 3 * 4, usize::try_from(position % 3).map_err(io::Error::other)?);
        let groups = (skip + count).div_ceil(3);
        let ahead = self.text.length.saturating_sub(first);
        let requested = usize::try_from(ahead).unwrap_or(usize::MAX).min(4 * groups);
        characters.resize(requested, 0);
        decoded.resize(3 * groups, 0);
        self.source.read_exact_at(characters, self.text.start + first).map_err(|error| {
            match error.kind() {
                // Its length was known, so the file has become shorter.
                io::ErrorKind::UnexpectedEof => invalid(TokenError::ChangedMeanwhile),
                _ => error,
            }
        })?;
        let there = BASE64_URL_SAFE.decode_slice(&*characters, decoded);
        let there = there.map_err(|_| invalid(TokenError::NotBase64))?;
        // Padding is allowed only at the end.
        let whole = there == 3 * groups || length(requested) == ahead;
        if !whole || there < skip + count {
            return Err(invalid(TokenError::NotBase64));
        }
        Ok(skip..skip + count)
    }

    /// Reads the whole token to verify that nobody has changed it. Returns the size and the SHA-256 of its plaintext.
    pub(super) fn authenticate(self: &Arc<Self>, stop: &AtomicBool) -> Result<(u64, [u8; 32]), OpenError> {
        let mut plaintext = Plaintext::whole(Arc::clone(self));
        let mut hash = Sha256::new();
        while !plaintext.refill(CHUNK)?.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return Err(OpenError::Stopped);
            }
            hash.update(plaintext.buffer.get(plaintext.ready.clone()).ok_or_else(outside)?);
        }
        Ok((plaintext.position, hash.finalize().into()))
    }
}

pub(super) fn invalid(error: TokenError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The error that decrypted bytes are not where they should be.
fn outside() -> io::Error {
    io::Error::other("a part of the token is outside of the buffer that it was read into")
}

/// An error in the token now means a change, because it was authentic when it was opened.
fn meanwhile(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData => invalid(TokenError::ChangedMeanwhile),
        _ => error,
    }
}

/// How many bytes at the end of the last block are padding; `None` if the padding is wrong.
fn padding_bytes(last: &[u8]) -> Option<usize> {
    let byte = *last.last()?;
    let count = usize::from(byte);
    let padding = last.get(last.len().checked_sub(count)?..)?;
    ((1..=BLOCK).contains(&count) && padding.iter().all(|other| *other == byte)).then_some(count)
}

/// The plaintext of a token, or a part of it. Reading the whole plaintext authenticates it on the way: the read that
/// should return the last bytes fails if the token is not what was signed.
pub struct Plaintext<R> {
    token: Arc<Token<R>>,
    /// Where in the plaintext the next chunk begins.
    position: u64,
    /// Where the part ends. For the whole plaintext, the end of the padding, until the length of the padding is known.
    end: u64,
    /// The authentication code so far; `None` for a part.
    signed: Option<Hmac<Sha256>>,
    characters: Vec<u8>,
    buffer: Zeroizing<Vec<u8>>,
    /// The range of the buffer that has not been read yet.
    ready: Range<usize>,
}

impl<R> std::fmt::Debug for Plaintext<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plaintext")
    }
}

impl<R: ReadAt> Plaintext<R> {
    /// The whole plaintext, authenticated on the way.
    pub(super) fn whole(token: Arc<Token<R>>) -> Self {
        let (signed, end) = (Some(token.key.signer()), token.ciphertext);
        Self { signed, ..Self::part(token, 0..end) }
    }

    /// A part of the plaintext of a token that has been authenticated before.
    pub(super) fn part(token: Arc<Token<R>>, range: Range<u64>) -> Self {
        let (characters, buffer) = (Vec::new(), Zeroizing::default());
        Self { token, position: range.start, end: range.end, signed: None, characters, buffer, ready: 0..0 }
    }

    /// Decrypts the next chunk, `requested` bytes or some more, and returns its range in the buffer; empty at the end.
    fn refill(&mut self, requested: usize) -> io::Result<Range<usize>> {
        self.ready = 0..0;
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(0..0);
        }
        let within = usize::try_from(self.position % length(BLOCK)).map_err(io::Error::other)?;
        let count = (within + left.min(requested).min(CHUNK)).next_multiple_of(BLOCK).min(CHUNK);
        let begin = self.position - length(within);
        // The block before the first one is the initialization vector, which comes after version and time.
        let at = self.token.decode(
            length(BEFORE) + begin,
            BLOCK + count,
            &mut self.characters,
            &mut self.buffer,
        )?;
        let start = at.start + BLOCK;
        let bytes = self.buffer.get_mut(at).ok_or_else(outside)?;
        let (before, chunk) = bytes.split_first_chunk_mut::<BLOCK>().ok_or_else(outside)?;
        let last = begin + length(count) == self.token.ciphertext;
        if let Some(signed) = &mut self.signed {
            if begin == 0 {
                first_bytes(&self.token, signed)?;
                signed.update(&*before);
            }
            signed.update(chunk);
            if last {
                verify(&self.token, signed)?;
            }
        }
        self.token.key.decryptor(*before).decrypt_blocks(blocks(chunk));
        let mut until = count.min(within + left);
        if last && self.signed.is_some() {
            until = count - padding_bytes(chunk).ok_or_else(|| invalid(TokenError::Padding))?;
            self.end = begin + length(until);
        }
        self.position = begin + length(until);
        self.ready = start + within..start + until;
        Ok(self.ready.clone())
    }
}

/// Checks the version, and adds version and time to the authentication code.
fn first_bytes<R: ReadAt>(token: &Token<R>, signed: &mut Hmac<Sha256>) -> io::Result<()> {
    let mut decoded = Vec::new();
    let at = token.decode(0, BEFORE, &mut Vec::new(), &mut decoded)?;
    let bytes = decoded.get(at).ok_or_else(outside)?;
    match bytes.first().ok_or_else(outside)? {
        &VERSION => signed.update(bytes),
        other => return Err(invalid(TokenError::Version(*other))),
    }
    Ok(())
}

/// Compares the authentication code with the one at the end of the token, in constant time.
fn verify<R: ReadAt>(token: &Token<R>, signed: &Hmac<Sha256>) -> io::Result<()> {
    let mut decoded = Vec::new();
    let at = token.decode(length(PREFIX) + token.ciphertext, TAG, &mut Vec::new(), &mut decoded)?;
    let tag = decoded.get(at).ok_or_else(outside)?;
    signed.clone().verify_slice(tag).map_err(|_| invalid(TokenError::Forged))
}

impl<R: ReadAt> Read for Plaintext<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && !out.is_empty() {
            // The code is computed over whole chunks.
            let requested = if self.signed.is_some() { CHUNK } else { out.len() };
            self.refill(requested).map_err(meanwhile)?;
        }
        let ready = self.buffer.get(self.ready.clone()).ok_or_else(outside)?;
        let count = ready.len().min(out.len());
        out.split_at_mut(count).0.copy_from_slice(ready.split_at(count).0);
        self.ready.start += count;
        Ok(count)
    }
}
