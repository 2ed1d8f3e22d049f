//! A directory in memory, which follows the feeds of all regions, and a region that has to catch up.

use std::{collections::BTreeMap, time::Duration};

use causeway_client::{Client, Timeouts};
use causeway_directory::{Directory, Options, SlugKind};
use causeway_harness::cluster::{Cluster, ClusterBuilder, Service, Silo, Store};
use causeway_proto::{
    control::v1::{
        RegisterRegionRequest, ReleaseSlugAliasRequest, RenameState, ReservationType,
        UpdateOrganizationSlugRequest,
    },
    region::v1::{ListImportsRequest, RevertImportRequest},
    time,
};
use causeway_silo::db::Statement;

use crate::support::{PATIENCE, agrees, imported, leads_in, rename, requested_slug, until};

/// Starts a directory that follows through all controls, with short pauses.
fn follow(cluster: &Cluster) -> Directory {
    let controls = (0..cluster.control_count()).map(|index| cluster.url(Service::Control(index)));
    let controls: Vec<String> = controls.collect();
    let control =
        Client::new(causeway_client::Service::Control, &controls, Timeouts::default()).expect("URLs");
    let options = Options {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(100),
        ..Options::default()
    };
    Directory::follow(control, options)
}

async fn ready(directory: &Directory) {
    tokio::time::timeout(PATIENCE, directory.ready()).await.expect("it is ready in time");
    assert!(directory.is_ready() && directory.staleness().is_some());
}

/// What a slug leads to: organization, region, canonical slug.
fn led(directory: &Directory, slug: &str) -> Option<(i64, String, String)> {
    let found = directory.resolve(slug)?;
    assert_eq!(found.kind == SlugKind::Primary, found.canonical_slug == slug.to_lowercase(), "{found:?}");
    Some((found.organization_id, found.region.to_string(), found.canonical_slug))
}

/// Waits until a directory has everything that control has, and nothing else.
async fn knows_all(directory: &Directory, cluster: &Cluster, control: usize) {
    let reservations = cluster.control_number(control).all_reservations().await.expect("reservations");
    let own: BTreeMap<(&str, i64), &str> = reservations
        .iter()
        .filter(|it| it.r#type() == ReservationType::Primary)
        .map(|it| ((it.region.as_str(), it.organization_id), it.slug.as_str()))
        .collect();
    let held = reservations.iter().filter(|it| it.r#type() != ReservationType::TemporaryRenameAlias);
    let held: BTreeMap<&str, (i64, String, String)> = held
        .map(|it| {
            let canonical = own[&(it.region.as_str(), it.organization_id)].to_owned();
            (it.slug.as_str(), (it.organization_id, it.region.clone(), canonical))
        })
        .collect();
    until(&format!("the directory knows {held:?}"), async || {
        let count: usize = directory.regions().iter().map(|region| region.slugs).sum();
        count == held.len() && held.iter().all(|(slug, wanted)| led(directory, slug).as_ref() == Some(wanted))
    })
    .await;
}

pub(crate) async fn a_directory_knows_the_slugs_of_all_regions(store: Store) {
    let cluster = Cluster::start(store, &["us", "de"]).await.expect("a cluster");
    let control = cluster.control();
    let [(first, old), _] = imported(&cluster, 0).await;
    let directory = follow(&cluster);
    ready(&directory).await;
    knows_all(&directory, &cluster, 0).await;
    // A region that had no organizations when the directory started.
    let [(other, _), (_, last)] = imported(&cluster, 1).await;
    knows_all(&directory, &cluster, 0).await;

    // Renames. Their aliases always lead to the latest slug.
    for (number, slug) in [(1, "dune"), (2, "elm")] {
        let keep = UpdateOrganizationSlugRequest { keep_alias: true, ..requested_slug(number, first, slug) };
        rename(&control, &keep).await.expect("renamed");
        knows_all(&directory, &cluster, 0).await;
    }
    let us = Some((first, "us".to_owned(), "elm".to_owned()));
    for slug in [old.as_str(), "dune", "DUNE", "elm"] {
        assert_eq!(led(&directory, slug), us, "{slug}");
    }

    // A slug that moves to an organization of another region.
    let release = ReleaseSlugAliasRequest { organization_id: first, slug: old.clone() };
    assert!(
        control.reservations().release_slug_alias(release).await.expect("released").into_inner().released
    );
    until("the alias is gone", async || led(&directory, &old).is_none()).await;
    let exact = UpdateOrganizationSlugRequest { require_exact: true, ..requested_slug(3, other, &old) };
    rename(&control, &exact).await.expect("renamed");
    knows_all(&directory, &cluster, 0).await;
    let found = directory.resolve(&old).expect("it leads somewhere");
    assert_eq!((&*found.region, &*found.region_address), ("de", cluster.region(1).url()));

    // A new region, and an import that is reverted.
    let new = RegisterRegionRequest {
        name: "fr".to_owned(),
        address: "http://fr.example.com".to_owned(),
        instance_id: "00000000-0000-4000-8000-000000000001".to_owned(),
        ..RegisterRegionRequest::default()
    };
    control.regions().register_region(new).await.expect("registered");
    until("the new region is followed", async || {
        directory.regions().iter().any(|region| &*region.name == "fr" && region.version > 0)
    })
    .await;
    let region = cluster.region(1);
    let imports = region.imports().list_imports(ListImportsRequest::default()).await.expect("a list");
    let import_id = imports.into_inner().imports.remove(0).import_id;
    let revert = RevertImportRequest { import_id: import_id.clone() };
    region.imports().revert_import(revert).await.expect("it is taken back");
    region.wait(&import_id).await.expect("it ends");
    until("nothing leads to the region any more", async || {
        directory.regions().iter().all(|region| &*region.name != "de" || region.slugs == 0)
    })
    .await;
    assert_eq!((led(&directory, &last), led(&directory, &old)), (None, None));
    knows_all(&directory, &cluster, 0).await;
    drop(directory);
    cluster.stop().await;
}

pub(crate) async fn a_directory_answers_while_control_is_away(store: Store) {
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let [(id, slug), (_, gone)] = imported(&cluster, 0).await;
    let directory = follow(&cluster);
    ready(&directory).await;
    knows_all(&directory, &cluster, 0).await;
    cluster.stop_control().await;
    let age = || directory.staleness().expect("it was ready");
    let before = age();
    until("what it knows grows old", async || age() > before + Duration::from_millis(200)).await;
    assert_eq!(led(&directory, &slug), Some((id, "us".to_owned(), slug.clone())));
    // A directory that has never reached control knows nothing, and reports that.
    let late = follow(&cluster);
    assert!(!late.is_ready());
    assert_eq!((late.staleness(), late.resolve(&slug)), (None, None));

    // A slug is released, and so many changes follow that control deletes the event about it.
    let db = cluster.db(Silo::Control).await.expect("its database");
    let delete = "DELETE FROM causeway_organization_slug_reservation WHERE slug = $1 RETURNING slug";
    assert_eq!(db.fetch_all(Statement::new(delete).with(gone.as_str())).await.expect("deleted").len(), 1);
    let forget =
        "UPDATE causeway_feed SET version = version + 1000, oldest = version + 1000 RETURNING version";
    let version = db.fetch_all(Statement::new(forget)).await.expect("forgotten")[0].int("version");
    db.fetch_all(Statement::new("DELETE FROM causeway_feed_event RETURNING version"))
        .await
        .expect("forgotten");
    db.close().await;

    let oldest = age();
    cluster.start_control().await.expect("it starts");
    until("it has heard control again", async || age() < oldest).await;
    until("what is gone has gone", async || led(&directory, &gone).is_none()).await;
    assert_eq!(directory.regions()[0].version, version.expect("a version"));
    ready(&late).await;
    for directory in [&directory, &late] {
        assert_eq!(led(directory, &slug), Some((id, "us".to_owned(), slug.clone())));
        assert_eq!(directory.regions()[0].slugs, 1);
    }
    drop((directory, late));
    cluster.stop().await;
}

pub(crate) async fn a_directory_goes_on_with_another_control(builder: ClusterBuilder) {
    let cluster = builder.controls(2).region("us").region("de").start().await.expect("a cluster");
    let [(id, _), _] = imported(&cluster, 0).await;
    let directory = follow(&cluster);
    ready(&directory).await;
    for (number, slug) in ["dune", "elm", "fir"].into_iter().enumerate() {
        let (away, there) = (number % 2, (number + 1) % 2);
        cluster.kill(Service::Control(away)).await;
        let control = cluster.control_number(there);
        rename(&control, &requested_slug(number as u128 + 1, id, slug)).await.expect("renamed");
        until("it is heard", async || led(&directory, slug).is_some()).await;
        knows_all(&directory, &cluster, there).await;
        cluster.start_service(Service::Control(away)).await.expect("it starts");
    }
    drop(directory);
    cluster.stop().await;
}

/// A region was down for a day. So much happened meanwhile that control has deleted the first events.
pub(crate) async fn a_region_that_was_away_for_long_catches_up(store: Store) {
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let [(id, old), (other, _)] = imported(&cluster, 0).await;
    let control = cluster.control();
    let keep = UpdateOrganizationSlugRequest { keep_alias: true, ..requested_slug(1, id, "dune") };
    rename(&control, &keep).await.expect("renamed");
    until("the region has heard of it", async || leads_in(&cluster, 0, &old).await.is_some()).await;

    cluster.stop_region(0).await;
    let release = ReleaseSlugAliasRequest { organization_id: id, slug: old.clone() };
    control.reservations().release_slug_alias(release).await.expect("released");
    let impatient =
        UpdateOrganizationSlugRequest { wait: Some(time::seconds(0)), ..requested_slug(2, other, "elm") };
    assert_eq!(rename(&control, &impatient).await.expect("begun").state(), RenameState::Pending);
    let db = cluster.db(Silo::Control).await.expect("its database");
    let forget = "UPDATE causeway_feed SET oldest = version RETURNING version";
    db.fetch_all(Statement::new(forget)).await.expect("forgotten");
    db.fetch_all(Statement::new("DELETE FROM causeway_feed_event RETURNING version"))
        .await
        .expect("forgotten");
    db.close().await;
    cluster.start_region(0).await.expect("it starts");

    assert_eq!(
        rename(&control, &requested_slug(2, other, "elm")).await.expect("renamed").state(),
        RenameState::Confirmed
    );
    agrees(&cluster, 0).await;
    let reservations = control.all_reservations().await.expect("reservations");
    let held: Vec<String> = reservations.into_iter().map(|it| it.slug).collect();
    assert_eq!(held, ["dune", "elm"]);
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    let replica = Statement::new("SELECT slug FROM causeway_slug_replica ORDER BY slug");
    let rows = db.fetch_all(replica).await.expect("a replica");
    let known: Vec<String> = rows.iter().map(|row| row.text("slug").expect("a slug")).collect();
    db.close().await;
    assert_eq!(known, held);
    for (slug, wanted) in [("dune", Some((id, "dune".to_owned()))), (old.as_str(), None)] {
        assert_eq!(leads_in(&cluster, 0, slug).await, wanted);
    }
    cluster.stop().await;
}
