//! Finds PostgreSQL's programs, and runs them under an account that they accept.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

const OLDEST: u32 = 15;
const HELP: &str = "install PostgreSQL 15 or later, its server and contributed extensions: .ci/install-postgres does \
    it on Debian, Ubuntu, Fedora and with Homebrew. Or set CAUSEWAY_POSTGRES_BIN to the directory of initdb and \
    postgres.";

/// An installation of the server's programs.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    bin: PathBuf,
    version: String,
    account: Option<Account>,
}

/// The account that the programs run under, if that is not the test's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Installation {
    /// The installation in `chosen`, if that is set. Otherwise the one that `pg_config` names, then the newest one in
    /// the directories of packages, then the one on the path.
    pub(super) fn find(chosen: Option<OsString>) -> anyhow::Result<Self> {
        let (bin, version) = match &chosen {
            Some(bin) => found_in(PathBuf::from(bin)).with_context(|| {
                format!("CAUSEWAY_POSTGRES_BIN is {}, and that is no such directory: {HELP}", bin.display())
            })?,
            None => configured()
                .or_else(packaged)
                .or_else(on_path)
                .with_context(|| format!("NO POSTGRESQL TO TEST WITH was found: {HELP}"))?,
        };
        Ok(Self { bin, version, account: Account::for_this_process()? })
    }

    /// Distinguishes this installation from others, and from itself after an upgrade.
    pub(super) fn identity(&self) -> (&Path, &str) {
        (&self.bin, &self.version)
    }

    /// The directory of the server's programs.
    pub(super) fn bin(&self) -> &Path {
        &self.bin
    }

    /// A command that runs a program of the server.
    pub(super) fn program(&self, name: &str, directory: &Path) -> Command {
        let mut command = self.command(self.bin.join(name), directory);
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command
    }

    /// A command that runs under the server's account, in a directory that the account has access to.
    pub(super) fn command(&self, program: impl AsRef<Path>, directory: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(directory).stdin(Stdio::null());
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes the server's account the owner of a directory.
    pub(super) fn give(&self, directory: &Path) -> io::Result<()> {
        self.account.map_or(Ok(()), |Account { uid, gid }| chown(directory, Some(uid), Some(gid)))
    }
}

/// The user id of this process, read from the owner of a file that it creates.
pub(super) fn uid() -> io::Result<u32> {
    Ok(tempfile::tempfile()?.metadata()?.uid())
}

impl Account {
    /// PostgreSQL refuses to run as root. In that case, this is `postgres`, which comes with a package of the server,
    /// or else `nobody`.
    fn for_this_process() -> anyhow::Result<Option<Self>> {
        if uid()? != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd cannot be read")?;
        match Self::named("postgres", &passwd).or_else(|| Self::named("nobody", &passwd)) {
            None => bail!("PostgreSQL refuses to run as root, and there is no user postgres or nobody"),
            account => Ok(account),
        }
    }

    fn named(name: &str, passwd: &str) -> Option<Self> {
        let account = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = account.split(':').skip(1);
        Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }
}

fn configured() -> Option<(PathBuf, String)> {
    let output = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
    found_in(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn packaged() -> Option<(PathBuf, String)> {
    // Debian: N/bin; Homebrew: postgresql@N/bin; the PostgreSQL project for Red Hat: pgsql-N/bin.
    ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"]
        .iter()
        .filter_map(|parent| fs::read_dir(parent).ok())
        .flatten()
        .filter_map(|entry| found_in(entry.ok()?.path().join("bin")))
        .max_by_key(|(_, version)| major(version))
}

fn on_path() -> Option<(PathBuf, String)> {
    // The program on the path may be a link to this one program, in a directory without the others.
    env::split_paths(&env::var_os("PATH")?)
        .filter_map(|directory| fs::canonicalize(directory.join("postgres")).ok())
        .find_map(|program| found_in(program.parent()?.to_owned()))
}

/// The directory and its server's version, if it has a server that is not too old.
fn found_in(bin: PathBuf) -> Option<(PathBuf, String)> {
    if !bin.join("initdb").is_file() || !bin.join("postgres").is_file() {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    // "postgres (PostgreSQL) 15.8 (Debian 15.8-1)"
    let version = String::from_utf8(output.stdout).ok()?.split_whitespace().nth(2)?.to_owned();
    (major(&version)? >= OLDEST).then_some((bin, version))
}

/// The major number of a version such as "15.8" or "18beta1".
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_installation_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let error = Installation::find(Some(empty.path().into())).unwrap_err().to_string();
        assert!(error.contains(".ci/install-postgres") && error.contains("PostgreSQL 15"), "{error}");
    }

    #[test]
    fn a_version_has_a_major_number() {
        assert_eq!(major("15.8"), Some(15));
        assert_eq!(major("18beta1"), Some(18));
        assert_eq!(major("devel"), None);
    }

    #[test]
    fn an_account_is_found_by_its_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var/lib:/bin/sh\n";
        assert_eq!(Account::named("postgres", passwd), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::named("nobody", passwd), None);
        assert_eq!(Account::named("post", passwd), None);
    }
}
