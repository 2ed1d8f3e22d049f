//! Encrypted exports in a region that has the key, and in one that does not.

use std::{fs, io::Cursor, sync::Arc, time::Duration};

use causeway_harness::{
    account::Audit,
    cluster::{Cluster, ImportOptions, RegionApi, Store, upload_messages},
    export::{Export, SLUG},
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{
        GetPublicKeyRequest, ImportHeader, ImportOrganizationsResponse, ImportState,
        import_organizations_request::Part,
    },
    relocation::v1::{ErrorReason, Scope},
};
use causeway_relocation::encrypted::{Encrypted, PrivateKey, PublicKey, encrypt, is_tar};
use causeway_silo::env::Environment;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::support::{accounted, cluster, exhaustive, limited, refused, rows_now};

const PRIVATE: &str = include_str!("../encrypted-exports/test-key-private.pem");
pub(crate) const PUBLIC: &str = include_str!("../encrypted-exports/test-key-public.pem");
const OTHER_PRIVATE: &str = include_str!("../encrypted-exports/other-test-key-private.pem");
const OTHER_PUBLIC: &str = include_str!("../encrypted-exports/other-test-key-public.pem");
const PYTHON: &[u8] = include_bytes!("../encrypted-exports/python.tar");
const PYTHON_PLAIN: &[u8] = include_bytes!("../encrypted-exports/export.json");
const ID: &str = "77a1c1c0-5e0e-4b7b-9a86-0b7b2f0f3d21";
/// The byte offset of the token in a tar that these tests make.
const TOKEN: usize = 512;

/// Encrypts an export for a public key. The result differs each time.
pub(crate) fn encrypted(plain: &[u8], key: &str) -> Vec<u8> {
    let (key, env) = (PublicKey::from_pem(key).expect("a key"), Environment::system());
    let mut out = Vec::new();
    encrypt(plain, plain.len() as u64, &key, &env, &mut out).expect("it is encrypted");
    out
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Restarts the region with this private key.
async fn with_key(cluster: &mut Cluster, key: &'static str) {
    with_keys(cluster, &[key]).await;
}

/// Restarts the region with these private keys.
async fn with_keys(cluster: &mut Cluster, keys: &[&'static str]) {
    let keys = keys.to_vec();
    cluster.configure_regions(move |options| {
        let key = |pem: &&str| Arc::new(PrivateKey::from_pem(pem).expect("a key"));
        options.decryption_keys = keys.iter().map(key).collect();
    });
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
}

/// A cluster with one region that can decrypt what is encrypted for [`PUBLIC`].
pub(crate) async fn opening(store: Store) -> Cluster {
    let mut cluster = cluster(store, &["us"]).await;
    with_key(&mut cluster, PRIVATE).await;
    cluster
}

/// The uploads in the spool directory, and their plans.
fn spooled(cluster: &Cluster) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(cluster.spool_dir(0)).expect("it is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let of_imports = ["json", "part", "plan", "planning"];
    paths.filter(|path| path.extension().is_some_and(|it| of_imports.iter().any(|of| it == *of))).collect()
}

/// Waits until the spool directory is empty: the region reports the end of an import before it removes the files.
async fn nothing_is_spooled(cluster: &Cluster) {
    for _ in 0..500 {
        if spooled(cluster).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the spool directory still has {:?}", spooled(cluster));
}

/// Uploads this file with this header.
async fn send(
    region: &RegionApi,
    header: ImportHeader,
    file: &[u8],
) -> Result<ImportOrganizationsResponse, Status> {
    let mut parts = vec![Part::Header(header)];
    parts.extend(file.chunks(100_000).map(|part| Part::Data(part.to_vec())));
    let messages = tokio_stream::iter(upload_messages(parts));
    Ok(region.imports().import_organizations(messages).await?.into_inner())
}

fn header() -> ImportHeader {
    ImportHeader { import_id: ID.to_owned(), scope: Scope::Organization.into(), ..Default::default() }
}

pub(crate) async fn an_encrypted_export_arrives_as_its_file_has_it(store: Store) {
    let cluster = opening(store).await;
    let region = cluster.region(0);
    let answer = region.imports().get_public_key(GetPublicKeyRequest {}).await.expect("it has one");
    assert_eq!(answer.into_inner().pem, PUBLIC);

    let (plain, options) = (exhaustive().to_bytes(), ImportOptions::default().import_id(ID));
    let (first, again) = (encrypted(&plain, PUBLIC), encrypted(&plain, PUBLIC));
    assert_ne!(first, again);
    let before = rows_now(&cluster, 0).await;
    let import = region.import(&first, &options).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &plain, &options, &import).run().await);
    assert!(import.encrypted);
    assert_eq!((import.size_bytes, &import.sha256), (plain.len() as i64, &sha256(&plain)));
    nothing_is_spooled(&cluster).await;

    // Every form of the export is the same import.
    for file in [&first, &again, &plain] {
        assert!(region.begin(file, &options).await.expect("it is the same").joined);
    }
    let export_sha256 = sha256(&plain);
    for known in [
        ImportHeader { sha256: sha256(&first), ..header() },
        ImportHeader { sha256: export_sha256.clone(), ..header() },
        ImportHeader { export_sha256: export_sha256.clone(), ..header() },
    ] {
        assert!(send(&region, known, b"").await.expect("it is known by its hash").joined);
    }
    // The region does not recognize the hash of a new encryption of the export, so it reads the file.
    let anew = ImportHeader { sha256: sha256(&again), ..header() };
    assert!(send(&region, anew, &again).await.expect("it is the same").joined);

    let mut other = exhaustive();
    other.organization(77, "more");
    let other = other.to_bytes();
    for (header, file) in [
        (header(), encrypted(&other, PUBLIC)),
        (ImportHeader { sha256: sha256(&other), ..header() }, other.clone()),
        (ImportHeader { export_sha256: sha256(&other), ..header() }, Vec::new()),
    ] {
        assert_eq!(refused(send(&region, header, &file).await), ErrorReason::ImportContentDiffers);
    }
    let wrong = ImportHeader { export_sha256: export_sha256.clone(), ..Default::default() };
    let wrong = ImportHeader { import_id: "00a1c1c0-5e0e-4b7b-9a86-0b7b2f0f3d21".to_owned(), ..wrong };
    let sent = send(&region, wrong, &encrypted(&other, PUBLIC)).await;
    assert_eq!(refused(sent), ErrorReason::UploadInvalid);

    let options = ImportOptions::default();
    let before = rows_now(&cluster, 0).await;
    let import = region.import(PYTHON, &options).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, PYTHON_PLAIN, &options, &import).run().await);
    cluster.stop().await;
}

/// The import waits for control, then for a key. Without a key, and with a wrong one, nothing of the import is lost.
pub(crate) async fn an_encrypted_export_stays_encrypted_and_waits_for_its_key(store: Store) {
    let mut cluster = opening(store).await;
    let (plain, options) = (exhaustive().to_bytes(), ImportOptions::default().import_id(ID));
    let file = encrypted(&plain, PUBLIC);
    let before = rows_now(&cluster, 0).await;
    cluster.stop_control().await;
    cluster.region(0).begin(&file, &options).await.expect("it begins");
    let waits_for = async |cluster: &Cluster, reason: ErrorReason| {
        let waits = |import: &causeway_proto::region::v1::Import| {
            import.waiting.as_ref().is_some_and(|waiting| waiting.reason() == reason)
        };
        cluster.region(0).wait_until(ID, waits).await.expect("it waits")
    };
    waits_for(&cluster, ErrorReason::ControlUnavailable).await;

    // The spooled upload and the plan: neither contains a readable value of the export.
    let kept = spooled(&cluster);
    assert_eq!(kept.len(), 2, "{kept:?}");
    for path in kept {
        let bytes = fs::read(&path).expect("it is there");
        let is_export = path.extension().is_some_and(|it| it == "json");
        assert_eq!(is_export, bytes == file, "the upload is not stored as it arrived");
        // The upload is text of letters and digits, which may spell a short word by chance.
        let readable: &[&str] = if is_export { &["@example"] } else { &["@example", SLUG] };
        for text in readable {
            let found = bytes.windows(text.len()).any(|some| some == text.as_bytes());
            assert!(!found, "{text} in {}", path.display());
        }
    }
    assert!(is_tar(&file));

    with_keys(&mut cluster, &[]).await;
    cluster.start_control().await.expect("it starts");
    waits_for(&cluster, ErrorReason::DecryptionKeyMissing).await;
    with_key(&mut cluster, OTHER_PRIVATE).await;
    waits_for(&cluster, ErrorReason::DecryptionKeyMismatch).await;
    with_key(&mut cluster, PRIVATE).await;
    let import = cluster.region(0).wait(ID).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &plain, &options, &import).run().await);
    nothing_is_spooled(&cluster).await;
    cluster.stop().await;
}

pub(crate) async fn a_region_without_the_right_key_takes_no_encrypted_export(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let plain = exhaustive().to_bytes();
    let before = rows_now(&cluster, 0).await;
    let options = ImportOptions::default().import_id(ID);

    let asked = cluster.region(0).imports().get_public_key(GetPublicKeyRequest {}).await;
    assert_eq!(refused(asked), ErrorReason::DecryptionKeyMissing);
    // The region refuses the upload as soon as it sees the encryption, not after the last byte.
    let huge = [encrypted(&plain, PUBLIC), vec![b'x'; 5_000_000]].concat();
    let status = cluster.region(0).begin(&huge, &options).await.expect_err("there is no key");
    assert_eq!(reason_of(&status), Some(ErrorReason::DecryptionKeyMissing), "{status:?}");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("--decryption-key"), "{status:?}");

    with_key(&mut cluster, OTHER_PRIVATE).await;
    let sent = cluster.region(0).begin(&encrypted(&plain, PUBLIC), &options).await;
    assert_eq!(refused(sent), ErrorReason::DecryptionKeyMismatch);
    assert_eq!(rows_now(&cluster, 0).await, before, "something was written");
    nothing_is_spooled(&cluster).await;

    // The id is still free.
    let begun = cluster.region(0).begin(&encrypted(&plain, OTHER_PUBLIC), &options).await;
    assert!(!begun.expect("it is for this key").joined);
    assert_eq!(cluster.region(0).wait(ID).await.expect("it ends").state(), ImportState::Succeeded);
    cluster.stop().await;
}

/// The tar with this member as `change` returns it, or without the member.
fn repacked(file: &[u8], name: &str, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(Cursor::new(file)).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("it is there");
        let path = entry.path().expect("a name").into_owned();
        let content = if path.as_os_str() == name { change(&content) } else { Some(content) };
        let Some(content) = content else { continue };
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        out.append_data(&mut header, path, content.as_slice()).expect("it is packed");
    }
    out.into_inner().expect("it is packed")
}

/// The file with another base64 character at this offset.
fn flipped(file: &[u8], at: usize) -> Vec<u8> {
    let mut changed = file.to_vec();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    changed
}

/// Damaged files, each with a part of the message for it.
fn bad(file: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let token = Encrypted::open(
        Cursor::new(file.to_vec()),
        &PrivateKey::from_pem(PRIVATE).expect("a key"),
        &Environment::system(),
    );
    // Fernet token: version, time and vector; whole blocks; code.
    let bytes = 25 + (token.expect("it is good").size() as usize / 16 + 1) * 16 + 32;
    let end = TOKEN + bytes.div_ceil(3) * 4;
    let with = |name: &str, content: &'static [u8]| repacked(file, name, |_| Some(content.to_vec()));
    let mut extra = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    extra.append_data(&mut header, "notes.txt", b"x".as_slice()).expect("it is packed");
    let extra = [extra.into_inner().expect("it is packed")[..1024].to_vec(), file.to_vec()].concat();
    let huge = |name: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("it is short");
        header.set_size(10_000_000_000);
        header.set_cksum();
        [header.as_bytes().as_slice(), &file[TOKEN..]].concat()
    };
    vec![
        ("changed at its beginning", flipped(file, TOKEN + 40), "authentication code is wrong"),
        ("changed in its middle", flipped(file, (TOKEN + end) / 2), "authentication code is wrong"),
        ("changed at its end", flipped(file, end - 60), "authentication code is wrong"),
        ("changed in its code", flipped(file, end - 20), "authentication code is wrong"),
        ("no base64", [&file[..700], b"!", &file[701..]].concat(), "not base64url"),
        ("without data.key", repacked(file, "data.key", |_| None), "data.key is missing"),
        ("without key.pub", repacked(file, "key.pub", |_| None), "key.pub is missing"),
        ("without export.json", repacked(file, "export.json", |_| None), "export.json is missing"),
        ("an extra member", extra, "\"notes.txt\" does not belong"),
        ("10 GB of export", huge("export.json"), "10000000000 bytes by its header, but the file ends"),
        ("10 GB of key", huge("data.key"), "10000000000 bytes by its header, and 65536 are the most"),
        ("cut in the export", file[..(TOKEN + end) / 2].to_vec(), "but the file ends after"),
        ("cut behind it", file[..end.next_multiple_of(512)].to_vec(), "data.key is missing"),
        ("no key in key.pub", with("key.pub", b"x"), "not an RSA public key"),
        ("another data.key", with("data.key", &[7; 256]), "data.key cannot be decrypted"),
        ("an empty token", with("export.json", b""), "ends too early"),
    ]
}

pub(crate) async fn a_tar_that_is_not_in_order_leaves_nothing(store: Store) {
    let cluster = opening(store).await;
    let file = encrypted(&exhaustive().to_bytes(), PUBLIC);
    let before = rows_now(&cluster, 0).await;
    for (name, bad, says) in bad(&file) {
        let status =
            cluster.region(0).begin(&bad, &ImportOptions::default()).await.expect_err("it is refused");
        assert_eq!(reason_of(&status), Some(ErrorReason::EncryptedExportInvalid), "{name}: {status:?}");
        assert!(status.message().contains(says), "{name}: {status:?}");
        assert_eq!(spooled(&cluster), [] as [std::path::PathBuf; 0], "{name}");
    }
    // By its key.pub, it was encrypted for another key.
    let foreign = repacked(&file, "key.pub", |_| Some(OTHER_PUBLIC.as_bytes().to_vec()));
    let sent = cluster.region(0).begin(&foreign, &ImportOptions::default()).await;
    assert_eq!(refused(sent), ErrorReason::DecryptionKeyMismatch);
    nothing_is_spooled(&cluster).await;
    assert_eq!(rows_now(&cluster, 0).await, before, "something was written");
    cluster.stop().await;
}

/// Places refer to the plain export, whether it was encrypted or not. The region finds contradicting records by reading
/// both of them again.
pub(crate) async fn places_in_an_encrypted_export_are_those_of_the_export(store: Store) {
    let cluster = opening(store).await;
    let mut invalid = exhaustive();
    invalid.push("sentry.team", 9_001, &json!({"organization": 1, "slug": "s"}));
    let mut double = Export::new();
    double.organization(1, "one").team(1, 1, "t").team(9_001, 1, "t");
    for export in [invalid, double] {
        let file = encrypted(&export.to_bytes(), PUBLIC);
        let import = cluster.region(0).import(&file, &ImportOptions::default()).await.expect("it ends");
        let failure = import.failure.unwrap_or_default();
        assert_eq!(failure.reason(), ErrorReason::ExportInvalid, "{}", failure.message);
        let place = format!("byte {}, ", export.offset("sentry.team", 9_001).expect("it is there"));
        assert!(failure.message.starts_with(&place), "{} does not begin with {place}", failure.message);
    }
    nothing_is_spooled(&cluster).await;
    cluster.stop().await;
}

/// A worst case for a reader with one buffer: batches of many models from many places, in no order, and a filter.
pub(crate) async fn an_encrypted_export_in_no_order_arrives(store: Store) {
    let cluster = opening(store).await;
    let plain = exhaustive().shuffled(5).to_bytes();
    let options = ImportOptions::default().filter(&[SLUG]);
    let before = rows_now(&cluster, 0).await;
    let import = cluster.region(0).import(&encrypted(&plain, PUBLIC), &options).await.expect("it ends");
    accounted(Audit::new(&cluster, 0, &before, &plain, &options, &import).run().await);
    cluster.stop().await;
}

pub(crate) async fn an_upload_that_is_too_large_is_refused(store: Store) {
    let cluster = limited(store, |limits| limits.upload_bytes = 1_000).await;
    let region = cluster.region(0);
    let before = rows_now(&cluster, 0).await;
    let large = [b"[".as_slice(), &[b' '; 998], b"]"].concat();
    assert_eq!(large.len(), 1_000);
    let larger = [large.as_slice(), b"\n"].concat();
    for (header, file, says) in [
        // The announced size is too large, or too many bytes arrive.
        (ImportHeader { size_bytes: Some(1_001), ..header() }, &b""[..], "has 1001 bytes"),
        (header(), &larger, "has more bytes"),
    ] {
        let status = send(&region, header, file).await.expect_err("it is too large");
        assert_eq!(reason_of(&status), Some(ErrorReason::UploadTooLarge), "{status:?}");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains(says) && status.message().contains("1000"), "{status:?}");
        let details = tonic_types::StatusExt::get_error_details(&status);
        let limit = details.error_info().and_then(|info| info.metadata.get("limit").cloned());
        assert_eq!(limit.as_deref(), Some("1000"));
        nothing_is_spooled(&cluster).await;
    }
    assert_eq!(rows_now(&cluster, 0).await, before, "something was written");
    let import = region.import(&large, &ImportOptions::default()).await.expect("it is not too large");
    assert_eq!(import.state(), ImportState::Succeeded);
    cluster.stop().await;
}

/// While one key replaces another, the region has both: exports that were encrypted for the old one still open.
pub(crate) async fn an_export_is_opened_with_the_key_that_it_was_encrypted_for(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    with_keys(&mut cluster, &[OTHER_PRIVATE, PRIVATE]).await;
    let asked = cluster.region(0).imports().get_public_key(GetPublicKeyRequest {}).await;
    let public = asked.expect("it has keys").into_inner().pem;
    let other = PublicKey::from_pem(OTHER_PUBLIC).expect("a key").to_pem().expect("as PEM");
    assert_eq!(public.trim(), other.trim(), "new exports are encrypted for the first key");
    let plain = exhaustive().to_bytes();
    for key in [PUBLIC, OTHER_PUBLIC] {
        let options = ImportOptions::default();
        let import = cluster.region(0).import(&encrypted(&plain, key), &options).await.expect("it is taken");
        assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    }
    with_key(&mut cluster, OTHER_PRIVATE).await;
    let sent = cluster.region(0).begin(&encrypted(&plain, PUBLIC), &ImportOptions::default()).await;
    assert_eq!(refused(sent), ErrorReason::DecryptionKeyMismatch, "the old key is gone");
    cluster.stop().await;
}
