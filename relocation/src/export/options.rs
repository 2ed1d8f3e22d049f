//! Options with known values. Which values the application accepts changes from release to release.

use crate::{
    catalog::{KnownOption, KnownOptions, Model},
    value::Value,
};

/// If the application does not accept the value of a known option: the column with the value, and the reason. `None` if
/// nothing speaks against the record.
pub(crate) fn unknown_option(model: &Model, values: &[Value]) -> Option<(usize, String)> {
    let KnownOptions { key, value, options } = model.rules.known_options.as_ref()?;
    let (name, json) = (values.get(*key)?.as_text()?, values.get(*value)?.as_text()?);
    let (_, option) = options.iter().find(|(known, _)| known == name)?;
    (!holds(option, json)).then(|| (*value, format!("the application does not take this value of {name}")))
}

fn holds(option: &KnownOption, json: &str) -> bool {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(json) else { return false };
    match option {
        KnownOption::TimeZone => value.as_str().is_some_and(|name| name.parse::<chrono_tz::Tz>().is_ok()),
        KnownOption::Language => value.as_str().is_some_and(|code| {
            let mut parts = code.split(['-', '_']);
            let language = parts.next().unwrap_or_default();
            (2..=3).contains(&language.len())
                && language.bytes().all(|byte| byte.is_ascii_lowercase())
                && parts.all(|part| {
                    (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
                })
        }),
        KnownOption::Boolean => {
            value.is_boolean()
                || matches!(value.as_str(), Some("true" | "false" | "0" | "1"))
                || matches!(value.as_i64(), Some(0 | 1))
        }
        KnownOption::OneOf(values) => values.contains(&value),
    }
}
