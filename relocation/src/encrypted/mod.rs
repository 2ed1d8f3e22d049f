//! Encrypted exports: a tar with exactly three members.
//!
//! | member | what it is |
//! | --- | --- |
//! | `export.json` | the export as a Fernet token: base64url of `0x80`, 8 bytes of time, 16 bytes of IV, AES-128-CBC with PKCS#7 padding, HMAC-SHA256 over everything before it |
//! | `data.key` | the Fernet key, encrypted with RSA-OAEP, with SHA-256 for both the hash and the MGF1 hash |
//! | `key.pub` | the public key that it was encrypted with, PEM |
//!
//! [`Encrypted::open`] reads and authenticates the whole token before any byte of it is used. Then
//! [`Encrypted::plaintext`] decrypts it as a stream, and [`Encrypted::part`] any part of it. [`encrypt`] makes such a
//! file, as a stream too, and [`Encrypted::rewrap_key`] makes one for another key with the same token in it. Nothing
//! here needs more memory than a few buffers of 64 KiB, however large the file is.
//!
//! RSA decryption in software can leak the key to an attacker who can time it very often over a network (the Marvin
//! attack). A region with a private key decrypts once for each complete upload, after the disk's own delays, and the
//! decryption is blinded. That makes the attack harder but not impossible: give access to such a region's port only to
//! those who may import.

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
pub use error::{EncryptError, KeyError, OpenError, TokenError};
pub use fernet::Plaintext;
pub use keys::{PrivateKey, PublicKey};
pub use open::Encrypted;
pub use read_at::ReadAt;
pub use rewrap_key::Rewrapped;

/// How many bytes of the beginning of a file [`is_tar`] needs.
pub const BEGINNING: usize = container::BLOCK;

/// Whether a file that begins with these bytes is a tar, and not a plain export: they are a tar header with a correct
/// checksum. A plain export, which is JSON, never is. Fewer than [`BEGINNING`] bytes are not a tar.
#[must_use]
pub fn is_tar(beginning: &[u8]) -> bool {
    container::is_tar(beginning)
}

/// The member with the export.
const EXPORT: &str = "export.json";
/// The member with the encrypted Fernet key of the export.
const DATA_KEY: &str = "data.key";
/// The member with the public key. It shows which private key opens the file.
const PUBLIC_KEY: &str = "key.pub";

/// How much of an export is encrypted at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// The maximum size of a member other than the export, in bytes.
const SMALL_MEMBER_BYTES: u64 = 64 * 1024;
