//! Several regions, one control.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use causeway_harness::{
    account::{Audit, AuditReport, Outcome},
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::{Export, OTHER_SLUG, SLUG},
};
use causeway_proto::{
    control::v1::{ListOrganizationsRequest, ReservationType},
    organization_status,
    region::v1::ImportState,
};
use causeway_silo::db::Statement;

use crate::support::{ORGANIZATION, USER, accounted, cluster, exhaustive, import, rows_now};

pub(crate) async fn two_regions_at_once_give_every_organization_its_own_slug(store: Store) {
    let cluster = cluster(store, &["us", "de"]).await;
    let (us, de) = (cluster.region(0), cluster.region(1));
    let (export, options) = (exhaustive(), ImportOptions::default());
    let bytes = export.to_bytes();
    let before = [rows_now(&cluster, 0).await, rows_now(&cluster, 1).await];
    let (one, other) = tokio::join!(us.import(&bytes, &options), de.import(&bytes, &options));
    let (one, other) = (one.expect("the import ends"), other.expect("the import ends"));
    let audits = [
        Audit::new(&cluster, 0, &before[0], &bytes, &options, &one).with_other(1, &other),
        Audit::new(&cluster, 1, &before[1], &bytes, &options, &other).with_other(0, &one),
    ];
    let [one, other] = audits.map(Audit::run);
    let (one, other) = (accounted(one.await), accounted(other.await));

    let reservations = one.after.reservations();
    let slugs: HashSet<&str> = reservations.iter().map(|it| it.slug.as_str()).collect();
    assert_eq!((reservations.len(), slugs.len()), (4, 4));
    assert!(slugs.contains(SLUG) && slugs.contains(OTHER_SLUG));
    assert!(reservations.iter().all(|it| it.r#type() == ReservationType::Primary));
    // Ids that must be unique in all regions are unique.
    for model in [ORGANIZATION, "sentry.project", "sentry.team"] {
        let ids = |account: &AuditReport| -> BTreeSet<i64> {
            let mine = account.keys.iter().filter(|key| key.model == model);
            mine.map(|key| key.new_pk).collect()
        };
        assert!(ids(&one).is_disjoint(&ids(&other)), "{model}");
    }
    // Users are stored at control, so one of the two imports had to change usernames.
    assert_eq!(other.after.rows("sentry.user").len(), 8);
    cluster.stop().await;
}

/// Both imports have the same users. The second one finds the users of the first one.
pub(crate) async fn two_regions_that_merge_at_once_share_their_users(store: Store) {
    let cluster = cluster(store, &["us", "de"]).await;
    let (us, de) = (cluster.region(0), cluster.region(1));
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default().merge_users());
    let before = [rows_now(&cluster, 0).await, rows_now(&cluster, 1).await];
    let (one, other) = tokio::join!(us.import(&bytes, &options), de.import(&bytes, &options));
    let (one, other) = (one.expect("the import ends"), other.expect("the import ends"));
    let audits = [
        Audit::new(&cluster, 0, &before[0], &bytes, &options, &one).with_other(1, &other),
        Audit::new(&cluster, 1, &before[1], &bytes, &options, &other).with_other(0, &one),
    ];
    let [one, other] = audits.map(Audit::run);
    let (one, other) = (accounted(one.await), accounted(other.await));
    assert_eq!(one.after.rows(USER).len(), 4);
    for pk in [11, 12, 13, 14] {
        let id = |account: &AuditReport| match account.outcome(USER, pk) {
            Some(Outcome::Inserted(id) | Outcome::Existing(id)) => id,
            outcome => panic!("user {pk} is {outcome:?}"),
        };
        assert_eq!(id(&one), id(&other));
    }
    cluster.stop().await;
}

pub(crate) async fn two_imports_at_once_into_one_region_do_not_meet(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let us = cluster.region(0);
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    let (one, other) = tokio::join!(us.import(&bytes, &options), us.import(&bytes, &options));
    let (one, other) = (one.expect("the import ends"), other.expect("the import ends"));
    for (import, with_other) in [(&one, &other), (&other, &one)] {
        accounted(
            Audit::new(&cluster, 0, &before, &bytes, &options, import).with_other(0, with_other).run().await,
        );
    }
    cluster.stop().await;
}

/// Control receives the organizations after the import has ended, so the test asks until it has them.
pub(crate) async fn the_directory_shows_what_was_imported(store: Store) {
    let cluster = cluster(store, &["us", "de"]).await;
    let (_, account) = import(&cluster, &exhaustive(), &ImportOptions::default()).await;
    let asking = async {
        loop {
            let request = ListOrganizationsRequest { region: "us".to_owned(), ..Default::default() };
            let answer = cluster.control().directory().list_organizations(request).await;
            let organizations = answer.expect("a list").into_inner().organizations;
            if organizations.len() == 2 {
                return organizations;
            }
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it is told in time");
    for organization in shown {
        let row = account.after.row(ORGANIZATION, organization.organization_id).expect("a row");
        assert_eq!(row["slug"].as_text(), Some(organization.slug.as_str()));
        assert_eq!(row["name"].as_text(), Some(organization.name.as_str()));
        let status = row["status"].as_int().map(organization_status::from_stored);
        assert_eq!(status, Some(organization.status()));
        assert_eq!(organization.region, "us");
    }
    let elsewhere = ListOrganizationsRequest { region: "de".to_owned(), ..Default::default() };
    let elsewhere = cluster.control().directory().list_organizations(elsewhere).await;
    assert_eq!(elsewhere.expect("a list").into_inner().organizations, []);
    cluster.stop().await;
}

/// The application writes a row after the region last read its table and before the lease. Control could not know of
/// it.
pub(crate) async fn a_block_of_ids_with_a_row_in_it_is_given_up(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let region = cluster.region(0);
    let mut export = Export::new();
    export.organization(1, "acme");
    failpoints.arm("region.ids.leased", Act::Hold, 0);
    let begun = region.begin(&export.to_bytes(), &ImportOptions::default()).await.expect("it begins");
    failpoints.held().await;
    // The first block that control leases starts at 1.
    let row = Statement::new(
        "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
         VALUES (1, 'Other', 'other', 0, CURRENT_TIMESTAMP, 'member', FALSE, 1)",
    );
    cluster.change(Silo::Region(0), &[row]).await.expect("the application writes it");
    failpoints.release();
    let import = region.wait(&begun.import.unwrap_or_default().import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
    assert_eq!(failpoints.reached("region.ids.leased"), 2, "it leased another block");
    let ids: Vec<i64> = import.organizations.iter().map(|organization| organization.id).collect();
    assert!(ids.len() == 1 && ids[0] > 1_000, "{ids:?} is in the block that was given up");
    cluster.stop().await;
}
