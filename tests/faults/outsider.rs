//! An outsider: a region that the test only simulates. It leases ids and reserves slugs as a region does (many at once
//! in some scenarios), repeats every request, also with other content, has an organization renamed, and releases
//! everything at the end. So it tries every call that must answer an operation the same way again.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use causeway_harness::cluster::Cluster;
use causeway_proto::{
    control::v1::{
        ConfirmOrganizationSlugReservationsRequest, LeaseIdsRequest, ListHeldOrganizationsRequest,
        RegisterRegionRequest, ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationsRequest,
        RenameState, UpdateOrganizationSlugRequest,
    },
    relocation::v1::ErrorReason::{
        self, OperationContentDiffers, OperationNotFound, OperationReleased, OrganizationAlreadyReserved,
    },
    time,
};
use tokio::time::{Instant, sleep};

use crate::driver::{Controls, PATIENCE, retry_until_ok, retry_until_ok_or_refused};

/// The name of the simulated region.
pub(crate) const NAME: &str = "elsewhere";

/// What the outsider does.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedRegionPlan {
    /// How long the outsider waits before its first call.
    pub(crate) after: Duration,
    /// The pause before each further step.
    pub(crate) pause: Duration,
    /// The slugs that its organizations want.
    pub(crate) requested: Vec<String>,
    /// The slug that one of them is renamed to. `None` for no rename.
    pub(crate) renamed: Option<String>,
    /// It releases its operation instead of confirming it.
    pub(crate) gives_up: bool,
    /// At the end it releases its confirmed operation, instead of its organizations.
    pub(crate) releases_operation: bool,
    /// The ids of the region's instance, the lease, the slugs, the rename, and two more operations that want the same
    /// organizations.
    pub(crate) ids: [String; 6],
}

/// The outsider and what it has so far.
pub(crate) struct SimulatedRegion<'a> {
    cluster: &'a Cluster,
    plan: &'a SimulatedRegionPlan,
    controls: Controls,
    organizations: Vec<i64>,
}

impl<'a> SimulatedRegion<'a> {
    /// Does everything except leave. Returns the outsider with what it has then.
    pub(crate) async fn act(cluster: &'a Cluster, plan: &'a SimulatedRegionPlan) -> anyhow::Result<Self> {
        let mut outsider = Self { cluster, plan, controls: Controls::default(), organizations: Vec::new() };
        sleep(plan.after).await;
        outsider.register().await?;
        let first = outsider.lease().await?;
        outsider.organizations = (first..).take(plan.requested.len()).collect();
        let given = outsider.reserve().await?;
        sleep(plan.pause).await;
        if plan.gives_up {
            outsider.release_operation().await?;
            outsider.repeat(&given, true).await?;
            return Ok(outsider);
        }
        outsider.confirm(&plan.ids[2]).await?;
        outsider.confirm(&plan.ids[2]).await?;
        outsider.repeat(&given, false).await?;
        outsider.has_its_slugs_by_one_operation().await?;
        outsider.is_held_in_pages().await?;
        if let Some(slug) = &plan.renamed {
            sleep(plan.pause).await;
            outsider.rename(slug).await?;
            // Whatever slug the organization has now, the operation keeps its answer.
            outsider.repeat(&given, false).await?;
        }
        Ok(outsider)
    }

    fn note(&self, what: &str) {
        self.cluster.trace().note(format!("{NAME}: {what}"));
    }

    async fn register(&self) -> anyhow::Result<()> {
        self.note("register");
        let request = RegisterRegionRequest {
            name: NAME.to_owned(),
            address: "http://elsewhere.example.com".to_owned(),
            instance_id: self.plan.ids[0].clone(),
            ..RegisterRegionRequest::default()
        };
        retry_until_ok(self.cluster, "registering another region", || async {
            self.controls.next(self.cluster).regions().register_region(request.clone()).await
        })
        .await?;
        Ok(())
    }

    /// Leases ids twice, and once more with other content. Returns the first id.
    async fn lease(&self) -> anyhow::Result<i64> {
        let request = |count| LeaseIdsRequest {
            region: NAME.to_owned(),
            operation_id: self.plan.ids[1].clone(),
            model: "sentry.organization".to_owned(),
            count,
            above: 0,
        };
        let count = i32::try_from(self.plan.requested.len())?;
        let lease = async |count| {
            retry_until_ok_or_refused(self.cluster, "leasing ids", &[OperationContentDiffers], || async {
                self.controls.next(self.cluster).regions().lease_ids(request(count)).await
            })
            .await
        };
        let block = lease(count).await?.map(tonic::Response::into_inner);
        let again = lease(count).await?.map(tonic::Response::into_inner);
        ensure!(block.is_ok() && block == again, "a lease was {block:?} and is {again:?}");
        let other = lease(count + 1).await?;
        ensure!(other.is_err(), "a lease of other content was {other:?}");
        Ok(block.ok().context("a block")?.first_id)
    }

    fn requested(&self) -> Vec<(i64, String)> {
        self.organizations.iter().copied().zip(self.plan.requested.iter().cloned()).collect()
    }

    /// Requests slugs. Control may refuse the request for one of these reasons.
    async fn ask(
        &self,
        requested: &[(i64, String)],
        refusals: &[ErrorReason],
    ) -> anyhow::Result<Result<Vec<String>, ErrorReason>> {
        self.ask_by(&self.plan.ids[2], requested, refusals).await
    }

    async fn ask_by(
        &self,
        operation: &str,
        requested: &[(i64, String)],
        refusals: &[ErrorReason],
    ) -> anyhow::Result<Result<Vec<String>, ErrorReason>> {
        retry_until_ok_or_refused(self.cluster, "reserving slugs", refusals, || async {
            self.controls.next(self.cluster).reserve_all(NAME, operation, requested).await
        })
        .await
    }

    /// Requests slugs of the same organizations under two operations at once. At most one of them gets slugs. The
    /// outsider releases the other one until its own operation has its answer.
    async fn compete(&self, requested: &[(i64, String)]) -> anyhow::Result<Vec<String>> {
        let until = Instant::now() + PATIENCE;
        let refusals = [OrganizationAlreadyReserved];
        let rival = &self.plan.ids[4];
        let (mut ours, rivals) = tokio::join!(
            self.ask(requested, &refusals),
            self.ask_by(rival, requested, &[OrganizationAlreadyReserved, OperationReleased])
        );
        loop {
            let given = ours?;
            ensure!(
                given.is_err() || rivals.as_ref().is_ok_and(Result::is_err),
                "two operations have slugs of the same organizations: {given:?} and {rivals:?}"
            );
            if let Ok(given) = given {
                return Ok(given);
            }
            ensure!(
                Instant::now() < until,
                "an operation is refused although nobody else has its organizations"
            );
            let request = ReleaseOrganizationSlugReservationsRequest {
                region: NAME.to_owned(),
                operation_id: rival.clone(),
                refusal: None,
                only_unconfirmed: false,
            };
            let _either =
                retry_until_ok_or_refused(self.cluster, "releasing slugs", &[OperationNotFound], || async {
                    let mut reservations = self.controls.next(self.cluster).reservations();
                    reservations.release_organization_slug_reservations(request.clone()).await
                })
                .await?;
            if rivals.as_ref().is_ok_and(Result::is_ok) {
                // The rival had the organizations, and has just released them.
                return self
                    .ask(requested, &refusals)
                    .await?
                    .ok()
                    .context("nobody else has its organizations");
            }
            ours = self.ask(requested, &refusals).await;
        }
    }

    /// Checks that an organization with a slug gets none under another operation.
    async fn has_its_slugs_by_one_operation(&self) -> anyhow::Result<()> {
        let requested = self.requested();
        let last = requested.last().cloned().context("an organization")?;
        let other = self.ask_by(&self.plan.ids[5], &[last], &[OrganizationAlreadyReserved]).await?;
        ensure!(other.is_err(), "an organization that has a slug got another: {other:?}");
        Ok(())
    }

    async fn reserve(&self) -> anyhow::Result<Vec<String>> {
        self.note(&format!("reserve {} slugs", self.plan.requested.len()));
        let requested = self.requested();
        let given = if self.plan.gives_up {
            // No rival here: after the release of this operation, no request of another one may still arrive.
            self.ask(&requested, &[]).await?.ok().context("nothing refuses it")?
        } else {
            self.compete(&requested).await?
        };
        let distinct: BTreeSet<&String> = given.iter().collect();
        ensure!(
            given.len() == requested.len() && distinct.len() == given.len(),
            "{} organizations got {} different slugs: {given:?}",
            requested.len(),
            distinct.len()
        );
        self.repeat(&given, false).await?;
        Ok(given)
    }

    /// Checks that the same operation gets the same answer again, and is refused with other content.
    async fn repeat(&self, given: &[String], released: bool) -> anyhow::Result<()> {
        let refusals = [OperationContentDiffers, OperationReleased];
        let mut requested = self.requested();
        let again = self.ask(&requested, &refusals).await?;
        let as_it_was = match &again {
            Ok(again) => again == given && !released,
            Err(reason) => *reason == OperationReleased && released,
        };
        ensure!(
            as_it_was,
            "an operation (released: {released}) was answered {given:?} and is answered {again:?}"
        );
        "other-content".clone_into(&mut requested[0].1);
        let other = self.ask(&requested, &refusals).await?;
        ensure!(other.is_err(), "an operation with other content was answered {other:?}");
        Ok(())
    }

    async fn confirm(&self, operation: &str) -> anyhow::Result<()> {
        self.note(&format!("confirm {operation}"));
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: NAME.to_owned(),
            operation_id: operation.to_owned(),
        };
        retry_until_ok(self.cluster, "confirming slugs", || async {
            let mut reservations = self.controls.next(self.cluster).reservations();
            reservations.confirm_organization_slug_reservations(request.clone()).await
        })
        .await?;
        Ok(())
    }

    /// Checks that control lists all organizations of the region in pages, each of them once.
    async fn is_held_in_pages(&self) -> anyhow::Result<()> {
        let mut held = Vec::new();
        let mut request = ListHeldOrganizationsRequest {
            region: NAME.to_owned(),
            page_size: 1_000,
            ..ListHeldOrganizationsRequest::default()
        };
        loop {
            let page = retry_until_ok(self.cluster, "what is held", || async {
                let mut directory = self.controls.next(self.cluster).directory();
                directory.list_held_organizations(request.clone()).await
            });
            let page = page.await?.into_inner();
            held.extend(page.organizations.into_iter().map(|organization| organization.organization_id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        ensure!(held == self.organizations, "it has {:?}, and {held:?} are held", self.organizations);
        Ok(())
    }

    /// Renames an organization, and confirms the rename as its region would.
    async fn rename(&self, slug: &str) -> anyhow::Result<()> {
        self.note(&format!("rename one to {slug}"));
        let request = UpdateOrganizationSlugRequest {
            organization_id: self.organizations[0],
            desired_slug: slug.to_owned(),
            operation_id: self.plan.ids[3].clone(),
            region: NAME.to_owned(),
            wait: Some(time::seconds(0)),
            ..UpdateOrganizationSlugRequest::default()
        };
        let ask = async |request: &UpdateOrganizationSlugRequest| {
            retry_until_ok_or_refused(self.cluster, "renaming", &[OperationContentDiffers], || async {
                let mut reservations = self.controls.next(self.cluster).reservations();
                reservations.update_organization_slug(request.clone()).await
            })
            .await
        };
        let begun = ask(&request).await?.ok().context("it is new")?.into_inner();
        if begun.state() == RenameState::Pending {
            self.confirm(&self.plan.ids[3]).await?;
        }
        let done = ask(&request).await?.ok().context("it is the same")?.into_inner();
        ensure!(
            done.state() == RenameState::Confirmed && done.slug == begun.slug,
            "a rename was {begun:?} and is {done:?}"
        );
        let other = UpdateOrganizationSlugRequest { keep_alias: true, ..request };
        let other = ask(&other).await?;
        ensure!(other.is_err(), "a rename of other content was {other:?}");
        Ok(())
    }

    async fn release_operation(&self) -> anyhow::Result<()> {
        self.note("release the operation");
        let request = ReleaseOrganizationSlugReservationsRequest {
            region: NAME.to_owned(),
            operation_id: self.plan.ids[2].clone(),
            refusal: None,
            only_unconfirmed: false,
        };
        retry_until_ok(self.cluster, "releasing slugs", || async {
            let mut reservations = self.controls.next(self.cluster).reservations();
            reservations.release_organization_slug_reservations(request.clone()).await
        })
        .await?;
        // A released slug is free at once.
        if self.plan.renamed.is_none() {
            self.holds_nothing().await?;
        }
        Ok(())
    }

    async fn holds_nothing(&self) -> anyhow::Result<()> {
        let all = retry_until_ok(self.cluster, "all reservations", || async {
            self.controls.next(self.cluster).all_reservations().await
        });
        let all = all.await?;
        let left: Vec<&str> = all.iter().filter(|it| it.region == NAME).map(|it| it.slug.as_str()).collect();
        ensure!(
            left.is_empty(),
            "{NAME} has released all that it had, and these slugs are not free: {left:?}"
        );
        Ok(())
    }

    /// Releases everything that it has.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        if self.plan.releases_operation && !self.plan.gives_up {
            self.release_operation().await?;
        }
        self.note("release all organizations");
        let request = ReleaseOrganizationsRequest {
            region: NAME.to_owned(),
            organization_ids: self.organizations.clone(),
        };
        retry_until_ok(self.cluster, "releasing organizations", || async {
            let mut reservations = self.controls.next(self.cluster).reservations();
            reservations.release_organizations(request.clone()).await
        })
        .await?;
        self.holds_nothing().await
    }
}
