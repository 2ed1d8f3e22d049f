//! Page sizes and page tokens. A token is the last key of its page, with a checksum over the call, its filter and the
//! key: one that was made for something else, or by hand, is refused.

use std::{fmt::Display, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{failure::Failure, relocation::v1::ErrorReason};

const CHECKSUM: usize = 8;

/// A list as it was asked for: the call, the filters that its pages must agree in, and how large pages are.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// The call.
    pub call: &'static str,
    /// Its filters.
    pub filters: &'a [&'a str],
    /// The size of a page that names none.
    pub default_size: u16,
    /// The largest size of a page.
    pub max_size: u16,
}

impl<'a> List<'a> {
    /// A list with pages of 100, at most 1,000.
    #[must_use]
    pub fn new(call: &'static str, filters: &'a [&'a str]) -> Self {
        Self { call, filters, default_size: 100, max_size: 1000 }
    }

    fn checksum(&self, key: &[u8]) -> [u8; CHECKSUM] {
        let mut digest = Sha256::new();
        let filters = self.filters.iter().map(|filter| filter.as_bytes());
        for part in [self.call.as_bytes()].into_iter().chain(filters).chain([key]) {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let digest: [u8; 32] = digest.finalize().into();
        std::array::from_fn(|index| digest[index])
    }

    /// How many entries the page may have.
    ///
    /// # Errors
    /// If the size is negative.
    pub fn limit(&self, size: i32) -> Result<u16, Failure> {
        match size {
            ..0 => Err(Failure::invalid_field("page_size", "must not be negative")),
            0 => Ok(self.default_size),
            size => Ok(u16::try_from(size).unwrap_or(self.max_size).min(self.max_size)),
        }
    }

    /// The key after which the page begins; `None` for the first page.
    ///
    /// # Errors
    /// If the token is not one of this list.
    pub fn after<K: FromStr>(&self, token: &str) -> Result<Option<K>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        self.key(token).map(Some).ok_or_else(|| {
            let message =
                "the page token is not one that this call gave out for this filter; begin without one";
            Failure::new(ErrorReason::InvalidPageToken, message)
                .field("page_token", "not one of this call and filter")
        })
    }

    fn key<K: FromStr>(&self, token: &str) -> Option<K> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (checksum, key) = bytes.split_at_checked(CHECKSUM)?;
        if checksum != self.checksum(key) {
            return None;
        }
        str::from_utf8(key).ok()?.parse().ok()
    }

    /// The token of the next page; empty if there is none.
    pub fn token(&self, next: Option<impl Display>) -> String {
        next.map_or_else(String::new, |key| {
            let key = key.to_string();
            URL_SAFE_NO_PAD.encode([&self.checksum(key.as_bytes()), key.as_bytes()].concat())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List<'static> {
        List::new("ListThings", &["us", ""])
    }

    #[test]
    fn a_token_gives_back_its_key() {
        assert_eq!(list().after::<String>(&list().token(Some("acme"))).unwrap().as_deref(), Some("acme"));
        assert_eq!(list().after::<i64>(&list().token(Some(5_i64))).unwrap(), Some(5));
        assert_eq!(list().token(None::<i64>), "");
        assert_eq!(list().after::<i64>("").unwrap(), None);
    }

    #[test]
    fn a_token_of_something_else_is_refused() {
        let token = list().token(Some("acme"));
        let forged = URL_SAFE_NO_PAD.encode([list().checksum(b"acme").as_slice(), b"acmf"].concat());
        for (list, token) in [
            (List { filters: &["de", ""], ..list() }, token.as_str()),
            (List { filters: &["", "us"], ..list() }, token.as_str()),
            (List { call: "ListOthers", ..list() }, token.as_str()),
            (list(), forged.as_str()),
            (list(), "acme"),
            (list(), "%%%"),
            (list(), "AAAA"),
            (list(), "ü"),
        ] {
            assert_eq!(
                list.after::<String>(token).unwrap_err().reason(),
                ErrorReason::InvalidPageToken,
                "{token}"
            );
        }
        assert!(list().after::<i64>(&token).is_err());
    }

    #[test]
    fn sizes_have_a_default_and_a_bound() {
        for (size, limit) in [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
            assert_eq!(list().limit(size).unwrap(), limit);
        }
        assert_eq!(list().limit(-1).unwrap_err().reason(), ErrorReason::InvalidArgument);
    }
}
