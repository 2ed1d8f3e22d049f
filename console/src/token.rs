//! Tokens that an action needs. A page of the console has one for the one action that it asks about, for whoever has
//! asked for the page, for an hour. A page of somebody else cannot read it, and cannot make one.

use causeway_proto::page::{List, PageKey};
use chrono::{DateTime, TimeDelta, Utc};

/// How long a token may be used.
const VALID: TimeDelta = TimeDelta::hours(1);

/// Makes the token of an action, by its path, for a visitor.
pub(crate) fn make(key: &PageKey, action: &str, who: &str, now: DateTime<Utc>) -> String {
    let until = now.checked_add_signed(VALID).unwrap_or(now).timestamp();
    List::new(key, "console", &[action, who]).token(Some(until))
}

/// Whether a token is one of this action and visitor that may still be used.
pub(crate) fn is_valid(key: &PageKey, action: &str, who: &str, token: &str, now: DateTime<Utc>) -> bool {
    let until = List::new(key, "console", &[action, who]).after::<i64>(token);
    matches!(until, Ok(Some(until)) if now.timestamp() < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_an_hour_for_one_action_and_one_visitor() {
        let (key, began) = (PageKey::new([7; 32]), DateTime::UNIX_EPOCH);
        let token = make(&key, "/stuck/us/1/release", "ann", began);
        let after = |seconds| began + TimeDelta::seconds(seconds);
        let is_valid_for = |action, who, now| is_valid(&key, action, who, &token, now);
        for seconds in [0, 1, 3_599] {
            assert!(is_valid_for("/stuck/us/1/release", "ann", after(seconds)), "{seconds}");
        }
        for seconds in [3_600, 3_601, 100_000] {
            assert!(!is_valid_for("/stuck/us/1/release", "ann", after(seconds)), "{seconds}");
        }
        assert!(!is_valid_for("/stuck/us/2/release", "ann", began));
        assert!(!is_valid_for("/stuck/us/1/release", "bob", began));
        assert!(!is_valid(&PageKey::new([8; 32]), "/stuck/us/1/release", "ann", &token, began));
        for wrong in ["", "x", &token[1..]] {
            assert!(!is_valid(&key, "/stuck/us/1/release", "ann", wrong, began), "{wrong}");
        }
    }
}
