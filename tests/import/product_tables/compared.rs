//! What a comparison of region and control finds in the product's own tables.

use super::*;

/// A comparison follows the product at once, and does not put the old slug back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_does_not_put_back_what_the_product_has_renamed() {
    let rarely = |builder: ClusterBuilder| builder.product_interval(Duration::from_hours(1));
    let product = Product::start_with(LAYOUTS[1], rarely).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let id = import.organizations.first().expect("an organization").id;
    rename_in_product(&product, id, "by-product").await;
    assert_eq!(product.repair().await, [] as [String; 0]);
    let slug = format!("SELECT slug AS line FROM sentry_organization WHERE id = {id}");
    assert_eq!(product.region(&slug).await, ["by-product"]);
    product.drain().await;
    product.assert_known().await;
    product.cluster.stop().await;
}

/// Somebody has changed the slug of an organization in its table alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slug_that_a_comparison_repairs_is_in_the_products_tables() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    let id = import.organizations.first().expect("an organization").id;
    let odd = format!("UPDATE sentry_organization SET slug = 'odd' WHERE id = {id}");
    product.execute(Silo::Region(0), &[odd, changed(id)]).await;
    product.drain().await;
    assert_ne!(product.repair().await, [] as [String; 0]);
    product.drain().await;
    product.assert_known().await;
    product.cluster.stop().await;
}

/// Control takes over what the product has reserved for an organization of its own, and leaves it to the product.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_the_product_made_keeps_its_reservation() {
    let product = Product::start(LAYOUTS[1]).await;
    product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let made = "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
                SELECT 7000, name, 'made', 0, date_added, default_role, is_test, flags FROM sentry_organization LIMIT 1";
    product.execute(Silo::Region(0), &[made.to_owned()]).await;
    let reserved = "INSERT INTO sentry_organizationslugreservation (slug, organization_id, user_id, region_name, \
                    reservation_type, date_added) VALUES ('made', 7000, 5, 'us', 0, now())";
    product.execute(Silo::Control, &[reserved.to_owned()]).await;
    product.repair().await;
    assert_eq!(product.repair().await, [] as [String; 0], "it is not taken by somebody else");
    let of_product = "SELECT slug || ' ' || user_id || ' ' || reservation_type AS line \
                      FROM sentry_organizationslugreservation WHERE organization_id = 7000";
    assert_eq!(product.control(of_product).await, ["made 5 0"]);
    // Gone from the region, it is the product's to forget, too.
    let gone = "DELETE FROM sentry_organization WHERE id = 7000".to_owned();
    product.execute(Silo::Region(0), &[gone]).await;
    product.repair().await;
    assert_eq!(product.control(of_product).await, ["made 5 0"]);
    product.cluster.stop().await;
}

/// What the product has lost of an organization, and which difference that is.
const LOST: [(Silo, &str, DifferenceKind); 15] = [
    (
        Silo::Control,
        "DELETE FROM sentry_organizationslugreservation WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
    (
        Silo::Control,
        "UPDATE sentry_organizationslugreservation SET region_name = 'nowhere' WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
    (
        Silo::Region(0),
        "DELETE FROM hybridcloud_organizationslugreservationreplica WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
    (
        Silo::Region(0),
        "UPDATE hybridcloud_organizationslugreservationreplica SET slug = 'odd' WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
    (
        Silo::Control,
        "DELETE FROM sentry_organizationmapping WHERE organization_id = $1",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Control,
        "UPDATE sentry_organizationmapping SET slug = 'odd', name = 'Odd', status = 1 WHERE organization_id = $1",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Control,
        "UPDATE sentry_organizationslugreservation SET reservation_type = 1 WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
    (
        Silo::Control,
        "DELETE FROM sentry_organizationmembermapping WHERE id = (SELECT min(id) \
         FROM sentry_organizationmembermapping WHERE organization_id = $1)",
        DifferenceKind::ProductMappingDiffers,
    ),
    // As many as there should be, and one is of somebody else.
    (
        Silo::Control,
        "UPDATE sentry_organizationmembermapping SET user_id = NULL WHERE id = (SELECT min(id) \
         FROM sentry_organizationmembermapping WHERE organization_id = $1 AND user_id IS NOT NULL)",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Control,
        "UPDATE sentry_organizationmembermapping SET role = 'odd' WHERE organization_id = $1",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Control,
        "DELETE FROM sentry_teamreplica WHERE organization_id = $1",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Control,
        "UPDATE sentry_teamreplica SET slug = 'odd' || id WHERE organization_id = $1",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Control,
        "UPDATE sentry_organizationmember_teamsreplica SET is_active = NOT is_active WHERE organization_id = $1",
        DifferenceKind::ProductMappingDiffers,
    ),
    (
        Silo::Region(0),
        "DELETE FROM hybridcloud_orgauthtokenreplica WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
    (
        Silo::Region(0),
        "UPDATE hybridcloud_orgauthtokenreplica SET token_hashed = 'odd' || id WHERE organization_id = $1",
        DifferenceKind::ProductReservationDiffers,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_product_has_lost_is_found_and_written_again() {
    for layout in [LAYOUTS[0], LAYOUTS[1]] {
        let product = Product::start(layout).await;
        let import = product.import(&export(), &ImportOptions::default()).await;
        // What the workers have yet to do is not a difference.
        assert_eq!(product.compare(ReconcileMode::Check).await, []);
        product.drain().await;
        assert_eq!(product.compare(ReconcileMode::Check).await, []);
        let id = import.organizations.first().expect("an organization").id;
        for (silo, lose, kind) in LOST {
            product.execute(silo, &[lose.replace("$1", &id.to_string())]).await;
            assert_eq!(product.compare(ReconcileMode::Check).await, [(id, kind, false)], "{lose}");
            // Whether the workers make a mapping shows when they have.
            let repaired = kind == DifferenceKind::ProductReservationDiffers;
            assert_eq!(product.compare(ReconcileMode::Repair).await, [(id, kind, repaired)], "{lose}");
            product.drain().await;
            product.assert_known().await;
            assert_eq!(product.compare(ReconcileMode::Check).await, [], "{lose}");
        }
        product.cluster.stop().await;
    }
}

/// A mapping of a member whom the organization does not have, perhaps beside one that is missing. Nothing that is announced
/// removes it, so nobody announces it again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_too_many_hides_none_that_is_missing_and_is_left_to_people() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let id = import.organizations.first().expect("an organization").id;
    let odd = format!(
        "UPDATE sentry_organizationmembermapping SET organizationmember_id = 7777, user_id = NULL WHERE id = \
         (SELECT min(id) FROM sentry_organizationmembermapping WHERE organization_id = {id})"
    );
    product.execute(Silo::Control, &[odd]).await;
    let kind = DifferenceKind::ProductMappingDiffers;
    assert_eq!(product.compare(ReconcileMode::Repair).await, [(id, kind, false)]);
    assert_ne!(product.drain().await, 0, "it was announced");
    assert_eq!(product.compare(ReconcileMode::Repair).await, [(id, kind, false)]);
    assert_eq!(product.drain().await, 0, "what is too many was not announced again");
    let lines = product.repair().await;
    assert!(lines.iter().all(|it| it.contains("and 1 more have a mapping")), "{lines:?}");
    let gone = "DELETE FROM sentry_organizationmembermapping WHERE organizationmember_id = 7777".to_owned();
    product.execute(Silo::Control, &[gone]).await;
    product.assert_known().await;
    assert_eq!(product.compare(ReconcileMode::Check).await, []);
    product.cluster.stop().await;
}

/// The region fails or dies before or after it has announced what the product's workers shall map again. The next
/// comparison announces it, perhaps a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_that_fails_or_dies_is_made_by_the_next_comparison() {
    let failpoints = Failpoints::default();
    let alone = |builder: ClusterBuilder| {
        let builder = builder.failpoints(&failpoints);
        // No comparison but those of the test.
        builder.configure_regions(|options| options.reconcile_every = Duration::ZERO)
    };
    let product = Product::start_with(LAYOUTS[1], alone).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let id = import.organizations.first().expect("an organization").id;
    let waiting = format!(
        "SELECT count(*)::text AS line FROM sentry_regionoutbox WHERE shard_identifier = {id} AND category = 2"
    );
    for (place, is_announced) in
        [("region.reconcile.product_prepared", false), ("region.reconcile.product_announced", true)]
    {
        for act in [Act::Fail, Act::Kill] {
            let lose = format!("DELETE FROM sentry_organizationmapping WHERE organization_id = {id}");
            product.execute(Silo::Control, &[lose]).await;
            assert_eq!(product.region(&waiting).await, ["0"]);
            failpoints.arm(place, act, 0);
            product.cluster.region(0).reconcile(ReconcileMode::Repair).await.expect_err("it fails");
            assert!(!failpoints.is_armed(), "{place} was not reached");
            assert_eq!(product.region(&waiting).await != ["0"], is_announced, "{place} {act:?}");
            product.cluster.revive().await.expect("it starts");
            product.repair().await;
            product.drain().await;
            product.assert_known().await;
            assert_eq!(product.compare(ReconcileMode::Check).await, [], "{place} {act:?}");
        }
    }
    product.cluster.stop().await;
}

/// Another organization has the slug in the product by now: it keeps the slug.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slug_that_the_product_has_given_away_meanwhile_is_reported() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let organization = import.organizations.first().expect("an organization");
    let given_away =
        "UPDATE sentry_organizationslugreservation SET organization_id = 998, user_id = 1 WHERE slug = ";
    product.execute(Silo::Control, &[format!("{given_away}'{}'", organization.slug)]).await;
    let compared = product.cluster.region(0).reconcile(ReconcileMode::Repair).await.expect("compared");
    let [found] = compared.differences.as_slice() else { panic!("{:?}", compared.differences) };
    assert_eq!(found.kind(), DifferenceKind::ProductReservationDiffers);
    assert!(!found.repaired && found.remedy.contains("for organization 998"), "{found:?}");
    let owner = "SELECT organization_id::text AS line FROM sentry_organizationslugreservation WHERE slug = ";
    assert_eq!(product.control(&format!("{owner}'{}'", organization.slug)).await, ["998"]);
    product.cluster.stop().await;
}

/// A region that was started with a wrong name finds that it is called otherwise, and changes nothing by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_name_of_the_region_is_reported_and_not_written_everywhere() {
    let mut product = Product::start(LAYOUTS[1]).await;
    product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    product.cluster.stop_region(0).await;
    product.cluster.configure_regions(|options| {
        options.product_name = Some("mistyped".to_owned());
        options.reconcile_every = Duration::from_hours(1);
    });
    product.cluster.start_region(0).await.expect("it starts");
    let compared = product.cluster.region(0).reconcile(ReconcileMode::Check).await.expect("compared");
    let of_name = |it: &&causeway_proto::region::v1::Difference| {
        it.kind() == DifferenceKind::ProductReservationDiffers
            && it.message.contains("for region `us`")
            && it.remedy.contains("--product-region-name us")
    };
    assert_eq!(compared.differences.iter().filter(of_name).count(), 2, "{:?}", compared.differences);
    let names = "SELECT DISTINCT region_name AS line FROM sentry_organizationslugreservation WHERE organization_id <> 999";
    assert_eq!(product.control(names).await, ["us"]);
    product.cluster.stop().await;
}
