//! Tokens that an action needs. A page of the console has one for the one action that it asks about, for whoever has
//! asked for the page, for an hour. A page of somebody else cannot read it, and cannot make one.

use causeway_control::Control;
use causeway_proto::page::List;
use chrono::{DateTime, TimeDelta, Utc};

/// How long a token may be used.
const VALID: TimeDelta = TimeDelta::hours(1);

/// Makes the token of an action, by its path, for a visitor.
pub(crate) fn make(control: &Control, action: &str, who: &str, now: DateTime<Utc>) -> String {
    let until = now.checked_add_signed(VALID).unwrap_or(now).timestamp();
    List::new(control.page_key(), "console", &[action, who]).token(Some(until))
}

/// Whether a token is one of this action and visitor that may still be used.
pub(crate) fn is_valid(control: &Control, action: &str, who: &str, token: &str, now: DateTime<Utc>) -> bool {
    let until = List::new(control.page_key(), "console", &[action, who]).after::<i64>(token);
    matches!(until, Ok(Some(until)) if now.timestamp() < until)
}
