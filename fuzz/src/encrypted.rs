//! The way of an encrypted export from bytes to plaintext.

use std::{
    io::{Cursor, Read as _},
    sync::LazyLock,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use causeway_relocation::encrypted::{Encrypted, PrivateKey, PublicKey, encrypt};
use causeway_silo::env::Environment;
use chrono::DateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{Numbers, put};

const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TAG: usize = 32;

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    PrivateKey::from_pem(include_str!("../../tests/encrypted-exports/test-key-private.pem"))
        .expect("a private key")
});

/// Gives the same numbers every time, so that the key of a seed is known to the mutations.
fn env() -> Environment {
    Environment::fixed(DateTime::UNIX_EPOCH, 7)
}

/// Opens a file as the command does, and reads all of it and parts of it as a region does. Nothing may panic,
/// and what is opened has the size that was reported.
pub fn open(bytes: &[u8]) {
    let encrypted = match Encrypted::open(Cursor::new(bytes), &KEY, &env()) {
        Ok(encrypted) => encrypted,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut plain = Vec::new();
    encrypted.plaintext().read_to_end(&mut plain).expect("it is authentic");
    assert_eq!(plain.len() as u64, encrypted.size());
    assert!(plain.len() < bytes.len());
    // Places that follow from the content: about the ends of blocks, and anywhere.
    let seed =
        plain.iter().take(8).fold(plain.len(), |seed, byte| seed.wrapping_mul(31) ^ usize::from(*byte));
    let mut numbers = Numbers::new(u32::try_from(seed & 0xffff_ffff).unwrap_or(0));
    for _ in 0..4 {
        let start = numbers.below(plain.len() + 2);
        let end = start + numbers.below(40);
        let mut part = Vec::new();
        encrypted.part(start as u64..end as u64).read_to_end(&mut part).expect("it is authentic");
        let end = end.min(plain.len());
        assert_eq!(part, plain[start.min(end)..end]);
    }
}

/// Changes bytes, and repairs what would keep everything else from being checked: mostly the checksums of
/// headers, often the authentication code of the token.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut numbers = Numbers::new(seed);
    let mut size = size;
    if numbers.below(4) == 0 {
        let mut bytes = data[..size].to_vec();
        move_members(&mut bytes, &mut numbers);
        size = put(&bytes, data, size, max_size);
    } else {
        size = libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    if numbers.below(8) != 0 {
        let mend_token = numbers.below(2) == 0;
        mend(&mut data[..size], mend_token);
    }
    size
}

/// Where each header is, and how long the content after it is.
fn headers(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + BLOCK)
        && header.iter().any(|byte| *byte != 0)
    {
        let digits: String = header[SIZE].iter().map(|byte| char::from(*byte)).collect();
        let said = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        let length = said.min(bytes.len() - at - BLOCK);
        found.push((at, length));
        at += BLOCK + length.next_multiple_of(BLOCK);
    }
    found
}

/// Takes a member away, doubles it, or moves it.
fn move_members(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let mut members: Vec<Vec<u8>> = headers(bytes)
        .into_iter()
        .map(|(at, length)| {
            let end = (at + BLOCK + length.next_multiple_of(BLOCK)).min(bytes.len());
            bytes[at..end].to_vec()
        })
        .collect();
    if members.is_empty() {
        return;
    }
    let one = members.remove(numbers.below(members.len()));
    for _ in 0..numbers.below(3) {
        members.insert(numbers.below(members.len() + 1), one.clone());
    }
    *bytes = members.concat();
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
}

fn mend(bytes: &mut [u8], mend_token: bool) {
    for (at, length) in headers(bytes) {
        let (header, rest) = bytes[at..].split_at_mut(BLOCK);
        if mend_token && header.starts_with(b"export.json\0") {
            sign(&mut rest[..length]);
        }
        header[CHECKSUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Signs a token that has been changed, with the key that the seeds have.
fn sign(token: &mut [u8]) {
    let Ok(mut raw) = BASE64_URL_SAFE.decode(&*token) else { return };
    let Some(signed) = raw.len().checked_sub(TAG) else { return };
    let key = env().bytes::<32>();
    let mut code = Hmac::<Sha256>::new_from_slice(&key[..16]).expect("any length is a key");
    code.update(&raw[..signed]);
    raw[signed..].copy_from_slice(&code.finalize().into_bytes());
    let text = BASE64_URL_SAFE.encode(raw);
    if text.len() == token.len() {
        token.copy_from_slice(text.as_bytes());
    }
}

/// Encrypted exports of some lengths, and one of another implementation.
#[must_use]
pub fn seeds(export: &[u8]) -> Vec<Vec<u8>> {
    let public = PublicKey::from_pem(include_str!("../../tests/encrypted-exports/test-key-public.pem"))
        .expect("a key");
    let mut seeds = vec![include_bytes!("../../tests/encrypted-exports/python.tar").to_vec()];
    for length in [0, 1, 15, 16, 17, 500, export.len()] {
        let plain = &export[..length.min(export.len())];
        let mut encrypted = Vec::new();
        encrypt(plain, plain.len() as u64, &public, &env(), &mut encrypted).expect("it is encrypted");
        seeds.push(encrypted);
    }
    seeds
}
