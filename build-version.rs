//! What `causeway --version` says about the build: the commit, the profile, the target and the compiler.
//!
//! The commit is the value of `CAUSEWAY_COMMIT`, which packagers set. Without it, a build in release mode asks git, if
//! this directory is the root of a repository. A build for development does not: it would have to compile the crate
//! again after each commit, or show an old one.

#![expect(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::{env, path::Path, process::Command};

/// What a git command prints; `None` if it fails, or if there is no git.
fn git(root: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The commit that is checked out, if the repository is that of this directory and not of one above it.
fn checked_out(root: &str) -> Option<String> {
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(root).canonicalize().ok()? {
        return None;
    }
    // A new commit changes the log of HEAD, whichever branch it is on.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(root, &["rev-parse", "--path-format=absolute", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(root, &["rev-parse", "--short=12", "HEAD"])
}

fn main() {
    println!("cargo::rerun-if-changed=build-version.rs");
    println!("cargo::rerun-if-env-changed=CAUSEWAY_COMMIT");
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let root = variable("CARGO_MANIFEST_DIR").unwrap_or_default();
    let profile = variable("PROFILE").unwrap_or_default();
    let commit = match variable("CAUSEWAY_COMMIT") {
        Some(commit) => commit.trim().to_owned(),
        None if profile == "release" => checked_out(&root).unwrap_or_else(|| "commit unknown".to_owned()),
        None => "development build".to_owned(),
    };
    println!("cargo::rustc-env=CAUSEWAY_BUILD_COMMIT={commit}");
    let compiler = variable("RUSTC").and_then(|rustc| {
        let output = Command::new(rustc).arg("--version").output().ok()?;
        String::from_utf8(output.stdout).ok()
    });
    let compiler = compiler.map_or_else(|| "an unknown compiler".to_owned(), |text| text.trim().to_owned());
    let target = variable("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=CAUSEWAY_BUILD=in {profile} mode for {target} by {compiler}");
}
