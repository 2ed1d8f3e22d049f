//! Renames by Causeway and by the product.

use causeway_proto::control::v1::ListHeldOrganizationsRequest;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_is_in_the_products_tables() {
    for layout in LAYOUTS {
        let product = Product::start(layout).await;
        let import = product.import(&export(), &ImportOptions::default()).await;
        product.drain().await;
        let id = import.organizations.first().expect("an organization").id;
        product.rename(id, "renamed", false).await;
        product.drain().await;
        product.assert_known().await;
        assert!(
            product
                .control("SELECT slug AS line FROM sentry_organizationslugreservation")
                .await
                .contains(&"renamed".to_owned())
        );
        // The old slug is free for others, here as there.
        let other = import.organizations.get(1).expect("another").id;
        product.rename(other, "one", false).await;
        product.drain().await;
        product.assert_known().await;
        // The product knows no aliases. One that only control knows is in use as well.
        product.rename(other, "uno", true).await;
        let mut export = Export::new();
        export.organization(1, "one").user(11, "ann").member(1, 1, 11);
        let import = product.import(&export, &ImportOptions::default()).await;
        let slug = import.organizations.first().expect("an organization").slug.clone();
        assert!(slug.starts_with("one-"), "{slug}");
        product.drain().await;
        product.assert_known().await;
        product.revert(&import).await;
        let held = "SELECT slug AS line FROM sentry_organizationslugreservation ORDER BY slug";
        assert_eq!(product.control(held).await, ["renamed", "taken", "uno"], "nothing is held for nobody");
        product.cluster.stop().await;
    }
}

/// The product knows no aliases: the organization must not fall out of its tables when one becomes its slug again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_that_becomes_the_slug_again_is_in_the_products_tables() {
    let product = Product::start(LAYOUTS[1]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let id = import.organizations.first().expect("an organization").id;
    product.rename(id, "uno", true).await;
    product.rename(id, "one", true).await;
    product.drain().await;
    product.assert_known().await;
    // Until somebody else has it there.
    let given_away = "INSERT INTO sentry_organizationslugreservation (slug, organization_id, user_id, region_name, \
                      reservation_type, date_added) VALUES ('uno', 998, 1, 'elsewhere', 0, now())";
    product.execute(Silo::Control, &[given_away.to_owned()]).await;
    assert_eq!(refused(product.try_rename(id, "uno", true).await), ErrorReason::SlugTaken);
    product.cluster.stop().await;
}

/// Renames that make room for each other are followed together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_by_the_product_that_depend_on_each_other_are_followed() {
    let rarely = |builder: ClusterBuilder| builder.product_interval(Duration::from_hours(1));
    let product = Product::start_with(LAYOUTS[0], rarely).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let [first, second] = [0, 1].map(|index| import.organizations.get(index).expect("an organization").id);
    rename_in_product(&product, second, "three").await;
    rename_in_product(&product, first, "two").await;
    assert_eq!(product.repair().await, [] as [String; 0]);
    product.drain().await;
    product.assert_known().await;
    product.cluster.stop().await;
}

/// The product has let organizations exchange their slugs, or pass them on in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slugs_that_the_product_has_exchanged_are_followed() {
    let rarely = |builder: ClusterBuilder| builder.product_interval(Duration::from_hours(1));
    let product = Product::start_with(LAYOUTS[0], rarely).await;
    let mut export = export();
    export.organization(3, "three").user(13, "cid").member(3, 3, 13);
    let import = product.import(&export, &ImportOptions::default()).await;
    product.drain().await;
    let [one, two, three] =
        [0, 1, 2].map(|index| import.organizations.get(index).expect("an organization").id);
    for slugs in [["two", "one", "three"], ["three", "two", "one"], ["one", "three", "two"]] {
        let organizations = [one, two, three];
        for (id, slug) in organizations.into_iter().zip(["away-1", "away-2", "away-3"]) {
            rename_in_product(&product, id, slug).await;
        }
        // Each side of the product learns of a slug that is free before somebody else gets it.
        product.drain().await;
        for (id, slug) in organizations.into_iter().zip(slugs) {
            rename_in_product(&product, id, slug).await;
        }
        assert_eq!(product.repair().await, [] as [String; 0]);
        product.drain().await;
        product.assert_known().await;
        let resolved = organizations.into_iter().zip(slugs).map(|(id, slug)| format!("{slug} {id}"));
        let at_control = "SELECT slug || ' ' || organization_id AS line \
                          FROM causeway_control.causeway_organization_slug_reservation ORDER BY organization_id";
        assert_eq!(product.control(at_control).await, resolved.collect::<Vec<_>>());
    }
    product.cluster.stop().await;
}

/// The product allows one rename of an organization at a time, and so does control.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_the_product_is_renaming_is_not_renamed() {
    let product = Product::start(LAYOUTS[0]).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    let id = import.organizations.first().expect("an organization").id;
    let begun = format!(
        "INSERT INTO sentry_organizationslugreservation (slug, organization_id, user_id, region_name, reservation_type, \
         date_added) VALUES ('wanted', {id}, 5, '--monolith--', 1, now())"
    );
    product.execute(Silo::Control, &[begun]).await;
    assert_eq!(refused(product.try_rename(id, "other", false).await), ErrorReason::RenameInFlight);
    let ended = "DELETE FROM sentry_organizationslugreservation WHERE slug = 'wanted'".to_owned();
    product.execute(Silo::Control, &[ended]).await;
    product.rename(id, "other", false).await;
    product.drain().await;
    product.assert_known().await;
    product.cluster.stop().await;
}

/// Control follows by itself, and so does everything that follows control. A comparison finds nothing to put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_by_the_product_is_followed() {
    for layout in LAYOUTS {
        let product = Product::start(layout).await;
        let import = product.import(&export(), &ImportOptions::default()).await;
        product.drain().await;
        let id = import.organizations.first().expect("an organization").id;
        rename_in_product(&product, id, "by-product").await;
        eventually("control has followed", async || {
            let all = product.cluster.control().all_reservations().await.expect("reservations");
            let slugs: Vec<&str> =
                all.iter().filter(|it| it.organization_id == id).map(|it| it.slug.as_str()).collect();
            slugs == ["by-product"]
        })
        .await;
        assert_eq!(product.repair().await, [] as [String; 0]);
        product.drain().await;
        product.assert_known().await;
        // From now on the old slug is free for all, and the new one belongs to this organization.
        product.import(&export(), &ImportOptions::default()).await;
        product.drain().await;
        product.assert_known().await;
        product.cluster.stop().await;
    }
}

/// While control renames one of them, neither gets a slug for the moment: that could last for days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_steps_aside_for_a_rename_that_control_has_under_way() {
    let rarely = |builder: ClusterBuilder| builder.product_interval(Duration::from_hours(1));
    let mut product = Product::start_with(LAYOUTS[0], rarely).await;
    let import = product.import(&export(), &ImportOptions::default()).await;
    product.drain().await;
    let [one, two] = [0, 1].map(|index| import.organizations.get(index).expect("an organization").id);
    product.cluster.stop_region(0).await;
    let request = UpdateOrganizationSlugRequest {
        operation_id: Environment::system().uuid().to_string(),
        organization_id: two,
        desired_slug: "pending".to_owned(),
        require_exact: true,
        ..UpdateOrganizationSlugRequest::default()
    };
    product.cluster.control().reservations().update_organization_slug(request).await.expect("it begins");
    for (id, slug) in [(one, "away"), (two, "one"), (one, "two")] {
        rename_in_product(&product, id, slug).await;
    }
    let held =
        ListHeldOrganizationsRequest { region: "us".to_owned(), ..ListHeldOrganizationsRequest::default() };
    product.cluster.control().directory().list_held_organizations(held).await.expect("listed");
    let at_control = "SELECT slug AS line FROM causeway_control.causeway_organization_slug_reservation \
                      WHERE type = 'primary' ORDER BY organization_id";
    assert_eq!(product.control(at_control).await, ["one", "two"]);
    product.cluster.stop().await;
}
