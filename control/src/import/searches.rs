//! Where searches for the rows of an import begin.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// Before all chunks of an import.
pub(super) const BEGINNING: (i64, i64) = (-1, 0);
/// Of how many imports and models it is known where to begin.
const MOST_STARTS: usize = 256;

/// An import of a region, and a model.
pub(super) type RowsOf = (String, Uuid, String);

/// Where the search for rows of an import begins. What belongs to users comes in the order of the users, so it begins
/// where the last search has found its first row, and only what is not found from there is searched from the beginning.
/// It only saves time: any control may forget it.
#[derive(Debug, Clone, Default)]
pub(super) struct Searches(Arc<Mutex<HashMap<RowsOf, (i64, i64)>>>);

impl Searches {
    /// After which chunk the next search begins.
    pub(super) fn start(&self, of: &RowsOf) -> (i64, i64) {
        self.starts().get(of).copied().unwrap_or(BEGINNING)
    }

    /// Lets the next search begin after this chunk.
    pub(super) fn set_start(&self, of: RowsOf, start: (i64, i64)) {
        let mut starts = self.starts();
        if starts.len() >= MOST_STARTS {
            starts.clear();
        }
        starts.insert(of, start);
    }

    fn starts(&self) -> MutexGuard<'_, HashMap<RowsOf, (i64, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_begins_where_the_last_one_of_its_import_has_found_something() {
        let searches = Searches::default();
        let of = |number: u128| ("us".to_owned(), Uuid::from_u128(number), "auth_user".to_owned());
        searches.set_start(of(1), (3, 4));
        assert_eq!((searches.start(&of(1)), searches.start(&of(2))), ((3, 4), BEGINNING));
        for number in 2..=1_000 {
            searches.set_start(of(number), (1, 1));
        }
        assert!(searches.starts().len() <= MOST_STARTS);
        assert_eq!(searches.start(&of(1)), BEGINNING, "only the latest are known");
    }
}
