//! Encrypted exports: a tar with exactly three members.
//!
//! | member | what it is |
//! | --- | --- |
//! | `export.json` | the export as a Fernet token: base64url of `0x80`, 8 bytes of time, 16 bytes of IV, AES-128-CBC with PKCS#7 padding, HMAC-SHA256 over all before |
//! | `data.key` | the Fernet key, encrypted with RSA-OAEP, whose hash and MGF1 hash are SHA-256 |
//! | `key.pub` | the public key that it was encrypted with, PEM |
//!
//! [`Encrypted::open`] reads the whole token and authenticates it before a byte of it is believed; only then
//! [`Encrypted::plaintext`] decrypts it as a stream, and [`Encrypted::part`] any part of it. [`encrypt`] makes such a file, as
//! a stream too, and [`Encrypted::rewrap_key`] one for another key with the same token in it. Nothing here holds more than a
//! few buffers of 64 KiB, however big the file is.
//!
//! RSA decryption in software can leak the key to whoever may time it very often over a network (the Marvin
//! attack). A region with a private key decrypts once for each whole upload, behind the disk's own delays, and the
//! decryption is blinded. That makes the attack harder and not impossible: keep such a region's port to those who
//! may import.

mod container;
mod encrypt;
mod error;
mod fernet;
mod keys;
mod open;
mod read_at;
mod rewrap_key;
#[cfg(test)]
mod tests;

pub use encrypt::encrypt;
pub use error::{KeyError, OpenError, SealError, TokenError};
pub use fernet::Plaintext;
pub use keys::{PrivateKey, PublicKey};
pub use open::Encrypted;
pub use read_at::ReadAt;
pub use rewrap_key::Rewrapped;

/// How many bytes of the beginning of a file [`is_tar`] looks at.
pub const BEGINNING: usize = container::BLOCK;

/// Whether a file that begins with these bytes is a tar, and so no plain export: they are a tar header with the right
/// checksum. A plain export, which is JSON, never is one. Fewer than [`BEGINNING`] bytes are no tar.
#[must_use]
pub fn is_tar(beginning: &[u8]) -> bool {
    container::is_tar(beginning)
}

/// The member that holds the export.
const EXPORT: &str = "export.json";
/// The member that holds the encrypted key of the export.
const DATA_KEY: &str = "data.key";
/// The member that says whose private key opens the file.
const PUBLIC_KEY: &str = "key.pub";

/// How much of an export is encrypted at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// The most that a member other than the export may have.
const SMALL_MEMBER_BYTES: u64 = 64 * 1024;
