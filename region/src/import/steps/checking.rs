//! CHECKING: a dry run goes through all records like an import, with the same mapping and the same rules, and looks up
//! existing rows that they would match. It writes only the import's own counts, organizations and findings.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | forgetting some of an earlier attempt | the rest of what that noted | forgets the rest |
//! | some chunks or slugs | their counts, organizations and findings | forgets them and starts over |
//! | the end of the dry run | everything, and the file | removes the file |
//!
//! It starts over because its progress is in the memory of the process.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
};

use causeway_proto::control::v1::{OrganizationSlugRequest, SlugCheck, SlugVerdict};
use causeway_relocation::{
    finding::{Finding, Tense},
    keys::KeyMap,
    writer::DryRun,
};

use crate::{
    error::Error,
    import::{
        Import, ImportState, ImportedOrganization, SlugPlan,
        changed_slug::{candidate, changed_by_slugs, name_for_control, slug_changed},
        context::ImportContext,
        counts::{check_counts, planned_counts},
        owners::{owners, without_owner},
        plan::plan,
        run::ImportRun,
        writes::do_writes,
    },
    store,
};

/// Goes through all models and slugs, and notes what would happen to them.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    context.register().await?;
    context.ask(context.control.plan_import(import.id)).await?;
    let plan = plan(context, import, run).await?;
    let counts = planned_counts(context, &plan)?;
    let mut after = 0;
    while let Some((last, _)) = context.organizations_after(import.id, after).await? {
        transact_leased!(context, import, |lease| {
            store::imported::forget_organizations(lease, after, last).await?;
        })?;
        after = last;
    }
    transact_leased!(context, import, |lease| {
        store::finding::forget(lease, ImportState::Checking).await?;
        store::model_counts::replace(lease, &counts).await?;
    })?;
    run.keys = Some(Arc::new(RwLock::new(KeyMap::new(&context.catalog))));
    run.done.clear();
    let fitted = context.fitted(import, &mut run.fitted).await?.catalog;
    run.dry_run = Some(DryRun::new(&fitted, context.spool_dir()));
    do_writes(context, import, run, false).await?;
    check_organizations(context, import, run).await?;
    do_writes(context, import, run, true).await?;
    check_counts(context, import.id).await?;
    transact_leased!(context, import, |lease| {
        store::import::advance(lease, ImportState::Checking, ImportState::Planned, context.env.now()).await?;
    })?;
    tracing::info!(import_id = %import.id, "a dry run has ended; nothing was written");
    context.remove_spool(import.id).await;
    Ok(())
}

/// Asks control what would happen to the slugs, and checks which organizations would have an owner. If several
/// organizations come to the same slug, one that wants it unchanged gets it first; of those, the first one.
async fn check_organizations(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    let needs_owner = owners(&context.catalog).is_some();
    let has_owner = |run: &ImportRun, organization: &ImportedOrganization| {
        run.dry_run.as_ref().is_none_or(|dry_run| dry_run.has_one(organization.id))
    };
    let wanted = store::imported::wanted_slugs(&context.db, import.id).await?;
    let mut chosen: HashSet<String> = HashSet::new();
    let mut after = 0;
    loop {
        let page = store::imported::organizations(&context.db, import.id, after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        let checked = check_page(context, import, &page, &wanted, &mut chosen).await?;
        let mut findings: Vec<Finding> = page
            .iter()
            .zip(&checked)
            .filter_map(|(organization, check)| finding(organization, check))
            .collect();
        let counts = changed_by_slugs(&page, &findings)?;
        let ownerless = page.iter().filter(|organization| needs_owner && !has_owner(run, organization));
        findings.extend(ownerless.map(|organization| without_owner(organization, true)));
        let checked: Vec<_> = checked.into_iter().map(|it| (it.would_become, it.plan)).collect();
        transact_leased!(context, import, |lease| {
            store::imported::set_slug_plans(lease, &page, &checked).await?;
            store::model_counts::add(lease, &counts).await?;
            context.add_findings(lease, ImportState::Checking, &findings).await?;
        })?;
        context.env.failpoint("region.check.page_checked").await?;
        run.pass_turn(context, import.id).await?;
    }
}

/// What the slug of each organization would become. `wanted_slugs` has what all organizations of the file want.
/// `chosen` has the slugs that earlier organizations would get; this adds those of these organizations.
async fn check_page(
    context: &ImportContext,
    import: &Import,
    organizations: &[ImportedOrganization],
    wanted_slugs: &HashSet<String>,
    chosen: &mut HashSet<String>,
) -> Result<Vec<Checked>, Error> {
    let wanted = organizations.iter().map(|organization| organization.wanted_slug.clone()).collect();
    let mut here = store::organization::by_slugs(&context.db, wanted).await?;
    let mut requests: Vec<OrganizationSlugRequest> = organizations
        .iter()
        .map(|organization| OrganizationSlugRequest {
            organization_id: 0,
            slug: organization.wanted_slug.clone(),
            name: name_for_control(&organization.name),
            taken_in_region: here.contains_key(&organization.wanted_slug),
        })
        .collect();
    let mut checks = ask_for_checks(context, import, requests.clone()).await?;
    // Only now is it known what the other slugs become. This region may have those, or an earlier organization may
    // get them.
    let fresh = |check: &SlugCheck| {
        matches!(check.verdict(), SlugVerdict::Free | SlugVerdict::Normalized)
            .then(|| check.would_become.clone())
    };
    here.extend(store::organization::by_slugs(&context.db, checks.iter().filter_map(fresh).collect()).await?);
    let mut would: Vec<Option<String>> = checks.iter().map(fresh).collect();
    let mut again = Vec::new();
    for (index, (slug, check)) in would.iter().zip(&checks).enumerate() {
        let Some(slug) = slug else { continue };
        // An organization that wants the slug unchanged comes first, wherever it is in the file.
        let is_wanted = check.verdict() == SlugVerdict::Normalized && wanted_slugs.contains(slug);
        if here.contains_key(slug) || is_wanted || !chosen.insert(slug.clone()) {
            again.push(index);
        }
    }
    let rechecked: Vec<OrganizationSlugRequest> = again
        .iter()
        .filter_map(|index| {
            let request = requests.get_mut(*index)?;
            request.taken_in_region = true;
            Some(request.clone())
        })
        .collect();
    let answers =
        if again.is_empty() { Vec::new() } else { ask_for_checks(context, import, rechecked).await? };
    for (index, answer) in again.into_iter().zip(answers) {
        if let Some(check) = checks.get_mut(index) {
            *check = answer;
        }
    }
    Ok(checks
        .into_iter()
        .zip(organizations)
        .zip(&mut would)
        .map(|((check, organization), would)| {
            let here = [would.take().as_ref(), Some(&organization.wanted_slug)]
                .into_iter()
                .flatten()
                .find_map(|slug| here.get(slug).copied());
            let candidate = candidate(&check.candidate, &check.slug).to_owned();
            let (would_become, plan) = plan_of(check, here.map(|id| (context.region.to_owned(), id)));
            Checked { would_become, candidate, plan }
        })
        .collect())
}

async fn ask_for_checks(
    context: &ImportContext,
    import: &Import,
    requests: Vec<OrganizationSlugRequest>,
) -> Result<Vec<SlugCheck>, Error> {
    let asked = requests.len();
    let checks = context.ask(context.control.check_slugs(Some(import.id), requests)).await?;
    if checks.len() != asked {
        return Err(Error::Internal("control did not answer for every slug".to_owned()));
    }
    Ok(checks)
}

/// What one slug would become.
struct Checked {
    would_become: String,
    /// The same without a suffix.
    candidate: String,
    plan: SlugPlan,
}

fn plan_of(check: SlugCheck, here: Option<(String, i64)>) -> (String, SlugPlan) {
    let verdict = check.verdict();
    let known = check.taken_by.map(|owner| (owner.region, owner.organization_id));
    let taken_by = if verdict == SlugVerdict::Taken { known.or(here) } else { None };
    (check.would_become, SlugPlan { verdict, taken_by })
}

/// The finding that an organization would get another slug than it wants; `None` if it would get that one.
fn finding(organization: &ImportedOrganization, check: &Checked) -> Option<Finding> {
    let Checked { would_become, candidate, plan } = check;
    let holder = match &plan.taken_by {
        Some((region, id)) => format!("organization {id} of region {region}"),
        None => "another organization of the file".to_owned(),
    };
    let taken = format!("is taken by {holder}");
    slug_changed(organization, would_become, candidate, plan.verdict, &taken, Tense::Would)
}
