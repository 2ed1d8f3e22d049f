//! Questions about rows and slugs, which control answers a region only for an import that it plans.

use causeway_tls::{Caller, Role};
use tonic::Request;

use super::uuid;
use crate::{Error, import::write::ControlImports};

/// Whether a request comes from a caller who may ask only for an import: a region, as its certificate says.
pub(super) fn is_bound<T>(request: &Request<T>) -> bool {
    request.extensions().get::<Caller>().is_some_and(|caller| caller.with_role(Role::Operator).is_none())
}

/// Checks that a region asks for an import that it plans. An empty id is of somebody who need not say for which one.
pub(super) async fn check(imports: &ControlImports, region: &str, import_id: &str) -> Result<(), Error> {
    if import_id.is_empty() {
        return Ok(());
    }
    imports.check_planning(region, uuid("import_id", import_id)?).await
}
