//! Checks of request fields, before a use case works with them.

use crate::Error;

/// Refuses a text that is longer than `most` bytes, or contains a zero character, which a database cannot store.
pub(crate) fn text(field: impl FnOnce() -> String, value: &str, most: usize) -> Result<(), Error> {
    if value.len() > most {
        return Err(Error::invalid(field(), format!("must be at most {most} bytes long")));
    }
    if value.contains('\0') {
        return Err(Error::invalid(field(), "must not hold a zero character"));
    }
    Ok(())
}
