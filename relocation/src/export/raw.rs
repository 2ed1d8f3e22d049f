//! Splits a record into model, pk and fields, without parsing the fields.

use std::{borrow::Cow, fmt};

use serde::{Deserializer as _, de};
use serde_json::value::RawValue;

use super::{ExportError, MAX_PK};
use crate::finding::{Finding, FindingKind, shown};

/// A record with fields that have not been parsed.
#[derive(Debug)]
pub struct RawRecord<'a> {
    /// The model's name as the file has it.
    pub model: Cow<'a, str>,
    /// Its primary key in the export, 1 to 2^53 - 1.
    pub pk: i64,
    /// The text of its fields, which is a JSON object.
    pub fields: &'a RawValue,
}

#[derive(Default)]
struct Parts<'a> {
    model: Option<&'a RawValue>,
    pk: Option<&'a RawValue>,
    fields: Option<&'a RawValue>,
}

impl<'a> RawRecord<'a> {
    /// Splits the text of a record that begins at `offset`.
    ///
    /// # Errors
    /// If it is not UTF-8 or not JSON, or if one of the three parts is missing or has the wrong type.
    pub fn parse(text: &'a [u8], offset: u64) -> Result<Self, ExportError> {
        let text = std::str::from_utf8(text).map_err(|error| {
            ExportError::form(offset + error.valid_up_to() as u64, "the byte is not part of a UTF-8 text")
        })?;
        let parts = parse_json(text).map_err(|error| {
            ExportError::form(offset, format!("the record is not JSON: {}", clean(&error)))
        })?;
        let mut place = Finding::new(FindingKind::DeserializationFailed, "").at(offset);
        let fail = |mut place: Finding, reason: &str| {
            reason.clone_into(&mut place.reason);
            Err(ExportError::from(place))
        };
        let Some(model) = parts.model else { return fail(place, "the record has no `model`") };
        let Ok(model) = cow_str(model) else { return fail(place, "the record's `model` is not a string") };
        place = place.model(&shown(&model.to_ascii_lowercase()));
        let Some(pk) = parts.pk else { return fail(place, "the record has no `pk`") };
        let pk = match pk.get().parse::<i64>() {
            Ok(pk) if (1..=MAX_PK).contains(&pk) => pk,
            Ok(pk) => {
                place.source_pk = Some(pk);
                return fail(place, "the record's `pk` is not between 1 and 2^53 - 1");
            }
            Err(_) => return fail(place, "the record's `pk` is not an integer between 1 and 2^53 - 1"),
        };
        place.source_pk = Some(pk);
        let Some(fields) = parts.fields else { return fail(place, "the record has no `fields`") };
        if !fields.get().starts_with('{') {
            return fail(place, "the record's `fields` are not an object");
        }
        Ok(Self { model, pk, fields })
    }
}

impl RawRecord<'_> {
    /// The model and primary key of an incomplete record, if they come before the part that is missing.
    pub(super) fn identify_incomplete(text: &[u8]) -> (Option<String>, Option<i64>) {
        let valid = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut parts = Parts::default();
        // This fails because the rest is missing. The parts before that are set.
        let _cut = parts.read(&mut serde_json::Deserializer::from_str(valid));
        let model = parts.model.and_then(|model| cow_str(model).ok());
        let pk = parts.pk.and_then(|pk| pk.get().parse().ok()).filter(|pk| (1..=MAX_PK).contains(pk));
        (model.map(|model| shown(&model.to_ascii_lowercase())), pk)
    }
}

/// The message of a JSON error. It explains that line and column count from the beginning of the record.
fn clean(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.clone(), |(reason, place)| format!("{reason} (in the record: line {place})"))
}

/// A JSON string, borrowed where it has no escapes.
pub(crate) fn cow_str(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    struct Text;
    impl<'de> de::Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_str(Text)
}

fn parse_json(text: &str) -> Result<Parts<'_>, serde_json::Error> {
    let mut parts = Parts::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    parts.read(&mut deserializer)?;
    deserializer.end()?;
    Ok(parts)
}

impl<'de> Parts<'de> {
    /// Reads the parts of an object. If it fails, the parts before the error are set.
    fn read<R: serde_json::de::Read<'de>>(
        &mut self,
        deserializer: &mut serde_json::Deserializer<R>,
    ) -> Result<(), serde_json::Error> {
        struct Record<'p, 'de>(&'p mut Parts<'de>);
        impl<'de> de::Visitor<'de> for Record<'_, 'de> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with model, pk and fields")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                while let Some(key) = map.next_key::<Key>()? {
                    let (name, part) = match key {
                        Key::Model => ("model", &mut self.0.model),
                        Key::Pk => ("pk", &mut self.0.pk),
                        Key::Fields => ("fields", &mut self.0.fields),
                        Key::Other => {
                            map.next_value::<de::IgnoredAny>()?;
                            continue;
                        }
                    };
                    if part.replace(map.next_value()?).is_some() {
                        return Err(de::Error::custom(format!("`{name}` stands twice")));
                    }
                }
                Ok(())
            }
        }
        deserializer.deserialize_map(Record(self))
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    Model,
    Pk,
    Fields,
    #[serde(other)]
    Other,
}
