//! Errors of encrypted exports and of keys, each with what to do about it. No message contains a secret.

use std::io;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not the private half of an RSA key, or not PEM.
    #[error(
        "it is not an RSA private key in PEM; give the file that begins with -----BEGIN PRIVATE KEY----- or \
         -----BEGIN RSA PRIVATE KEY-----"
    )]
    NotPrivate,
    /// A private key under a passphrase.
    #[error(
        "the private key is protected by a passphrase, which cannot be given here; make a copy without one, e.g. with \
         openssl pkey -in KEY -out COPY, and delete it afterwards"
    )]
    Locked,
    /// Not the public half of an RSA key, one longer than can be used, or not PEM.
    #[error(
        "it is not an RSA public key of at most 4096 bits in PEM; give the file that begins with \
         -----BEGIN PUBLIC KEY-----"
    )]
    NotPublic,
    /// Too short to be safe.
    #[error("the RSA key has {bits} bits, which is not safe; make one of at least {least}")]
    Weak {
        /// The length of the key, in bits.
        bits: usize,
        /// The minimum length, in bits.
        least: usize,
    },
}

/// Why an encrypted export cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The caller stopped the reading before the end of the file.
    #[error("it was not read to its end because the service is stopping")]
    Stopped,
    /// The file is not a tar, or is damaged between its members.
    #[error(
        "at byte {position} there is no tar header; an encrypted export is a tar of export.json, data.key and \
         key.pub (an export that begins with [ is not encrypted: use it as it is)"
    )]
    NotTar {
        /// The byte offset where a header should be.
        position: u64,
    },
    /// The file ends in the middle of a member.
    #[error(
        "{name} has {size} bytes by its header, but the file ends after {there} of them; get the whole file again"
    )]
    Truncated {
        /// The name of the member.
        name: String,
        /// The size in bytes, according to the header.
        size: u64,
        /// How many bytes the file has from the beginning of the member.
        there: u64,
    },
    /// A member that is a link, a directory or the like.
    #[error("{name:?} in the tar is not a regular file; pack export.json, data.key and key.pub as they are")]
    NotAFile {
        /// The name of the member.
        name: String,
    },
    /// A member other than the three.
    #[error("{name:?} does not belong in the tar; pack export.json, data.key and key.pub and nothing else")]
    Extra {
        /// The name of the member.
        name: String,
    },
    /// A member that is there twice.
    #[error("{name} is in the tar twice; which one counts cannot be known, so get the file again")]
    Twice {
        /// The name of the member.
        name: &'static str,
    },
    /// A member that is not there.
    #[error("{name} is missing in the tar; get the whole file again from whoever made it")]
    Missing {
        /// The name of the member.
        name: &'static str,
    },
    /// A member that must be small is too large.
    #[error(
        "{name} has {size} bytes by its header, and {limit} are the most; this is not a file to be trusted"
    )]
    TooLarge {
        /// The name of the member.
        name: String,
        /// The size in bytes, according to the header.
        size: u64,
        /// The maximum size, in bytes.
        limit: u64,
    },
    /// The `key.pub` of the file is not a public key that can be used.
    #[error(
        "key.pub in the tar is not an RSA public key of at most 4096 bits in PEM; if it is a longer one, have the \
         file made with another key, else it is damaged: get it again"
    )]
    BadPublicKey,
    /// The file was encrypted for another key. The file itself may be intact.
    #[error(
        "the private key is not the one that this file was encrypted for; give the private key that belongs to its \
         key.pub (tar -xOf FILE key.pub shows it)"
    )]
    WrongKey,
    /// The private key is the right one, but the encrypted key is damaged.
    #[error(
        "the private key belongs to this file, but data.key cannot be decrypted with it; the file is damaged: get it \
         again"
    )]
    DataKeyDamaged,
    /// `data.key` can be decrypted, but does not contain a Fernet key.
    #[error(
        "data.key holds no Fernet key (44 characters of base64url); whoever made the file must encrypt it again"
    )]
    DataKeyMalformed,
    /// The token is damaged.
    #[error("export.json in the tar: {0}")]
    Token(#[from] TokenError),
}

/// What is wrong with a Fernet token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A part of it is not base64url.
    #[error("it is not base64url, so it is not a Fernet token; the file is damaged: get it again")]
    NotBase64,
    /// It is shorter than any token, or ends within a block.
    #[error("it ends too early: {0} characters are not a whole Fernet token; get the whole file again")]
    Truncated(u64),
    /// Its version is not 0x80, the only one that is defined.
    #[error("its version is {0:#04x}, and 0x80 is the only one of Fernet; the file is damaged: get it again")]
    Version(u8),
    /// The authentication code does not match what comes before it.
    #[error(
        "its authentication code is wrong: it was changed or damaged after it had been encrypted, or data.key is that \
         of another export; do not use it, get it again"
    )]
    Forged,
    /// It is authentic, but was padded wrongly when it was made.
    #[error("its padding is wrong although it is authentic; whoever made the file must encrypt it again")]
    Padding,
    /// It was authentic when it was opened, and has changed since.
    #[error("it has changed while it was read; leave the file alone and try again")]
    ChangedMeanwhile,
}

/// Why an export cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum EncryptError {
    /// The export cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The encrypted export cannot be written.
    #[error("the encrypted export cannot be written: {0}")]
    Write(#[source] io::Error),
    /// The export has more or fewer bytes than the caller announced.
    #[error(
        "the export no longer has {0} bytes: it has changed while it was read; leave it alone and try again"
    )]
    Changed(u64),
    /// The export is too large for a tar.
    #[error("an export of {0} bytes is too big to be encrypted")]
    TooLarge(u64),
    /// The encryption with the public key failed.
    #[error("the public key does not encrypt: {0}")]
    Key(#[source] rsa::Error),
}
