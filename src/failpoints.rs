//! Failpoints: named places where a test makes this process fail or die. Only in builds with the feature `failpoints`.

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use causeway_silo::{db::DbError, env::Environment};

pub(crate) const VARIABLE: &str = "CAUSEWAY_FAILPOINTS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Fail,
    /// The process ends at once, as if it had been killed: nothing is cleaned up, nothing is flushed.
    Kill,
}

/// Reads `PLACE=ACT@N,...`: after N passes of PLACE, the next pass does ACT, once.
fn parse(text: &str) -> anyhow::Result<HashMap<String, (u64, Act)>> {
    let mut armed = HashMap::new();
    for one in text.split(',').filter(|one| !one.is_empty()) {
        let wrong = || format!("{VARIABLE}: `{one}` is not PLACE=kill@N or PLACE=fail@N");
        let (place, act) = one.split_once('=').with_context(wrong)?;
        let (act, pass) = act.split_once('@').with_context(wrong)?;
        let act = match act {
            "fail" => Act::Fail,
            "kill" => Act::Kill,
            _ => anyhow::bail!(wrong()),
        };
        armed.insert(place.to_owned(), (pass.parse().with_context(wrong)?, act));
    }
    Ok(armed)
}

/// `env` with the failpoints that the variable `CAUSEWAY_FAILPOINTS` names.
pub(crate) fn armed(env: Environment) -> anyhow::Result<Environment> {
    let armed = Mutex::new(parse(&env::var(VARIABLE).unwrap_or_default())?);
    let reach = move |place: &'static str| {
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.get_mut(place) {
            Some((0, act)) => {
                let act = *act;
                armed.remove(place);
                Some(act)
            }
            Some((pass, _)) => {
                *pass -= 1;
                None
            }
            None => None,
        }
    };
    Ok(env.with_failpoints(Arc::new(move |place| {
        let act = reach(place);
        Box::pin(async move {
            match act {
                None => Ok(()),
                Some(Act::Fail) => Err(DbError::injected(place)),
                Some(Act::Kill) => std::process::abort(),
            }
        })
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_acts_are_read() {
        let armed = parse("a.b=kill@0,c=fail@12").expect("well formed");
        assert_eq!(armed, [("a.b".to_owned(), (0, Act::Kill)), ("c".to_owned(), (12, Act::Fail))].into());
        assert_eq!(parse("").expect("nothing"), HashMap::new());
        for wrong in ["a", "a=kill", "a=die@1", "a=kill@x"] {
            parse(wrong).expect_err(wrong);
        }
    }

    #[tokio::test]
    async fn nothing_happens_without_the_variable() {
        let env = armed(Environment::system()).expect("nothing is armed");
        env.failpoint("region.plan.made").await.expect("it is passed");
    }
}
