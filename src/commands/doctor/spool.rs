//! The spool directory of a region, and the free space where files grow.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::output::{
    diagnosis::{About, Check},
    numbers::bytes,
    place::quoted,
};

/// Less free space than this is warned of: an import of some size needs more.
const LITTLE: u64 = 1 << 30;

fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// The path itself or, if it does not exist, the nearest directory above it that does.
fn nearest_existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find(|path| path.exists());
    existing.unwrap_or(Path::new("/")).to_owned()
}

fn warn_of_little(about: &mut About<'_>, check: Check, existing: &Path, free: u64) {
    if free < LITTLE {
        about.warning(
            check,
            format!("the disk of {} has only {} left", existing.display(), bytes(free)),
            format!("make room: `df -h {}` shows it", shown(existing)),
        );
    }
}

/// Warns if there is little free space where `path` is or would be.
pub(super) fn free_space(about: &mut About<'_>, check: Check, path: &Path) {
    let existing = nearest_existing(path);
    match rustix::fs::statvfs(&existing) {
        Ok(disk) => {
            warn_of_little(about, check, &existing, disk.f_bavail.saturating_mul(disk.f_frsize));
        }
        Err(error) => about.error(
            check,
            format!("the disk of {} cannot be examined: {error}", existing.display()),
            "look at that file system",
        ),
    }
}

/// Checks that files can be written into the directory, or that it can be made.
pub(super) fn check(about: &mut About<'_>, dir: &Path) {
    let existing = nearest_existing(dir);
    let user = rustix::process::geteuid().as_raw();
    if !existing.is_dir() {
        about.error(
            Check::Spool,
            format!("{} is not a directory", existing.display()),
            "name another --spool-dir",
        );
        return;
    }
    // The region makes the directory, and then the lock and the uploads in it.
    if let Err(error) = tempfile::Builder::new().prefix("doctor-").tempfile_in(&existing) {
        about.error(
            Check::Spool,
            format!("nothing can be written into {}: {error}", existing.display()),
            format!("let the user {user} write there: `chown {user} {}`", shown(&existing)),
        );
        return;
    }
    free_space(about, Check::Spool, &existing);
    if existing.as_path() != std::path::absolute(dir).as_deref().unwrap_or(dir) {
        about.ok(Check::Spool, format!("{} is not there yet; the region makes it", dir.display()));
        return;
    }
    match fs::metadata(dir) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => about.warning(
            Check::Spool,
            format!("other users of this machine can read uploads in {}", dir.display()),
            format!("`chmod 700 {}`", shown(dir)),
        ),
        Ok(_) => about.ok(Check::Spool, format!("files can be written into {}", dir.display())),
        Err(error) => about.error(
            Check::Spool,
            format!("{} cannot be examined: {error}", dir.display()),
            "name another --spool-dir",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{diagnosis::Report, terminal::Width};

    #[test]
    fn little_free_space_is_warned_of() {
        let found = |free| {
            let mut report = Report::default();
            let path = Path::new("/my spool");
            warn_of_little(&mut About::new(&mut report, "us".to_owned()), Check::Spool, path, free);
            (report.findings().len(), report.text(Width::UNLIMITED))
        };
        assert_eq!(found(LITTLE).0, 0);
        let (number, text) = found(LITTLE - (1 << 20));
        assert!(number == 1 && text.contains("has only 1023.00 MiB left"), "{text}");
        assert!(text.contains("`df -h '/my spool'`"), "{text}");
    }
}
