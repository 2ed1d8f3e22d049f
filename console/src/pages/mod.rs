//! The pages, a file for each.

pub(crate) mod audit;
pub(crate) mod differences;
pub(crate) mod import;
pub(crate) mod imports;
pub(crate) mod instruct;
pub(crate) mod organization;
pub(crate) mod overview;
pub(crate) mod regions;
pub(crate) mod release;
pub(crate) mod slugs;
pub(crate) mod stuck;

use axum::http::StatusCode;

use crate::failure::Failed;

/// How many rows a page of a list has.
const ROWS: u16 = 50;

/// There is no such page.
pub(crate) async fn absent() -> Failed {
    Failed::absent("The console has no page of this address.")
}

/// A page can be read only.
pub(crate) async fn method_not_allowed() -> Failed {
    Failed::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "Nothing was done",
        "This address takes no such request.".to_owned(),
    )
}
