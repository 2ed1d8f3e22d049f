//! This process, as the holder of leases on imports.

use std::{fs, io, path::Path};

use causeway_silo::env::Environment;
use uuid::Uuid;

/// A process that runs imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id, another one each time that it starts.
    pub(crate) id: Uuid,
    /// Where it is, for people: host and process id.
    pub(crate) place: String,
    /// The id of its spool directory, which it has locked.
    pub(crate) spool: Uuid,
}

impl Holder {
    /// This process, with this spool directory. It must have locked it.
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

/// The id of a spool directory, in a file of it. An unreadable one is replaced: then leases of the process
/// before are waited for.
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
        // Cut off in the middle of its first write, it gets another.
        fs::write(dir.path().join("id"), "3b1f").unwrap();
        assert_ne!(Holder::new(&env, dir.path()).unwrap().spool, one.spool);
    }
}
