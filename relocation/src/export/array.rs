//! Lists as exports write them: a JSON array, a string that contains one, or a string that contains a Python list.

use serde_json::value::RawValue;

use super::MAX_PK;

/// An element of a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// `null` in JSON, `None` in Python.
    Null,
    /// A string, without its quotes and escapes.
    Text(String),
    /// A number, also one without a fraction.
    Number(f64),
    /// A list in the list.
    List(Vec<Item>),
}

/// The list in a JSON value, in one of the three forms; `None` if it is not a list.
pub(super) fn parse(value: &serde_json::Value) -> Option<Vec<Item>> {
    match value {
        serde_json::Value::Array(items) => items.iter().map(item).collect(),
        serde_json::Value::String(text) => match serde_json::from_str(text) {
            Ok(serde_json::Value::Array(items)) => items.iter().map(item).collect(),
            _ => Python::list(text),
        },
        _ => None,
    }
}

/// The whole numbers in a list, in one of the three forms. `None` if it is not a list, or has other elements too; null is
/// an empty list.
pub(crate) fn all_numbers(raw: &RawValue) -> Option<Vec<i64>> {
    if raw.get() == "null" {
        return Some(Vec::new());
    }
    let list = serde_json::from_str(raw.get()).ok().and_then(|list| parse(&list))?;
    let count = list.len();
    let numbers = whole_numbers(list);
    (numbers.len() == count).then_some(numbers)
}

/// The whole numbers in a list, in one of the three forms; none if it is not a list.
pub(crate) fn numbers(raw: &RawValue) -> Vec<i64> {
    let list = serde_json::from_str(raw.get()).ok().and_then(|list| parse(&list)).unwrap_or_default();
    whole_numbers(list)
}

fn whole_numbers(list: Vec<Item>) -> Vec<i64> {
    let whole = |item: Item| match item {
        Item::Number(number) if number.fract() == 0.0 && number.abs() <= MAX_PK as f64 => Some(number as i64),
        _ => None,
    };
    list.into_iter().filter_map(whole).collect()
}

fn item(value: &serde_json::Value) -> Option<Item> {
    Some(match value {
        serde_json::Value::Null => Item::Null,
        serde_json::Value::String(text) => Item::Text(text.clone()),
        serde_json::Value::Number(number) => Item::Number(number.as_f64()?),
        serde_json::Value::Array(items) => Item::List(items.iter().map(item).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// Reads the form in which Python prints a list of strings, numbers, `None` and lists.
struct Python<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Python<'a> {
    fn list(text: &'a str) -> Option<Vec<Item>> {
        let mut reader = Python { rest: text.trim().chars().peekable() };
        let Item::List(items) = reader.item(0)? else { return None };
        reader.rest.next().is_none().then_some(items)
    }

    fn blank(&mut self) {
        while self.rest.next_if(|character| character.is_whitespace()).is_some() {}
    }

    fn item(&mut self, depth: usize) -> Option<Item> {
        match *self.rest.peek()? {
            '[' if depth < 8 => {
                self.rest.next();
                let mut items = Vec::new();
                loop {
                    self.blank();
                    if self.rest.next_if_eq(&']').is_some() {
                        return Some(Item::List(items));
                    }
                    if !items.is_empty() {
                        self.rest.next_if_eq(&',')?;
                        self.blank();
                        if self.rest.next_if_eq(&']').is_some() {
                            return Some(Item::List(items));
                        }
                    }
                    items.push(self.item(depth + 1)?);
                }
            }
            quote @ ('\'' | '"') => self.string(quote),
            _ => {
                let mut word = String::new();
                while let Some(character) = self
                    .rest
                    .next_if(|character| !matches!(character, ',' | ']') && !character.is_whitespace())
                {
                    word.push(character);
                }
                if word == "None" {
                    Some(Item::Null)
                } else {
                    word.parse().ok().filter(|number: &f64| number.is_finite()).map(Item::Number)
                }
            }
        }
    }

    fn string(&mut self, quote: char) -> Option<Item> {
        self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.next()? {
                character if character == quote => return Some(Item::Text(text)),
                '\\' => text.push(match self.rest.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'x' => self.code(2)?,
                    'u' => self.code(4)?,
                    'U' => self.code(8)?,
                    character @ ('\\' | '\'' | '"') => character,
                    _ => return None,
                }),
                character => text.push(character),
            }
        }
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let mut code = 0;
        for _ in 0..digits {
            code = code * 16 + self.rest.next()?.to_digit(16)?;
        }
        char::from_u32(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> Option<Vec<Item>> {
        parse(&serde_json::from_str(json).unwrap())
    }

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    #[test]
    fn lists_come_in_three_forms() {
        assert_eq!(list(r#"["a", null]"#), Some(vec![text("a"), Item::Null]));
        assert_eq!(list(r#""[\"a\"]""#), Some(vec![text("a")]));
        assert_eq!(
            list(r#""['org:ci', \"it's\", None]""#),
            Some(vec![text("org:ci"), text("it's"), Item::Null])
        );
        assert_eq!(list(r#""['a\\'b\\\\', '\\xe9\\u20ac']""#), Some(vec![text("a'b\\"), text("é€")]));
        assert_eq!(list(r#""[]""#), Some(vec![]));
        assert_eq!(
            list(r#""[[1.0, 2.5], [-3e2, 4]]""#),
            Some(vec![
                Item::List(vec![Item::Number(1.0), Item::Number(2.5)]),
                Item::List(vec![Item::Number(-300.0), Item::Number(4.0)])
            ])
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in [
            r#""""#,
            r#""abc""#,
            r#""['a""#,
            r#""['a' 'b']""#,
            r#""['a'] x""#,
            "{}",
            "1",
            r#""[nan]""#,
            r#""[lambda]""#,
        ] {
            assert_eq!(list(bad), None, "{bad}");
        }
    }
}
