//! One bulk creation on its way: what was asked for, as it comes in, and who gets which slug, round by round.

use causeway_relocation::{
    ambient::{Ambient, BASE36},
    db::DbError,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    Error,
    regions::MAX_ID,
    slug::{self, Outcome},
    slug_reservations::{ResolvedSlug, WantedSlug},
    store::slug_reservation::{Candidates, OperationKey},
};

/// The most organizations of one batch.
pub(crate) const MAX_BATCH: usize = 10_000;
/// The most organizations of one operation.
pub(crate) const MAX_ORGANIZATIONS: usize = 1_000_000;
/// The longest wanted slug or name, in bytes.
pub(crate) const MAX_TEXT: usize = 255;
/// After so many rounds the suffixes are so long that not taste but a defect keeps them from being free.
const MAX_ROUNDS: usize = 24;

/// An operation whose organizations are still coming in. Of each, only what picking its slug needs is kept.
#[derive(Debug)]
pub struct Incoming {
    region: String,
    operation_id: Uuid,
    wishes: Vec<Wish>,
}

/// What one organization wants.
#[derive(Debug)]
struct Wish {
    organization_id: i64,
    wanted: Box<str>,
    /// What its slug is or begins with; `None` if that is `wanted` as it is.
    base: Option<Box<str>>,
    /// Whether it cannot have its base, even if nobody else has it.
    suffix_only: bool,
    /// Of everything that was sent of it.
    digest: [u8; 32],
}

impl Wish {
    fn base(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.wanted)
    }
}

impl Incoming {
    pub(crate) fn new(region: String, operation_id: Uuid) -> Self {
        Self { region, operation_id, wishes: Vec::new() }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// If the batch or the operation is too large, or an organization is malformed.
    pub fn add(&mut self, batch: Vec<WantedSlug>) -> Result<(), Error> {
        if batch.len() > MAX_BATCH {
            return Err(Error::invalid("batch.requests", "at most 10,000 in one batch"));
        }
        if self.wishes.len() + batch.len() > MAX_ORGANIZATIONS {
            return Err(Error::TooManySlugs { most: MAX_ORGANIZATIONS });
        }
        for (index, request) in batch.into_iter().enumerate() {
            self.wishes.push(wish(index, request)?);
        }
        Ok(())
    }

    /// Brings the organizations into their order, and takes the digest of all.
    pub(crate) fn complete(self) -> Result<SlugOperation, Error> {
        let Self { region, operation_id, mut wishes } = self;
        wishes.sort_unstable_by_key(|wish| wish.organization_id);
        let twice = wishes.windows(2).find(|pair| pair[0].organization_id == pair[1].organization_id);
        if let Some([wish, _]) = twice {
            return Err(Error::invalid(
                "batch.requests.organization_id",
                format!("organization {} stands twice in the operation", wish.organization_id),
            ));
        }
        let mut digest = Sha256::new();
        for wish in &wishes {
            digest.update(wish.digest);
        }
        Ok(SlugOperation { region, operation_id, wishes, digest: digest.finalize().into() })
    }
}

fn wish(index: usize, request: WantedSlug) -> Result<Wish, Error> {
    let field = |name| format!("batch.requests[{index}].{name}");
    let WantedSlug { organization_id, slug: wanted, name, taken_in_region } = request;
    if !(1..=MAX_ID).contains(&organization_id) {
        return Err(Error::invalid(field("organization_id"), "must be above 0 and below 2^53"));
    }
    crate::error::text(|| field("slug"), &wanted, MAX_TEXT)?;
    crate::error::text(|| field("name"), &name, MAX_TEXT)?;
    let mut digest = Sha256::new();
    digest.update(organization_id.to_be_bytes());
    // No text holds a zero byte, so that one can end it.
    for text in [&wanted, &name] {
        digest.update(text);
        digest.update([0]);
    }
    digest.update([u8::from(taken_in_region)]);
    let (base, suffix_only) = match slug::plan(&wanted, &name) {
        Outcome::Exact(_) => (None, taken_in_region),
        Outcome::Normalized(slug) => (Some(slug.into_boxed_str()), taken_in_region),
        Outcome::NeedsSuffix { base, .. } => (Some(base.into_boxed_str()), true),
    };
    let wanted = wanted.into_boxed_str();
    Ok(Wish { organization_id, wanted, base, suffix_only, digest: digest.finalize().into() })
}

/// A complete operation. Its organizations are in the order of their ids.
#[derive(Debug)]
pub(crate) struct SlugOperation {
    region: String,
    operation_id: Uuid,
    wishes: Vec<Wish>,
    digest: [u8; 32],
}

impl SlugOperation {
    pub(crate) fn key(&self) -> OperationKey<'_> {
        OperationKey { region: &self.region, operation_id: self.operation_id }
    }

    /// SHA-256 over all that was asked for, in whatever order and batches it came.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(crate) fn len(&self) -> i64 {
        // At most a million.
        i64::try_from(self.wishes.len()).unwrap_or(i64::MAX)
    }

    pub(crate) fn organization_ids(&self) -> Vec<i64> {
        self.wishes.iter().map(|wish| wish.organization_id).collect()
    }

    /// The answer: the slugs that were given, one for each organization in the order of their ids.
    pub(crate) fn answers(self, slugs: Vec<Box<str>>) -> Vec<ResolvedSlug> {
        let answer = |(wish, slug): (Wish, Box<str>)| ResolvedSlug {
            organization_id: wish.organization_id,
            wanted_slug: wish.wanted.into_string(),
            slug: slug.into_string(),
        };
        self.wishes.into_iter().zip(slugs).map(answer).collect()
    }
}

/// Who still has no slug. In the first round everybody tries what they want, as far as they can have it; in each later
/// one those that are left try it with a random suffix, longer from round to round, so that it ends.
#[derive(Debug)]
pub(crate) struct Rounds<'a> {
    operation: &'a SlugOperation,
    /// The slug of each organization, empty as long as it has none.
    slugs: Vec<Box<str>>,
    /// The organizations without one, by their place.
    open: Vec<usize>,
    number: usize,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(operation: &'a SlugOperation) -> Self {
        let count = operation.wishes.len();
        Self { operation, slugs: vec![Box::default(); count], open: (0..count).collect(), number: 0 }
    }

    /// The slugs of the next round, in their order, each wanted by one organization only; `None` when everybody has
    /// one. Of several organizations that come to the same slug, the one with the lowest id tries it.
    ///
    /// # Errors
    /// If there were too many rounds.
    pub(crate) fn next(&mut self, ambient: &Ambient) -> Result<Option<Candidates>, DbError> {
        let mut tries = Vec::new();
        while tries.is_empty() && !self.open.is_empty() {
            if self.number == MAX_ROUNDS {
                return Err(DbError::inconsistent("no suffix makes a slug free"));
            }
            tries = self.tries(ambient);
            self.number += 1;
        }
        if tries.is_empty() {
            return Ok(None);
        }
        tries.sort_unstable();
        tries.dedup_by(|later, first| later.0 == first.0);
        let mut candidates = Candidates::default();
        for (slug, index) in tries {
            let wish = &self.operation.wishes[index];
            candidates.organization_ids.push(wish.organization_id);
            candidates.slugs.push(slug);
            candidates.wanted_slugs.push(wish.wanted.to_string());
        }
        Ok(Some(candidates))
    }

    /// What each organization that has no slug tries in this round.
    fn tries(&self, ambient: &Ambient) -> Vec<(String, usize)> {
        let wishes = self.open.iter().map(|index| (*index, &self.operation.wishes[*index]));
        let Some(longer) = self.number.checked_sub(1) else {
            let fit = wishes.filter(|(_, wish)| !wish.suffix_only);
            return fit.map(|(index, wish)| (wish.base().to_owned(), index)).collect();
        };
        let random = |length| ambient.characters(BASE36, length);
        wishes
            .map(|(index, wish)| (slug::with_suffix(wish.base(), slug::FIRST_SUFFIX + longer, random), index))
            .collect()
    }

    /// Says which organizations got what they tried.
    pub(crate) fn won(&mut self, winners: Vec<(i64, String)>) {
        for (organization_id, slug) in winners {
            let wishes = &self.operation.wishes;
            if let Ok(index) = wishes.binary_search_by_key(&organization_id, |wish| wish.organization_id) {
                self.slugs[index] = slug.into_boxed_str();
            }
        }
        let slugs = &self.slugs;
        self.open.retain(|index| slugs[*index].is_empty());
    }

    /// The slugs, one for each organization.
    pub(crate) fn finish(self) -> Vec<Box<str>> {
        self.slugs
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn wanted(organization_id: i64, slug: &str) -> WantedSlug {
        WantedSlug { organization_id, slug: slug.to_owned(), name: String::new(), taken_in_region: false }
    }

    fn operation(batches: Vec<Vec<WantedSlug>>) -> Result<SlugOperation, Error> {
        let mut incoming = Incoming::new("us".to_owned(), Uuid::nil());
        for batch in batches {
            incoming.add(batch)?;
        }
        incoming.complete()
    }

    #[test]
    fn the_digest_is_of_the_content_and_not_of_its_order() {
        let digest = |batches| operation(batches).expect("well formed").digest();
        let one = digest(vec![vec![wanted(1, "a"), wanted(2, "b")]]);
        assert_eq!(one, digest(vec![vec![wanted(2, "b")], vec![wanted(1, "a")]]));
        assert_ne!(one, digest(vec![vec![wanted(1, "b"), wanted(2, "a")]]));
        assert_ne!(one, digest(vec![vec![wanted(1, "a")]]));
        let named = WantedSlug { name: "b".to_owned(), ..wanted(1, "") };
        assert_ne!(digest(vec![vec![named]]), digest(vec![vec![wanted(1, "b")]]));
        let taken = WantedSlug { taken_in_region: true, ..wanted(1, "a") };
        assert_ne!(digest(vec![vec![taken]]), digest(vec![vec![wanted(1, "a")]]));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let field = |error| match error {
            Err(Error::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(operation(vec![vec![wanted(0, "a")]])), "batch.requests[0].organization_id");
        assert_eq!(
            field(operation(vec![vec![wanted(MAX_ID + 1, "a")]])),
            "batch.requests[0].organization_id"
        );
        let long = wanted(2, &"a".repeat(256));
        assert_eq!(field(operation(vec![vec![wanted(1, "a"), long]])), "batch.requests[1].slug");
        assert_eq!(field(operation(vec![vec![wanted(1, "a\0")]])), "batch.requests[0].slug");
        let twice = operation(vec![vec![wanted(1, "a")], vec![wanted(1, "b")]]);
        assert_eq!(field(twice), "batch.requests.organization_id");
        let batch = |first| (first..first + 10_000).map(|id| wanted(id, "a")).collect::<Vec<_>>();
        let mut too_large = batch(1);
        too_large.push(wanted(10_001, "a"));
        assert_eq!(field(operation(vec![too_large])), "batch.requests");
        let too_many = (0..101).map(|number| batch(1 + number * 10_000)).collect();
        assert!(matches!(operation(too_many), Err(Error::TooManySlugs { .. })));
    }

    #[test]
    fn the_first_of_several_tries_the_slug_and_the_others_a_suffix() {
        let ambient = Ambient::fixed(DateTime::UNIX_EPOCH, 1);
        let operation = operation(vec![vec![wanted(3, "acme"), wanted(2, "Acme"), wanted(1, "settings")]])
            .expect("well formed");
        let mut rounds = Rounds::new(&operation);
        let first = rounds.next(&ambient).expect("few rounds").expect("nobody has one");
        assert_eq!(first.organization_ids, [2]);
        assert_eq!(first.slugs, ["acme"]);
        assert_eq!(first.wanted_slugs, ["Acme"]);
        rounds.won(vec![(2, "acme".to_owned())]);
        let second = rounds.next(&ambient).expect("few rounds").expect("two have none");
        assert_eq!(second.organization_ids, [3, 1]);
        assert!(second.slugs.iter().all(|slug| slug.len() == slug.find('-').expect("a suffix") + 3));
        rounds.won(vec![(3, second.slugs[0].clone())]);
        let third = rounds.next(&ambient).expect("few rounds").expect("one has none");
        assert_eq!(third.organization_ids, [1]);
        assert_eq!(third.slugs[0].len(), "settings-xyz".len());
        rounds.won(vec![(1, third.slugs[0].clone())]);
        assert!(rounds.next(&ambient).expect("few rounds").is_none());
        let slugs = rounds.finish();
        assert!(
            slugs[0].starts_with("settings-") && slugs[1].as_ref() == "acme" && slugs[2].starts_with("acme-")
        );
    }

    #[test]
    fn rounds_come_to_an_end_even_if_nobody_ever_wins() {
        let ambient = Ambient::fixed(DateTime::UNIX_EPOCH, 1);
        let operation = operation(vec![vec![wanted(1, "acme")]]).expect("well formed");
        let mut rounds = Rounds::new(&operation);
        let ended = std::iter::from_fn(|| Some(rounds.next(&ambient))).take(100).find_map(Result::err);
        assert!(ended.is_some());
    }
}
