//! Page sizes and page tokens. A token is the last key of its page, with a checksum over the call, its
//! filters and the key. Only the secret of the database can make that checksum: a token that was made for
//! another list, or written manually, is refused.

use std::{fmt, fmt::Display, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message;
use sha2::Sha256;

use crate::{
    failure::Failure,
    limits::{DEFAULT_PAGE, MAX_PAGE},
    relocation::v1::ErrorReason,
};

const CHECKSUM_BYTES: usize = 16;
/// The most bytes of the entries of a page: 2 MiB, well below the limit of a message. A page has at least one entry,
/// even if that one is larger.
pub const PAGE_BYTES: usize = 2 << 20;

/// The secret that page tokens are made with. It is stored in the database, and so is the same for all services on it.
#[derive(Clone)]
pub struct PageKey([u8; 32]);

impl PageKey {
    /// Makes a key from the 32 bytes of the secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKey")
    }
}

/// A list as the caller requested it: the call, the filters that all its pages must share, and how large pages are.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// The secret that its tokens are made with.
    pub key: &'a PageKey,
    /// The name of the call, such as `ListRegions`. A token is valid for this call only.
    pub call: &'static str,
    /// The values of its filters, in a fixed order. A token is valid for these only.
    pub filters: &'a [&'a str],
    /// Entries of a page if the request names no size, which is 0.
    pub default_size: u16,
    /// The most entries of a page. A larger size in a request is lowered to it.
    pub max_size: u16,
}

impl<'a> List<'a> {
    /// A list with pages of the usual size: [`DEFAULT_PAGE`] entries by default, and at most [`MAX_PAGE`].
    #[must_use]
    pub fn new(key: &'a PageKey, call: &'static str, filters: &'a [&'a str]) -> Self {
        Self { key, call, filters, default_size: DEFAULT_PAGE, max_size: MAX_PAGE }
    }

    fn checksum(&self, key: &[u8]) -> Hmac<Sha256> {
        // HMAC pads a key that is shorter than a block of the hash with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.key.0);
        let mut digest = Hmac::<Sha256>::new(&block.into());
        let filters = self.filters.iter().map(|filter| filter.as_bytes());
        for part in [self.call.as_bytes()].into_iter().chain(filters).chain([key]) {
            digest.update(&part.len().to_be_bytes());
            digest.update(part);
        }
        digest
    }

    /// How many entries the page may have, for the size in the request.
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
        let (checksum, key) = bytes.split_at_checked(CHECKSUM_BYTES)?;
        self.checksum(key).verify_truncated_left(checksum).ok()?;
        str::from_utf8(key).ok()?.parse().ok()
    }

    /// The token of the next page; empty if there is none.
    pub fn token(&self, next: Option<impl Display>) -> String {
        next.map_or_else(String::new, |key| {
            let key = key.to_string();
            let checksum = self.checksum(key.as_bytes()).finalize().into_bytes();
            URL_SAFE_NO_PAD.encode([&checksum[..CHECKSUM_BYTES], key.as_bytes()].concat())
        })
    }
}

/// Encodes the entries of a page: as many as fit into [`PAGE_BYTES`], and at least one. Also returns the key after
/// which the next page begins: that of the last encoded entry if some did not fit, or else `next`.
pub fn fitting<T, M: Message, K>(
    items: Vec<T>,
    next: Option<K>,
    key: impl Fn(&T) -> K,
    encode: impl Fn(T) -> M,
) -> (Vec<M>, Option<K>) {
    let mut bytes = 0_usize;
    let mut messages = Vec::with_capacity(items.len());
    let mut last = None;
    for item in items {
        let item_key = key(&item);
        let message = encode(item);
        // Plus the tag and length in front of it.
        bytes = bytes.saturating_add(message.encoded_len() + 6);
        if bytes > PAGE_BYTES && last.is_some() {
            return (messages, last);
        }
        messages.push(message);
        last = Some(item_key);
    }
    (messages, next)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn key(secret: u8) -> PageKey {
        PageKey::new([secret; 32])
    }

    static KEY: LazyLock<PageKey> = LazyLock::new(|| key(1));

    fn list() -> List<'static> {
        List::new(&KEY, "ListThings", &["us", ""])
    }

    #[test]
    fn a_page_has_as_many_entries_as_fit_and_one_at_least() {
        let page = |sizes: &[usize]| {
            let items = sizes.iter().map(|size| "x".repeat(*size)).enumerate().collect();
            let (messages, next) =
                fitting(items, Some(99), |(index, _)| *index, |(_, text): (_, String)| text);
            (messages.len(), next)
        };
        assert_eq!(page(&[]), (0, Some(99)));
        assert_eq!(page(&[10, 10]), (2, Some(99)));
        assert_eq!(page(&[PAGE_BYTES * 2]), (1, Some(99)));
        assert_eq!(page(&[PAGE_BYTES * 2, 1]), (1, Some(0)));
        assert_eq!(page(&[1 << 20, 1 << 19, 1 << 19, 1]), (2, Some(1)));
        let many = vec![1_000; 5_000];
        let (count, next) = page(&many);
        assert!((2_050..2_097).contains(&count), "{count}");
        assert_eq!(next, Some(count - 1));
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
        let checksum = URL_SAFE_NO_PAD.decode(&token).expect("base64")[..CHECKSUM_BYTES].to_vec();
        let forged = URL_SAFE_NO_PAD.encode([checksum.as_slice(), b"acmf"].concat());
        let of_another_database = List { key: &key(2), ..list() }.token(Some("acme"));
        for (list, token) in [
            (List { filters: &["de", ""], ..list() }, token.as_str()),
            (List { filters: &["", "us"], ..list() }, token.as_str()),
            (List { call: "ListOthers", ..list() }, token.as_str()),
            (list(), forged.as_str()),
            (list(), of_another_database.as_str()),
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
