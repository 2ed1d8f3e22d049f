//! Checks a chain: each hash is computed again from the rows.

use crate::{Entry, Subject, store::DELETE};

/// A position of the chain and its hash, written `POSITION:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The position; 0 before the first row.
    pub position: i64,
    /// SHA-256 there; zeros before the first row.
    pub hash: [u8; 32],
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.position, hex::encode(self.hash))
    }
}

/// A text that is not a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be POSITION:HASH, a number and 64 hex digits, as `causeway audit verify` prints it")]
pub struct InvalidLink;

impl std::str::FromStr for Link {
    type Err = InvalidLink;

    fn from_str(text: &str) -> Result<Self, InvalidLink> {
        let (position, hash) = text.split_once(':').ok_or(InvalidLink)?;
        let position = position.parse().ok().filter(|position| *position >= 0).ok_or(InvalidLink)?;
        Ok(Self { position, hash: hash_of(hash).ok_or(InvalidLink)? })
    }
}

/// Parses 64 hex digits; `None` if they are not.
#[must_use]
pub fn hash_of(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

/// Why a chain is not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A position does not follow the one before.
    #[error("position {found} follows position {after}: the positions in between are gone")]
    Gap {
        /// The last position that was checked.
        after: i64,
        /// The next one that there is.
        found: i64,
    },
    /// The row of a position is gone.
    #[error("the entry at position {0} is gone")]
    EntryGone(i64),
    /// A hash is not the one that its row and the hash before it have.
    #[error(
        "the hash at position {position} is not that of entry {id} there: the entry or its place was changed"
    )]
    HashDiffers {
        /// The position in the chain, counted from 1.
        position: i64,
        /// The number of the row.
        id: i64,
    },
    /// The chain has another hash at an expected position.
    #[error("the hash at position {0} is not the expected one: the chain was made again")]
    NotExpected(i64),
    /// The chain begins elsewhere than the service has written into it.
    #[error(
        "the chain begins after position {begins}, and the last entry that says where it begins names position \
         {recorded}: its beginning is gone, and retention has not deleted it"
    )]
    BeginningMoved {
        /// The position after which the chain begins.
        begins: i64,
        /// The one that retention has recorded last; 0 if it has recorded none.
        recorded: i64,
    },
    /// The chain ends before an expected position.
    #[error("the chain ends at position {end}, and position {expected} was expected: its end is gone")]
    EndsEarly {
        /// The last position that the chain has.
        end: i64,
        /// The position that was expected, which is after the end.
        expected: i64,
    },
    /// An expected position is before the beginning.
    #[error(
        "the chain begins after position {begins}, so position {expected} cannot be checked: entries up to there were \
         deleted by age. Expect a later one"
    )]
    BeginsLater {
        /// The position after which the chain begins.
        begins: i64,
        /// The position that was expected, which is before the beginning.
        expected: i64,
    },
}

/// Checks a chain from its beginning, position by position.
#[derive(Debug)]
pub struct Verifier {
    head: Link,
    /// Where the chain begins, as the last entry about that says.
    recorded: Link,
    checked: i64,
    expected: Option<Link>,
}

impl Verifier {
    /// A chain that begins after `base`. If `expected` is given, it must be a part of the chain.
    ///
    /// # Errors
    /// If the expected position is before the beginning, or has another hash there.
    pub fn new(base: Link, expected: Option<Link>) -> Result<Self, Broken> {
        if let Some(expected) = expected
            && expected.position < base.position
        {
            return Err(Broken::BeginsLater { begins: base.position, expected: expected.position });
        }
        let recorded = Link { position: 0, hash: [0; 32] };
        let mut verifier = Self { head: base, recorded, checked: 0, expected };
        verifier.compare()?;
        Ok(verifier)
    }

    /// Checks the next position.
    ///
    /// # Errors
    /// If it does not follow the one before, its row is gone, or its hash is another one.
    pub fn next(&mut self, position: i64, hash: &str, entry: Option<&Entry>) -> Result<(), Broken> {
        if self.head.position.checked_add(1) != Some(position) {
            return Err(Broken::Gap { after: self.head.position, found: position });
        }
        let entry = entry.ok_or(Broken::EntryGone(position))?;
        let computed = entry.hash(&self.head.hash, position);
        if hash_of(hash) != Some(computed) {
            return Err(Broken::HashDiffers { position, id: entry.id });
        }
        self.head = Link { position, hash: computed };
        self.checked += 1;
        if entry.call == DELETE
            && let Some(beginning) = Subject::beginning_of(&entry.object)
        {
            self.recorded = beginning;
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<(), Broken> {
        match self.expected {
            Some(expected) if expected.position == self.head.position => {
                if expected.hash != self.head.hash {
                    return Err(Broken::NotExpected(expected.position));
                }
                self.expected = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The last position that was checked.
    #[must_use]
    pub fn head(&self) -> Link {
        self.head
    }

    /// How many positions were checked.
    #[must_use]
    pub fn checked(&self) -> i64 {
        self.checked
    }

    /// Ends the check: returns the head of the chain. `base` is where it begins now, for old positions may have been
    /// deleted while it was checked.
    ///
    /// # Errors
    /// If the chain does not say that it begins there, or the expected position has not come.
    pub fn finish(self, base: Link) -> Result<Link, Broken> {
        if self.recorded != base {
            return Err(Broken::BeginningMoved { begins: base.position, recorded: self.recorded.position });
        }
        match self.expected {
            Some(expected) => Err(Broken::EndsEarly { end: self.head.position, expected: expected.position }),
            None => Ok(self.head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::entry;

    const BASE: Link = Link { position: 0, hash: [0; 32] };

    fn chain(length: i64) -> Vec<(Link, Option<Entry>)> {
        let mut head = BASE;
        (1..=length)
            .map(|position| {
                let entry = entry(position * 10);
                head = Link { position, hash: entry.hash(&head.hash, position) };
                (head, Some(entry))
            })
            .collect()
    }

    fn verify(base: Link, chain: &[(Link, Option<Entry>)], expected: Option<Link>) -> Result<Link, Broken> {
        let mut verifier = Verifier::new(base, expected)?;
        for (link, entry) in chain {
            verifier.next(link.position, &hex::encode(link.hash), entry.as_ref())?;
        }
        verifier.finish(base)
    }

    /// A chain whose last entry says that it begins after a position.
    fn begun_after(mut chain: Vec<(Link, Option<Entry>)>, base: Link) -> Vec<(Link, Option<Entry>)> {
        let head = chain.last().expect("a position").0;
        let position = head.position + 1;
        let object = Subject::beginning(base).object().to_owned();
        let entry = Entry { call: DELETE.to_owned(), object, ..entry(position * 10) };
        chain.push((Link { position, hash: entry.hash(&head.hash, position) }, Some(entry)));
        chain
    }

    #[test]
    fn a_chain_begins_where_its_last_entry_about_that_says() {
        let whole = chain(5);
        let (second, third) = (whole[1].0, whole[2].0);
        let moved = |begins: i64, recorded| Err(Broken::BeginningMoved { begins, recorded });
        // Nobody has recorded that the beginning is gone.
        assert_eq!(verify(second, &whole[2..], None), moved(2, 0));
        let recorded = begun_after(begun_after(whole.clone(), second), third);
        let head = recorded[6].0;
        assert_eq!(verify(third, &recorded[3..], None), Ok(head));
        assert_eq!(verify(second, &recorded[2..], None), moved(2, 3));
        assert_eq!(verify(whole[3].0, &recorded[4..], None), moved(4, 3));
        assert_eq!(verify(BASE, &recorded, None), moved(0, 3));
        // The same position with another hash.
        let other = begun_after(whole.clone(), Link { hash: [7; 32], ..third });
        assert_eq!(verify(third, &other[3..], None), moved(3, 3));
        // What others write about the log says nothing about its beginning.
        let mut forged = begun_after(whole, third);
        forged[5].1.as_mut().expect("an entry").call =
            "causeway.region.v1.ImportService/RevertImport".to_owned();
        let (before, entry) = (forged[4].0, forged[5].1.clone().expect("an entry"));
        forged[5].0.hash = entry.hash(&before.hash, 6);
        assert_eq!(verify(third, &forged[3..], None), moved(3, 0));
    }

    #[test]
    fn a_whole_chain_has_a_head() {
        let whole = chain(5);
        assert_eq!(verify(BASE, &whole, None), Ok(whole[4].0));
        assert_eq!(verify(BASE, &whole, Some(whole[2].0)), Ok(whole[4].0));
        let cut = begun_after(whole.clone(), whole[1].0);
        assert_eq!(verify(whole[1].0, &cut[2..], Some(whole[1].0)), Ok(cut[5].0));
        assert_eq!(verify(BASE, &[], None), Ok(BASE));
    }

    #[test]
    fn what_was_done_to_a_chain_is_found() {
        let whole = chain(5);
        let mut changed = whole.clone();
        changed[2].1.as_mut().expect("a row").who = "bob".to_owned();
        assert_eq!(verify(BASE, &changed, None), Err(Broken::HashDiffers { position: 3, id: 30 }));
        let mut gone = whole.clone();
        gone[2].1 = None;
        assert_eq!(verify(BASE, &gone, None), Err(Broken::EntryGone(3)));
        let mut removed = whole.clone();
        removed.remove(2);
        assert_eq!(verify(BASE, &removed, None), Err(Broken::Gap { after: 2, found: 4 }));
        let mut swapped = whole.clone();
        let (third, fourth) = (swapped[2].1.take(), swapped[3].1.take());
        (swapped[2].1, swapped[3].1) = (fourth, third);
        assert_eq!(verify(BASE, &swapped, None), Err(Broken::HashDiffers { position: 3, id: 40 }));
        assert_eq!(
            verify(BASE, &whole[..3], Some(whole[4].0)),
            Err(Broken::EndsEarly { end: 3, expected: 5 })
        );
        let other = Link { hash: [7; 32], ..whole[2].0 };
        assert_eq!(verify(BASE, &whole, Some(other)), Err(Broken::NotExpected(3)));
        assert_eq!(
            verify(whole[2].0, &whole[3..], Some(whole[0].0)),
            Err(Broken::BeginsLater { begins: 3, expected: 1 })
        );
    }

    #[test]
    fn a_link_is_read_as_it_is_written() {
        let link = Link { position: 12, hash: [0xab; 32] };
        assert_eq!(link.to_string().parse(), Ok(link));
        for text in ["", "12", "12:", "x:ab", "12:ab", &format!("-1:{}", "0".repeat(64))] {
            assert_eq!(text.parse::<Link>(), Err(InvalidLink), "{text}");
        }
    }
}
