//! The JSON text of a field.

use std::borrow::Cow;

use serde::de;
use serde_json::value::RawValue;

use super::raw::cow_str;

/// The maximum nesting of JSON in a string; the same as that of a record by default.
const MAX_NESTING: usize = 120;
/// The most characters of a number in `jsonb`, with its exponent written out. PostgreSQL takes 131,072 digits before the
/// point and 16,383 after it.
const MAX_NUMBER: usize = 16_000;

/// The JSON text of a value. A string that contains JSON stands for that JSON. Any other string is itself the value,
/// unless it begins like an object, a list or a string: then it is damaged JSON.
pub(super) fn of(raw: &RawValue) -> Result<String, String> {
    let json = raw.get();
    let Ok(text) = cow_str(raw) else { return Ok(compact(json)) };
    if serde_json::from_str::<de::IgnoredAny>(&text).is_ok() {
        // The scanner does not check the nesting inside strings, and a program that reads the column could overflow its
        // stack.
        if nesting(&text) > MAX_NESTING {
            return Err(format!("is a string that holds JSON nested deeper than {MAX_NESTING}"));
        }
        return Ok(text.into_owned());
    }
    if text.trim_start().starts_with(['{', '[', '"']) {
        return Err("is a string that begins like JSON and is not JSON".to_owned());
    }
    Ok(json.to_owned())
}

/// A valid JSON text without escapes that are no character of a text: NUL, and halves of a character beyond
/// the first 65,536, which some programs write alone.
pub(crate) fn without_bad_escapes(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let mut clean = String::with_capacity(json.len());
    let (mut rest, mut high) = (json, false);
    let escape = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        clean.push_str(before);
        let length = if from.starts_with("\\u") { 6 } else { 2 };
        let (this, after) = from.split_at_checked(length).unwrap_or((from, ""));
        match escape(this) {
            Some(0) => {}
            Some(0xD800..=0xDBFF) if escape(after).is_some_and(|low| (0xDC00..=0xDFFF).contains(&low)) => {
                clean.push_str(this);
                high = true;
                rest = after;
                continue;
            }
            Some(0xDC00..=0xDFFF) if high => clean.push_str(this),
            Some(0xD800..=0xDFFF) => clean.push(char::REPLACEMENT_CHARACTER),
            _ => clean.push_str(this),
        }
        high = false;
        rest = after;
    }
    clean.push_str(rest);
    if clean == json { Cow::Borrowed(json) } else { Cow::Owned(clean) }
}

/// Whether a valid JSON text has a number that `jsonb` may refuse: one of very many digits, or with a very large exponent.
pub(super) fn has_huge_number(json: &str) -> bool {
    let is_of_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    let is_huge = |number: &[u8]| {
        let exponent =
            number.iter().position(|byte| matches!(byte, b'e' | b'E')).map(|at| number.split_at(at).1);
        // A valid exponent is a letter, perhaps a sign, and digits.
        let digits = exponent.unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit());
        let exponent = digits.fold(0_usize, |value, digit| {
            value.saturating_mul(10).saturating_add(usize::from(digit.saturating_sub(b'0')))
        });
        number.len().saturating_add(exponent) > MAX_NUMBER
    };
    let (mut in_string, mut escaped) = (false, false);
    let mut began: Option<usize> = None;
    let bytes = json.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if !in_string && is_of_number(*byte) {
            began.get_or_insert(at);
            continue;
        }
        if began.take().is_some_and(|began| is_huge(bytes.get(began..at).unwrap_or_default())) {
            return true;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    began.is_some_and(|began| is_huge(bytes.get(began..).unwrap_or_default()))
}

/// How deep the brackets of a valid JSON text are nested.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A valid JSON text without the white space around its tokens. Numbers keep their digits.
fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if character.is_ascii_whitespace() {
            continue;
        } else if character == '"' {
            in_string = true;
        }
        text.push(character);
    }
    text
}
