//! Making an encrypted export.

use std::io::{self, Read, Write};

use aes::Aes128;
use base64::{engine::general_purpose::GeneralPurpose, prelude::BASE64_URL_SAFE, write::EncoderWriter};
use causeway_silo::env::Environment;
use cbc::{
    Encryptor,
    cipher::{BlockModeEncrypt as _, KeyIvInit as _},
};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    BUFFER_BYTES, DATA_KEY, EXPORT, EncryptError, PUBLIC_KEY, PublicKey,
    container::{begin, end, finish},
    fernet::{BLOCK, Key, PREFIX, TAG, VERSION, blocks},
};

/// Encrypts an export of `size` bytes for the owner of the private key that belongs to `key`, with a new Fernet key and
/// the time from `env`.
///
/// # Errors
/// If the export cannot be read or does not have `size` bytes, or the encrypted export cannot be written. Then what has
/// been written is not a valid encrypted export.
pub fn encrypt(
    export: impl Read,
    size: u64,
    key: &PublicKey,
    env: &Environment,
    out: &mut impl Write,
) -> Result<(), EncryptError> {
    let data_key = Key::new(Zeroizing::new(env.bytes()));
    let length = token_length(size).ok_or(EncryptError::TooLarge(size))?;
    let time = now(env)?;
    let after = after(&data_key, length, key, env)?;

    begin(out, EXPORT, length, time).map_err(EncryptError::Write)?;
    token(export, size, &data_key, env.bytes(), time, out)?;
    out.write_all(&after).and_then(|()| out.flush()).map_err(EncryptError::Write)
}

/// The time in the form of a tar and a token: seconds since 1970.
///
/// # Errors
/// If the clock is before that.
pub(super) fn now(env: &Environment) -> Result<u64, EncryptError> {
    u64::try_from(env.now().timestamp())
        .map_err(|_| EncryptError::Write(io::Error::other("the clock of this machine is before 1970")))
}

/// The rest of the file after a token of `length` characters: its Fernet key, encrypted with `key`, and `key` itself.
pub(super) fn after(
    data_key: &Key,
    length: u64,
    key: &PublicKey,
    env: &Environment,
) -> Result<Vec<u8>, EncryptError> {
    let encrypted = key.encrypt(env, data_key.to_text().as_bytes())?;
    let public_key = key.to_pem()?;
    let mut out = Vec::new();
    end(&mut out, length).map_err(EncryptError::Write)?;
    for (name, content) in [(DATA_KEY, encrypted.as_slice()), (PUBLIC_KEY, public_key.as_bytes())] {
        let size = length_of(content.len())?;
        begin(&mut out, name, size, now(env)?).map_err(EncryptError::Write)?;
        out.extend_from_slice(content);
        end(&mut out, size).map_err(EncryptError::Write)?;
    }
    finish(&mut out).map_err(EncryptError::Write)?;
    Ok(out)
}

/// A number of bytes in memory as one of bytes in a file.
fn length_of(bytes: usize) -> Result<u64, EncryptError> {
    u64::try_from(bytes).map_err(|error| EncryptError::Write(io::Error::other(error)))
}

/// How many characters the token of an export of `size` bytes has.
fn token_length(size: u64) -> Option<u64> {
    let around = u64::try_from(PREFIX + TAG).ok()?;
    let block = u64::try_from(BLOCK).ok()?;
    let padded = size.checked_add(1)?.checked_next_multiple_of(block)?;
    padded.checked_add(around)?.div_ceil(3).checked_mul(4)
}

/// Encrypts the export and writes the token.
fn token(
    mut export: impl Read,
    size: u64,
    key: &Key,
    iv: [u8; BLOCK],
    time: u64,
    out: &mut impl Write,
) -> Result<(), EncryptError> {
    let mut token = Signed { token: EncoderWriter::new(out, &BASE64_URL_SAFE), code: key.signer() };
    for part in [&[VERSION], time.to_be_bytes().as_slice(), &iv] {
        token.write(part)?;
    }
    let mut encryptor = Encryptor::<Aes128>::new(&(*key.cipher()).into(), &iv.into());
    let mut buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
    let mut left = size;
    // Every chunk but the last fills the buffer. The last one, which may be padding only, leaves room for the padding.
    loop {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let (filled, padding) = buffer.split_at_mut(length);
        export.read_exact(filled).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => EncryptError::Changed(size),
            _ => EncryptError::Read(error),
        })?;
        left -= length_of(length)?;
        let last = length < BUFFER_BYTES;
        let mut count = length;
        if last {
            let pad = BLOCK - length % BLOCK;
            let filler = u8::try_from(pad).map_err(|error| EncryptError::Write(io::Error::other(error)))?;
            padding.iter_mut().take(pad).for_each(|byte| *byte = filler);
            count += pad;
        }
        let (chunk, _) = buffer.split_at_mut(count);
        encryptor.encrypt_blocks(blocks(chunk));
        token.write(chunk)?;
        if last {
            break;
        }
    }
    if export.read(&mut [0]).map_err(EncryptError::Read)? > 0 {
        return Err(EncryptError::Changed(size));
    }
    token.finish()
}

/// A token that is being written, with its authentication code computed on the way.
struct Signed<'e, W: Write> {
    token: EncoderWriter<'e, GeneralPurpose, W>,
    code: Hmac<Sha256>,
}

impl<W: Write> Signed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncryptError> {
        self.code.update(bytes);
        self.token.write_all(bytes).map_err(EncryptError::Write)
    }

    fn finish(mut self) -> Result<(), EncryptError> {
        let code = self.code.finalize().into_bytes();
        self.token.write_all(&code).map_err(EncryptError::Write)?;
        self.token.finish().map(drop).map_err(EncryptError::Write)
    }
}
