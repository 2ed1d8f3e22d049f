//! The form of an action, which must come from the page that asks about it.

use axum::{Form, extract::rejection::FormRejection, http::StatusCode};
use causeway_audit::Call;

use crate::{Console, failure::Failed};

/// The content of a form whose token is valid. Any other is recorded as a failure of the action.
pub(crate) fn check<T>(
    console: &Console,
    form: Result<Form<T>, FormRejection>,
    is_valid: impl FnOnce(&T) -> bool,
) -> Result<T, Failed> {
    let failed = match form {
        Ok(Form(confirmed)) if is_valid(&confirmed) => return Ok(confirmed),
        Ok(_) => Failed::new(
            StatusCode::FORBIDDEN,
            "Nothing was done",
            "The page that asked is too old, or is not one of this console. Open it again, and confirm there."
                .to_owned(),
        ),
        Err(rejection) => rejection.into(),
    };
    console.control.audit().failed(&Call::current(), &failed.recorded());
    Err(failed)
}
