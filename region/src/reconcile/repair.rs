//! Repairs differences. If control refuses a repair, the reason is reported with the difference. A transient error ends
//! the comparison, which is then made again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use causeway_audit::Subject;
use causeway_proto::control::v1::{
    OrganizationSlugRequest, OrganizationSlugRequestBatch, ReportedOrganization, SlugCheck, SlugVerdict,
};
use causeway_proto::limits::MAX_SLUG;
use causeway_silo::transact;

use super::{
    Mode, Reconciler,
    difference::{DO_REPAIR, Difference, Observation, Repair},
    observe::is_left,
};
use crate::{
    error::Error,
    store::{
        organization::{self, constraint},
        product_db::ProductDb,
        reconciliation::{self, Replaced},
    },
};

/// How many rounds of repairs there are: a repair may reveal another difference to repair, e.g. an outdated directory
/// entry.
const ROUNDS: usize = 3;
/// How often slugs are requested, each time without those that another organization was given meanwhile.
const ATTEMPTS: usize = 3;

/// How many rows one transaction announces to the product's workers.
const ANNOUNCED: usize = 5_000;

/// `None` if control did it; the reason if control refused. Other errors are returned.
fn done<T>(outcome: Result<T, Error>) -> Result<Option<String>, Error> {
    match outcome {
        Ok(_) => Ok(None),
        Err(error) => refusal(error).map(Some),
    }
}

/// The reason if control refused. Other errors are returned.
fn refusal(error: Error) -> Result<String, Error> {
    match error {
        error @ Error::Control(_) if !error.is_transient() => Ok(error.to_string()),
        error => Err(error),
    }
}

/// The slug of an organization that is to be reserved.
fn slug_of(difference: &Difference) -> Result<&str, Error> {
    difference.slug.as_deref().ok_or_else(|| {
        let id = difference.organization_id;
        Error::Internal(format!("the slug of organization {id} is to be reserved, and it has none"))
    })
}

/// Notes with differences why they are not repaired.
fn refused<'a>(differences: impl IntoIterator<Item = &'a mut Difference>, why: &str) {
    for difference in differences {
        difference.remedy = format!("it cannot be repaired: {why}");
        difference.repair = None;
    }
}

/// Organizations as they were read before a repair.
struct Seen {
    organizations: BTreeMap<i64, Observation>,
    /// The number of the reports about them, taken before they were read.
    report_number: i64,
}

impl Reconciler {
    /// Repairs those of the differences that the mode allows, and returns all differences. `report_number` was
    /// taken before they were read.
    pub(super) async fn repair_and_collect(
        &self,
        mode: Mode,
        mut found: Vec<(i64, Observation)>,
        mut report_number: i64,
    ) -> Result<Vec<Difference>, Error> {
        let mut all: Vec<Difference> = Vec::new();
        for _ in 0..ROUNDS {
            let known: BTreeSet<_> = all.iter().map(|it| (it.organization_id, it.kind)).collect();
            let mut new: Vec<Difference> = found
                .iter()
                .flat_map(|(id, seen)| seen.differences(*id))
                .filter(|it| !known.contains(&(it.organization_id, it.kind)))
                .collect();
            self.advise(&mut new).await?;
            let (mut repairing, rest): (Vec<_>, Vec<_>) = new.into_iter().partition(|it| match mode {
                Mode::Check => false,
                Mode::SafeRepairs => it.repair.as_ref().is_some_and(Repair::is_safe),
                Mode::Repair => it.repair.is_some(),
            });
            all.extend(rest);
            if repairing.is_empty() {
                break;
            }
            let seen = Seen { organizations: found.into_iter().collect(), report_number };
            self.repair(&mut repairing, &seen).await?;
            let (mut tried, rest): (Vec<_>, Vec<_>) =
                repairing.into_iter().partition(|it| it.repair.is_some());
            all.extend(rest);
            report_number = self.context().next_report_number().await?;
            let left = self.observe_again(&tried).await?;
            for difference in &mut tried {
                // Whether the product's workers do it shows later.
                let is_announced = difference.repair == Some(Repair::Announce);
                difference.repaired = !is_announced && !is_left(difference, &left);
                difference.remedy = if difference.repaired {
                    String::new()
                } else if is_announced {
                    "it was announced to the product's workers; if a later comparison finds it again, check that they run \
                     and that the product calls this region as control does"
                        .to_owned()
                } else {
                    "its repair has not shown yet; compare again later".to_owned()
                };
            }
            all.extend(tried);
            found = left.into_iter().collect();
        }
        all.sort_by_key(|it| (it.organization_id, it.kind));
        Ok(all)
    }

    /// Notes which differences cannot be repaired, and why.
    async fn advise(&self, differences: &mut [Difference]) -> Result<(), Error> {
        let context = self.context();
        let mut asking = Vec::new();
        for difference in of(differences, &Repair::Reserve) {
            if slug_of(difference)?.len() > MAX_SLUG {
                refused([difference], "its slug is not a valid one; give it another one in the region");
            } else {
                asking.push(difference);
            }
        }
        if !asking.is_empty() {
            let checks = context.ask(context.control.check_slugs(None, requests(&asking)?)).await?;
            if checks.len() != asking.len() {
                return Err(Error::Internal("control did not answer for every slug".to_owned()));
            }
            for (difference, check) in asking.into_iter().zip(checks) {
                if !check.id_taken_by_region.is_empty() {
                    let why = format!(
                        "its id belongs to region {}: export it, import it again (which gives it another id), and delete \
                         the old one",
                        check.id_taken_by_region
                    );
                    refused([difference], &why);
                } else if check.verdict() == SlugVerdict::Taken && check.candidate.is_empty() {
                    difference.repair = Some(Repair::ReserveOther);
                    let why = why_not_free(&check);
                    difference.remedy = format!(
                        "{why}; or let it be `{}`, with a random suffix: {DO_REPAIR}",
                        check.would_become
                    );
                } else if check.verdict() != SlugVerdict::Free {
                    refused([difference], &why_not_free(&check));
                }
            }
        }
        let wanted = of(differences, &Repair::TakeSlug).filter_map(|it| it.control_slug.clone()).collect();
        let owners = organization::by_slugs(&context.db, wanted).await?;
        for difference in of(differences, &Repair::TakeSlug) {
            let owner = difference.control_slug.as_ref().and_then(|slug| owners.get(slug));
            if let Some(owner) = owner {
                let why =
                    format!("organization {owner} of the region has that slug; give it another one first");
                refused([difference], &why);
            }
        }
        Ok(())
    }

    async fn repair(&self, all: &mut [Difference], seen: &Seen) -> Result<(), Error> {
        // Most repairs are calls to control, so the row comes before the first of them.
        let context = self.context();
        transact!(Error, context.db, |tx| {
            causeway_audit::append(tx, &Subject::region(&context.region), context.env.now()).await?;
        })?;
        self.end_operations(all).await?;
        self.reserve(all, seen).await?;
        self.reserve_others(all).await?;
        self.take_slugs(all).await?;
        self.forget(all).await?;
        self.report(all, seen).await?;
        self.restore_reservations(all, seen).await?;
        self.announce(all).await?;
        if of(all, &Repair::Snapshot).next().is_some() {
            self.follower().start_over().await?;
            self.context().env.failpoint("region.reconcile.replica_discarded").await?;
        }
        Ok(())
    }

    /// Confirms or releases the operations of temporary reservations that nobody works on. There is one for each
    /// import.
    async fn end_operations(&self, all: &mut [Difference]) -> Result<(), Error> {
        let context = self.context();
        let operations: BTreeSet<_> = all
            .iter()
            .filter_map(|difference| match difference.repair {
                // Confirmed before anything is released, because an operation may have organizations of both kinds.
                Some(Repair::Confirm(operation)) => Some((false, operation)),
                Some(Repair::Release(operation)) => Some((true, operation)),
                _ => None,
            })
            .collect();
        let confirmed: BTreeSet<_> =
            operations.iter().filter(|(release, _)| !release).map(|(_, operation)| *operation).collect();
        for (release, operation) in operations {
            let why = if !release {
                done(context.ask(context.control.confirm_slugs(operation)).await)?
            } else if confirmed.contains(&operation) {
                // What is left of the operation is a primary reservation by now, which is another difference.
                None
            } else {
                done(context.ask(context.control.release_slugs(operation)).await)?
            };
            context.env.failpoint("region.reconcile.operation_ended").await?;
            if let Some(why) = why {
                let ends = if release { Repair::Release(operation) } else { Repair::Confirm(operation) };
                refused(of(all, &ends), &why);
            }
        }
        Ok(())
    }

    /// Reserves the slugs that organizations have, if control can give them unchanged.
    async fn reserve(&self, all: &mut [Difference], seen: &Seen) -> Result<(), Error> {
        let context = self.context();
        let mut asking: Vec<&mut Difference> = of(all, &Repair::Reserve).collect();
        for _ in 0..ATTEMPTS {
            if asking.is_empty() {
                return Ok(());
            }
            let operation = context.env.uuid();
            let control = &context.control;
            let batch = OrganizationSlugRequestBatch { requests: requests(&asking)? };
            let answer =
                context.ask(control.bulk_create_organization_slug_reservations(operation, vec![batch])).await;
            context.env.failpoint("region.reconcile.reserved").await?;
            let given: HashMap<i64, String> = match answer {
                Ok(slugs) => slugs.into_iter().map(|slug| (slug.organization_id, slug.slug)).collect(),
                Err(error) => {
                    let why = refusal(error)?;
                    refused(asking, &why);
                    return Ok(());
                }
            };
            let (as_they_are, others): (Vec<_>, Vec<_>) =
                asking.into_iter().partition(|it| given.get(&it.organization_id) == it.slug.as_ref());
            if others.is_empty() {
                let why = done(context.ask(control.confirm_slugs(operation)).await)?;
                context.env.failpoint("region.reconcile.confirmed").await?;
                if let Some(why) = why {
                    refused(as_they_are, &why);
                    return Ok(());
                }
                return self.report_these(as_they_are, false, seen).await;
            }
            // Another organization was faster. Nothing of this answer is used.
            done(context.ask(control.release_slugs(operation)).await)?;
            refused(others, "somebody else was given its slug just now; give it another one in the region");
            asking = as_they_are;
        }
        refused(asking, "slugs of other organizations were taken again and again meanwhile");
        Ok(())
    }

    /// Reserves slugs like those that organizations have. The next round of repairs finds that they differ, and gives them
    /// to the organizations.
    async fn reserve_others(&self, all: &mut [Difference]) -> Result<(), Error> {
        let context = self.context();
        let asking: Vec<&mut Difference> = of(all, &Repair::ReserveOther).collect();
        if asking.is_empty() {
            return Ok(());
        }
        let operation = context.env.uuid();
        let batch = OrganizationSlugRequestBatch { requests: requests(&asking)? };
        let reserving = context.control.bulk_create_organization_slug_reservations(operation, vec![batch]);
        let mut why = done(context.ask(reserving).await)?;
        context.env.failpoint("region.reconcile.other_reserved").await?;
        if why.is_none() {
            why = done(context.ask(context.control.confirm_slugs(operation)).await)?;
            context.env.failpoint("region.reconcile.other_confirmed").await?;
        }
        if let Some(why) = why {
            refused(asking, &why);
        }
        Ok(())
    }

    /// Gives organizations the slugs that control has reserved for them.
    async fn take_slugs(&self, all: &mut [Difference]) -> Result<(), Error> {
        let context = self.context();
        let slugs: Vec<(i64, String, String)> = of(all, &Repair::TakeSlug)
            .filter_map(|it| Some((it.organization_id, it.slug.clone()?, it.control_slug.clone()?)))
            .collect();
        if slugs.is_empty() {
            return Ok(());
        }
        let Replaced { changed, refused: not_taken } = transact!(Error, context.db, |tx| {
            let replaced = reconciliation::replace_slugs(tx, &slugs).await?;
            context.announce_organizations(tx, replaced.changed.clone()).await?;
            context.env.failpoint("region.reconcile.slugs_prepared").await?;
            replaced
        })?;
        let changed: BTreeSet<i64> = changed.into_iter().collect();
        context.env.failpoint("region.reconcile.slugs_written").await?;
        for (id, old, new) in slugs.iter().filter(|(id, ..)| changed.contains(id)) {
            tracing::warn!(organization_id = id, old, new, "an organization got the slug of its reservation");
        }
        for (id, why) in not_taken {
            let why = format!("the slug breaks {}", constraint(&why));
            refused(of(all, &Repair::TakeSlug).filter(|it| it.organization_id == id), &why);
        }
        let unchanged = of(all, &Repair::TakeSlug).filter(|it| !changed.contains(&it.organization_id));
        refused(unchanged, "it has been changed, or the slug taken, just now; compare again");
        Ok(())
    }

    /// Releases everything that control stores for organizations that the region does not have.
    async fn forget(&self, all: &mut [Difference]) -> Result<(), Error> {
        let context = self.context();
        let gone = |it: &Difference| it.repair == Some(Repair::Free);
        let ids: Vec<i64> = all.iter().filter(|it| gone(it)).map(|it| it.organization_id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let why = done(context.ask(context.control.release_organizations(ids)).await)?;
        context.env.failpoint("region.reconcile.freed").await?;
        if let Some(why) = why {
            refused(all.iter_mut().filter(|it| gone(it)), &why);
        }
        Ok(())
    }

    async fn report(&self, all: &mut [Difference], seen: &Seen) -> Result<(), Error> {
        self.report_these(of(all, &Repair::Report).collect(), false, seen).await
    }

    /// Has control write and announce the product's reservations. The workers make the copies in the region again.
    async fn restore_reservations(&self, all: &mut [Difference], seen: &Seen) -> Result<(), Error> {
        let restores = [Repair::RestoreReservation, Repair::MoveReservation];
        let wanted =
            |it: &&mut Difference| it.repair.as_ref().is_some_and(|repair| restores.contains(repair));
        self.report_these(all.iter_mut().filter(wanted).collect(), true, seen).await
    }

    /// Announces organizations with their members and teams to the product's workers again, which copy them. Rows come in
    /// pages: one organization may have very many. A comparison that ends half way is made again, and announces all again.
    async fn announce(&self, all: &mut [Difference]) -> Result<(), Error> {
        let context = self.context();
        let ids: Vec<i64> = of(all, &Repair::Announce).map(|it| it.organization_id).collect();
        let Some(product_db) = context.product_db.as_ref().filter(|_| !ids.is_empty()) else { return Ok(()) };
        for model in ProductDb::copied_models() {
            let rows = product_db.rows_of(&context.db, model, &ids).await?;
            for some in rows.chunks(ANNOUNCED) {
                transact!(Error, context.db, |tx| {
                    product_db.announce_rows(tx, model, some.to_vec()).await?;
                    context.env.failpoint("region.reconcile.product_prepared").await?;
                })?;
                context.env.failpoint("region.reconcile.product_announced").await?;
                self.renew().await?;
            }
        }
        Ok(())
    }

    /// Reports organizations to control's directory, and if `restore_product`, has it write and announce the product's
    /// reservations.
    async fn report_these(
        &self,
        differences: Vec<&mut Difference>,
        restore_product: bool,
        seen: &Seen,
    ) -> Result<(), Error> {
        let context = self.context();
        let report = |it: &Difference| -> Option<ReportedOrganization> {
            seen.organizations.get(&it.organization_id)?.report(it.organization_id)
        };
        let reports: Vec<_> = differences.iter().filter_map(|it| report(it)).collect();
        if reports.is_empty() {
            return Ok(());
        }
        let outcome = context.report_organizations(seen.report_number, reports, restore_product).await;
        context.env.failpoint("region.reconcile.reported").await?;
        let not_taken = match outcome {
            Ok(not_taken) => not_taken,
            Err(error) => {
                let why = refusal(error)?;
                refused(differences, &why);
                return Ok(());
            }
        };
        for difference in differences {
            if let Some(why) = not_taken.iter().find(|it| it.organization_id == difference.organization_id) {
                refused([difference], &why.message);
            }
        }
        Ok(())
    }
}

/// The differences that this repair would remove.
fn of<'a>(differences: &'a mut [Difference], repair: &Repair) -> impl Iterator<Item = &'a mut Difference> {
    differences.iter_mut().filter(move |it| it.repair.as_ref() == Some(repair))
}

/// Slug requests for the slugs of these differences.
fn requests(differences: &[&mut Difference]) -> Result<Vec<OrganizationSlugRequest>, Error> {
    let request = |it: &&mut Difference| -> Result<OrganizationSlugRequest, Error> {
        Ok(OrganizationSlugRequest {
            organization_id: it.organization_id,
            slug: slug_of(it)?.to_owned(),
            ..OrganizationSlugRequest::default()
        })
    };
    differences.iter().map(request).collect()
}

/// Why control cannot give a slug unchanged.
fn why_not_free(check: &SlugCheck) -> String {
    let why = match (check.verdict(), &check.taken_by) {
        (SlugVerdict::Taken, Some(owner)) => {
            format!("control holds that slug for organization {} of {}", owner.organization_id, owner.region)
        }
        (SlugVerdict::Taken, None) => "somebody has that slug".to_owned(),
        (SlugVerdict::ReservedWord, _) => "its slug is a reserved word".to_owned(),
        _ => "its slug is not a valid one".to_owned(),
    };
    format!("{why}; give it another one in the region")
}
