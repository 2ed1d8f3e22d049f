//! Tests of files and keys. Tokens have their own tests.

mod tokens;

use std::io::{self, Cursor, Read as _};

use aes::Aes128;
use base64::{Engine as _, prelude::BASE64_URL_SAFE};
use causeway_silo::env::Environment;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _, block_padding};
use chrono::DateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::*;

const PRIVATE: &str = include_str!("../../../tests/encrypted-exports/test-key-private.pem");
const PUBLIC: &str = include_str!("../../../tests/encrypted-exports/test-key-public.pem");
const OTHER_PRIVATE: &str = include_str!("../../../tests/encrypted-exports/other-test-key-private.pem");
const OTHER_PUBLIC: &str = include_str!("../../../tests/encrypted-exports/other-test-key-public.pem");
const PYTHON: &[u8] = include_bytes!("../../../tests/encrypted-exports/python.tar");
const PLAIN: &[u8] = include_bytes!("../../../tests/encrypted-exports/export.json");

fn env() -> Environment {
    Environment::fixed(DateTime::from_timestamp(1_700_000_000, 0).expect("a time"), 7)
}

fn private() -> PrivateKey {
    PrivateKey::from_pem(PRIVATE).expect("a key")
}

fn public() -> PublicKey {
    PublicKey::from_pem(PUBLIC).expect("a key")
}

fn encrypted(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encrypt(plain, plain.len() as u64, &public(), &env(), &mut out).expect("it is encrypted");
    out
}

fn open(file: &[u8]) -> Result<Vec<u8>, OpenError> {
    let opened = Encrypted::open(Cursor::new(file), &private(), &env())?;
    let mut plain = Vec::new();
    opened.plaintext().read_to_end(&mut plain)?;
    assert_eq!(opened.size(), plain.len() as u64);
    assert_eq!(opened.sha256(), hex::encode(Sha256::digest(&plain)));
    Ok(plain)
}

fn refused(file: &[u8]) -> OpenError {
    open(file).expect_err("it is refused")
}

/// The members of a file, as another tar implementation reads them.
fn unpacked(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    tar::Archive::new(file)
        .entries()
        .expect("a tar")
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("it is there");
            (entry.path().expect("a name").display().to_string(), content)
        })
        .collect()
}

fn packed<N: AsRef<str>, C: AsRef<[u8]>>(members: &[(N, C)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = Header::new_ustar();
        header.set_size(content.as_ref().len() as u64);
        tar.append_data(&mut header, name.as_ref(), content.as_ref()).expect("it is packed");
    }
    tar.into_inner().expect("it is packed")
}

/// A valid file with the content of one member replaced.
fn with(name: &str, content: &[u8]) -> Vec<u8> {
    let mut members = unpacked(&encrypted(PLAIN));
    members.iter_mut().find(|member| member.0 == name).expect("it is there").1 = content.to_vec();
    packed(&members)
}

#[test]
fn what_was_encrypted_comes_back() {
    for size in [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 3 << 20] {
        let plain: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let file = encrypted(&plain);
        assert_eq!(open(&file).unwrap_or_else(|error| panic!("{size}: {error}")), plain, "{size}");
    }
}

#[test]
fn another_implementation_agrees() {
    assert_eq!(open(PYTHON).expect("Python made it"), PLAIN);

    // The other way round, all at once in memory: only the primitives are the same.
    let members = unpacked(&encrypted(PLAIN));
    assert_eq!(
        members.iter().map(|member| member.0.as_str()).collect::<Vec<_>>(),
        [EXPORT, DATA_KEY, PUBLIC_KEY]
    );
    assert_eq!(members[2].1, PUBLIC.as_bytes());
    let key = private().decrypt(&env(), &members[1].1).expect("it is for this key");
    assert_eq!(key.len(), 44);
    let key = BASE64_URL_SAFE.decode(&*key).expect("base64url");
    let token = BASE64_URL_SAFE.decode(&members[0].1).expect("base64url");
    let (before, code) = token.split_at(token.len() - 32);
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key[..16]).expect("any length");
    hmac.update(before);
    hmac.verify_slice(code).expect("it is authentic");
    assert_eq!(before[..9], [0x80, 0, 0, 0, 0, 0x65, 0x53, 0xf1, 0x00]);
    let mut ciphertext = before[25..].to_vec();
    let plain = cbc::Decryptor::<Aes128>::new_from_slices(&key[16..], &before[9..25])
        .expect("lengths")
        .decrypt_padded::<block_padding::Pkcs7>(&mut ciphertext)
        .expect("it is padded");
    assert_eq!(plain, PLAIN);
}

#[test]
fn members_come_in_any_order_and_with_extended_headers() {
    let mut members = unpacked(PYTHON);
    members.rotate_left(1);
    assert_eq!(open(&packed(&members)).expect("the order does not matter"), PLAIN);
    members.swap(0, 1);
    assert_eq!(open(&packed(&members)).expect("the order does not matter"), PLAIN);

    let mut tar = Builder::new(Vec::new());
    for (name, content) in &members {
        let size = content.len().to_string();
        // Without a value, an extended header cancels the value of an earlier one: the name is the header's
        // own.
        let attributes = [("mtime", b"1.5".as_slice()), ("size", size.as_bytes()), ("path", b"")];
        tar.append_pax_extensions(attributes).expect("it is packed");
        // The size in the header itself does not count then.
        let mut header = Header::new_ustar();
        header.set_size(0);
        tar.append_data(&mut header, name, content.as_slice()).expect("it is packed");
    }
    assert_eq!(open(&tar.into_inner().expect("it is packed")).expect("as Python writes them"), PLAIN);
}

#[test]
fn a_tar_of_other_members_is_refused() {
    let members = unpacked(&encrypted(PLAIN));
    for (at, (name, content)) in members.iter().enumerate() {
        let mut fewer = members.clone();
        fewer.remove(at);
        assert!(matches!(refused(&packed(&fewer)), OpenError::Missing { name: missing } if missing == name));
        let twice = [members.clone(), vec![(name.clone(), content.clone())]].concat();
        assert!(matches!(refused(&packed(&twice)), OpenError::Twice { name: twice } if twice == name));
    }
    for extra in ["notes.txt", "sub/export.json", &"x".repeat(90)] {
        let more = [members.clone(), vec![(extra.to_owned(), Vec::new())]].concat();
        assert!(matches!(refused(&packed(&more)), OpenError::Extra { name } if name == extra));
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo] {
        let mut header = Header::new_gnu();
        header.set_path(EXPORT).expect("short");
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        let file = [header.as_bytes().as_slice(), &packed(&members[1..])].concat();
        assert!(matches!(refused(&file), OpenError::NotAFile { name } if name == EXPORT), "{kind:?}");
    }
}

#[test]
fn what_a_header_claims_is_not_believed() {
    let claim = |name: &str, kind, size| {
        let mut header = Header::new_gnu();
        header.set_path(name).expect("short");
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        refused(&[header.as_bytes().as_slice(), &[b'x'; 1000]].concat())
    };
    for size in [64 * 1024 + 1, 10_000_000_000, u64::MAX / 2] {
        for (name, kind) in [
            (DATA_KEY, EntryType::Regular),
            (PUBLIC_KEY, EntryType::Regular),
            ("PaxHeaders", EntryType::XHeader),
            ("PaxHeaders", EntryType::XGlobalHeader),
        ] {
            let error = claim(name, kind, size);
            assert!(matches!(error, OpenError::TooLarge { size: claimed, .. } if claimed == size), "{error}");
        }
        let error = claim(EXPORT, EntryType::Regular, size);
        assert!(
            matches!(error, OpenError::Truncated { size: claimed, there: 1000, .. } if claimed == size),
            "{error}"
        );
    }
    assert!(matches!(
        claim(DATA_KEY, EntryType::Regular, 1001),
        OpenError::Truncated { size: 1001, there: 1000, .. }
    ));
}

#[test]
fn what_is_no_tar_is_refused() {
    for file in [b"".as_slice(), b"[]", PLAIN, &[0; 1024], &[b'x'; 2000]] {
        assert!(matches!(refused(file), OpenError::NotTar { position: 0 }));
    }
    let mut file = encrypted(PLAIN);
    let second = 512 + (unpacked(&file)[0].1.len() as u64).next_multiple_of(512);
    file[second as usize + 3] ^= 1;
    assert!(matches!(refused(&file), OpenError::NotTar { position } if position == second));
}

#[test]
fn a_wrong_key_is_not_a_damaged_file() {
    let file = encrypted(PLAIN);
    let other = PrivateKey::from_pem(OTHER_PRIVATE).expect("a key in PKCS#1");
    let error = Encrypted::open(Cursor::new(&file), &other, &env()).expect_err("another key");
    assert!(matches!(error, OpenError::WrongKey));
    assert!(matches!(refused(&with(PUBLIC_KEY, OTHER_PUBLIC.as_bytes())), OpenError::WrongKey));
    for bad in [b"".as_slice(), b"\xff", PRIVATE.as_bytes()] {
        assert!(matches!(refused(&with(PUBLIC_KEY, bad)), OpenError::BadPublicKey));
    }

    let mut data_key = unpacked(&file).remove(1).1;
    data_key[100] ^= 1;
    for bad in [b"".as_slice(), b"x", &data_key, &[0xff; 256]] {
        assert!(matches!(refused(&with(DATA_KEY, bad)), OpenError::DataKeyDamaged));
    }
    for bad in [b"".as_slice(), b"short", b"not base64 !"] {
        let wrapped = public().encrypt(&env(), bad).expect("it is short");
        assert!(matches!(refused(&with(DATA_KEY, &wrapped)), OpenError::DataKeyMalformed));
    }
    let another = BASE64_URL_SAFE.encode([1; 32]);
    let wrapped = public().encrypt(&env(), another.as_bytes()).expect("it is short");
    assert!(matches!(refused(&with(DATA_KEY, &wrapped)), OpenError::Token(TokenError::Forged)));
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let private = |pem: &str| PrivateKey::from_pem(pem).expect_err("it is wrong");
    assert!(matches!(private(PUBLIC), KeyError::NotPrivate));
    assert!(matches!(private(""), KeyError::NotPrivate));
    assert!(matches!(private(&PRIVATE.replace('A', "!")), KeyError::NotPrivate));
    assert!(matches!(private("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), KeyError::Locked));
    assert!(matches!(private("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"), KeyError::Locked));
    assert!(matches!(PublicKey::from_pem(PRIVATE), Err(KeyError::NotPublic)));
    let weak = include_str!("../../../tests/encrypted-exports/weak-test-key-public.pem");
    assert!(matches!(PublicKey::from_pem(weak), Err(KeyError::Weak { bits: 1024, least: 2048 })));
    assert_eq!(format!("{:?}", PrivateKey::from_pem(PRIVATE)), "Ok(PrivateKey)");
}

#[test]
fn any_part_is_what_the_whole_has_there() {
    let plain: Vec<u8> = (0..200_000).map(|at: u32| (at % 251) as u8).collect();
    let opened = Encrypted::open(Cursor::new(encrypted(&plain)), &private(), &env()).expect("it is good");
    let chunk = 65_520;
    let places = [0, 1, 15, 16, 17, 47, 48, 49, chunk - 1, chunk, chunk + 1, 131_071, 199_999, 200_000];
    for from in places {
        for to in places.into_iter().filter(|to| *to >= from) {
            let mut part = Vec::new();
            let mut reader = opened.part(from..to);
            // The size of the pieces divides neither a block nor a chunk.
            let mut piece = [0; 4_099];
            loop {
                match reader.read(&mut piece).expect("it is there") {
                    0 => break,
                    count => part.extend_from_slice(&piece[..count]),
                }
            }
            assert!(part == plain[from as usize..to as usize], "{from}..{to}");
        }
    }
    let mut end = Vec::new();
    opened.part(199_990..u64::MAX).read_to_end(&mut end).expect("it is there");
    assert_eq!(end, plain[199_990..]);
    assert_eq!(opened.part(300_000..400_000).read_to_end(&mut end).expect("nothing is there"), 0);
}

#[test]
fn what_is_encrypted_for_another_key_is_the_same_export() {
    let file = encrypted(PLAIN);
    let opened = Encrypted::open(Cursor::new(&file), &private(), &env()).expect("it is good");
    let other = PrivateKey::from_pem(OTHER_PRIVATE).expect("a key");
    let public = other.public_key().expect("it is long enough");
    assert_eq!(public.to_pem().expect("it is written"), OTHER_PUBLIC);
    let rewrapped = opened.rewrap_key(&public, &env()).expect("it is encrypted");
    let read = || {
        let mut bytes = Vec::new();
        rewrapped.reader().read_to_end(&mut bytes).expect("it is there");
        bytes
    };
    let bytes = read();
    assert_eq!(bytes.len() as u64, rewrapped.size());
    assert_eq!(read(), bytes);
    let (before, after) = (unpacked(&file), unpacked(&bytes));
    assert_eq!(after[0], before[0], "the token is as it was");
    assert_eq!(after[2].1, OTHER_PUBLIC.as_bytes());

    assert!(matches!(refused(&bytes), OpenError::WrongKey));
    let opened = Encrypted::open(Cursor::new(&bytes), &other, &env()).expect("it is for this key");
    let mut plain = Vec::new();
    opened.plaintext().read_to_end(&mut plain).expect("it is whole");
    assert_eq!(plain, PLAIN);
}

#[test]
fn a_tar_is_recognized_by_its_beginning() {
    for tar in [encrypted(PLAIN), PYTHON.to_vec(), packed(&[("other", "x")])] {
        assert!(is_tar(&tar) && is_tar(&tar[..BEGINNING]));
        assert!(!is_tar(&tar[..BEGINNING - 1]));
    }
    for other in [PLAIN, &[b' '; 1024], &[0; 1024], b"[]"] {
        assert!(!is_tar(other));
    }
}

#[test]
fn who_stops_is_not_kept() {
    let stop = std::sync::atomic::AtomicBool::new(true);
    let stopped = Encrypted::open_unless(Cursor::new(encrypted(PLAIN)), &private(), &env(), &stop);
    assert!(matches!(stopped, Err(OpenError::Stopped)));
}

#[test]
fn a_file_that_changes_after_it_was_opened_is_noticed() {
    let mut file = tempfile::tempfile().expect("a file");
    let bytes = encrypted(&[b'x'; 200_000]);
    io::Write::write_all(&mut file, &bytes).expect("it is written");
    let opened =
        Encrypted::open(file.try_clone().expect("a handle"), &private(), &env()).expect("it is good");
    // Replace a character in the middle of the token by another one.
    io::Seek::seek(&mut file, io::SeekFrom::Start(200_000)).expect("it is long");
    let other = if bytes[200_000] == b'A' { b"B" } else { b"A" };
    io::Write::write_all(&mut file, other).expect("it is written");
    let read = io::copy(&mut opened.plaintext(), &mut io::sink());
    let error = read.expect_err("it has changed");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TokenError>());
    assert_eq!(inner, Some(&TokenError::ChangedMeanwhile));
}

#[test]
fn an_export_of_another_size_is_not_encrypted() {
    for claimed in [0, 2, 4, 100_000, u64::MAX / 2] {
        let error =
            encrypt(b"abc".as_slice(), claimed, &public(), &env(), &mut io::sink()).expect_err("three");
        assert!(matches!(error, EncryptError::Changed(size) if size == claimed), "{error}");
    }
    let error = encrypt(b"abc".as_slice(), u64::MAX, &public(), &env(), &mut io::sink());
    assert!(matches!(error, Err(EncryptError::TooLarge(u64::MAX))));
}

proptest! {
    #[test]
    fn no_file_panics(junk in prop::collection::vec(any::<u8>(), 0..2000), at: prop::sample::Index) {
        prop_assert!(container::members(&Cursor::new(&junk)).is_err());
        let mut file = PYTHON.to_vec();
        let at = at.index(file.len());
        file.iter_mut().skip(at).zip(junk).for_each(|(to, from)| *to = from);
        drop(container::members(&Cursor::new(&file)));
    }
}
