//! The limit on open files of this process. Connections count as files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// The open files that a service needs in addition to connections of callers and of the database pool: ports,
/// its log, spool files and their scratch files, SQLite files, connections to control.
const OTHERS: u64 = 100;

/// Raises the soft limit on open files to the hard limit. A shell gives 1,024, because some old programs cannot handle
/// larger numbers. Returns the limit that now applies; `None` if there is none.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            debug!(%error, "the limit on open files stays as it is");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// How many connections of callers to allow: `requested`, or fewer, so that open files are left for everything else. At
/// least one.
pub fn connections(requested: usize, open_files: Option<u64>, database_connections: u32) -> usize {
    let Some(open_files) = open_files else { return requested };
    // On SQLite, a database connection takes three files.
    let others = OTHERS + 3 * u64::from(database_connections);
    let left = usize::try_from(open_files.saturating_sub(others)).unwrap_or(usize::MAX).max(1);
    if left < requested {
        warn!(
            requested,
            left,
            open_files,
            "--max-connections is above the limit on open files and is lowered; raise that limit (ulimit -Hn)"
        );
    }
    requested.min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(connections(2_000, None, 10), 2_000);
        assert_eq!(connections(2_000, Some(20_000), 10), 2_000);
        assert_eq!(connections(2_000, Some(1_024), 10), 894);
        assert_eq!(connections(2_000, Some(20), 10), 1);
    }
}
