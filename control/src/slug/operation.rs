//! One bulk creation: the requests as they arrive, and which organization gets which slug, round by round.

use std::collections::{BTreeMap, HashMap};

use causeway_proto::limits::{MAX_BATCH, MAX_ORGANIZATIONS, MAX_TEXT_BYTES};
use causeway_silo::{
    db::DbError,
    env::{BASE36, Environment},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::rules::{self as slug, SlugForm};
use crate::{
    Error,
    model::{
        region::MAX_ID,
        reservation::{Candidates, Owner, ResolvedSlug, SlugReason, WantedSlug},
    },
    store::slug_operation::OperationKey,
    validate,
};

/// The rounds before the first suffix: one for slugs that are valid unchanged, one for normalized slugs.
const ROUNDS_WITHOUT_SUFFIX: usize = 2;
/// By this round suffixes are so long that a collision can only be a defect.
const MAX_ROUNDS: usize = ROUNDS_WITHOUT_SUFFIX + 23;

/// An operation whose organizations are still arriving. It stores only what is needed to pick a slug for each of them.
#[derive(Debug)]
pub struct Incoming {
    region: String,
    operation_id: Uuid,
    requests: Vec<SlugRequest>,
}

/// What one organization wants.
#[derive(Debug)]
struct SlugRequest {
    organization_id: i64,
    wanted_slug: Box<str>,
    /// Its slug without a suffix; `None` if that is `wanted_slug`, unchanged.
    base: Option<Box<str>>,
    fit: SlugForm,
    /// Whether an organization of the region that control does not know already has the base.
    taken_in_region: bool,
    /// SHA-256 over everything that was sent about the organization.
    digest: [u8; 32],
}

impl SlugRequest {
    fn base(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.wanted_slug)
    }

    /// Whether it tries its base, without a suffix, in this round.
    fn tries_base(&self, round: usize) -> bool {
        let own_round = match self.fit {
            SlugForm::Exact => 0,
            SlugForm::Normalized => 1,
            SlugForm::ReservedWord | SlugForm::Invalid => return false,
        };
        own_round == round && !self.taken_in_region
    }

    /// Why it got `slug`.
    fn reason(&self, slug: &str) -> SlugReason {
        match self.fit {
            SlugForm::ReservedWord => SlugReason::ReservedWord,
            SlugForm::Invalid => SlugReason::Invalid,
            SlugForm::Exact | SlugForm::Normalized if slug != self.base() => SlugReason::Taken,
            SlugForm::Exact => SlugReason::Free,
            SlugForm::Normalized => SlugReason::Normalized,
        }
    }
}

/// The slug that one organization got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChosenSlug {
    /// Empty as long as the organization has no slug.
    pub(crate) slug: Box<str>,
    /// The owner of the slug that it could not get, if control knows one.
    pub(crate) taken_by: Option<Box<Owner>>,
}

impl Incoming {
    pub(crate) fn new(region: String, operation_id: Uuid) -> Self {
        Self { region, operation_id, requests: Vec::new() }
    }

    /// Adds a batch of organizations.
    ///
    /// # Errors
    /// If the batch or the operation is too large, or an organization is malformed.
    pub fn add(&mut self, batch: Vec<WantedSlug>) -> Result<(), Error> {
        if batch.len() > MAX_BATCH {
            return Err(Error::invalid("batch.requests", format!("at most {MAX_BATCH} in one batch")));
        }
        if self.requests.len() + batch.len() > MAX_ORGANIZATIONS {
            return Err(Error::TooManySlugs { most: MAX_ORGANIZATIONS });
        }
        // Reserve exactly: with a million requests, doubling could leave as much memory unused.
        self.requests.reserve_exact(batch.len());
        for (index, request) in batch.into_iter().enumerate() {
            self.requests.push(slug_request(index, request)?);
        }
        Ok(())
    }

    /// Sorts the organizations by id, refuses duplicates, and computes the digest of the operation.
    pub(crate) fn complete(self) -> Result<SlugOperation, Error> {
        let Self { region, operation_id, mut requests } = self;
        requests.sort_unstable_by_key(|request| request.organization_id);
        let twice = requests.windows(2).find(|pair| pair[0].organization_id == pair[1].organization_id);
        if let Some([request, _]) = twice {
            return Err(Error::invalid(
                "batch.requests.organization_id",
                format!("organization {} stands twice in the operation", request.organization_id),
            ));
        }
        let mut digest = Sha256::new();
        for request in &requests {
            digest.update(request.digest);
        }
        Ok(SlugOperation { region, operation_id, requests, digest: digest.finalize().into() })
    }
}

fn slug_request(index: usize, request: WantedSlug) -> Result<SlugRequest, Error> {
    let field = |name| format!("batch.requests[{index}].{name}");
    let WantedSlug { organization_id, slug: wanted_slug, name, taken_in_region } = request;
    if !(1..=MAX_ID).contains(&organization_id) {
        return Err(Error::invalid(field("organization_id"), "must be above 0 and below 2^53"));
    }
    validate::text(|| field("slug"), &wanted_slug, MAX_TEXT_BYTES)?;
    validate::text(|| field("name"), &name, MAX_TEXT_BYTES)?;
    let mut digest = Sha256::new();
    digest.update(organization_id.to_be_bytes());
    // No text contains a zero byte, so a zero byte can end it.
    for text in [&wanted_slug, &name] {
        digest.update(text);
        digest.update([0]);
    }
    digest.update([u8::from(taken_in_region)]);
    let plan = slug::plan(&wanted_slug, &name);
    let fit = plan.fit();
    let base = (fit != SlugForm::Exact).then(|| plan.base().into());
    let wanted_slug = wanted_slug.into_boxed_str();
    Ok(SlugRequest {
        organization_id,
        wanted_slug,
        base,
        fit,
        taken_in_region,
        digest: digest.finalize().into(),
    })
}

/// A complete operation. Its organizations are sorted by id.
#[derive(Debug)]
pub(crate) struct SlugOperation {
    region: String,
    operation_id: Uuid,
    requests: Vec<SlugRequest>,
    digest: [u8; 32],
}

impl SlugOperation {
    pub(crate) fn key(&self) -> OperationKey<'_> {
        OperationKey { region: &self.region, operation_id: self.operation_id }
    }

    /// SHA-256 over the whole request. The order of organizations and batches does not change it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How many organizations it has.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn organization_ids(&self) -> Vec<i64> {
        self.requests.iter().map(|request| request.organization_id).collect()
    }

    /// How many organizations got their slug for each reason.
    pub(crate) fn reasons(&self, chosen: &[ChosenSlug]) -> BTreeMap<SlugReason, u64> {
        let mut counts = BTreeMap::new();
        for (request, chosen) in self.requests.iter().zip(chosen) {
            *counts.entry(request.reason(&chosen.slug)).or_default() += 1;
        }
        counts
    }

    /// The slugs that organizations could not get because others have them. Each slug once.
    pub(crate) fn taken(&self, chosen: &[ChosenSlug]) -> Vec<String> {
        let mut taken: Vec<String> = self
            .requests
            .iter()
            .zip(chosen)
            .filter(|(request, chosen)| request.reason(&chosen.slug) == SlugReason::Taken)
            .map(|(request, _)| request.base().to_owned())
            .collect();
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    /// Records who has the slugs that were [`taken`](Self::taken).
    pub(crate) fn note_owners(&self, chosen: &mut [ChosenSlug], owners: &HashMap<String, Owner>) {
        for (request, chosen) in self.requests.iter().zip(chosen) {
            if request.reason(&chosen.slug) == SlugReason::Taken {
                chosen.taken_by = owners.get(request.base()).cloned().map(Box::new);
            }
        }
    }

    /// The answer as the database stores it: JSON, in parts of [`ANSWER_PART`] organizations. A slug that was chosen as
    /// wanted, as nearly all are, is stored as `null`.
    pub(crate) fn encode_answer(&self, chosen: &[ChosenSlug]) -> Result<Vec<String>, DbError> {
        let stored = |(request, chosen): (&SlugRequest, &ChosenSlug)| {
            let is_unchanged = chosen.slug == request.wanted_slug;
            let owner = chosen.taken_by.as_deref();
            (!is_unchanged).then(|| {
                StoredAnswer(chosen.slug.clone(), owner.map(|it| (it.region.clone(), it.organization_id)))
            })
        };
        let all: Vec<Option<StoredAnswer>> = self.requests.iter().zip(chosen).map(stored).collect();
        let text = |part: &[Option<StoredAnswer>]| {
            serde_json::to_string(part).map_err(|_| DbError::inconsistent("an answer cannot be stored"))
        };
        all.chunks(ANSWER_PART).map(text).collect()
    }

    /// Restores the chosen slugs from a stored answer, see [`encode_answer`](Self::encode_answer). `None` if it is not complete.
    pub(crate) fn decode_answer(&self, parts: &[String]) -> Result<Option<Vec<ChosenSlug>>, DbError> {
        let mut stored: Vec<Option<StoredAnswer>> = Vec::with_capacity(self.requests.len());
        for part in parts {
            let part: Vec<Option<StoredAnswer>> = serde_json::from_str(part)
                .map_err(|_| DbError::inconsistent("the answer of a slug operation cannot be read"))?;
            stored.extend(part);
        }
        if stored.len() != self.requests.len() {
            return Ok(None);
        }
        let restored = |(request, stored): (&SlugRequest, Option<StoredAnswer>)| {
            let Some(StoredAnswer(slug, owner)) = stored else {
                return ChosenSlug { slug: request.wanted_slug.clone(), taken_by: None };
            };
            let owner = owner.map(|(region, organization_id)| Box::new(Owner { region, organization_id }));
            ChosenSlug { slug, taken_by: owner }
        };
        Ok(Some(self.requests.iter().zip(stored).map(restored).collect()))
    }

    /// The answer: one slug for each organization, sorted by organization id.
    pub(crate) fn answers(self, chosen: Vec<ChosenSlug>) -> Vec<ResolvedSlug> {
        let answer = |(request, chosen): (SlugRequest, ChosenSlug)| ResolvedSlug {
            organization_id: request.organization_id,
            reason: request.reason(&chosen.slug),
            candidate: request.base().to_owned(),
            wanted_slug: request.wanted_slug.into_string(),
            slug: chosen.slug.into_string(),
            taken_by: chosen.taken_by.map(|owner| *owner),
        };
        self.requests.into_iter().zip(chosen).map(answer).collect()
    }
}

/// The number of organizations in one stored part of an answer.
const ANSWER_PART: usize = 10_000;

/// The stored answer for one organization: its slug, and region and id of the owner of the slug that it could not get.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredAnswer(Box<str>, Option<(String, i64)>);

/// Picks slugs in rounds. In the first round, all organizations whose wanted slug is valid unchanged try it. In the
/// second, those whose slug had to be normalized try that, so that none of them takes a slug that another one wants
/// unchanged. In each later round, those that are left try theirs with a random suffix. It gets longer each round, so
/// the rounds end.
#[derive(Debug)]
pub(crate) struct Rounds<'a> {
    operation: &'a SlugOperation,
    /// The slug of each organization; empty as long as it has none.
    chosen: Vec<ChosenSlug>,
    /// The indexes of the organizations without a slug.
    open: Vec<usize>,
    number: usize,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(operation: &'a SlugOperation) -> Self {
        let count = operation.requests.len();
        Self { operation, chosen: vec![ChosenSlug::default(); count], open: (0..count).collect(), number: 0 }
    }

    /// The candidates of the next round, sorted by slug, each slug for one organization only; `None` when every
    /// organization has a slug. If several organizations come to the same slug, the one with the lowest id tries it.
    ///
    /// # Errors
    /// If there were too many rounds.
    pub(crate) fn next(&mut self, env: &Environment) -> Result<Option<Candidates>, DbError> {
        let mut tries = Vec::new();
        while tries.is_empty() && !self.open.is_empty() {
            if self.number == MAX_ROUNDS {
                return Err(DbError::inconsistent("no suffix makes a slug free"));
            }
            tries = self.tries(env);
            self.number += 1;
        }
        if tries.is_empty() {
            return Ok(None);
        }
        tries.sort_unstable();
        tries.dedup_by(|later, first| later.0 == first.0);
        let mut candidates = Candidates::default();
        for (slug, index) in tries {
            let request = &self.operation.requests[index];
            candidates.organization_ids.push(request.organization_id);
            candidates.slugs.push(slug);
            candidates.wanted_slugs.push(request.wanted_slug.to_string());
        }
        Ok(Some(candidates))
    }

    /// The slugs to try in this round, each with the index of the organization that tries it.
    fn tries(&self, env: &Environment) -> Vec<(String, usize)> {
        let requests = self.open.iter().map(|index| (*index, &self.operation.requests[*index]));
        let Some(longer) = self.number.checked_sub(ROUNDS_WITHOUT_SUFFIX) else {
            let trying = requests.filter(|(_, request)| request.tries_base(self.number));
            return trying.map(|(index, request)| (request.base().to_owned(), index)).collect();
        };
        let random = |length| env.characters(BASE36, length);
        requests
            .map(|(index, request)| {
                (slug::with_suffix(request.base(), slug::FIRST_SUFFIX + longer, random), index)
            })
            .collect()
    }

    /// Records which organizations got the slug that they tried.
    pub(crate) fn record_winners(&mut self, winners: Vec<(i64, String)>) {
        for (organization_id, slug) in winners {
            let requests = &self.operation.requests;
            if let Ok(index) =
                requests.binary_search_by_key(&organization_id, |request| request.organization_id)
            {
                self.chosen[index].slug = slug.into_boxed_str();
            }
        }
        let chosen = &self.chosen;
        self.open.retain(|index| chosen[*index].slug.is_empty());
    }

    /// How many rounds with a suffix there were.
    pub(crate) fn suffix_rounds(&self) -> u32 {
        u32::try_from(self.number.saturating_sub(ROUNDS_WITHOUT_SUFFIX)).unwrap_or(u32::MAX)
    }

    /// The slug of each organization, in the order of their ids.
    pub(crate) fn finish(self) -> Vec<ChosenSlug> {
        self.chosen
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn wanted_slug(organization_id: i64, slug: &str) -> WantedSlug {
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
        let one = digest(vec![vec![wanted_slug(1, "a"), wanted_slug(2, "b")]]);
        assert_eq!(one, digest(vec![vec![wanted_slug(2, "b")], vec![wanted_slug(1, "a")]]));
        assert_ne!(one, digest(vec![vec![wanted_slug(1, "b"), wanted_slug(2, "a")]]));
        assert_ne!(one, digest(vec![vec![wanted_slug(1, "a")]]));
        let named = WantedSlug { name: "b".to_owned(), ..wanted_slug(1, "") };
        assert_ne!(digest(vec![vec![named]]), digest(vec![vec![wanted_slug(1, "b")]]));
        let taken = WantedSlug { taken_in_region: true, ..wanted_slug(1, "a") };
        assert_ne!(digest(vec![vec![taken]]), digest(vec![vec![wanted_slug(1, "a")]]));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let field = |error| match error {
            Err(Error::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(operation(vec![vec![wanted_slug(0, "a")]])), "batch.requests[0].organization_id");
        assert_eq!(
            field(operation(vec![vec![wanted_slug(MAX_ID + 1, "a")]])),
            "batch.requests[0].organization_id"
        );
        let long = wanted_slug(2, &"a".repeat(256));
        assert_eq!(field(operation(vec![vec![wanted_slug(1, "a"), long]])), "batch.requests[1].slug");
        assert_eq!(field(operation(vec![vec![wanted_slug(1, "a\0")]])), "batch.requests[0].slug");
        let twice = operation(vec![vec![wanted_slug(1, "a")], vec![wanted_slug(1, "b")]]);
        assert_eq!(field(twice), "batch.requests.organization_id");
        let batch = |first| (first..first + 10_000).map(|id| wanted_slug(id, "a")).collect::<Vec<_>>();
        let mut too_large = batch(1);
        too_large.push(wanted_slug(10_001, "a"));
        assert_eq!(field(operation(vec![too_large])), "batch.requests");
        let too_many = (0..101).map(|number| batch(1 + number * 10_000)).collect();
        assert!(matches!(operation(too_many), Err(Error::TooManySlugs { .. })));
    }

    #[test]
    fn the_first_of_several_tries_the_slug_and_the_others_a_suffix() {
        let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
        let requests = [(4, "acme"), (3, "acme"), (2, "Acme"), (1, "settings")];
        let batch = requests.map(|(id, slug)| wanted_slug(id, slug)).to_vec();
        let operation = operation(vec![batch]).expect("well formed");
        let mut rounds = Rounds::new(&operation);
        let first = rounds.next(&env).expect("few rounds").expect("nobody has one");
        assert_eq!(first.organization_ids, [3]);
        assert_eq!(first.slugs, ["acme"]);
        rounds.record_winners(vec![(3, "acme".to_owned())]);
        let normalized = rounds.next(&env).expect("few rounds").expect("three have none");
        assert_eq!(
            (normalized.organization_ids.as_slice(), normalized.slugs.as_slice()),
            (&[2][..], &["acme".to_owned()][..])
        );
        assert_eq!(normalized.wanted_slugs, ["Acme"]);
        rounds.record_winners(vec![]);
        let second = rounds.next(&env).expect("few rounds").expect("three have none");
        let mut trying = second.organization_ids.clone();
        trying.sort_unstable();
        assert_eq!(trying, [1, 2, 4]);
        assert!(second.slugs.iter().all(|slug| slug.len() == slug.find('-').expect("a suffix") + 3));
        rounds.record_winners(vec![(2, "acme-x1".to_owned()), (4, "acme-x2".to_owned())]);
        let third = rounds.next(&env).expect("few rounds").expect("one has none");
        assert_eq!(third.organization_ids, [1]);
        assert_eq!(third.slugs[0].len(), "settings-xyz".len());
        rounds.record_winners(vec![(1, third.slugs[0].clone())]);
        assert!(rounds.next(&env).expect("few rounds").is_none());
        assert_eq!(rounds.suffix_rounds(), 2);
        let slugs: Vec<Box<str>> = rounds.finish().into_iter().map(|chosen| chosen.slug).collect();
        assert!(slugs[0].starts_with("settings-"), "{slugs:?}");
        assert_eq!(
            slugs.iter().skip(1).map(AsRef::as_ref).collect::<Vec<_>>(),
            ["acme-x1", "acme", "acme-x2"]
        );
    }

    #[test]
    fn an_answer_that_was_kept_is_the_same_answer() {
        let operation = || {
            let twenty_thousand = (10..20_010).map(|id| wanted_slug(id, &format!("free-{id}")));
            let others = [
                wanted_slug(1, "acme"),
                wanted_slug(2, "Acme"),
                wanted_slug(3, "settings"),
                wanted_slug(4, "7"),
            ];
            let batches: Vec<WantedSlug> = others.into_iter().chain(twenty_thousand).collect();
            operation(batches.chunks(MAX_BATCH).map(<[_]>::to_vec).collect()).expect("well formed")
        };
        let owner = Owner { region: "de".to_owned(), organization_id: MAX_ID };
        let mut chosen = vec![ChosenSlug::default(); 20_004];
        for (chosen, request) in chosen.iter_mut().zip(&operation().requests) {
            chosen.slug.clone_from(&request.wanted_slug);
        }
        chosen[0] = ChosenSlug { slug: "acme-x7".into(), taken_by: Some(Box::new(owner.clone())) };
        chosen[1].slug = "acme-y8".into();
        chosen[2].slug = "settings-z9".into();
        chosen[3].slug = "7-a0".into();
        let parts = operation().encode_answer(&chosen).expect("stored");
        assert_eq!(parts.len(), 3);
        assert!(parts[1].len() < 60_000, "two characters and a comma or so for each");
        let again = operation().decode_answer(&parts).expect("readable").expect("complete");
        assert_eq!(again, chosen);
        assert_eq!(operation().decode_answer(&parts[..2]).expect("readable"), None);
        let answers = operation().answers(again);
        let reasons: Vec<_> = answers.iter().take(5).map(|answer| answer.reason).collect();
        use SlugReason::{Free, Invalid, ReservedWord, Taken};
        assert_eq!(reasons, [Taken, Taken, ReservedWord, Invalid, Free]);
        assert_eq!(answers[0].taken_by, Some(owner));
        assert_eq!((answers[1].candidate.as_str(), &answers[1].taken_by), ("acme", &None));
    }

    #[test]
    fn rounds_come_to_an_end_even_if_nobody_ever_wins() {
        let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
        let operation = operation(vec![vec![wanted_slug(1, "acme")]]).expect("well formed");
        let mut rounds = Rounds::new(&operation);
        let ended = std::iter::from_fn(|| Some(rounds.next(&env))).take(100).find_map(Result::err);
        assert!(ended.is_some());
    }
}
