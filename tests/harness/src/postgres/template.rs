//! The template that servers are copied from.

use std::{
    collections::hash_map::DefaultHasher,
    fs::File,
    hash::{Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use tempfile::NamedTempFile;

use super::{
    SUPERUSER,
    installation::{Installation, uid},
};

/// Small segments of log make a small template. macOS has no C.UTF-8.
const INITDB: &[&str] = &[
    "--no-sync",
    "--no-instructions",
    "--auth=trust",
    "--encoding=UTF8",
    if cfg!(target_os = "macos") { "--locale=C" } else { "--locale=C.UTF-8" },
    "--lc-messages=C",
    "--wal-segsize=1",
    "--username",
    SUPERUSER,
];

/// A new database cluster that `initdb` made. Unpacking it is several times faster than `initdb`. There is one for each
/// user, PostgreSQL installation and way of making it, in the system's temporary directory.
///
/// It is one file, for two reasons: a cleanup of the temporary directory removes all of it or nothing, and opening a
/// thousand files is slow on some disks.
#[derive(Debug)]
pub(super) struct Template<'a> {
    installation: &'a Installation,
    parent: &'a Path,
    uid: u32,
}

impl<'a> Template<'a> {
    /// The template for servers of `installation`, in the directory `parent`.
    pub(super) fn new(installation: &'a Installation, parent: &'a Path) -> io::Result<Self> {
        Ok(Self { installation, parent, uid: uid()? })
    }

    fn path(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (self.installation.identity(), INITDB, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
        let (_, version) = self.installation.identity();
        self.parent.join(format!("causeway-postgres-{}-{version}-{:016x}.tar", self.uid, hasher.finish()))
    }

    /// Makes `data` in the directory `root`, which the server's account owns. Makes the template first if there is
    /// none.
    pub(super) fn unpack(&self, root: &Path) -> anyhow::Result<()> {
        let archive = {
            // Many tests begin at once. Only one of them makes the template.
            static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
            let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            match self.open()? {
                Some(archive) => archive,
                None => {
                    self.make()?;
                    self.open()?
                        .context("the template of PostgreSQL's data was removed as soon as it was made")?
                }
            }
        };
        succeed(self.installation.command("tar", root).args(["-xf", "-"]).stdin(archive))
    }

    fn open(&self) -> anyhow::Result<Option<File>> {
        let path = self.path();
        let archive = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("{} cannot be opened", path.display()))?,
        };
        // Anybody can write to a temporary directory, and a server's configuration can run commands.
        let metadata = archive.metadata()?;
        ensure!(
            metadata.is_file() && metadata.uid() == self.uid && metadata.mode() & 0o022 == 0,
            "{} is not this user's own; remove it",
            path.display()
        );
        Ok(Some(archive))
    }

    /// Makes the template. Several processes may do this at once: each makes its own, and the last one stays.
    fn make(&self) -> anyhow::Result<()> {
        let making = super::directory("causeway-postgres-")?;
        self.installation.give(making.path())?;
        let initdb = &mut self.installation.program("initdb", making.path());
        succeed(initdb.args(INITDB).args(["--pgdata", "data"]).stdout(Stdio::null()))?;
        let archive = NamedTempFile::new_in(self.parent)?;
        let tar = &mut self.installation.command("tar", making.path());
        succeed(tar.args(["-cf", "-", "data"]).stdout(archive.reopen()?))?;
        archive.persist(self.path())?;
        Ok(())
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let name = Path::new(&program).display();
    // Not `output()`, which would capture the standard output too.
    let directory = command.get_current_dir().unwrap_or(Path::new(".")).to_owned();
    let child = command.stderr(Stdio::piped()).spawn().with_context(|| {
        format!(
            "{name} cannot be run in {}, which the server's account must have access to",
            directory.display()
        )
    })?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{name} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    #[test]
    fn a_template_is_made_once_and_again_when_it_is_gone() {
        let installation = Installation::find(env::var_os("CAUSEWAY_POSTGRES_BIN")).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let template = Template::new(&installation, parent.path()).unwrap();
        let unpacked = || {
            let root = tempfile::tempdir().unwrap();
            installation.give(root.path()).unwrap();
            template.unpack(root.path()).unwrap();
            assert!(root.path().join("data/PG_VERSION").is_file());
            fs::metadata(template.path()).unwrap().ino()
        };
        assert_eq!(unpacked(), unpacked());
        fs::remove_file(template.path()).unwrap();
        unpacked();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "only the template is left");
    }

    #[test]
    fn a_template_that_anybody_may_have_written_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;

        let installation = Installation::find(env::var_os("CAUSEWAY_POSTGRES_BIN")).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let template = Template::new(&installation, parent.path()).unwrap();
        fs::write(template.path(), "").unwrap();
        fs::set_permissions(template.path(), fs::Permissions::from_mode(0o666)).unwrap();
        let error = template.unpack(parent.path()).unwrap_err().to_string();
        assert!(error.contains("not this user's own"), "{error}");
    }
}
