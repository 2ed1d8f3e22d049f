//! A log of everything has no key: not of TLS, not for encrypted exports, and not that of an export.

use std::{fs, path::PathBuf, process::Command};

use base64::prelude::{
    BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD, Engine as _,
};
use causeway_client::PairFiles;
use causeway_harness::{
    pki::{Pki, TRUST_DOMAIN},
    process::{self, Process},
};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The key with which `python.tar` is encrypted. Its private key opens `data.key` in there:
/// `openssl pkeyutl -decrypt -inkey test-key-private.pem -in data.key -pkeyopt rsa_padding_mode:oaep
/// -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256`.
const DATA_KEY: &str = "dE7PpMN-wX1UXSvaMQX8H2Y1Eff09fUVyaWTJjwzz38=";

fn vector(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/encrypted-exports").join(name)
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded =
        |with: u8| (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect::<Vec<_>>();
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

/// The bytes of the key of the export, once it is certain that they are.
fn data_key() -> Vec<u8> {
    let key = BASE64_URL_SAFE.decode(DATA_KEY).expect("base64");
    let file = fs::File::open(vector("python.tar")).expect("it is there");
    let mut token = String::new();
    for member in tar::Archive::new(file).entries().expect("a tar") {
        let mut member = member.expect("a member");
        if member.path_bytes().as_ref() == b"export.json" {
            std::io::Read::read_to_string(&mut member, &mut token).expect("it is text");
        }
    }
    let token = BASE64_URL_SAFE.decode(token).expect("base64");
    let (message, code) = token.split_at(token.len() - 32);
    assert_eq!(hmac(&key[..16], message), code, "it is not the key of this file");
    key
}

/// All ways in which a key may be in a log, by what it is called.
fn secrets(pairs: &[&PairFiles]) -> Vec<(String, String)> {
    let mut secrets = Vec::new();
    let files = pairs.iter().map(|pair| pair.key.clone()).chain([vector("test-key-private.pem")]);
    for file in files {
        let pem = fs::read_to_string(&file).expect("it is there");
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        assert!(lines.len() > 1, "{pem}");
        for line in &lines {
            secrets.push((format!("a line of {}", file.display()), (*line).to_owned()));
        }
        // All of the key in another form begins with these bytes.
        let der = BASE64_STANDARD.decode(lines.concat()).expect("base64");
        secrets.extend(forms(&file.display().to_string(), &der[..der.len().min(64)]));
    }
    let key = data_key();
    secrets.push(("the key of the export".to_owned(), DATA_KEY.trim_end_matches('=').to_owned()));
    secrets.extend(forms("the key of the export", &key));
    // It consists of a key for authentication and one for encryption.
    secrets.extend(forms("half of the key of the export", &key[..16]));
    secrets.extend(forms("half of the key of the export", &key[16..]));
    secrets
}

/// Bytes as base64, in hex, and as a list of numbers.
fn forms(what: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let list = format!("{bytes:?}");
    [
        BASE64_STANDARD_NO_PAD.encode(bytes),
        BASE64_URL_SAFE_NO_PAD.encode(bytes),
        hex::encode(bytes),
        hex::encode_upper(bytes),
        list.trim_matches(['[', ']']).to_owned(),
    ]
    .map(|form| (what.to_owned(), form))
    .into()
}

#[test]
fn a_log_of_everything_has_no_key() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let control = pki.pair(Role::Control, "main").expect("issued");
    let region = pki.pair(Role::Region, "us").expect("issued");
    let operator = pki.pair(Role::Operator, "me").expect("issued");
    let command = |arguments: &[&str], pair: &PairFiles| {
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        command.args(arguments).env("CAUSEWAY_LOG", "trace").current_dir(directory.path());
        command.arg("--tls-cert").arg(&pair.cert).arg("--tls-key").arg(&pair.key);
        command
    };
    let serve = |mut command: Command, name: &str| {
        command.args(["--listen", "127.0.0.1:0", "--database-url", &format!("sqlite:{name}.db")]);
        command.arg("--tls-client-ca").arg(pki.ca()).args(["--trust-domain", TRUST_DOMAIN]);
        let mut process = Process::start(command).expect("it runs");
        let url = process.served_at().expect("it serves");
        (process, url.replace("http://", "https://"))
    };
    let (control_process, control_url) =
        serve(command(&["control", "--accept-regions", "any"], &control), "control");
    let mut serving =
        command(&["region", "--name", "us", "--control", &control_url, "--spool-dir", "spool"], &region);
    serving.arg("--decryption-key").arg(vector("test-key-private.pem"));
    let (region_process, region_url) = serve(serving, "us");

    let tar = vector("python.tar").display().to_string();
    let mut import = command(&["import", "organizations", &tar, "--region", &region_url], &operator);
    let imported = import.arg("--tls-ca").arg(pki.ca()).output().expect("it runs");
    let said = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert_eq!(imported.status.code(), Some(0), "{said}");
    let mut logs = vec![("the command", said)];
    for (name, process) in [("the region", region_process), ("control", control_process)] {
        process.signal("TERM").expect("it runs");
        logs.push((name, process.ended().expect("it ends").1));
    }
    let secrets = secrets(&[&control, &region, &operator]);
    assert!(secrets.len() > 40, "only {} forms", secrets.len());
    for (name, log) in &logs {
        assert!(log.lines().filter(|line| line.contains("TRACE")).count() > 100, "{name} logs everything");
        for (what, secret) in &secrets {
            let lines: Vec<_> = log.lines().filter(|line| line.contains(secret.as_str())).take(3).collect();
            assert!(lines.is_empty(), "{what} is in the log of {name}: {lines:#?}");
        }
    }
}
