//! Tokens, which these tests make manually.

use std::{
    io::Cursor,
    sync::{Arc, atomic::AtomicBool},
};

use aes::Aes128;
use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _, block_padding};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::super::{
    OpenError, TokenError,
    container::Span,
    fernet::{Key, Token},
};

const KEY: [u8; 32] = *b"0123456789abcdefFEDCBA9876543210";

/// A token with a correct signature, whatever it contains.
fn signed(before: &[u8]) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(&KEY[..16]).expect("any length");
    hmac.update(before);
    BASE64_URL_SAFE.encode([before, hmac.finalize().into_bytes().as_slice()].concat())
}

fn encrypted(plain: &[u8]) -> Vec<u8> {
    let mut ciphertext = plain.to_vec();
    cbc::Encryptor::<Aes128>::new_from_slices(&KEY[16..], &[9; 16])
        .expect("lengths")
        .encrypt_padded::<block_padding::NoPadding>(&mut ciphertext, plain.len())
        .expect("whole blocks");
    [&[0x80, 0, 0, 0, 0, 1, 2, 3, 4], [9; 16].as_slice(), &ciphertext].concat()
}

fn check(token: &str) -> Result<u64, TokenError> {
    let padding = token.bytes().rev().take_while(|byte| *byte == b'=').count().min(2) as u64;
    let (text, key) = (Span { start: 0, length: token.len() as u64 }, Key::new(Zeroizing::new(KEY)));
    let token = Arc::new(Token::new(Cursor::new(token.to_owned()), text, padding, key)?);
    match token.authenticate(&AtomicBool::new(false)) {
        Ok((size, _)) => Ok(size),
        Err(OpenError::Token(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_defect_of_a_token_is_reported() {
    let block = [4; 16];
    let good = signed(&encrypted(&block));
    assert_eq!(check(&good), Ok(12));
    assert_eq!(check(&signed(&encrypted(&[16; 16]))), Ok(0));

    assert_eq!(check(""), Err(TokenError::Truncated(0)));
    for length in [1, 4, 44, good.len() - 1, good.len() - 4] {
        assert_eq!(check(&good[..length]), Err(TokenError::Truncated(length as u64)), "{length}");
    }
    assert_eq!(check(&signed(&encrypted(&[]))), Err(TokenError::Truncated(76)));
    for bad in ["!", "+", "\n", " ", "="] {
        let mut bad_token = good.clone();
        bad_token.replace_range(50..51, bad);
        assert_eq!(check(&bad_token), Err(TokenError::NotBase64), "{bad:?}");
    }
    let mut other = encrypted(&block);
    other[0] = 0x81;
    assert_eq!(check(&signed(&other)), Err(TokenError::Version(0x81)));

    for bad in [[0; 16], [17; 16], [255; 16], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 4, 5, 4]] {
        assert_eq!(check(&signed(&encrypted(&bad))), Err(TokenError::Padding), "{bad:?}");
    }
    let mut changed = BASE64_URL_SAFE.decode(&good).expect("base64url");
    changed[30] ^= 0x10;
    assert_eq!(check(&BASE64_URL_SAFE.encode(changed)), Err(TokenError::Forged));
}

proptest! {
    #[test]
    fn no_byte_of_a_token_can_be_flipped(blocks in 1_usize..6, at: prop::sample::Index, mask in 1_u8..) {
        let token = signed(&encrypted(&[16].repeat(16 * blocks)));
        prop_assert!(check(&token).is_ok());
        let mut changed = token.into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= mask;
        // A byte that is not a character of base64url is refused as such.
        let changed: String = changed.into_iter().map(char::from).collect();
        prop_assert!(check(&changed).is_err());
    }
}
