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
    region::v1::{
        ApproveOrganizationsRequest, DifferenceKind, Import, ImportState, ReconcileMode, RevertImportRequest,
    },
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

mod compared;
mod made;
mod renamed;
mod reverted;
mod upgraded;

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

/// An organization of the product that Causeway did not import, with what the product has noted of it, and
/// messages that no organization of this test needs.
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
        let expected = if options.dry_run { ImportState::Planned } else { ImportState::Succeeded };
        assert_eq!(import.state(), expected, "{:?}", import.failure);
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

    /// Compares the region with control. Returns the organizations that differ, in which way, and whether that is repaired.
    async fn compare(&self, mode: ReconcileMode) -> Vec<(i64, DifferenceKind, bool)> {
        let compared = self.cluster.region(0).reconcile(mode).await.expect("compared");
        let found = compared.differences.into_iter();
        found.map(|found| (found.organization_id, found.kind(), found.repaired)).collect()
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
        let expected = format!(
            "SELECT id || ' ' || slug || ' {}' AS line FROM sentry_organization ORDER BY id",
            self.layout.region
        );
        let organizations = self.region(&expected).await;
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
                "SELECT concat_ws(' ', m.organization_id, x.id, x.team_id, m.id, x.is_active) AS line \
                 FROM sentry_organizationmember_teams x JOIN sentry_organizationmember m ON m.id = x.organizationmember_id",
                Silo::Region(0),
                "SELECT concat_ws(' ', organization_id, organizationmemberteam_id, team_id, organizationmember_id, is_active) \
                 AS line FROM sentry_organizationmember_teamsreplica",
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
            let expected = self.ask(source_of, &format!("{source} ORDER BY 1")).await;
            assert!(!expected.is_empty(), "{source}");
            assert_eq!(self.ask(replica_of, &format!("{replica} ORDER BY 1")).await, expected, "{replica}");
        }
    }

    /// Checks that the product's tables have what they had before the import.
    async fn assert_as_before(&self) {
        let reserved = "SELECT slug AS line FROM sentry_organizationslugreservation";
        assert_eq!(self.control(reserved).await, ["taken"]);
        assert_eq!(self.control("SELECT slug AS line FROM sentry_organizationmapping").await, ["taken"]);
        for (silo, table) in [
            (Silo::Control, "sentry_organizationmembermapping"),
            (Silo::Control, "sentry_teamreplica"),
            (Silo::Control, "sentry_organizationmember_teamsreplica"),
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
    let there = format!(
        "UPDATE sentry_organizationslugreservation SET slug = '{slug}' WHERE organization_id = {id} \
         AND reservation_type = 0"
    );
    let announced = format!(
        "INSERT INTO sentry_controloutbox (shard_scope, shard_identifier, object_identifier, category, scheduled_from, \
         scheduled_for, region_name) SELECT 0, organization_id, id, 27, now(), '2016-08-01', region_name \
         FROM sentry_organizationslugreservation WHERE organization_id = {id}"
    );
    product.execute(Silo::Control, &[there, announced]).await;
}
