//! What an import writes for the product.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_product_knows_what_was_imported() {
    for layout in LAYOUTS {
        let product = Product::start(layout).await;
        product.import(&export(), &ImportOptions::default()).await;
        let payloads = "SELECT DISTINCT (payload::json ->> 'user_id') || ' ' || category AS line FROM sentry_regionoutbox \
                        WHERE payload IS NOT NULL ORDER BY 1";
        let users = "SELECT DISTINCT user_id || ' 3' AS line FROM sentry_organizationmember WHERE user_id IS NOT NULL ORDER BY 1";
        assert_eq!(product.region(payloads).await, product.region(users).await);
        let silent = "SELECT DISTINCT category::text AS line FROM sentry_regionoutbox WHERE category IN (8, 26) ORDER BY 1";
        assert_eq!(product.region(silent).await, ["26", "8"]);
        assert!(product.drain().await > 0);
        product.assert_known().await;
        // Nothing that was announced is announced again, and a second import adds its own.
        assert_eq!(product.drain().await, 0);
        product.import(&export(), &ImportOptions::default()).await;
        product.drain().await;
        product.assert_known().await;
        product.cluster.stop().await;
    }
}

/// The places between two commits that concern the product's tables.
const PLACES: [&str; 8] = [
    "control.import_models.recorded",
    "control.bulk_create.checked",
    "control.bulk_create.prepared",
    "control.bulk_create.committed",
    "control.confirm.prepared",
    "control.confirm.committed",
    "region.finish.counted",
    "region.finish.visible",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_product_knows_what_was_imported_whatever_failed_on_the_way() {
    let failpoints = Failpoints::default();
    let product = Product::start_with(LAYOUTS[0], |builder| builder.failpoints(&failpoints)).await;
    for place in PLACES {
        failpoints.arm(place, Act::Fail, 0);
        product.import(&export(), &ImportOptions::default()).await;
        assert!(!failpoints.is_armed(), "{place} was not reached");
        product.drain().await;
        product.assert_known().await;
    }
    product.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slug_that_the_product_has_reserved_is_taken() {
    for layout in LAYOUTS {
        let product = Product::start(layout).await;
        let mut export = Export::new();
        export.organization(1, "taken").user(11, "ann").member(1, 1, 11);
        let request = CheckSlugsRequest { slugs: vec!["taken".to_owned()], ..CheckSlugsRequest::default() };
        let answer = product.cluster.control().directory().check_slugs(request).await.expect("checked");
        let answer = answer.into_inner().checks;
        let owner = answer.first().and_then(|check| check.taken_by.clone()).expect("it is taken");
        assert_eq!((owner.organization_id, owner.region.as_str()), (999, "elsewhere"));
        let dry = product.import(&export, &ImportOptions::default().dry_run()).await;
        let import = product.import(&export, &ImportOptions::default()).await;
        for (import, wording) in [(dry, "would"), (import, "elsewhere")] {
            let findings = product.cluster.region(0).findings(&import.import_id).await.expect("findings");
            let changed =
                findings.iter().find(|it| it.kind() == FindingKind::SlugChanged).expect("it is reported");
            assert!(changed.reason.contains(wording) && changed.reason.contains("999"), "{changed:?}");
        }
        product.drain().await;
        let slugs = product.region("SELECT slug AS line FROM sentry_organization").await;
        assert!(slugs.iter().all(|slug| slug.starts_with("taken-")), "{slugs:?}");
        product.cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_organizations_are_announced_again_when_they_are_approved() {
    let product = Product::start(LAYOUTS[0]).await;
    let options = ImportOptions { hide_organizations: true, ..ImportOptions::default() };
    let import = product.import(&export(), &options).await;
    product.drain().await;
    let statuses =
        "SELECT DISTINCT status::text AS line FROM sentry_organizationmapping WHERE organization_id <> 999";
    assert_eq!(product.control(statuses).await, ["3"]);
    let request =
        ApproveOrganizationsRequest { import_id: import.import_id, ..ApproveOrganizationsRequest::default() };
    product.cluster.region(0).organizations().approve_organizations(request).await.expect("approved");
    product.drain().await;
    assert_eq!(product.control(statuses).await, ["0"]);
    product.assert_known().await;
    product.cluster.stop().await;
}

/// A region is called as the product calls it: the one that shares control's database as the product calls its only one,
/// the others by their names, or by the name that was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_region_has_its_name_in_the_product() {
    let tables = product::tables(Release::R24_9).expect("the tables");
    let cluster = Cluster::builder(Store::Postgres)
        .region("us")
        .region("de")
        .region("fr")
        .one_database()
        .tables_of_control(&tables)
        .tables_of_regions(&tables)
        .configure_regions(|options| {
            if options.name == "fr" {
                options.product_name = Some("eu-west".to_owned());
            }
        });
    let cluster = cluster.start().await.expect("a cluster; this test needs PostgreSQL");
    let control = cluster.db(Silo::Control).await.expect("a database");
    for (index, name) in ["--monolith--", "de", "eu-west"].into_iter().enumerate() {
        let import = cluster.region(index).import(&export().to_bytes(), &ImportOptions::default()).await;
        let import = import.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
        let region = cluster.db(Silo::Region(index)).await.expect("a database");
        assert!(workers::drain(&control, &region, name).await.expect("the workers") > 0);
        for organization in &import.organizations {
            let statement = "SELECT r.region_name AS reserved, m.region_name AS mapped FROM sentry_organizationslugreservation r \
                             JOIN sentry_organizationmapping m ON m.organization_id = r.organization_id \
                             WHERE r.organization_id = $1";
            let row = control
                .fetch_optional(Statement::new(statement).with(organization.id))
                .await
                .expect("asked")
                .expect("a row");
            let names = [row.text("reserved").expect("a name"), row.text("mapped").expect("a name")];
            assert_eq!(names, [name, name]);
        }
    }
    cluster.stop().await;
}

/// One organization may have very many members, so they are announced chunk by chunk. A region that dies in between goes
/// on behind the last chunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_announced_chunk_by_chunk_and_once() {
    let failpoints = Failpoints::default();
    let product = Product::start_with(LAYOUTS[1], |builder| builder.failpoints(&failpoints)).await;
    let mut export = export();
    // The first chunk has at most 250 records, the next one twice as many.
    for pk in 100..1_000 {
        export.invite(pk, 1, &format!("guest-{pk}@one.example"));
    }
    let announced = async || {
        let query = "SELECT count(*) || ' of ' || count(DISTINCT (category, object_identifier)) AS line \
                     FROM sentry_regionoutbox WHERE category IN (3, 8, 11, 26)";
        product.region(query).await.concat()
    };
    failpoints.arm("region.finish.rows_announced", Act::Kill, 2);
    let begun = product.cluster.region(0).begin(&export.to_bytes(), &ImportOptions::default()).await;
    let id = begun.expect("it begins").import.expect("an import").import_id;
    product.cluster.killed().await;
    let first = announced().await;
    // Members, and two each of teams, projects, and members of teams.
    let all = "910 of 910";
    assert!(!["0 of 0", all].contains(&first.as_str()), "{first}");
    assert_eq!(product.region("SELECT DISTINCT status::text AS line FROM sentry_organization").await, ["3"]);
    product.cluster.revive().await.expect("the region is back");
    let done = product.cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(announced().await, all);
    product.drain().await;
    product.assert_known().await;
    product.cluster.stop().await;
}
