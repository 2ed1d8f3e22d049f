//! Encodes imports and organizations as messages of the contract.

use causeway_proto::{organization_status, region::v1 as api, relocation::v1 as contract, time::to_proto};
use causeway_relocation::{export::MAX_PK, keys::KeyKind};

use crate::{
    context::Context,
    convert::{counts_to_proto, finding_counts_to_proto, waiting_of},
    import::{Failure, Import, ImportView, ImportedOrganization, Lease, ModelKey, Throttled, Waiting},
    store::organization::Organization,
    throttle::ThrottleKind,
};

fn waiting_to_proto(waiting: Waiting) -> api::Waiting {
    api::Waiting {
        reason: waiting.reason.into(),
        message: waiting.message,
        since: Some(to_proto(waiting.since)),
        attempts: i32::try_from(waiting.attempts).unwrap_or(i32::MAX),
    }
}

/// Encodes which limit it is.
pub(super) fn throttle_kind_to_proto(kind: ThrottleKind) -> api::ThrottleKind {
    match kind {
        ThrottleKind::Rows => api::ThrottleKind::Rows,
        ThrottleKind::Bytes => api::ThrottleKind::Bytes,
        ThrottleKind::Latency => api::ThrottleKind::Latency,
    }
}

fn throttled_to_proto(throttled: Throttled) -> api::Throttled {
    api::Throttled {
        by: throttle_kind_to_proto(throttled.by).into(),
        limit: i64::try_from(throttled.limit).unwrap_or(i64::MAX),
        write_percent: i32::try_from(throttled.percent).unwrap_or(i32::MAX),
    }
}

fn failure_to_proto(failure: Failure) -> api::ImportFailure {
    api::ImportFailure {
        reason: failure.reason.into(),
        message: failure.message,
        state: failure.state.to_proto().into(),
    }
}

fn lease_to_proto(lease: Lease) -> api::ImportLease {
    api::ImportLease {
        holder_id: lease.holder.to_string(),
        place: lease.place,
        acquire_time: Some(to_proto(lease.acquired_at)),
        renew_time: Some(to_proto(lease.renewed_at)),
        expire_time: Some(to_proto(lease.until)),
    }
}

fn organization_of_import(organization: ImportedOrganization) -> api::ImportedOrganization {
    api::ImportedOrganization {
        source_id: organization.source_id,
        // A dry run invents ids above `MAX_PK`, which callers do not see.
        id: if organization.id > MAX_PK { 0 } else { organization.id },
        wanted_slug: organization.wanted_slug,
        slug: organization.slug.unwrap_or_default(),
        slug_plan: organization.slug_plan.map(|plan| {
            let (region, organization_id) = plan.taken_by.unwrap_or_default();
            api::SlugPlan {
                verdict: plan.verdict.into(),
                taken_by_region: region,
                taken_by_organization_id: organization_id,
            }
        }),
    }
}

/// Encodes an import for a caller, without its filter, progress, counts and organizations.
pub(crate) fn import_to_proto(import: Import, context: &Context) -> api::Import {
    let waiting = waiting_of(&import).map(waiting_to_proto);
    let pause = import
        .pause
        .map(|pause| api::Pause { since: Some(to_proto(pause.since)), by: pause.by.unwrap_or_default() });
    api::Import {
        import_id: import.id.to_string(),
        region: context.region.clone(),
        state: import.state.to_proto().into(),
        scope: contract::Scope::Organization.into(),
        filter: None,
        filter_slug_count: import.filter_slugs,
        flags: Some(contract::ImportFlags {
            merge_users: import.parameters.merge_users,
            hide_organizations: import.parameters.hide_organizations,
        }),
        size_bytes: import.size_bytes,
        sha256: import.sha256,
        create_time: Some(to_proto(import.created_at)),
        update_time: Some(to_proto(import.updated_at)),
        // A process of a release that does not know the column leaves what it had.
        end_time: import.ended_at.filter(|_| import.state.is_final()).map(to_proto),
        progress: None,
        hidden_organization_count: 0,
        begun_by: import.begun_by.unwrap_or_default(),
        models: Vec::new(),
        organizations: Vec::new(),
        organization_count: import.organization_count,
        finding_counts: Vec::new(),
        waiting,
        pause,
        failure: import.failure.map(failure_to_proto),
        dry_run: import.parameters.dry_run,
        // An import that has ended may still have a lease, to tidy up. Callers do not see that one.
        lease: import.lease.filter(|_| !import.state.is_final()).map(lease_to_proto),
        resume_count: i32::try_from(import.resumes).unwrap_or(i32::MAX),
        encrypted: import.encrypted,
        control_addresses: context.control.urls().to_vec(),
    }
}

/// Encodes an import for a caller, with all that belongs to it.
pub(crate) fn view_to_proto(mut view: ImportView, context: &Context) -> api::Import {
    let filter = view.import.parameters.filter.take();
    let tense = view.import.tense();
    api::Import {
        filter: filter.map(|slugs| api::OrganizationFilter { slugs: slugs.into_iter().collect() }),
        progress: Some(api::Progress {
            model: view.progress.model,
            records_done: view.progress.records_done,
            records_total: view.progress.records_total,
            bytes_done: view.progress.bytes_done,
            throttled: view.progress.throttled.map(throttled_to_proto),
        }),
        hidden_organization_count: view.hidden_organizations,
        models: view.models.into_iter().map(counts_to_proto).collect(),
        organizations: view.organizations.into_iter().map(organization_of_import).collect(),
        finding_counts: finding_counts_to_proto(view.finding_counts, tense),
        ..import_to_proto(view.import, context)
    }
}

/// Encodes a line of the primary key map for a caller.
pub(crate) fn key_to_proto(key: ModelKey) -> contract::MappedKey {
    let kind = match key.kind {
        KeyKind::Inserted => contract::KeyKind::Inserted,
        KeyKind::Existing => contract::KeyKind::Existing,
    };
    let (slug, wanted_slug) = key.organization.map_or_else(Default::default, |organization| {
        (organization.slug.unwrap_or_default(), organization.wanted_slug)
    });
    contract::MappedKey {
        model: key.model,
        source_pk: key.source_pk,
        new_pk: key.new_pk,
        kind: kind.into(),
        slug,
        wanted_slug,
    }
}

/// Encodes an organization for a caller.
pub(crate) fn organization_to_proto(organization: Organization) -> api::Organization {
    api::Organization {
        id: organization.id,
        slug: organization.slug,
        name: organization.name,
        status: organization_status::from_stored(organization.status).into(),
        date_added: Some(to_proto(organization.date_added)),
    }
}
