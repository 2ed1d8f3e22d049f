//! Users whom several regions use: no region changes or deletes what another one needs, with all that belongs to it.

use causeway_control::{
    Control, Error,
    import::write::ControlImports,
    model::import::{ImportModels, ImportRecord, ImportedModels},
    model::reservation::WantedSlug,
};
use causeway_proto::relocation::v1::ErrorReason;
use causeway_relocation::catalog::{Catalog, Model, Silo, USER};
use causeway_silo::db::{Db, Statement};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Fixture, bulk_create, now, operation};

/// The number of the organization of region `us`.
const ORGANIZATION: i64 = 7;

/// A chunk of one record.
fn chunk_of(region: &str, import: u128, model: &str, ordinal: i64, fields: &Value) -> ImportModels {
    ImportModels {
        region: region.to_owned(),
        import_id: operation(import),
        model: model.to_owned(),
        merge_users: true,
        min_ordinal: ordinal,
        max_ordinal: ordinal,
        records: vec![ImportRecord {
            ordinal,
            source_pk: ordinal,
            byte_offset: 0,
            fields_json: fields.to_string(),
        }],
        tables_fingerprint: String::new(),
    }
}

fn user(name: &str) -> Value {
    json!({"username": name, "password": "x", "email": format!("{name}@example.com")})
}

/// A record of a model that refers to a user.
fn record_of(model: &Model, user: i64) -> Value {
    match model.name.as_str() {
        "sentry.useremail" => json!({"user": user, "email": format!("{user}@example.org")}),
        "sentry.useroption" => json!({"user": user, "key": "theme", "value": "dark"}),
        "sentry.orgauthtoken" => json!({
            "organization_id": ORGANIZATION, "created_by": user, "name": "ci", "token_hashed": format!("{user:064}"),
            "token_last_characters": "abcd", "scope_list": "[\"org:ci\"]",
        }),
        other => panic!("control writes {other}, which refers to users: add a record of it here"),
    }
}

/// All models that control writes and that refer to users.
fn models_of_users(catalog: &Catalog) -> Vec<&Model> {
    let refers =
        |model: &&Model| model.columns.iter().any(|column| column.references.as_deref() == Some(USER));
    let written = catalog.written().filter(|model| model.silo == Silo::Control);
    let models: Vec<&Model> = written.filter(refers).collect();
    assert!(models.len() >= 3, "{models:?}");
    models
}

/// All rows of all tables that control writes for imports, as text.
async fn rows(db: &Db, catalog: &Catalog) -> Vec<String> {
    let mut all = Vec::new();
    for model in catalog.written().filter(|model| model.silo == Silo::Control && model.has_table) {
        let columns: Vec<String> = model
            .columns
            .iter()
            .map(|column| format!("coalesce(CAST(\"{}\" AS text), '')", column.column))
            .collect();
        let statement = Statement::new("SELECT id, ")
            .push(&columns.join(" || ',' || "))
            .push(&format!(" AS shown FROM \"{}\" ORDER BY id", model.table));
        for row in db.fetch_all(statement).await.expect("rows") {
            let (id, shown) = (row.int("id").expect("an id"), row.text("shown").expect("a text"));
            all.push(format!("{} {id}: {shown}", model.table));
        }
    }
    all
}

async fn inserted(imports: &ControlImports, chunk: ImportModels) -> i64 {
    let written = imports.import_models(chunk).await.expect("written");
    assert_eq!(written.keys.inserted.len(), 1, "{written:?}");
    written.keys.inserted[0].1
}

async fn us_and_de(fixture: Fixture) -> Fixture {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let wanted = WantedSlug {
        organization_id: ORGANIZATION,
        slug: "acme".to_owned(),
        name: String::new(),
        taken_in_region: false,
    };
    bulk_create(&fixture.control, "us", operation(1), vec![wanted]).await.expect("reserved");
    fixture
}

/// Whether it was refused because its import did not bring the user; the user.
fn refused_for(written: Result<ImportedModels, Error>) -> i64 {
    match written {
        Err(Error::RowNotOfImport { model, id, .. }) if model == USER => id,
        other => panic!("it is not refused for its user: {other:?}"),
    }
}

pub(crate) async fn a_record_of_a_user_whom_its_import_has_not_brought_is_refused(fixture: Fixture) {
    let (fixture, catalog) = (us_and_de(fixture).await, Catalog::load().expect("it can be read"));
    let (imports, db) = (fixture.control.imports(), fixture.db().await);
    let of_de = inserted(imports, chunk_of("de", 1, USER, 1, &user("ann"))).await;
    let of_another_import = inserted(imports, chunk_of("us", 1, USER, 1, &user("bob"))).await;
    // The import 2 of `us` has a new user, and one who was there before.
    let own = inserted(imports, chunk_of("us", 2, USER, 1, &user("carol"))).await;
    let given = imports.import_models(chunk_of("us", 2, USER, 2, &user("ann"))).await.expect("written");
    assert_eq!(given.keys.existing, [(2, of_de)]);

    let before = rows(&db, &catalog).await;
    for model in models_of_users(&catalog) {
        let belongs_to_user = model.is_user_scoped();
        for (stranger, import) in [
            (of_de, 3),
            (of_another_import, 2),
            (own + 1_000, 2),
            // Another import of the same region, and the same id in another region.
            (own, 3),
        ] {
            let written = chunk_of("us", import, &model.name, 1, &record_of(model, stranger));
            assert_eq!(refused_for(imports.import_models(written).await), stranger, "{}", model.name);
        }
        if belongs_to_user {
            let written = chunk_of("us", 2, &model.name, 1, &record_of(model, of_de));
            assert_eq!(refused_for(imports.import_models(written).await), of_de, "{}", model.name);
        }
    }
    assert_eq!(rows(&db, &catalog).await, before, "something was written");
    let refused = imports.import_models(chunk_of(
        "us",
        3,
        "sentry.useroption",
        1,
        &json!({"user": own, "key": "theme", "value": "dark"}),
    ));
    let status = tonic::Status::from(refused.await.expect_err("it is refused"));
    assert_eq!(causeway_proto::failure::reason_of(&status), Some(ErrorReason::RowNotOfImport));

    for (number, model) in models_of_users(&catalog).into_iter().enumerate() {
        let ordinal = i64::try_from(number).expect("a number") * 10 + 1;
        inserted(imports, chunk_of("us", 2, &model.name, ordinal, &record_of(model, own))).await;
        if !model.is_user_scoped() {
            // What does not belong to the user may name one who was there before.
            inserted(imports, chunk_of("us", 2, &model.name, ordinal + 1, &record_of(model, of_de))).await;
        }
    }
    db.close().await;
}

/// A user with everything that belongs to one, of import 1 of region `us`. Returns its chunks in the order of writing.
async fn ann_of_us(control: &Control, catalog: &Catalog) -> Vec<String> {
    let imports = control.imports();
    let address = json!({"email": "ann@example.com", "date_added": "2024-01-01T00:00:00Z"});
    inserted(imports, chunk_of("us", 1, "sentry.email", 1, &address)).await;
    let ann = inserted(imports, chunk_of("us", 1, USER, 1, &user("ann"))).await;
    let mut chunks = vec!["sentry.email".to_owned(), USER.to_owned()];
    for model in models_of_users(catalog).into_iter().filter(|model| model.is_user_scoped()) {
        let mut record = record_of(model, ann);
        if model.name == "sentry.useremail" {
            record["email"] = "ann@example.com".into();
        }
        inserted(imports, chunk_of("us", 1, &model.name, 1, &record)).await;
        chunks.push(model.name.clone());
    }
    chunks
}

pub(crate) async fn a_user_whom_another_region_uses_stays_with_all_that_belongs_to_it(fixture: Fixture) {
    let (fixture, catalog) = (us_and_de(fixture).await, Catalog::load().expect("it can be read"));
    let (imports, db) = (fixture.control.imports(), fixture.db().await);
    let chunks = ann_of_us(&fixture.control, &catalog).await;
    let merged = imports.import_models(chunk_of("de", 2, USER, 1, &user("Ann"))).await.expect("written");
    assert_eq!(merged.keys.existing.len(), 1);
    let before = rows(&db, &catalog).await;

    // A region reaches its own imports only, whatever id it names.
    for region in ["de", "us"] {
        for (import, model) in [(1, USER), (2, USER), (1, "sentry.useremail"), (1, "sentry.useroption")] {
            if (region, import) == ("us", 1) || (region, import) == ("de", 2) {
                continue;
            }
            let reverted =
                imports.revert_chunk(region, operation(import), model, 1).await.expect("no such chunk");
            assert_eq!((reverted.deleted, reverted.kept), (0, 0));
        }
    }
    assert_eq!(rows(&db, &catalog).await, before);

    imports.revert("us", operation(1), &[]).await.expect("closed");
    // The users first, which is not an order that a region would take, and then from the last to the first.
    for model in [USER.to_owned()].iter().chain(chunks.iter().rev().filter(|model| *model != USER)) {
        let reverted = imports.revert_chunk("us", operation(1), model, 1).await.expect("reverted");
        assert_eq!((reverted.deleted, reverted.kept), (0, 1), "{model}: {:?}", reverted.findings);
    }
    assert_eq!(rows(&db, &catalog).await, before, "something is gone that region de needs");
    // And what has merged into a user takes nothing away with it.
    imports.revert_chunk("de", operation(2), USER, 1).await.expect("reverted");
    assert_eq!(rows(&db, &catalog).await, before);

    // A user whom nobody else uses goes, from the last chunk to the first.
    let taken = imports.import_models(chunk_of("us", 3, USER, 1, &user("dora"))).await.expect("written");
    let dora = taken.keys.inserted[0].1;
    for model in models_of_users(&catalog).into_iter().filter(|model| model.is_user_scoped()) {
        inserted(imports, chunk_of("us", 3, &model.name, 1, &record_of(model, dora))).await;
    }
    for model in chunks.iter().rev().filter(|model| *model != "sentry.email") {
        let reverted = imports.revert_chunk("us", operation(3), model, 1).await.expect("reverted");
        assert_eq!((reverted.deleted, reverted.kept), (1, 0), "{model}: {:?}", reverted.findings);
    }
    assert_eq!(rows(&db, &catalog).await, before);
    db.close().await;
}

/// Two imports may run at the same time, and one of them merge into a user that the other one has just brought.
pub(crate) async fn an_import_adds_to_a_user_whom_another_region_uses_for_a_week(fixture: Fixture) {
    let (fixture, catalog) = (us_and_de(fixture).await, Catalog::load().expect("it can be read"));
    let (imports, db) = (fixture.control.imports(), fixture.db().await);
    let ann = inserted(imports, chunk_of("us", 1, USER, 2, &user("ann"))).await;
    let bob = inserted(imports, chunk_of("us", 1, USER, 3, &user("bob"))).await;
    // Another region uses one of them, and another import of the same region the other.
    for (region, name) in [("de", "ann"), ("us", "bob")] {
        let merged = imports.import_models(chunk_of(region, 2, USER, 1, &user(name))).await.expect("written");
        assert_eq!(merged.keys.existing.len(), 1);
    }
    let late = fixture.another_for_added(now() + TimeDelta::days(7) + TimeDelta::seconds(1)).await;
    // The import is as old as its first chunk, also if a later one has earlier records.
    inserted(late.imports(), chunk_of("us", 1, USER, 1, &user("eve"))).await;
    for model in models_of_users(&catalog).into_iter().filter(|model| model.is_user_scoped()) {
        inserted(imports, chunk_of("us", 1, &model.name, 1, &record_of(model, ann))).await;
        let mut another = record_of(model, ann);
        match model.name.as_str() {
            "sentry.useremail" => another["email"] = "another@example.org".into(),
            _ => another["key"] = "language".into(),
        }
        let before = rows(&db, &catalog).await;
        let refused = late.imports().import_models(chunk_of("us", 1, &model.name, 2, &another)).await;
        assert!(matches!(refused, Err(Error::RowUsedElsewhere { id, .. }) if id == ann), "{refused:?}");
        let status = tonic::Status::from(refused.expect_err("it is refused"));
        assert_eq!(causeway_proto::failure::reason_of(&status), Some(ErrorReason::RowNotOfImport));
        assert_eq!(rows(&db, &catalog).await, before);
        inserted(late.imports(), chunk_of("us", 1, &model.name, 3, &record_of(model, bob))).await;
    }
    late.stop().await;
    db.close().await;
}
