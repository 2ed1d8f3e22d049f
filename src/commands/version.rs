//! What `--version` says: the release, and what the command was built from. The build script provides it.

/// The release and the commit: `0.1.0 (37883a3e8d1f)`.
pub(super) const SHORT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CAUSEWAY_BUILD_COMMIT"), ")");

/// The same, and how the command was built.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("CAUSEWAY_BUILD_COMMIT"),
    "\nbuilt ",
    env!("CAUSEWAY_BUILD")
);
