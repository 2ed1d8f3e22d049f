//! Checks of what callers send, before anything is done with it.

use crate::Error;

/// Refuses a text that is too long, or holds what a database cannot: a zero character.
pub(crate) fn text(field: impl FnOnce() -> String, value: &str, most: usize) -> Result<(), Error> {
    if value.len() > most {
        return Err(Error::invalid(field(), format!("must be at most {most} bytes long")));
    }
    if value.contains('\0') {
        return Err(Error::invalid(field(), "must not hold a zero character"));
    }
    Ok(())
}
