//! The directory: which organization, of which region, has a slug.

pub mod control_state;

use std::collections::{HashMap, HashSet};

use causeway_audit::Subject;
use causeway_proto::{
    limits::{MAX_NAME_BYTES, MAX_NAMES_PER_CALL, MAX_TEXT_BYTES},
    organization_status,
    relocation::v1::OrganizationStatus,
};
use causeway_silo::{
    db::{Db, Readers},
    env::Environment,
    transact,
};

use crate::{
    Error, Page, PageRequest,
    feed::Feeds,
    model::{
        directory::{DirectoryOrganization, ReportedOrganization, ResolvedOrganization, SlugCheck},
        region::MAX_ID,
        reservation::{ReservationType, SlugReason, WantedSlug},
    },
    regions::{self, ids},
    slug::rules::{self as slug, Outcome, SlugForm},
    store, validate,
};

/// An organization that the directory refuses.
#[derive(Debug)]
pub struct Refused {
    /// The id from the report.
    pub organization_id: i64,
    /// Why: it has no confirmed slug, or its id belongs to another region.
    pub error: Error,
}

/// The use cases of the directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) db: Db,
    readers: Readers,
    env: Environment,
    feeds: Feeds,
}

fn at_most_a_batch<T>(field: &str, list: &[T]) -> Result<(), Error> {
    if list.len() > MAX_NAMES_PER_CALL {
        return Err(Error::invalid(field, format!("at most {MAX_NAMES_PER_CALL} in one call")));
    }
    Ok(())
}

/// Whether a slug with a reservation of this type leads to its organization.
fn resolves(kind: ReservationType) -> bool {
    kind != ReservationType::TemporaryRenameAlias
}

impl Directory {
    pub(crate) fn new(db: Db, readers: Readers, env: Environment, feeds: Feeds) -> Self {
        Self { db, readers, env, feeds }
    }

    /// The organization that has a slug, as its primary slug or an alias, without regard to case.
    ///
    /// # Errors
    /// If the slug is empty or far too long, or no organization has it.
    pub async fn resolve(&self, slug: &str) -> Result<ResolvedOrganization, Error> {
        if slug.is_empty() {
            return Err(Error::invalid("slug", "is missing"));
        }
        validate::text(|| "slug".to_owned(), slug, MAX_TEXT_BYTES)?;
        let found = self.known_by(vec![slug.to_ascii_lowercase()]).await?;
        found.into_iter().next().ok_or_else(|| Error::SlugNotFound { slug: slug.to_owned() })
    }

    /// The organizations that have one of these slugs, sorted by slug.
    ///
    /// # Errors
    /// If there are too many slugs.
    pub async fn batch_resolve(&self, slugs: &[String]) -> Result<Vec<ResolvedOrganization>, Error> {
        at_most_a_batch("slugs", slugs)?;
        self.known_by(slugs.iter().map(|slug| slug.to_ascii_lowercase()).collect()).await
    }

    /// Resolves slugs in lowercase. A slug that is reserved but not confirmed leads nowhere yet, because its
    /// organization is not visible.
    async fn known_by(&self, mut slugs: Vec<String>) -> Result<Vec<ResolvedOrganization>, Error> {
        slugs.retain(|slug| slug::is_valid(slug));
        slugs.sort_unstable();
        slugs.dedup();
        let found = self.readers.read(|db| {
            let slugs = slugs.clone();
            async move { store::directory::find(&db, slugs).await }
        });
        let found = found.await?.into_iter();
        let known = found.filter(|(kind, _)| resolves(*kind));
        Ok(known.map(|(_, organization)| organization).collect())
    }

    /// What control would give if one operation reserved these slugs now, for organizations in this order.
    ///
    /// # Errors
    /// If there are too many slugs, or one is far too long.
    pub async fn check(&self, slugs: Vec<String>) -> Result<Vec<SlugCheck>, Error> {
        self.check_all(slugs, Vec::new(), None).await
    }

    /// The same for slugs, and after them for organizations with their full requests. If `region` is given, it also
    /// checks whether the ids of the organizations belong to another region.
    ///
    /// # Errors
    /// If there are too many, a text is far too long, or the region has not registered.
    pub async fn check_all(
        &self,
        slugs: Vec<String>,
        organizations: Vec<WantedSlug>,
        region: Option<&str>,
    ) -> Result<Vec<SlugCheck>, Error> {
        at_most_a_batch("slugs", &slugs)?;
        if slugs.len() + organizations.len() > MAX_NAMES_PER_CALL {
            return Err(Error::invalid(
                "organizations",
                format!("at most {MAX_NAMES_PER_CALL} in one call, together with the slugs"),
            ));
        }
        for (index, slug) in slugs.iter().enumerate() {
            validate::text(|| format!("slugs[{index}]"), slug, MAX_TEXT_BYTES)?;
        }
        for (index, organization) in organizations.iter().enumerate() {
            let field = |name: &str| format!("organizations[{index}].{name}");
            validate::text(|| field("slug"), &organization.slug, MAX_TEXT_BYTES)?;
            validate::text(|| field("name"), &organization.name, MAX_TEXT_BYTES)?;
        }
        let alone =
            |slug| WantedSlug { organization_id: 0, slug, name: String::new(), taken_in_region: false };
        let requests: Vec<WantedSlug> = slugs.into_iter().map(alone).chain(organizations).collect();
        let mut ids_of_others = HashMap::new();
        if let Some(region) = region {
            let region = regions::registered(&self.db, "region", region).await?.name;
            let ids: Vec<i64> = requests.iter().map(|it| it.organization_id).filter(|id| *id > 0).collect();
            ids_of_others = transact!(Error, self.db, |tx| { ids::of_others(tx, &region, &ids).await? })?;
        }
        let plans: Vec<_> = requests.iter().map(|request| slug::plan(&request.slug, &request.name)).collect();
        let mut candidates: Vec<String> = plans
            .iter()
            .filter(|plan| matches!(plan.fit(), SlugForm::Exact | SlugForm::Normalized))
            .map(|plan| plan.base().to_owned())
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        let found = store::directory::find(&self.db, candidates.clone()).await?;
        let owners: HashMap<String, (bool, ResolvedOrganization)> =
            found.into_iter().map(|(kind, owner)| (owner.slug.clone(), (resolves(kind), owner))).collect();
        let in_product = match self.feeds.product_db() {
            Some(_) => store::product_db::resolved(&self.db, candidates).await?,
            None => Vec::new(),
        };
        let in_product: HashMap<String, (bool, ResolvedOrganization)> =
            in_product.into_iter().map(|owner| (owner.slug.clone(), (false, owner))).collect();
        // What the product has reserved for the organization itself is not taken.
        let owner = |request: &WantedSlug, slug: &str| {
            let of_product =
                in_product.get(slug).filter(|(_, it)| it.organization_id != request.organization_id);
            owners.get(slug).or(of_product)
        };
        let mut assigned = HashSet::new();
        let mut is_free = vec![false; plans.len()];
        // In the order of a bulk creation: first the slugs that are valid unchanged, then the normalized ones.
        for round in [SlugForm::Exact, SlugForm::Normalized] {
            for ((plan, request), is_free) in plans.iter().zip(&requests).zip(&mut is_free) {
                if plan.fit() == round && !request.taken_in_region && owner(request, plan.base()).is_none() {
                    *is_free = assigned.insert(plan.base());
                }
            }
        }
        let check = |((plan, request), is_free): ((&Outcome<'_>, &WantedSlug), bool)| {
            let reason = match plan.fit() {
                SlugForm::Exact if is_free => SlugReason::Free,
                SlugForm::Normalized if is_free => SlugReason::Normalized,
                SlugForm::Exact | SlugForm::Normalized => SlugReason::Taken,
                SlugForm::ReservedWord => SlugReason::ReservedWord,
                SlugForm::Invalid => SlugReason::Invalid,
            };
            let candidate = plan.base().to_owned();
            let taken_by = owner(request, plan.base()).filter(|_| reason == SlugReason::Taken);
            SlugCheck {
                slug: request.slug.clone(),
                reason,
                would_become: if is_free { candidate.clone() } else { slug::preview(&candidate) },
                taken_by: taken_by.map(|(_, owner)| owner.clone()),
                owner_is_public: taken_by.is_some_and(|(resolves, _)| *resolves),
                id_taken_by: ids_of_others.get(&request.organization_id).cloned(),
                candidate,
            }
        };
        Ok(plans.iter().zip(&requests).zip(is_free).map(check).collect())
    }

    /// Stores what a region reports about its organizations now, and returns those that it refuses: organizations for
    /// which the region has no confirmed slug, and those whose ids belong to another region. It stores all others, but
    /// nothing about an organization that a report with a larger `number` was about; 0 for no number.
    ///
    /// # Errors
    /// If the region has not registered or is suspended, there are too many organizations, or one of them is malformed
    /// or a duplicate.
    pub async fn report(
        &self,
        region: &str,
        number: i64,
        organizations: Vec<ReportedOrganization>,
        restore_product: bool,
    ) -> Result<Vec<Refused>, Error> {
        let subject = causeway_audit::about(Subject::region(region));
        at_most_a_batch("organizations", &organizations)?;
        if number < 0 {
            return Err(Error::invalid("number".to_owned(), "must not be negative"));
        }
        let mut ids = HashSet::new();
        for (index, organization) in organizations.iter().enumerate() {
            let field = |name| format!("organizations[{index}].{name}");
            if !(1..=MAX_ID).contains(&organization.organization_id) {
                return Err(Error::invalid(field("organization_id"), "must be above 0 and below 2^53"));
            }
            if !ids.insert(organization.organization_id) {
                return Err(Error::invalid(field("organization_id"), "stands twice in the call"));
            }
            validate::text(|| field("slug"), &organization.slug, MAX_TEXT_BYTES)?;
            validate::text(|| field("name"), &organization.name, MAX_NAME_BYTES)?;
            if organization_status::from_stored(organization.status) == OrganizationStatus::Unspecified {
                return Err(Error::invalid(field("status"), "must be a status that the contract knows"));
            }
        }
        let region = regions::writing(&self.db, "region", region).await?.name;
        let now = self.env.now();
        // This has the lock of the feed, so nobody releases one of the slugs meanwhile.
        transact!(Error, self.feeds.of(&region), |feed| {
            let written = store::directory::upsert(feed, number, &organizations, now).await?;
            if !written.is_empty() {
                causeway_audit::append(feed, &subject, now).await?;
            }
            let ids = organizations.iter().map(|it| it.organization_id);
            let unwritten: Vec<i64> = ids.filter(|id| !written.contains(id)).collect();
            let others = ids::of_others(feed, &region, &unwritten).await?;
            let why = |organization_id| match others.get(&organization_id) {
                Some(other) => Error::OrganizationIdTaken { organization_id, region: other.clone() },
                None => Error::OrganizationNotReserved { organization_id },
            };
            let mut errors: HashMap<i64, Error> = unwritten.into_iter().map(|id| (id, why(id))).collect();
            if restore_product && let Some(product_db) = feed.product_db() {
                let written: Vec<i64> = written.into_iter().collect();
                let left = product_db.restore(feed, &written, now).await?;
                errors.extend(left.into_iter().map(|taken| {
                    let store::product_state::TakenInProduct { organization_id, slug, owner, region } = taken;
                    (organization_id, Error::SlugTakenInProduct { slug, owner, region })
                }));
            }
            let refused = |organization_id| {
                let error = errors.remove(&organization_id)?;
                Some(Refused { organization_id, error })
            };
            organizations.iter().map(|it| it.organization_id).filter_map(refused).collect()
        })
    }

    /// The directory entry of an organization.
    ///
    /// # Errors
    /// If the id is not that of an organization, or no region has reported one with a confirmed slug.
    pub async fn get(&self, organization_id: i64) -> Result<DirectoryOrganization, Error> {
        if !(1..=MAX_ID).contains(&organization_id) {
            return Err(Error::invalid("organization_id", format!("must be between 1 and {MAX_ID}")));
        }
        let found = store::directory::get(&self.db, organization_id).await?;
        found.ok_or(Error::OrganizationNotFound { organization_id })
    }

    /// A page of organizations in the directory, sorted by id, of one region or all.
    ///
    /// # Errors
    /// If the region has not registered.
    pub async fn list(
        &self,
        region: Option<&str>,
        request: &PageRequest<i64>,
    ) -> Result<Page<DirectoryOrganization, i64>, Error> {
        if let Some(region) = region {
            regions::registered(&self.db, "region", region).await?;
        }
        let rows = self.readers.read(|db| async move {
            store::directory::list(&db, region, request.after, request.rows()).await
        });
        let rows = rows.await?;
        Ok(Page::cut(rows, request, |organization| organization.organization_id))
    }
}
