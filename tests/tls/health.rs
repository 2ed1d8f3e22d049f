//! `causeway health` with certificates on both sides.

use std::process::Output;

use causeway_harness::{
    pki::Pki,
    process::{self, Process},
};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use tempfile::TempDir;

use crate::{plain::control, support::says};

fn run(pki: &Pki, url: &str, role: Option<(Role, &str)>) -> Output {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(["health", url, "--tls-ca"]).arg(pki.ca());
    if let Some((role, name)) = role {
        let pair = pki.pair(role, name).expect("issued");
        command.arg("--tls-cert").arg(pair.cert).arg("--tls-key").arg(pair.key);
    }
    command.output().expect("it runs")
}

/// The one line that a caller reads who is refused.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("it is text")
}

#[test]
fn every_role_may_ask_whether_a_service_serves() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (_control, address): (Process, _) = control(&directory, Some(&pki));
    let url = format!("https://{address}");
    // A service may ask itself with its own certificate: that is what the check of a container does.
    for (role, name) in [(Role::Monitor, "probe"), (Role::Control, "main"), (Role::Region, "us")] {
        let output = run(&pki, &url, Some((role, name)));
        let answer = (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice());
        assert_eq!(answer, (Some(0), &b"SERVING\n"[..], &b""[..]), "{role}: {output:?}");
    }
}

#[test]
fn who_has_no_right_certificate_learns_why_it_cannot_ask() {
    let (directory, pki) =
        (TempDir::new().expect("a directory"), Pki::new(Environment::system()).expect("a CA"));
    let (_control, address): (Process, _) = control(&directory, Some(&pki));
    let (tls, plain) = (format!("https://{address}"), format!("http://{address}"));
    says(&refused(&run(&pki, &tls, None)), &["cannot be asked: the server wants a certificate"]);
    let other = Pki::new(Environment::system()).expect("another CA");
    let output = run(&other, &tls, Some((Role::Monitor, "probe")));
    says(&refused(&output), &["cannot be asked: its certificate is not signed by a CA of"]);
    let output = run(&pki, &plain, Some((Role::Monitor, "probe")));
    says(&refused(&output), &["cannot be asked: the server speaks TLS: use https://"]);
    let (directory, without) = (TempDir::new().expect("a directory"), pki);
    let (_control, address) = control(&directory, None);
    let output = run(&without, &format!("https://{address}"), Some((Role::Monitor, "probe")));
    says(&refused(&output), &["cannot be asked: the server does not speak TLS: use http://"]);
}
