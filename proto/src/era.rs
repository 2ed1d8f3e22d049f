//! Eras of control's feeds: each time that control is put back from an old copy of its database, all feeds jump to
//! versions that no reader has had. So a reader of an earlier era gets a snapshot, however far the feed has come by then.

/// How many versions an era has. No region makes so many changes between a copy of the database and its return.
pub const VERSIONS_OF_AN_ERA: i64 = 1 << 32;

/// The last era. A reader that claims to be of a later one is refused.
pub const LAST_ERA: i64 = 1 << 20;

/// The era of a version of a feed.
#[must_use]
pub const fn era_of(version: i64) -> i64 {
    version / VERSIONS_OF_AN_ERA
}

/// The version of a feed that has no events of this era yet.
#[must_use]
pub const fn first_version(era: i64) -> i64 {
    era * VERSIONS_OF_AN_ERA + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_of_one_era() {
        for era in [0, 1, 7, LAST_ERA] {
            assert_eq!(era_of(first_version(era)), era);
            assert_eq!(era_of(first_version(era + 1) - 2), era, "the last version of it");
        }
        assert_eq!(first_version(0), 1, "feeds of installations that were never put back begin at 1");
    }
}
