//! The id of an import on a command line: the whole one, or as much of it as tells it from the others of its region.

use std::{fmt, str::FromStr};

use anyhow::bail;
use causeway_client::Client;
use causeway_proto::region::v1::ListImportsRequest;
use uuid::Uuid;

use super::PAGE_SIZE;

/// The fewest characters of an id that name an import.
const FEWEST: usize = 4;
/// How many of several imports with the same beginning are named.
const NAMED: usize = 5;

/// The id of an import, or its beginning, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportId(String);

impl FromStr for ImportId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(id) = Uuid::try_parse(text) {
            return Ok(Self(id.to_string()));
        }
        let is_beginning = text.len() >= FEWEST
            && text.len() < Uuid::nil().to_string().len()
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        match is_beginning {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => {
                Err("it is neither the id of an import, a UUID, nor the first 4 or more characters of one")
            }
        }
    }
}

impl fmt::Display for ImportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Uuid> for ImportId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl ImportId {
    /// The whole id. Asks the region for its imports if this is only the beginning of one.
    ///
    /// # Errors
    /// If no import of the region that the caller may see begins so, or several do.
    pub(super) async fn resolve(&self, region: &Client) -> anyhow::Result<Uuid> {
        if let Ok(id) = Uuid::try_parse(&self.0) {
            return Ok(id);
        }
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListImportsRequest { page_size: PAGE_SIZE, page_token };
            let page =
                region.ask(request, async |it, request| it.imports().list_imports(request).await).await?;
            found.extend(
                page.imports.into_iter().map(|import| import.import_id).filter(|id| id.starts_with(&self.0)),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        self.only(&found)
    }

    /// The only one of these ids.
    fn only(&self, found: &[String]) -> anyhow::Result<Uuid> {
        match found {
            [] => bail!(
                "this region has no import whose id begins with {self}; `causeway imports list` lists those that it has"
            ),
            [id] => Ok(Uuid::try_parse(id)?),
            several => {
                let more = match several.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!("\n  and {more} more"),
                };
                let named: Vec<&str> = several.iter().take(NAMED).map(String::as_str).collect();
                bail!(
                    "the ids of {} imports begin with {self}:\n  {}{more}",
                    several.len(),
                    named.join("\n  ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "777102d5-8d1f-4b9e-9a1e-0a6b6f2f7c11";

    #[test]
    fn an_import_is_named_by_its_id_or_its_beginning() {
        let parsed = |text: &str| text.parse::<ImportId>().map(|id| id.to_string());
        assert_eq!(parsed(&ID.to_uppercase()).as_deref(), Ok(ID));
        assert_eq!(parsed("777102D5").as_deref(), Ok("777102d5"));
        assert_eq!(parsed("777102d5-8d1f-").as_deref(), Ok("777102d5-8d1f-"));
        for wrong in ["", "777", "seven", "7771-02d5", "777102d58", &format!("{ID}1"), "acme-eu"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_beginning_names_one_import_only() {
        let id: ImportId = "777102d5".parse().expect("a beginning");
        let found = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            id.only(&ids).map(|id| id.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(found(&[ID]).as_deref(), Ok(ID));
        let none = found(&[]).expect_err("there is none");
        assert!(none.ends_with("`causeway imports list` lists those that it has"), "{none}");
        let other = ID.replace("0a6b", "0a6c");
        let both = found(&[ID, &other]).expect_err("there are two");
        assert_eq!(both, format!("the ids of 2 imports begin with 777102d5:\n  {ID}\n  {other}"));
        let many = found(&[ID; 7]).expect_err("there are seven");
        assert!(many.ends_with("\n  and 2 more"), "{many}");
    }
}
