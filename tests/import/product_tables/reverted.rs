//! What a revert takes back.

use super::*;

/// A revert that fails on its way goes on, and then leaves as little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_that_fails_on_its_way_leaves_nothing_in_the_products_tables() {
    for place in
        ["region.revert_chunk.recorded", "control.release_organizations.prepared", "region.revert.released"]
    {
        let failpoints = Failpoints::default();
        let product = Product::start_with(LAYOUTS[1], |builder| builder.failpoints(&failpoints)).await;
        let import = product.import(&export(), &ImportOptions::default()).await;
        product.drain().await;
        failpoints.arm(place, Act::Fail, 0);
        product.revert(&import).await;
        assert!(!failpoints.is_armed(), "{place} was not reached");
        product.assert_as_before().await;
        product.cluster.stop().await;
    }
}

/// Whatever slug the organization has by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_after_a_rename_by_the_product_leaves_nothing() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    rename_in_product(&product, import.organizations.first().expect("an organization").id, "by-product")
        .await;
    product.revert(&import).await;
    product.drain().await;
    product.assert_as_before().await;
    product.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_leaves_nothing_in_the_products_tables() {
    for layout in LAYOUTS {
        for drained in [true, false] {
            let product = Product::start(layout).await;
            let import = product.import(&export(), &ImportOptions::default()).await;
            if drained {
                product.drain().await;
                product.assert_known().await;
            }
            product.revert(&import).await;
            product.assert_as_before().await;
            // What the workers had not done yet is about rows that are gone.
            product.drain().await;
            product.assert_as_before().await;
            product.cluster.stop().await;
        }
    }
}

/// A user whom the product has made a member of another organization meanwhile is needed there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_keeps_what_the_product_needs() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let join = "INSERT INTO sentry_organizationmembermapping (organization_id, organizationmember_id, role, user_id, \
                date_added) SELECT 999, 5, 'member', id, now() FROM auth_user WHERE username = 'one'";
    product.execute(Silo::Control, &[join.to_owned()]).await;
    product.revert(&import).await;
    product.drain().await;
    assert_eq!(product.control("SELECT username AS line FROM auth_user").await, ["one"]);
    let members = "SELECT organization_id::text AS line FROM sentry_organizationmembermapping";
    assert_eq!(product.control(members).await, ["999"]);
    product.cluster.stop().await;
}

/// An organization to which the product has added something stays, hidden, and without its tokens: for the product as
/// well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_a_revert_keeps_is_hidden_in_the_products_tables() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let id = import.organizations.first().expect("an organization").id;
    let team = format!(
        "INSERT INTO sentry_team (id, organization_id, slug, name, status, date_added, idp_provisioned) \
         VALUES (5000, {id}, 'added', 'Added', 0, now(), false)"
    );
    product.execute(Silo::Region(0), &[team]).await;
    product.revert(&import).await;
    product.drain().await;
    let known = "SELECT organization_id || ' ' || status AS line FROM sentry_organizationmapping WHERE organization_id <> 999";
    assert_eq!(product.control(known).await, [format!("{id} 3")]);
    let tokens = "SELECT id::text AS line FROM hybridcloud_orgauthtokenreplica";
    assert_eq!(product.region(tokens).await, [] as [String; 0]);
    product.cluster.stop().await;
}

/// The product's workers may have made very many rows of one organization: they go in parts, before its slug.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_workers_have_made_of_many_members_is_deleted_in_parts() {
    let failpoints = Failpoints::default();
    let product = Product::start_with(LAYOUTS[1], |builder| builder.failpoints(&failpoints)).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let id = import.organizations.first().expect("an organization").id;
    let many = format!(
        "INSERT INTO sentry_organizationmembermapping (organization_id, organizationmember_id, role, email, date_added) \
         SELECT {id}, 100000 + n, 'member', n || '@example.com', now() FROM generate_series(1, 12000) n"
    );
    product.execute(Silo::Control, &[many]).await;
    failpoints.arm("control.release_organizations.part_forgotten", Act::Hold, 0);
    let request = RevertImportRequest { import_id: import.import_id.clone() };
    product.cluster.region(0).imports().revert_import(request).await.expect("it begins");
    failpoints.held().await;
    let left = product.control("SELECT count(*)::text AS line FROM sentry_organizationmembermapping").await;
    assert_eq!(left, ["7004"], "a part has 5,000");
    let reserved = format!(
        "SELECT count(*)::text AS line FROM sentry_organizationslugreservation WHERE organization_id = {id}"
    );
    assert_eq!(product.control(&reserved).await, ["1"]);
    failpoints.release();
    let reverted = product.cluster.region(0).wait(&import.import_id).await.expect("it ends");
    assert_eq!(reverted.state(), ImportState::Reverted);
    product.assert_as_before().await;
    product.cluster.stop().await;
}
