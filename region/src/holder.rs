//! This process as a holder of leases.

use std::{fs, io, path::Path};

use causeway_silo::env::Environment;
use uuid::Uuid;

/// A process that runs imports, as its leases name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The id of the process, a new one at each start.
    pub(crate) id: Uuid,
    /// Host name and process id, for people.
    pub(crate) place: String,
    /// The id of the spool directory that the process has locked.
    pub(crate) spool: Uuid,
}

impl Holder {
    /// This process. It must have locked `spool_dir`.
    ///
    /// # Errors
    /// If the directory cannot be read or written.
    pub(crate) fn new(env: &Environment, spool_dir: &Path) -> io::Result<Self> {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("this host");
        Ok(Self {
            id: env.uuid(),
            place: format!("{host}, process {}", std::process::id()),
            spool: spool_id(env, spool_dir)?,
        })
    }
}

/// Reads the id of a spool directory from its file `id`, or creates it. An unreadable id is replaced. Then leases of
/// the former process have to expire, because this process no longer knows that they are of the same directory.
fn spool_id(env: &Environment, dir: &Path) -> io::Result<Uuid> {
    let path = dir.join("id");
    match fs::read_to_string(&path).map(|text| Uuid::try_parse(text.trim())) {
        Ok(Ok(id)) => return Ok(id),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let id = env.uuid();
    let part = dir.join("id.part");
    fs::write(&part, format!("{id}\n"))?;
    fs::rename(&part, &path)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_spool_directory_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
        let (one, other) = (Holder::new(&env, dir.path()).unwrap(), Holder::new(&env, dir.path()).unwrap());
        assert_eq!(one.spool, other.spool);
        assert_ne!(one.id, other.id);
        // A file that was cut off in the middle of its first write is replaced.
        fs::write(dir.path().join("id"), "3b1f").unwrap();
        assert_ne!(Holder::new(&env, dir.path()).unwrap().spool, one.spool);
    }
}
