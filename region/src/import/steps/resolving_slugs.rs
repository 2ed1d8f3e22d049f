//! RESOLVING_SLUGS: control gives every organization its slug, the region writes the slugs and confirms them.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | choosing the operation | nothing at control | asks |
//! | control's answer | temporary reservations | asks again: same operation, same answer |
//! | writing some of the slugs | the same, and slugs in some organizations | asks again, and writes the others |
//! | writing all slugs | temporary reservations, slugs in hidden organizations | confirms |
//! | finding slugs in use in the region | a note with those organizations | undoes what was written |
//! | undoing some of that | the same, with fewer slugs written | undoes the rest, then asks under the next number |
//! | control's confirmation | primary reservations | confirms again, which changes nothing |
//! | the region was put back from a copy without the import | an operation for organizations that are lost | asks under the next number, which releases it |
//! | control was put back from a copy without the operation | slugs in hidden organizations | undoes them, then asks under the next number |
//!
//! What is requested under an operation id never changes, because it is stored before the first call.

use std::collections::{HashMap, HashSet};

use causeway_proto::{
    control::v1::{OrganizationSlugRequest, OrganizationSlugRequestBatch, ResolvedSlug, SlugVerdict},
    relocation::v1::ErrorReason,
};
use causeway_relocation::{
    catalog::ORGANIZATION,
    finding::{Finding, Tense},
    generate::derived_uuid,
};
use uuid::Uuid;

use crate::{
    error::Error,
    import::{
        Import, ImportState, ImportedOrganization, ModelCounts, SlugPlan,
        changed_slug::{candidate, changed_by_slugs, name_for_control, slug_changed},
        context::ImportContext,
        run::ImportRun,
    },
    store::{self, lease_transaction::LeaseTransaction, organization::constraint},
};

/// One step towards confirmed slugs: an import goes through this state several times.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    context.register().await?;
    run.running_import.begin(0);
    resolve_org_slugs(context, import, run).await
}

/// Chooses what to request, requests it, or confirms what was given: whichever of these comes next.
async fn resolve_org_slugs(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    if import.organization_count == 0 {
        return slugs_are_final(context, import).await;
    }
    if import.slug_attempt == 0 {
        return choose_operation(context, import, run).await;
    }
    let operation = operation_id(import.id, import.slug_attempt);
    match ask_or_confirm(context, import, run, operation).await {
        // An operator has released reservations that were not confirmed for long. Or control was put back from an older
        // copy and has forgotten them; or the region was, and the operation has the organizations that it has lost. So
        // slugs are requested again.
        Err(Error::Control(error))
            if matches!(
                error.reason(),
                Some(
                    ErrorReason::OperationReleased
                        | ErrorReason::OperationNotFound
                        | ErrorReason::OperationContentDiffers
                )
            ) =>
        {
            ask_again(context, import, run).await
        }
        outcome => outcome,
    }
}

/// So many other slugs are requested if the database refuses that of an organization. They differ in a random suffix, so
/// a database that refuses these refuses all.
const OTHER_SLUGS: i64 = 2;

/// The id of the operation that requests slugs for the n-th time.
pub(crate) fn operation_id(import_id: Uuid, attempt: i64) -> Uuid {
    derived_uuid(import_id, &format!("organization slugs {attempt}"))
}

async fn ask_or_confirm(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
    operation: Uuid,
) -> Result<(), Error> {
    if !import.slugs_written {
        if import.slug_attempt > 1 {
            let former = operation_id(import.id, import.slug_attempt - 1);
            let released = context.ask(context.control.release_slugs(former));
            match run.without_turn(context, import.id, released).await {
                // Control was put back from an older copy.
                Err(Error::Control(error)) if error.reason() == Some(ErrorReason::OperationNotFound) => {}
                released => {
                    released?;
                }
            }
        }
        return ask_and_write(context, import, run, operation).await;
    }
    let confirmed = context.ask(context.control.confirm_slugs(operation));
    let confirmed = run.without_turn(context, import.id, confirmed).await?;
    context.env.failpoint("region.slugs.confirmed").await?;
    if confirmed < import.organization_count {
        // An operator has released some of its organizations before they were confirmed.
        return ask_again(context, import, run).await;
    }
    slugs_are_final(context, import).await
}

async fn slugs_are_final(context: &ImportContext, import: &Import) -> Result<(), Error> {
    transact_leased!(context, import, |lease| {
        store::import::advance(lease, ImportState::ResolvingSlugs, ImportState::Finishing, context.env.now())
            .await?;
    })?;
    Ok(context.env.failpoint("region.slugs.final").await?)
}

/// Stores what will be requested. Control may not know of organizations that were here before Causeway.
async fn choose_operation(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    let mut after = 0;
    while let Some((last, _)) = context.organizations_after(import.id, after).await? {
        transact_leased!(context, import, |lease| {
            store::imported::find_taken_in_region(lease, after, last).await?;
        })?;
        after = last;
        run.pass_turn(context, import.id).await?;
    }
    transact_leased!(context, import, |lease| {
        store::import::next_slug_attempt(lease, 1).await?;
    })?;
    Ok(context.env.failpoint("region.slugs.chosen").await?)
}

/// Requests slugs from control, and writes the answer. Rows are read and written in pages, each in a transaction of
/// its own. So memory holds only requests and answers of all organizations at once. A page that was written before
/// is skipped.
async fn ask_and_write(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
    operation: Uuid,
) -> Result<(), Error> {
    if store::imported::is_any_taken(&context.db, import.id, import.slug_attempt + 1).await? {
        return ask_again(context, import, run).await;
    }
    let asked = async {
        let _place = context.slug_call().await?;
        context.env.failpoint("region.slugs.asking").await?;
        let batches = slug_requests(context, import).await?;
        context.ask(context.control.bulk_create_organization_slug_reservations(operation, batches)).await
    };
    let answer = run.without_turn(context, import.id, asked).await?;
    context.env.failpoint("region.slugs.answered").await?;
    let resolved: HashMap<i64, ResolvedSlug> =
        answer.into_iter().map(|resolved| (resolved.organization_id, resolved)).collect();
    let mut after = 0;
    let mut any_taken = false;
    loop {
        let page = store::imported::organizations(&context.db, import.id, after).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        any_taken |= write_slugs(context, import, page, &resolved).await?;
        run.pass_turn(context, import.id).await?;
    }
    if any_taken {
        return ask_again(context, import, run).await;
    }
    transact_leased!(context, import, |lease| {
        store::import::set_slugs_written(lease, context.env.now()).await?;
    })?;
    Ok(context.env.failpoint("region.slugs.written").await?)
}

/// Writes the slugs that control gave to these organizations, unless they have them. If another organization of
/// this region has one of the slugs, nothing is written; that is noted for the next attempt, and the result is
/// `true`.
async fn write_slugs(
    context: &ImportContext,
    import: &Import,
    mut page: Vec<ImportedOrganization>,
    resolved: &HashMap<i64, ResolvedSlug>,
) -> Result<bool, Error> {
    page.retain(|organization| {
        organization.slug.is_none()
            || organization.slug.as_ref() != resolved.get(&organization.id).map(|resolved| &resolved.slug)
    });
    if page.is_empty() {
        return Ok(false);
    }
    let given_to = |organization: &ImportedOrganization| {
        resolved
            .get(&organization.id)
            .ok_or_else(|| Error::Internal(format!("control gave organization {} no slug", organization.id)))
    };
    let answers = page.iter().map(given_to).collect::<Result<Vec<_>, _>>()?;
    let slugs: Vec<(i64, String)> = page
        .iter()
        .zip(&answers)
        .map(|(organization, answer)| (organization.id, answer.slug.clone()))
        .collect();
    // The slugs whose owners control does not know: they are organizations of this region.
    let here: Vec<String> = answers
        .iter()
        .filter(|it| it.verdict() == SlugVerdict::Taken && it.taken_by_region.is_empty())
        .map(|it| candidate(&it.candidate, &it.wanted_slug).to_owned())
        .collect();
    let any_taken = transact_leased!(context, import, |lease| {
        let again = set_slugs(lease, &page, &slugs).await?;
        if again.is_empty() {
            let here = store::organization::owners(lease, here.clone()).await?;
            let (mut plans, mut findings) = (Vec::new(), Vec::new());
            for (organization, given_to) in page.iter().zip(&answers) {
                let candidate = candidate(&given_to.candidate, &organization.wanted_slug);
                let plan = plan_of_answer(context, given_to, here.get(candidate).copied());
                let is_of_file = plan
                    .taken_by
                    .as_ref()
                    .is_some_and(|(region, id)| *region == context.region && resolved.contains_key(id));
                findings.extend(changed(organization, &given_to.slug, candidate, &plan, is_of_file));
                plans.push((given_to.slug.clone(), plan));
            }
            let counts = changed_by_slugs(&page, &findings)?;
            store::imported::set_slug_plans(lease, &page, &plans).await?;
            store::model_counts::add(lease, &counts).await?;
            context.add_findings(lease, ImportState::ResolvingSlugs, &findings).await?;
            false
        } else {
            store::imported::set_taken_from(lease, import.slug_attempt + 1, again).await?;
            true
        }
    })?;
    context.env.failpoint("region.slugs.page_written").await?;
    Ok(any_taken)
}

/// Writes slugs, all of them or none. Returns the organizations that need another slug, if there are some: another
/// organization of this region has theirs, or the database refuses it; then with what it breaks.
async fn set_slugs(
    lease: &mut LeaseTransaction<'_>,
    page: &[ImportedOrganization],
    slugs: &[(i64, String)],
) -> Result<Vec<(i64, Option<String>)>, Error> {
    let all = || slugs.iter().map(|(_, slug)| slug.clone()).collect();
    let taken = store::organization::taken_by_others(lease, all()).await?;
    if !taken.is_empty() {
        let taken: HashSet<String> = taken.into_iter().collect();
        let again = slugs.iter().filter(|(_, slug)| taken.contains(slug));
        return Ok(again.map(|(id, _)| (*id, None)).collect());
    }
    lease.begin_part().await?;
    let refused = store::organization::set_slugs(lease, slugs).await?;
    lease.end_part(refused.is_empty()).await?;
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    // Another writer may have taken a slug since.
    let taken = store::organization::taken_by_others(lease, all()).await?;
    let taken: HashSet<String> = taken.into_iter().collect();
    let mut again = Vec::with_capacity(refused.len());
    for (id, slug, why) in refused {
        if taken.contains(&slug) {
            again.push((id, None));
            continue;
        }
        let organization = page
            .iter()
            .find(|organization| organization.id == id)
            .ok_or_else(|| Error::Internal(format!("organization {id} is not of the page of slugs")))?;
        if organization.slug_refusals >= OTHER_SLUGS {
            return Err(Error::SlugsRefused {
                organization: organization.source_id,
                constraint: constraint(&why),
            });
        }
        again.push((organization.id, Some(constraint(&why))));
    }
    Ok(again)
}

/// Undoes the slugs that were written, and begins the next attempt, under another operation. That attempt first
/// releases the one before it. It requests other slugs in place of those that other organizations of this region
/// have.
async fn ask_again(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    let mut after = 0;
    while let Some((last, _)) = context.organizations_after(import.id, after).await? {
        transact_leased!(context, import, |lease| {
            // Those that counted as changed only because of their slugs will be counted again.
            let changed = store::imported::changed_by_slugs(lease, after, last).await?;
            let model = ORGANIZATION.to_owned();
            let counts = ModelCounts { model, changed: -changed, ..ModelCounts::default() };
            store::model_counts::add(lease, &counts).await?;
            store::imported::forget_slugs(lease, after, last).await?;
        })?;
        after = last;
        run.pass_turn(context, import.id).await?;
    }
    transact_leased!(context, import, |lease| {
        store::finding::forget(lease, ImportState::ResolvingSlugs).await?;
        store::import::next_slug_attempt(lease, import.slug_attempt + 1).await?;
    })
}

/// The slug requests for all organizations of the import.
async fn slug_requests(
    context: &ImportContext,
    import: &Import,
) -> Result<Vec<OrganizationSlugRequestBatch>, Error> {
    let mut batches = Vec::new();
    let mut after = 0;
    loop {
        let page = store::imported::organizations(&context.db, import.id, after).await?;
        let Some(last) = page.last() else { return Ok(batches) };
        after = last.id;
        let requests = page.into_iter().map(|organization| OrganizationSlugRequest {
            organization_id: organization.id,
            slug: organization.wanted_slug,
            name: name_for_control(&organization.name),
            taken_in_region: organization.taken_in_region
                || organization.taken_from_attempt.is_some_and(|from| from <= import.slug_attempt),
        });
        batches.push(OrganizationSlugRequestBatch { requests: requests.collect() });
    }
}

/// Why an organization got its slug. `here` is the organization of this region that has the slug it could not get.
fn plan_of_answer(context: &ImportContext, resolved: &ResolvedSlug, here: Option<i64>) -> SlugPlan {
    let verdict = resolved.verdict();
    let known = (!resolved.taken_by_region.is_empty())
        .then(|| (resolved.taken_by_region.clone(), resolved.taken_by_organization_id));
    let here = here.map(|id| (context.region.to_owned(), id));
    SlugPlan { verdict, taken_by: if verdict == SlugVerdict::Taken { known.or(here) } else { None } }
}

/// The finding that an organization got another slug than it wanted, and why; `None` if it got that one.
fn changed(
    organization: &ImportedOrganization,
    resolved: &str,
    candidate: &str,
    plan: &SlugPlan,
    is_of_file: bool,
) -> Option<Finding> {
    let taken = match (&plan.taken_by, &organization.slug_refused_by) {
        (Some((_, id)), _) if is_of_file => {
            format!("is taken by another organization of the file, which is {id} now")
        }
        (Some((region, id)), _) => format!("is taken by organization {id} of region {region}"),
        (None, Some(constraint)) => format!("breaks {constraint}"),
        (None, None) => "is taken by somebody else".to_owned(),
    };
    slug_changed(organization, resolved, candidate, plan.verdict, &taken, Tense::Happened)
}
