//! Fernet tokens as streams.

use std::io::{self, BufReader, Read, Take};

use aes::Aes128;
use base64::{engine::general_purpose::GeneralPurpose, prelude::BASE64_URL_SAFE, read::DecoderReader};
use cbc::{
    Decryptor,
    cipher::{Array, BlockModeDecrypt as _, KeyIvInit as _, typenum::U16},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{BUFFER_BYTES, TokenError};

pub(super) const VERSION: u8 = 0x80;
/// The size of a cipher block, and of the initialization vector.
pub(super) const BLOCK: usize = 16;
/// Version, time, initialization vector.
pub(super) const PREFIX: usize = 1 + 8 + BLOCK;
pub(super) const TAG: usize = 32;
/// Half of a key signs, the other half encrypts.
const HALF: usize = 16;

/// A Fernet key.
pub(super) struct Key(Zeroizing<[u8; 2 * HALF]>);

impl Key {
    pub(super) fn new(bytes: Zeroizing<[u8; 2 * HALF]>) -> Self {
        Self(bytes)
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

    /// What computes the authentication code.
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

/// A slice as cipher blocks. What is left over at its end stays as it is; there is nothing for whole blocks.
pub(super) fn blocks(bytes: &mut [u8]) -> &mut [Array<u8, U16>] {
    Array::slice_as_chunks_mut(bytes).0
}

/// How many bytes of ciphertext a token of `length` characters holds.
fn ciphertext_bytes(length: u64, padding: u64) -> Result<u64, TokenError> {
    let truncated = TokenError::Truncated(length);
    if !length.is_multiple_of(4) {
        return Err(truncated);
    }
    let around = u64::try_from(PREFIX + TAG).unwrap_or(u64::MAX);
    let bytes = (length / 4 * 3).checked_sub(padding + around).ok_or(truncated)?;
    if bytes == 0 || !bytes.is_multiple_of(16) { Err(truncated) } else { Ok(bytes) }
}

/// The ciphertext of a token, with its authentication code computed on the way.
struct Ciphertext<R: Read> {
    token: DecoderReader<'static, GeneralPurpose, BufReader<Take<R>>>,
    iv: [u8; BLOCK],
    signed: Hmac<Sha256>,
    /// How much of it is still to come.
    left: u64,
}

impl<R: Read> Ciphertext<R> {
    /// Reads up to the ciphertext. `padding` is how many characters at the end of the token are `=`.
    fn begin(key: &Key, source: Take<R>, padding: u64) -> io::Result<Self> {
        let left = ciphertext_bytes(source.limit(), padding).map_err(invalid)?;
        let buffered = BufReader::with_capacity(BUFFER_BYTES, source);
        let mut token = DecoderReader::new(buffered, &BASE64_URL_SAFE);
        let mut prefix = [0; PREFIX];
        read(&mut token, &mut prefix)?;
        let [version, _, _, _, _, _, _, _, _, iv @ ..] = prefix;
        if version != VERSION {
            return Err(invalid(TokenError::Version(version)));
        }
        let mut signed = key.signer();
        signed.update(&prefix);
        Ok(Self { token, iv, signed, left })
    }

    /// Fills the buffer, except with the last bytes; nothing after them. The code is checked with the last ones.
    fn next<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<&'b mut [u8]> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let (filled, _) = buffer.split_at_mut(length);
        if filled.is_empty() {
            return Ok(filled);
        }
        read(&mut self.token, filled)?;
        self.signed.update(filled);
        self.left -= u64::try_from(length).unwrap_or_default();
        if self.left == 0 {
            let mut tag = [0; TAG];
            read(&mut self.token, &mut tag)?;
            // Compared in constant time.
            self.signed.clone().verify_slice(&tag).map_err(|_| invalid(TokenError::Forged))?;
        }
        Ok(filled)
    }
}

/// Reads all of it. What does not decode is an error of the token, any other is the source's own.
fn read(token: &mut impl Read, filled: &mut [u8]) -> io::Result<()> {
    token.read_exact(filled).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => invalid(TokenError::NotBase64),
        // Its length is known, so it has become shorter.
        io::ErrorKind::UnexpectedEof => invalid(TokenError::ChangedMeanwhile),
        _ => error,
    })
}

pub(super) fn invalid(error: TokenError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads a whole token, and tells how many bytes its plaintext has if it is authentic.
pub(super) fn authenticate(key: &Key, source: Take<impl Read>, padding: u64) -> io::Result<u64> {
    let mut ciphertext = Ciphertext::begin(key, source, padding)?;
    let size = ciphertext.left;
    let mut buffer = vec![0; BUFFER_BYTES];
    // The last two blocks, for how much of the last one is padding can be seen from these.
    let (mut before, mut last) = (ciphertext.iv, ciphertext.iv);
    loop {
        let chunk = blocks(ciphertext.next(&mut buffer)?);
        match chunk {
            [.., first, second] => (before, last) = ((*first).into(), (*second).into()),
            [only] => (before, last) = (last, (*only).into()),
            [] => break,
        }
    }
    key.decryptor(before).decrypt_blocks(blocks(&mut last));
    let pad = padding_bytes(&last).ok_or_else(|| invalid(TokenError::Padding))?;
    Ok(size - u64::try_from(pad).unwrap_or_default())
}

/// How many bytes at the end of the last block are padding, if that is as it should be.
fn padding_bytes(last: &[u8]) -> Option<usize> {
    let byte = *last.last()?;
    let count = usize::from(byte);
    let padding = last.get(last.len().checked_sub(count)?..)?;
    ((1..=BLOCK).contains(&count) && padding.iter().all(|other| *other == byte)).then_some(count)
}

/// The plaintext of a token that has been authenticated. It is authenticated a second time on the way, and the read
/// that should bring the last bytes fails if the file is no longer what it was.
pub struct Plaintext<R: Read> {
    ciphertext: Ciphertext<R>,
    decryptor: Decryptor<Aes128>,
    buffer: Zeroizing<Vec<u8>>,
    /// What of the buffer has not been read yet.
    ready: std::ops::Range<usize>,
}

impl<R: Read> std::fmt::Debug for Plaintext<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plaintext")
    }
}

impl<R: Read> Plaintext<R> {
    pub(super) fn new(key: &Key, source: Take<R>, padding: u64) -> io::Result<Self> {
        let ciphertext = Ciphertext::begin(key, source, padding).map_err(meanwhile)?;
        let decryptor = key.decryptor(ciphertext.iv);
        Ok(Self { ciphertext, decryptor, buffer: Zeroizing::new(vec![0; BUFFER_BYTES]), ready: 0..0 })
    }

    fn refill(&mut self) -> io::Result<()> {
        let chunk = self.ciphertext.next(&mut self.buffer).map_err(meanwhile)?;
        self.decryptor.decrypt_blocks(blocks(chunk));
        let mut length = chunk.len();
        if length > 0 && self.ciphertext.left == 0 {
            let padding = padding_bytes(chunk).ok_or_else(|| invalid(TokenError::ChangedMeanwhile))?;
            length -= padding;
        }
        self.ready = 0..length;
        Ok(())
    }
}

/// Whatever is wrong with the token now was not when it was authenticated.
fn meanwhile(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData => invalid(TokenError::ChangedMeanwhile),
        _ => error,
    }
}

impl<R: Read> Read for Plaintext<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && !out.is_empty() {
            self.refill()?;
        }
        let ready = self.buffer.get(self.ready.clone()).unwrap_or_default();
        let length = ready.len().min(out.len());
        for (to, from) in out.iter_mut().zip(ready) {
            *to = *from;
        }
        self.ready.start += length;
        Ok(length)
    }
}
