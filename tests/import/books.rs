//! What an import writes for the product in the product's own databases, and what the product's workers make of it. Only
//! PostgreSQL: the product has no other.

use std::time::Duration;

use causeway_harness::{
    cluster::{Act, Cluster, ClusterBuilder, Failpoints, ImportOptions, Silo, Store},
    export::Export,
    product::{self, Release},
    workers,
};
use causeway_proto::{
    control::v1::{CheckSlugsRequest, UpdateOrganizationSlugRequest},
    region::v1::{ApproveOrganizationsRequest, Import, ImportState, ReconcileMode, RevertImportRequest},
    relocation::v1::{ErrorReason, FindingKind},
};
use causeway_silo::{
    db::{DbError, Statement},
    env::Environment,
    transact,
};
use serde_json::json;
use tonic::Status;

use crate::support::{eventually, refused};

/// How the databases of the product are laid out, and what it calls the region.
#[derive(Debug, Clone, Copy)]
struct Layout {
    one_database: bool,
    region: &'static str,
    release: Release,
}

const LAYOUTS: [Layout; 3] = [
    Layout { one_database: true, region: "--monolith--", release: Release::R24_9 },
    Layout { one_database: false, region: "us", release: Release::R24_9 },
    Layout { one_database: true, region: "--monolith--", release: Release::R26_6 },
];

/// An organization of the product that Causeway did not import, with what the product has noted of it, and messages that
/// concern nobody here.
const OTHERS: [&str; 4] = [
    "INSERT INTO sentry_organizationslugreservation (slug, organization_id, user_id, region_name, reservation_type, \
     date_added) VALUES ('taken', 999, 1, 'elsewhere', 0, now())",
    "INSERT INTO sentry_organizationmapping (organization_id, slug, name, date_created, verified, idempotency_key, \
     region_name, status) VALUES (999, 'taken', 'Taken', now(), false, '', 'elsewhere', 0)",
    "INSERT INTO sentry_controloutbox (shard_scope, shard_identifier, object_identifier, category, scheduled_from, \
     scheduled_for, region_name) SELECT 0, 999, n, 5, now(), now(), 'elsewhere' FROM generate_series(1, 1000) n",
    "INSERT INTO sentry_regionoutbox (shard_scope, shard_identifier, object_identifier, category, scheduled_from, \
     scheduled_for) SELECT 0, 999, n, 5, now(), now() FROM generate_series(1, 1000) n",
];

struct Product {
    cluster: Cluster,
    layout: Layout,
}

impl Product {
    async fn start(layout: Layout) -> Self {
        Self::start_with(layout, |builder| builder).await
    }

    async fn start_with(layout: Layout, change: impl Fn(ClusterBuilder) -> ClusterBuilder) -> Self {
        let mut tables = product::tables(layout.release).expect("the tables");
        tables.extend(OTHERS.map(str::to_owned));
        // JSON is of another type in newer releases, perhaps here as well.
        if layout.release == Release::R26_6 {
            tables.push(
                "ALTER TABLE sentry_regionoutbox ALTER COLUMN payload TYPE jsonb USING payload::jsonb"
                    .to_owned(),
            );
        }
        let mut builder = change(Cluster::builder(Store::Postgres).region("us"));
        builder = builder.tables_of_control(&tables);
        builder = match layout.one_database {
            true => builder.one_database(),
            false => builder.tables_of_regions(&tables),
        };
        let cluster = builder.start().await.expect("a cluster; this test needs PostgreSQL");
        Self { cluster, layout }
    }

    async fn import(&self, export: &Export, options: &ImportOptions) -> Import {
        let import = self.cluster.region(0).import(&export.to_bytes(), options).await.expect("it ends");
        let wanted = if options.dry_run { ImportState::Planned } else { ImportState::Succeeded };
        assert_eq!(import.state(), wanted, "{:?}", import.failure);
        import
    }

    /// Lets the workers of the product do what there is to do.
    async fn drain(&self) -> usize {
        let control = self.cluster.db(Silo::Control).await.expect("a database");
        let region = self.cluster.db(Silo::Region(0)).await.expect("a database");
        workers::drain(&control, &region, self.layout.region).await.expect("the workers")
    }

    /// The lines that a query gives, in their order.
    async fn ask(&self, silo: Silo, query: &str) -> Vec<String> {
        let db = self.cluster.db(silo).await.expect("a database");
        let rows = db.fetch_all(Statement::new("").push(query)).await.expect("asked");
        rows.iter().map(|row| row.text("line").expect("a text")).collect()
    }

    async fn control(&self, query: &str) -> Vec<String> {
        self.ask(Silo::Control, query).await
    }

    async fn region(&self, query: &str) -> Vec<String> {
        self.ask(Silo::Region(0), query).await
    }

    async fn revert(&self, import: &Import) {
        let request = RevertImportRequest { import_id: import.import_id.clone() };
        self.cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
        let reverted = self.cluster.region(0).wait(&import.import_id).await.expect("it ends");
        assert_eq!(reverted.state(), ImportState::Reverted);
    }

    /// Compares the region with control and has differences repaired. Returns the messages.
    async fn repair(&self) -> Vec<String> {
        let compared = self.cluster.region(0).reconcile(ReconcileMode::Repair).await.expect("compared");
        compared.differences.into_iter().map(|difference| difference.message).collect()
    }

    async fn rename(&self, organization_id: i64, slug: &str, keep_alias: bool) {
        self.try_rename(organization_id, slug, keep_alias).await.expect("it is renamed");
    }

    async fn try_rename(&self, organization_id: i64, slug: &str, keep_alias: bool) -> Result<(), Status> {
        let request = UpdateOrganizationSlugRequest {
            operation_id: Environment::system().uuid().to_string(),
            organization_id,
            desired_slug: slug.to_owned(),
            require_exact: true,
            keep_alias,
            wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
            ..UpdateOrganizationSlugRequest::default()
        };
        self.cluster.control().reservations().update_organization_slug(request).await.map(drop)
    }

    /// Does what the product itself would do in a database.
    async fn execute(&self, silo: Silo, statements: &[String]) {
        let db = self.cluster.db(silo).await.expect("a database");
        let executed: Result<(), DbError> = transact!(DbError, db, |tx| {
            for statement in statements {
                tx.execute(Statement::new("").push(statement)).await?;
            }
        });
        executed.expect("executed");
    }

    /// Checks that the product knows each imported organization with all that belongs to it, and nothing else.
    async fn assert_known(&self) {
        let reservations = "SELECT organization_id || ' ' || slug || ' ' || region_name AS line FROM";
        let wanted = format!(
            "SELECT id || ' ' || slug || ' {}' AS line FROM sentry_organization ORDER BY id",
            self.layout.region
        );
        let organizations = self.region(&wanted).await;
        assert!(!organizations.is_empty());
        let of = |table: &str, condition: &str| {
            format!("{reservations} {table} WHERE organization_id <> 999{condition} ORDER BY organization_id")
        };
        let primary = " AND reservation_type = 0";
        assert_eq!(self.control(&of("sentry_organizationslugreservation", primary)).await, organizations);
        assert_eq!(self.control(&of("sentry_organizationmapping", "")).await, organizations);
        let replica = of("hybridcloud_organizationslugreservationreplica", primary);
        assert_eq!(self.region(&replica).await, organizations);
        for (source, source_of, replica, replica_of) in [
            (
                "SELECT concat_ws(' ', organization_id, id, role, user_id, email) AS line FROM sentry_organizationmember",
                Silo::Region(0),
                "SELECT concat_ws(' ', organization_id, organizationmember_id, role, user_id, email) AS line \
                 FROM sentry_organizationmembermapping",
                Silo::Control,
            ),
            (
                "SELECT concat_ws(' ', organization_id, id, slug) AS line FROM sentry_team",
                Silo::Region(0),
                "SELECT concat_ws(' ', organization_id, team_id, slug) AS line FROM sentry_teamreplica",
                Silo::Control,
            ),
            (
                "SELECT concat_ws(' ', organization_id, id, token_hashed) AS line FROM sentry_orgauthtoken",
                Silo::Control,
                "SELECT concat_ws(' ', organization_id, orgauthtoken_id, token_hashed) AS line \
                 FROM hybridcloud_orgauthtokenreplica",
                Silo::Region(0),
            ),
        ] {
            let wanted = self.ask(source_of, &format!("{source} ORDER BY 1")).await;
            assert!(!wanted.is_empty(), "{source}");
            assert_eq!(self.ask(replica_of, &format!("{replica} ORDER BY 1")).await, wanted, "{replica}");
        }
    }

    /// Checks that the product's books have what they had before the import.
    async fn assert_as_before(&self) {
        let reserved = "SELECT slug AS line FROM sentry_organizationslugreservation";
        assert_eq!(self.control(reserved).await, ["taken"]);
        assert_eq!(self.control("SELECT slug AS line FROM sentry_organizationmapping").await, ["taken"]);
        for (silo, table) in [
            (Silo::Control, "sentry_organizationmembermapping"),
            (Silo::Control, "sentry_teamreplica"),
            (Silo::Control, "auth_user"),
            (Silo::Control, "sentry_orgauthtoken"),
            (Silo::Region(0), "hybridcloud_organizationslugreservationreplica"),
            (Silo::Region(0), "hybridcloud_orgauthtokenreplica"),
            (Silo::Region(0), "sentry_organization"),
        ] {
            let rows = self.ask(silo, &format!("SELECT id::text AS line FROM {table}")).await;
            assert_eq!(rows, [] as [String; 0], "{table}");
        }
        let others = |outbox: &str| format!("SELECT count(*)::text AS line FROM {outbox} WHERE category = 5");
        assert_eq!(self.control(&others("sentry_controloutbox")).await, ["1000"]);
        assert_eq!(self.region(&others("sentry_regionoutbox")).await, ["1000"]);
    }
}

/// Two organizations with members, an invitation, teams, projects and tokens.
fn export() -> Export {
    let mut export = Export::new();
    for (number, slug) in [(1, "one"), (2, "two")] {
        let [user, team] = [10 + number, 20 + number];
        export.organization(number, slug).user(user, slug).member(number, number, user);
        export.invite(30 + number, number, &format!("guest@{slug}.example"));
        export.team(team, number, "ops").project(number, number, "web");
        let joined = json!({"team": team, "organizationmember": number, "role": null, "is_active": true});
        export.push("sentry.organizationmemberteam", number, &joined);
        let token = json!({"organization_id": number, "name": "ci", "token_hashed": "0".repeat(63) + &number.to_string(), "scope_list": ["org:ci"]});
        export.push("sentry.orgauthtoken", number, &token);
    }
    export
}

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

/// The places between two commits that concern the product's books.
const PLACES: [&str; 8] = [
    "control.import_models.recorded",
    "control.bulk_create.looked",
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

/// A revert that fails on its way goes on, and then leaves as little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_that_fails_on_its_way_leaves_nothing_in_the_products_books() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slug_that_the_product_has_reserved_is_taken() {
    for layout in LAYOUTS {
        let product = Product::start(layout).await;
        let mut export = Export::new();
        export.organization(1, "taken").user(11, "ann").member(1, 1, 11);
        let request = CheckSlugsRequest { slugs: vec!["taken".to_owned()], ..CheckSlugsRequest::default() };
        let told = product.cluster.control().directory().check_slugs(request).await.expect("checked");
        let told = told.into_inner().checks;
        let owner = told.first().and_then(|check| check.taken_by.clone()).expect("it is taken");
        assert_eq!((owner.organization_id, owner.region.as_str()), (999, "elsewhere"));
        let dry = product.import(&export, &ImportOptions::default().dry_run()).await;
        let import = product.import(&export, &ImportOptions::default()).await;
        for (import, wording) in [(dry, "would"), (import, "elsewhere")] {
            let findings = product.cluster.region(0).findings(&import.import_id).await.expect("findings");
            let changed =
                findings.iter().find(|it| it.kind() == FindingKind::SlugChanged).expect("it is told");
            assert!(changed.reason.contains(wording) && changed.reason.contains("999"), "{changed:?}");
        }
        product.drain().await;
        let slugs = product.region("SELECT slug AS line FROM sentry_organization").await;
        assert!(slugs.iter().all(|slug| slug.starts_with("taken-")), "{slugs:?}");
        product.cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_is_in_the_products_books() {
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
        // The product knows no aliases. One that only control knows is taken all the same.
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

/// The product knows no aliases: the organization must not fall out of its books when one becomes its slug again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_that_becomes_the_slug_again_is_in_the_products_books() {
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

/// A message of the product that an organization has changed.
fn changed(id: i64) -> String {
    format!(
        "INSERT INTO sentry_regionoutbox (shard_scope, shard_identifier, object_identifier, category, scheduled_from, \
         scheduled_for) VALUES (0, {id}, {id}, 2, now(), '2016-08-01')"
    )
}

/// The product gives an organization another slug: first in its region, then in its reservation at control.
async fn rename_in_product(product: &Product, id: i64, slug: &str) {
    let here = format!("UPDATE sentry_organization SET slug = '{slug}' WHERE id = {id}");
    product.execute(Silo::Region(0), &[here, changed(id)]).await;
    let there =
        format!("UPDATE sentry_organizationslugreservation SET slug = '{slug}' WHERE organization_id = {id}");
    product.execute(Silo::Control, &[there]).await;
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
        // From now on the old slug is anybody's, and the new one nobody else's.
        product.import(&export(), &ImportOptions::default()).await;
        product.drain().await;
        product.assert_known().await;
        product.cluster.stop().await;
    }
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_leaves_nothing_in_the_products_books() {
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
async fn an_organization_that_a_revert_keeps_is_hidden_in_the_products_books() {
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

/// Somebody has changed the slug of an organization in its table alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slug_that_a_comparison_repairs_is_in_the_products_books() {
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
