//! Follows a path through a JSON text and writes the text again where something changes. What is outside the
//! path keeps its text: the digits of a number, the order of keys.

use std::{borrow::Cow, fmt};

use serde::{Deserializer as _, de};
use serde_json::value::RawValue;

use super::OTHER_SHAPE;
use crate::{
    catalog::PathStep,
    export::{ExportError, cow_str},
};

/// Where a value is in the JSON text.
#[derive(Debug, Default)]
pub(super) struct JsonLocation {
    /// With the index of each element, e.g. `actions[0].id`.
    pub(super) exact: String,
    /// Without them, e.g. `actions[].id`.
    pub(super) path: String,
}

impl JsonLocation {
    fn inside<T>(&mut self, exact: &str, path: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let lengths = (self.exact.len(), self.path.len());
        self.exact.push_str(exact);
        self.path.push_str(path);
        let result = then(self);
        self.exact.truncate(lengths.0);
        self.path.truncate(lengths.1);
        result
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!(".{name}") }
    }
}

/// A path as the catalog writes it.
pub(super) fn written(path: &[PathStep]) -> String {
    let mut place = JsonLocation::default();
    for step in path {
        match step {
            PathStep::Key(name) => place.path.push_str(&place.key(name)),
            PathStep::Each => place.path.push_str("[]"),
        }
    }
    place.path
}

/// What becomes of the value at the end of a path.
#[derive(Debug)]
pub(super) enum Leaf {
    /// It stays as it is.
    Keep,
    /// It becomes this JSON text.
    To(String),
    /// It becomes null, or is removed if it is an element of a list.
    Null,
    /// The element of a list that it is in, or is, is removed.
    Gone,
    /// It stays, and is not what is expected there.
    Other(&'static str),
}

impl Leaf {
    /// A value of another shape. Null means nothing.
    pub(super) fn other_shape(raw: &RawValue) -> Self {
        if raw.get() == "null" { Self::Keep } else { Self::Other(OTHER_SHAPE) }
    }
}

/// What becomes of a value on a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replacement {
    /// It stays as it is.
    No,
    /// It becomes this JSON text.
    To(String),
    /// The nearest list that it is in takes its element out.
    Gone,
}

/// Called with the place of a value at the end of a path, and with the value of the key next to it that the
/// rule names.
type LeafFn<'w> = &'w mut dyn FnMut(&JsonLocation, Option<&RawValue>, &RawValue) -> Leaf;

/// A walk along the paths of one rule.
pub(super) struct Walk<'w> {
    /// The key next to the last key of the path whose value goes to `leaf` as well.
    pub(super) key: Option<&'w str>,
    /// The places that have the shape that a path expects.
    pub(super) reached: &'w mut Vec<String>,
    /// The places that have another one, and why.
    pub(super) other: &'w mut Vec<(String, &'static str)>,
    pub(super) leaf: LeafFn<'w>,
}

impl Walk<'_> {
    /// Follows a path from a value.
    pub(super) fn rewrite(
        &mut self,
        raw: &RawValue,
        path: &[PathStep],
        place: &mut JsonLocation,
    ) -> Result<Replacement, ExportError> {
        self.step(raw, None, path, place)
    }

    fn step(
        &mut self,
        raw: &RawValue,
        value_of_key: Option<&RawValue>,
        path: &[PathStep],
        place: &mut JsonLocation,
    ) -> Result<Replacement, ExportError> {
        match path.split_first() {
            None => Ok(match (self.leaf)(place, value_of_key, raw) {
                Leaf::Other(reason) => {
                    self.complain(place, reason);
                    Replacement::No
                }
                right => {
                    self.reach(place);
                    match right {
                        Leaf::To(text) => Replacement::To(text),
                        Leaf::Null if place.path.ends_with("[]") => Replacement::Gone,
                        Leaf::Null => Replacement::To("null".to_owned()),
                        Leaf::Gone => Replacement::Gone,
                        Leaf::Keep | Leaf::Other(_) => Replacement::No,
                    }
                }
            }),
            Some(_) if raw.get() == "null" => Ok(Replacement::No),
            Some((PathStep::Key(name), rest)) => match entries(raw) {
                Some(entries) => self.object(&entries, name, rest, place),
                None => Ok(self.misshapen(place)),
            },
            Some((PathStep::Each, rest)) => match elements(raw) {
                Some(elements) => self.list(&elements, rest, place),
                None => Ok(self.misshapen(place)),
            },
        }
    }

    fn object(
        &mut self,
        entries: &[Entry<'_>],
        name: &str,
        rest: &[PathStep],
        place: &mut JsonLocation,
    ) -> Result<Replacement, ExportError> {
        self.reach(place);
        // If two entries have the same key, every reader of the value uses the last one.
        let value_of_key = self.key.and_then(|key| entries.iter().rev().find(|entry| entry.is(key)));
        let value_of_key = value_of_key.map(|entry| entry.value);
        let mut texts: Vec<Cow<'_, str>> = entries.iter().map(|entry| entry.value.get().into()).collect();
        let mut changed = false;
        for (entry, text) in entries.iter().zip(&mut texts) {
            if !entry.is(name) {
                continue;
            }
            let step = place.key(name);
            match place.inside(&step, &step, |place| self.step(entry.value, value_of_key, rest, place))? {
                Replacement::No => {}
                Replacement::To(new) => (*text, changed) = (new.into(), true),
                Replacement::Gone => return Ok(Replacement::Gone),
            }
        }
        if !changed {
            return Ok(Replacement::No);
        }
        let pairs = entries.iter().zip(&texts);
        let pairs = pairs.map(|(entry, text)| format!("{}:{text}", entry.key.get()));
        Ok(Replacement::To(format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))))
    }

    fn list(
        &mut self,
        elements: &[&RawValue],
        rest: &[PathStep],
        place: &mut JsonLocation,
    ) -> Result<Replacement, ExportError> {
        self.reach(place);
        let mut texts: Vec<Cow<'_, str>> = Vec::with_capacity(elements.len());
        let mut changed = false;
        for (index, raw) in elements.iter().enumerate() {
            match place.inside(&format!("[{index}]"), "[]", |place| self.step(raw, None, rest, place))? {
                Replacement::No => texts.push(raw.get().into()),
                Replacement::To(new) => {
                    texts.push(new.into());
                    changed = true;
                }
                Replacement::Gone => changed = true,
            }
        }
        Ok(if changed { Replacement::To(format!("[{}]", texts.join(","))) } else { Replacement::No })
    }

    fn reach(&mut self, place: &JsonLocation) {
        if !self.reached.contains(&place.path) {
            self.reached.push(place.path.clone());
        }
    }

    fn complain(&mut self, place: &JsonLocation, reason: &'static str) {
        if !self.other.iter().any(|(path, _)| *path == place.path) {
            self.other.push((place.path.clone(), reason));
        }
    }

    fn misshapen(&mut self, place: &JsonLocation) -> Replacement {
        self.complain(place, OTHER_SHAPE);
        Replacement::No
    }
}

/// An entry of an object. The key keeps its text: it may have escapes that stand for no character.
struct Entry<'a> {
    key: &'a RawValue,
    value: &'a RawValue,
}

impl Entry<'_> {
    fn is(&self, name: &str) -> bool {
        cow_str(self.key).is_ok_and(|key| key == name)
    }
}

/// The entries of an object, in their order; `None` if it is not an object.
fn entries(raw: &RawValue) -> Option<Vec<Entry<'_>>> {
    struct Entries;
    impl<'de> de::Visitor<'de> for Entries {
        type Value = Vec<Entry<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some((key, value)) = map.next_entry()? {
                entries.push(Entry { key, value });
            }
            Ok(entries)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Entries).ok()
}

/// The elements of a list; `None` if it is not a list.
fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}
