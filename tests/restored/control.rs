//! Control is put back to what it was before imports, renames and a revert.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
    process::OwnPort,
};
use causeway_proto::{
    control::v1::UpdateOrganizationSlugRequest,
    region::v1::{Import, ImportState, RevertImportRequest},
    time,
};
use causeway_silo::db::Statement;
use uuid::Uuid;

use crate::page::{CHECK, Ended, Operator, REPAIR, agree, commands};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An export of organizations with these slugs, each with an owner of that name.
pub(crate) fn export(slugs: &[&str]) -> Vec<u8> {
    let mut export = Export::new();
    for (index, slug) in (1..).zip(slugs) {
        export.organization(index, slug).user(index, &format!("{slug}-owner"));
        export.user_email(index, index, &format!("{slug}@example.com")).member(index, index, index);
        export.team(index, index, "team").project(index, index, "project");
    }
    export.to_bytes()
}

pub(crate) async fn imported(cluster: &Cluster, region: usize, slugs: &[&str]) -> Import {
    let import = cluster.region(region).import(&export(slugs), &ImportOptions::default()).await;
    let import = import.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
    import
}

/// The id of the organization that got this slug from an import.
pub(crate) fn id_of(import: &Import, slug: &str) -> i64 {
    import.organizations.iter().find(|it| it.slug == slug).expect("it has an organization of that slug").id
}

pub(crate) async fn rename(cluster: &Cluster, id: i64, slug: &str, keep_alias: bool) {
    let request = UpdateOrganizationSlugRequest {
        organization_id: id,
        desired_slug: slug.to_owned(),
        operation_id: Uuid::from_u128(id.unsigned_abs().into()).to_string(),
        keep_alias,
        wait: Some(time::seconds(60)),
        ..Default::default()
    };
    cluster.control().reservations().update_organization_slug(request).await.expect("renamed");
}

/// A shell goes on after a line that fails: what is there must not be replaced by half a copy, or by none.
pub(crate) async fn a_copy_that_cannot_be_taken_or_put_back_changes_nothing(store: Store) {
    let cluster = Cluster::builder(store).region("us").start().await.expect("it starts");
    let mut operator = Operator::of(&cluster, Silo::Control);
    operator.copy(store);
    let (copied, copying, putting_back) = match store {
        Store::Postgres => ("dump", "**A dump of PostgreSQL:**", "**From a dump.**"),
        Store::Sqlite => ("db", "**SQLite.** Do not copy", "**SQLite:**"),
    };
    let copies = || {
        let found = std::fs::read_dir(operator.path()).expect("a directory");
        found
            .map(|file| file.expect("a file").path())
            .find(|path| path.extension().is_some_and(|it| it == copied))
            .expect("a copy")
    };
    let copy = copies();
    let before = std::fs::read(&copy).expect("the copy");
    let base = operator.path().join("base");
    std::fs::create_dir(&base).expect("a directory");
    let absent = operator.path().join("absent").to_str().expect("UTF-8").to_owned();
    let nowhere = match store {
        Store::Postgres => ("SERVER", "postgres://postgres@127.0.0.1:1"),
        // SQLite would make an empty database of that name, and copy it.
        Store::Sqlite => ("FILE", absent.as_str()),
    };
    operator.set(nowhere.0, nowhere.1.to_owned());
    let failed = operator.pastes(&commands(copying));
    assert_ne!(failed.code, Some(0), "{failed:?}");
    assert_eq!(std::fs::read(&copy).expect("the copy"), before);
    if matches!(store, Store::Postgres) {
        let failed = operator.pastes(&commands("Then take a base copy"));
        assert_ne!(failed.code, Some(0), "{failed:?}");
        assert!(base.is_dir());
    }

    let mut without_copies = Operator::of(&cluster, Silo::Control);
    without_copies.set("COPIES", "/dev/null/absent".to_owned());
    let failed = without_copies.pastes(&commands(putting_back));
    assert_ne!(failed.code, Some(0), "{failed:?}");
    imported(&cluster, 0, &["acme"]).await;
    cluster.stop().await;
}

async fn reverted(cluster: &Cluster, region: usize, import: &Import) {
    let request = RevertImportRequest { import_id: import.import_id.clone() };
    cluster.region(region).imports().revert_import(request).await.expect("reverting");
    let import = cluster.region(region).wait(&import.import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Reverted, "{import:?}");
}

/// The slugs of the visible organizations of a region.
pub(crate) async fn slugs(cluster: &Cluster, region: usize) -> BTreeSet<String> {
    let visible = cluster.region(region).visible_organizations().await.expect("a list");
    visible.into_iter().map(|it| it.slug).collect()
}

/// The names of control's users, by id.
pub(crate) async fn users(cluster: &Cluster) -> BTreeMap<i64, String> {
    let db = cluster.db(Silo::Control).await.expect("a database");
    let rows = db.fetch_all(Statement::new("SELECT id, username FROM auth_user")).await.expect("users");
    db.close().await;
    rows.iter().map(|row| (row.int("id").expect("an id"), row.text("username").expect("a name"))).collect()
}

/// The word by which a command names each difference, sorted.
fn kinds(ended: &Ended) -> Vec<String> {
    assert_eq!(ended.code, Some(10), "{ended:?}");
    let rows = ended.output.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let mut kinds: Vec<String> = rows
        .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .map(str::to_owned)
        .collect();
    kinds.sort();
    kinds
}

/// What there is before the copy: imports into both regions.
struct Before {
    us: Import,
    de: Import,
    /// An import that is reverted after the copy.
    reverted: Import,
}

async fn before(cluster: &Cluster) -> Before {
    let before = Before {
        us: imported(cluster, 0, &["acme", "birch"]).await,
        de: imported(cluster, 1, &["cedar", "dune"]).await,
        reverted: imported(cluster, 1, &["elm"]).await,
    };
    cluster.quiet(PATIENCE).await.expect("quiet");
    before
}

/// What happens after it, and is forgotten. Returns the lost import.
async fn lost_hour(cluster: &mut Cluster, before: &Before) -> Import {
    // A region that starts gives up its blocks of ids, so the lost import has lost leases.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts");
    rename(cluster, id_of(&before.us, "acme"), "acme-two", true).await;
    rename(cluster, id_of(&before.us, "birch"), "birch-two", false).await;
    rename(cluster, id_of(&before.de, "cedar"), "cedar-two", true).await;
    reverted(cluster, 1, &before.reverted).await;
    let lost = imported(cluster, 0, &["fig", "gum"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    lost
}

async fn heal(cluster: &mut Cluster, operator: &mut Operator, lost: &Import) {
    // Regions have heard of the new era, and keep the newer slugs.
    cluster.quiet(PATIENCE).await.expect("quiet");
    let of_us = ["acme-two", "birch-two", "fig", "gum"].map(str::to_owned);
    assert_eq!(slugs(cluster, 0).await, BTreeSet::from(of_us.clone()));
    assert_eq!(slugs(cluster, 1).await, BTreeSet::from(["cedar-two", "dune"].map(str::to_owned)));

    // Somebody gets the slug of a lost organization before anybody has compared.
    let others = imported(cluster, 1, &["fig"]).await;
    assert_eq!(others.organizations[0].slug, "fig");
    let known: BTreeSet<i64> = lost.organizations.iter().map(|it| it.id).collect();
    assert!(!known.contains(&others.organizations[0].id), "an id of a lost lease is given out again");

    let us = operator.reconcile(cluster, 0, CHECK);
    let wanted = [
        "IMPORT_DIFFERS",
        "ORGANIZATION_WITHOUT_RESERVATION",
        "ORGANIZATION_WITHOUT_RESERVATION",
        "SLUG_DIFFERS",
        "SLUG_DIFFERS",
    ];
    assert_eq!(kinds(&us), wanted, "{us:?}");
    assert!(us.output.contains("2 of sentry.user"), "{us:?}");
    let de = operator.reconcile(cluster, 1, CHECK);
    assert_eq!(kinds(&de), ["IMPORT_DIFFERS", "RESERVATION_WITHOUT_ORGANIZATION", "SLUG_DIFFERS"], "{de:?}");

    // The steps, one after the other.
    for (region, found) in [(0, us), (1, de)] {
        let renames = found.printed("causeway slugs rename ");
        assert_eq!(renames.len(), if region == 0 { 2 } else { 1 }, "{found:?}");
        for command in renames {
            operator.calls(&command).well();
        }
        for command in found.printed("causeway imports revert ") {
            operator.calls(&format!("{command} --yes")).well();
        }
        let repaired = operator.reconcile(cluster, region, REPAIR);
        assert!(matches!(repaired.code, Some(0 | 10)), "{repaired:?}");
    }
    imported(cluster, 0, &["fig", "gum"]).await;
    cluster.quiet(PATIENCE).await.expect("quiet");
    for region in 0..2 {
        agree(operator, cluster, region);
    }

    let (us, de) = (slugs(cluster, 0).await, slugs(cluster, 1).await);
    assert_eq!(de, BTreeSet::from(["cedar-two", "dune", "fig"].map(str::to_owned)));
    assert!(us.is_superset(&BTreeSet::from(["acme-two", "birch-two", "gum"].map(str::to_owned))), "{us:?}");
    assert_eq!(us.len(), 4, "{us:?}");
    assert!(us.is_disjoint(&de), "a slug has two owners: {us:?} {de:?}");
    let names = users(cluster).await;
    assert!(
        !names.values().any(|name| name.starts_with("elm")),
        "a user who was reverted is back: {names:?}"
    );
    cluster.assert_invariants().await.expect("no promise is broken");
}

pub(crate) async fn control_is_put_back_from_a_copy(store: Store) {
    let mut cluster = Cluster::start(store, &["us", "de"]).await.expect("a cluster");
    let mut operator = Operator::of(&cluster, Silo::Control);
    let before = before(&cluster).await;
    // Each command can be repeated.
    operator.copy(store);
    operator.copy(store);
    let lost = lost_hour(&mut cluster, &before).await;
    cluster.stop_control().await;
    cluster.close_shared_db(Silo::Control).await;
    operator.put_back(store);
    operator.put_back(store);
    let said = operator.say_restored(store).well();
    assert!(said.starts_with("era 1 has begun"), "{said}");
    cluster.start_control().await.expect("it starts");
    heal(&mut cluster, &mut operator, &lost).await;
    cluster.stop().await;
}

/// All databases are on one server. Control's alone is put back, by a detour over a scratch server.
pub(crate) async fn control_is_put_back_to_a_moment() {
    let mut cluster = Cluster::start(Store::Postgres, &["us", "de"]).await.expect("a cluster");
    let mut operator = Operator::of(&cluster, Silo::Control);
    operator.on_server(&commands("Archive the log once and for all.")).well();
    cluster.stop_database().await.expect("it stops");
    cluster.start_database().await.expect("it starts");
    cluster.quiet(PATIENCE).await.expect("quiet");
    for _ in 0..2 {
        operator.on_server(&commands("Then take a base copy now and then.")).well();
    }
    let before = before(&cluster).await;
    let db = cluster.db(Silo::Control).await.expect("a database");
    let now = db.fetch_optional(Statement::new("SELECT CAST(clock_timestamp() AS text) AS now")).await;
    let moment = now.expect("the time").expect("a row").text("now").expect("a text");
    db.close().await;
    let lost = lost_hour(&mut cluster, &before).await;

    cluster.stop_control().await;
    let port = OwnPort::new().expect("a free port");
    let scratch = operator.path().join("scratch").to_str().expect("UTF-8").to_owned();
    operator.set("MOMENT", moment);
    operator.set("PORT", port.address.port().to_string());
    operator.set("SCRATCH", scratch);
    // Whatever fails half way, the scratch server does not outlive the test.
    let steps = commands("PORT=5433\n```");
    let stop = "trap 'cat \"$SCRATCH/log\" >&2; pg_ctl --pgdata=\"$SCRATCH\" --mode=immediate stop >/dev/null 2>&1 || true' EXIT";
    // The second time, the first scratch server is in the way. It still runs if the steps before the last one are repeated.
    let (but_the_last, _) = steps.trim_end().rsplit_once('\n').expect("several steps");
    operator.on_server(&format!("{}\n{but_the_last}\n", stop.replace(" EXIT", " ERR TERM"))).well();
    operator.on_server(&format!("{stop}\n{steps}")).well();
    cluster.close_shared_db(Silo::Control).await;
    operator.put_back(Store::Postgres);
    operator.say_restored(Store::Postgres).well();
    cluster.start_control().await.expect("it starts");
    heal(&mut cluster, &mut operator, &lost).await;
    cluster.stop().await;
}
