//! The application keeps inserting into its own tables, with ids from the tables' own sequences.

use std::collections::BTreeMap;

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::region::v1::ImportState;
use causeway_relocation::catalog::Catalog;
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};

use crate::support::{ORGANIZATION, cluster, exhaustive, import, rows_now};

const TEAM: &str = "sentry.team";
/// The models whose ids are leased, and one whose ids are not, each with a column that must be unique.
const MODELS: [(&str, &str); 4] =
    [(ORGANIZATION, "slug"), (TEAM, "slug"), ("sentry.project", "slug"), ("sentry.environment", "name")];

/// Copies the first row of a table without its id, as an application inserts, and returns the id of the copy.
async fn insert(cluster: &Cluster, model: &str, differs: &str, value: &str) -> i64 {
    let catalog = Catalog::load().expect("the catalog is sound");
    let model = catalog.model(model).expect("it is known");
    let names: Vec<String> = model.columns.iter().map(|column| format!("\"{}\"", column.column)).collect();
    let is_unique = |index: usize| model.unique.iter().any(|set| set.columns.contains(&index));
    let values = model.columns.iter().enumerate().map(|(index, column)| match &column.column {
        name if name == differs => format!("'{value}'"),
        _ if column.null && column.references.is_none() && is_unique(index) => "NULL".to_owned(),
        name => format!("\"{name}\""),
    });
    let (table, values) = (&model.table, values.collect::<Vec<_>>().join(", "));
    let statement = Statement::new("INSERT INTO ").push(&format!(
        "\"{table}\" ({}) SELECT {values} FROM \"{table}\" ORDER BY id LIMIT 1 RETURNING id",
        names.join(", ")
    ));
    one(cluster, statement).await
}

/// Runs a statement in the region's database, and returns the id that it returns.
async fn one(cluster: &Cluster, statement: Statement) -> i64 {
    let db = cluster.db(Silo::Region(0)).await.expect("the database can be reached");
    let row = transact!(DbError, db, |tx| { tx.fetch_one(statement.clone()).await? }).expect("it is taken");
    db.close().await;
    row.int("id").expect("a number")
}

/// Inserts into each table, and checks that the new id is above all existing ones.
async fn all_insert(cluster: &Cluster, round: &str) {
    for (model, differs) in MODELS {
        let highest =
            rows_now(cluster, 0).await.rows(model).keys().max().copied().expect("the import has some");
        let id = insert(cluster, model, differs, &format!("beside-{round}")).await;
        assert!(id > highest, "{model} gave id {id}, and already has {highest}");
    }
}

pub(crate) async fn the_application_inserts_beside_imports(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    // Control writes users and addresses, so their ids come from its own sequences too.
    for round in ["one", "two", "three"] {
        import(&cluster, &exhaustive(), &ImportOptions::default()).await;
        all_insert(&cluster, round).await;
    }
    cluster.stop().await;
}

pub(crate) async fn ids_that_a_table_gives_never_go_back(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    import(&cluster, &exhaustive(), &ImportOptions::default()).await;
    // A row with an id far above all others, of which the table's sequence knows nothing.
    let copy = insert(&cluster, TEAM, "slug", "copy").await;
    let moved =
        Statement::new("UPDATE sentry_team SET id = 300000 WHERE id = ").arg(copy).push(" RETURNING id");
    assert_eq!(one(&cluster, moved).await, 300_000);
    import(&cluster, &exhaustive(), &ImportOptions::default()).await;
    all_insert(&cluster, "far").await;

    if store == Store::Postgres {
        // An id that the sequence has given out stays used, whether a row has it or not.
        let ahead = |id: i64| {
            Statement::new("SELECT setval(CAST(pg_get_serial_sequence('sentry_team', 'id') AS regclass), ")
                .arg(id)
                .push(") AS id")
        };
        assert_eq!(one(&cluster, ahead(7_000_000)).await, 7_000_000);
        import(&cluster, &exhaustive(), &ImportOptions::default()).await;
        let id = insert(&cluster, TEAM, "slug", "ahead").await;
        assert!(id > 7_000_000, "{id}");
        // A table may have no sequence.
        let without = [Statement::new("ALTER TABLE sentry_team ALTER COLUMN id DROP IDENTITY")];
        cluster.change(Silo::Region(0), &without).await.expect("it is changed");
        import(&cluster, &exhaustive(), &ImportOptions::default()).await;
    }
    cluster.stop().await;
}

/// The application inserts while an import is being written, and an id that a chunk has just used must not be given to
/// it. On SQLite, the table itself counts from its highest row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_is_above_every_id_after_each_chunk() {
    const PLACE: &str = "region.chunk.committed";
    let failpoints = Failpoints::default();
    let builder = Cluster::builder(Store::Postgres).region("us").failpoints(&failpoints);
    let cluster = builder.start().await.expect("a cluster; this test needs PostgreSQL");
    let mut export = Export::new();
    // The first chunk has at most 250 records, the next one twice as many.
    for pk in 1..=900 {
        export.organization(pk, &format!("org-{pk}")).team(pk, pk, "team").project(pk, pk, "project");
    }
    failpoints.arm(PLACE, Act::Hold, 0);
    let begun = cluster.region(0).begin(&export.to_bytes(), &ImportOptions::default()).await;
    let id = begun.expect("it begins").import.expect("an import").import_id;
    let region = cluster.region(0);
    let mut ended = std::pin::pin!(region.wait(&id));
    let mut inserted = BTreeMap::from(MODELS.map(|(model, _)| (model, 0)));
    let done = loop {
        tokio::select! {
            done = &mut ended => break done.expect("it ends"),
            () = failpoints.held() => {}
        }
        for (model, differs) in MODELS {
            let table = model.replace('.', "_");
            let highest = Statement::new("SELECT COALESCE(MAX(id), 0) AS id FROM ").push(&table);
            let highest = one(&cluster, highest).await;
            if highest > 0 {
                let count = inserted.entry(model).or_insert(0);
                let id = insert(&cluster, model, differs, &format!("beside-{count}")).await;
                assert!(id > highest, "{model} gave id {id}, and already has {highest}");
                *count += 1;
            }
        }
        failpoints.arm(PLACE, Act::Hold, 0);
        failpoints.release();
    };
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    // Later chunks are larger, so the other models have fewer.
    assert!(
        inserted[ORGANIZATION] > 2 && inserted[TEAM] > 0 && inserted["sentry.project"] > 0,
        "{inserted:?}"
    );
    cluster.stop().await;
}
