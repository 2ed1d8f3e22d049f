//! The files of a SQLite database contain what an export contains, including secrets: only their owner should be able
//! to read them.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The mode bits for users other than the owner of a file.
const OTHERS: u32 = 0o077;

/// Creates the file if it is absent, so that only its owner can read it. SQLite gives its log and its index the same
/// mode. The mode of an existing file is only checked: to open and close the file would release the locks that this
/// process has on it.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path)?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            for (path, mode) in readable_by_others(path) {
                let mode = format!("{mode:o}");
                tracing::warn!(
                    mode,
                    "other users of this machine can read a file of the database; chmod 600 '{}'",
                    path.display()
                );
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The files of a database that other users can read or write, with their modes.
fn readable_by_others(path: &Path) -> Vec<(PathBuf, u32)> {
    let files = ["", "-wal", "-shm"].into_iter().map(|ending| {
        let mut name = OsString::from(path);
        name.push(ending);
        PathBuf::from(name)
    });
    files
        .filter_map(|file| {
            let mode = fs::metadata(&file).ok()?.permissions().mode() & 0o777;
            (mode & OTHERS != 0).then_some((file, mode))
        })
        .collect()
}

/// What to do about a file that cannot be used.
pub(super) fn advice(path: &Path, error: &io::Error) -> String {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("its directory is not there: mkdir -p '{directory}', or name another file")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => "name a file in a directory".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("this user must be able to write in the directory {directory}, or name another file")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room on the disk of {directory}, or name another file")
        }
        _ => "name another file, if that cannot be mended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Options, Statement};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_the_owner_can_read_a_new_database() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.db");
        let url = format!("sqlite:{}", path.display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new("CREATE TABLE t (a bigint)")).await.expect("a table");
        tx.commit().await.expect("it is kept");
        for ending in ["x.db", "x.db-wal", "x.db-shm"] {
            assert_eq!(mode(&directory.path().join(ending)), 0o600, "{ending}");
        }
        assert_eq!(readable_by_others(&path), []);
        db.close().await;
    }

    #[test]
    fn files_that_others_can_read_are_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.db");
        prepare(&path).expect("it is made");
        let log = directory.path().join("x.db-wal");
        fs::write(&log, "").expect("it is made");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).expect("it is ours");
        assert_eq!(readable_by_others(&path), [(log.clone(), 0o640)]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("it is ours");
        assert_eq!(readable_by_others(&path), [(path.clone(), 0o604), (log, 0o640)]);
        prepare(&path).expect("it is only told");
        assert_eq!(mode(&path), 0o604, "an existing one stays as it is");
    }
}
