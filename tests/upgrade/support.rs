//! The two releases, and what is done with them.

use std::{path::PathBuf, time::Duration};

use causeway_harness::{
    cluster::{Cluster, ClusterBuilder, Failpoints, ImportOptions, Service, Store},
    export::Export,
};
use causeway_proto::{
    control::v1::UpdateOrganizationSlugRequest,
    region::v1::{Import, ImportState, ReconcileMode},
    time,
};
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One of the two releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    Previous,
    This,
}

impl Release {
    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::This => env!("CARGO_BIN_EXE_causeway").into(),
            Self::Previous => std::env::var_os("CAUSEWAY_PREVIOUS")
                .expect("CAUSEWAY_PREVIOUS must name the program of the previous release: run .ci/upgrade")
                .into(),
        }
    }
}

/// A control and a region of these releases.
pub(crate) fn cluster(store: Store, control: Release, region: Release) -> ClusterBuilder {
    Cluster::builder(store)
        .region("us")
        .processes(control.program())
        .process_of(Service::Region(0), region.program())
}

/// The same with failpoints.
pub(crate) async fn started(
    store: Store,
    control: Release,
    region: Release,
    failpoints: &Failpoints,
) -> Cluster {
    cluster(store, control, region).failpoints(failpoints).start().await.expect("a cluster")
}

/// An export with everything that two silos divide: users, addresses, members, tokens.
pub(crate) fn export(slugs: &[&str]) -> Vec<u8> {
    let mut export = Export::new();
    for (index, slug) in (1..).zip(slugs) {
        export.organization(index, slug).user(index, &format!("{slug}-owner"));
        export.user_email(index, index, &format!("{slug}@example.com")).member(index, index, index);
        export.team(index, index, "team").project(index, index, "project");
        export.auth_token(index, index, slug);
    }
    export.to_bytes()
}

pub(crate) async fn imported(cluster: &Cluster, slugs: &[&str]) -> Import {
    let import = cluster.region(0).import(&export(slugs), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    import
}

pub(crate) async fn rename(cluster: &Cluster, id: i64, slug: &str) {
    let request = UpdateOrganizationSlugRequest {
        organization_id: id,
        desired_slug: slug.to_owned(),
        operation_id: Uuid::from_u128(id.unsigned_abs().into()).to_string(),
        keep_alias: true,
        wait: Some(time::seconds(60)),
        ..Default::default()
    };
    cluster.control().reservations().update_organization_slug(request).await.expect("renamed");
}

/// Checks that nothing is in progress, that the region and control agree, and that no promise is broken. Only services of
/// this release may be asked to compare: the promises are those of this release's tables.
pub(crate) async fn all_is_well(cluster: &Cluster) {
    cluster.quiet(PATIENCE).await.expect("quiet");
    let compared = cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    assert_eq!(compared.differences, [], "{compared:?}");
}
