//! Pages of a list, by the key of the last entry and not by a count: an entry that is added or removed between two
//! pages neither hides nor repeats another one.

/// Which page of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// The maximum number of entries.
    pub limit: u16,
    /// The key of the last entry of the page before; `None` for the first page.
    pub after: Option<K>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The entries, at most as many as the request allows.
    pub items: Vec<T>,
    /// The key to request the next page with; `None` on the last page.
    pub next: Option<K>,
}

impl<K> PageRequest<K> {
    /// How many rows to read: one more than requested, which shows whether there is a next page.
    #[must_use]
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

impl<T, K> Page<T, K> {
    /// Makes a page from rows that were read with the limit [`PageRequest::rows`].
    pub fn cut(mut items: Vec<T>, request: &PageRequest<K>, key: impl Fn(&T) -> K) -> Self {
        let more = items.len() > usize::from(request.limit);
        items.truncate(usize::from(request.limit));
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}
