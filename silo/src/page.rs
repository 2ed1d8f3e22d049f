//! Pages of a list, by the key of the last entry rather than by a count: an entry that comes or goes in between
//! neither hides nor repeats another one.

/// Which page of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// How many entries at most.
    pub limit: u16,
    /// The key of the last entry of the page before; `None` for the first page.
    pub after: Option<K>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The entries.
    pub items: Vec<T>,
    /// The key to go on after; `None` on the last page.
    pub next: Option<K>,
}

impl<K> PageRequest<K> {
    /// How many rows to read: one more than wanted, which tells whether there is a next page.
    #[must_use]
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

impl<T, K> Page<T, K> {
    /// The page out of the rows that [`PageRequest::rows`] asked for.
    pub fn cut(mut items: Vec<T>, request: &PageRequest<K>, key: impl Fn(&T) -> K) -> Self {
        let more = items.len() > usize::from(request.limit);
        items.truncate(usize::from(request.limit));
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}
