//! Questions about rows and slugs, which control answers a region only for an import that it plans.

use super::uuid;
use crate::{Error, import::write::ControlImports};

/// Checks that a question is about an import that its region plans. `must_say`: whether the caller must name
/// the import.
pub(super) async fn check(
    imports: &ControlImports,
    must_say: bool,
    region: &str,
    import_id: &str,
) -> Result<(), Error> {
    match (import_id, must_say) {
        ("", true) => {
            Err(Error::invalid("import_id", "is missing: a region asks for an import that it plans"))
        }
        ("", false) => Ok(()),
        (import_id, _) => imports.check_planning(region, uuid("import_id", import_id)?).await,
    }
}
