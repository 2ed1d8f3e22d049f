//! What an import changes, with a finding.

use causeway_harness::{
    account::AuditReport,
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::relocation::v1::FindingKind as Kind;
use causeway_silo::db::Statement;
use serde_json::{Value, json};

use crate::support::{MEMBER, ORGANIZATION, PROJECT_KEY, USER, check_import, cluster, tells, tells_in_short};

fn organization(slug: Option<Value>) -> Export {
    let mut fields = json!({"name": "The Name"});
    if let (Some(slug), Some(fields)) = (slug, fields.as_object_mut()) {
        fields.insert("slug".to_owned(), slug);
    }
    let mut export = Export::new();
    export.push(ORGANIZATION, 1, &fields);
    export
}

fn slug(account: &AuditReport, pk: i64) -> String {
    let row = account.row(ORGANIZATION, pk).unwrap_or_else(|| panic!("no organization {pk}"));
    row["slug"].as_text().unwrap_or_default().to_owned()
}

/// Checks that a slug is valid, and that it is `stem` with or without a suffix.
fn check_slug(name: &str, slug: &str, stem: &str, suffixed: bool) {
    let valid = (1..=50).contains(&slug.len())
        && slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && slug.bytes().any(|byte| byte.is_ascii_lowercase());
    assert!(valid, "{name}: {slug} is not a valid slug");
    if suffixed {
        assert!(slug.starts_with(&format!("{stem}-")), "{name}: {slug} is not {stem} with a suffix");
    } else {
        assert_eq!(slug, stem, "{name}");
    }
}

pub(crate) async fn slugs_that_cannot_be_kept_are_changed_and_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let long = "long-".repeat(12);
    for (name, wanted, stem, suffixed) in [
        ("empty, made of the name", Some(json!("")), "the-name", false),
        ("null, the name is taken", Some(Value::Null), "the-name", true),
        ("missing, the name is taken", None, "the-name", true),
        ("nothing but blanks", Some(json!("   ")), "organization", true),
        ("reserved", Some(json!("about")), "about", true),
        ("reserved in capitals", Some(json!("API")), "api", true),
        ("all digits", Some(json!("12345")), "12345", true),
        ("too long", Some(json!(long)), "long-long-long-long-long-long-long-long-", false),
        ("Unicode", Some(json!("Ünïcödé Größe")), "unicode-grosse", false),
        ("capitals", Some(json!("Capitals")), "capitals", false),
        ("underscores and blanks", Some(json!("under_score and blanks")), "under-score-and-blanks", false),
        ("capitals of one that is taken", Some(json!("CAPITALS")), "capitals", true),
    ] {
        let file = organization(wanted).to_bytes();
        let reported = [(Kind::SlugChanged, ORGANIZATION, 1, "slug")];
        let (_, account) = tells(&cluster, name, &file, &ImportOptions::default(), &reported).await;
        let slug = slug(&account, 1);
        if name == "too long" {
            assert!(slug.starts_with(stem) && slug.len() <= 50, "{name}: {slug}");
        } else {
            check_slug(name, &slug, stem, suffixed);
        }
    }
    // Without its NUL it is a valid slug that can be used.
    let file = organization(Some(json!("nu\0l"))).to_bytes();
    let reported = [(Kind::TextCleaned, ORGANIZATION, 1, "slug")];
    let (import, _) = tells_in_short(&cluster, "NUL in it", &file, &reported).await;
    check_slug("NUL in it", &import.organizations[0].slug, "nul", false);
    // Valid slugs stay as they are.
    for kept in ["a", "x-1", "forty-nine-characters-are-not-too-long-for-a-slug", "4000a"] {
        let file = organization(Some(json!(kept))).to_bytes();
        let (_, account) = tells(&cluster, kept, &file, &ImportOptions::default(), &[]).await;
        assert_eq!(slug(&account, 1), kept);
    }
    cluster.stop().await;
}

/// Inserts an organization as the application would, so that control does not know of it.
async fn insert_manually(cluster: &Cluster, slug: &str) {
    let db = cluster.db(Silo::Region(0)).await.expect("the database can be reached");
    let mut tx = db.begin().await.expect("a transaction");
    let statement = Statement::new(
        "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
         VALUES (900000000000, 'By hand', $1, 0, $2, 'member', $3, 1)",
    )
    .with(slug)
    .with(chrono::DateTime::UNIX_EPOCH)
    .with(false);
    tx.execute(statement).await.expect("the row can be written");
    tx.commit().await.expect("the row is kept");
    db.close().await;
}

pub(crate) async fn slugs_that_are_taken_are_changed_and_reported(store: Store) {
    let cluster = cluster(store, &["us", "de"]).await;
    let reported = [(Kind::SlugChanged, ORGANIZATION, 1, "slug")];
    let options = ImportOptions::default();

    let file = organization(Some(json!("there"))).to_bytes();
    tells(&cluster, "free", &file, &options, &[]).await;
    let name = "taken in this region";
    let (_, account) = tells(&cluster, name, &file, &options, &reported).await;
    check_slug(name, &slug(&account, 1), "there", true);

    let name = "taken by another region, at control";
    let file = organization(Some(json!("abroad"))).to_bytes();
    let import = cluster.region(1).import(&file, &options).await.expect("the import ends");
    check_import("in the other region", &import);
    let (_, account) = tells(&cluster, name, &file, &options, &reported).await;
    check_slug(name, &slug(&account, 1), "abroad", true);

    let name = "taken in the region's database, unknown at control";
    insert_manually(&cluster, "by-hand").await;
    let file = organization(Some(json!("by-hand"))).to_bytes();
    let (import, rows_now) = tells_in_short(&cluster, name, &file, &reported).await;
    check_slug(name, &import.organizations[0].slug, "by-hand", true);

    let name = "twice in the file";
    let mut export = organization(Some(json!("twin")));
    export.organization(2, "TWIN").organization(3, "twin");
    let before = rows_now.rows(ORGANIZATION).len();
    let import = cluster.region(0).import(&export.to_bytes(), &options).await.expect("the import ends");
    check_import(name, &import);
    let mut findings = cluster.region(0).findings(&import.import_id).await.expect("a list");
    findings.retain(|finding| finding.kind() != Kind::OrganizationWithoutOwner);
    // Two of the three change: `TWIN`, which is not valid, and one that wants the same slug as another.
    assert!(
        findings.iter().all(|it| it.kind() == Kind::SlugChanged && it.field == "slug"),
        "{name}: {findings:?}"
    );
    assert_eq!(findings.len(), 2, "{name}: {findings:?}");
    let slugs: Vec<&str> = import.organizations.iter().map(|it| it.slug.as_str()).collect();
    assert_eq!(slugs.iter().filter(|slug| **slug == "twin").count(), 1, "{name}: {slugs:?}");
    assert!(slugs.iter().all(|slug| slug.starts_with("twin")), "{name}: {slugs:?}");
    assert_eq!(crate::support::rows_now(&cluster).await.rows(ORGANIZATION).len(), before + 3, "{name}");
    cluster.stop().await;
}

pub(crate) async fn usernames_keys_and_tokens_that_are_taken_are_changed_and_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default();
    let file = |slug: &str| {
        let mut export = Export::new();
        export.organization(1, slug).user(2, "ann").project(5, 1, "p").project_key(6, 5, "k");
        export.push(
            MEMBER,
            3,
            &json!({"organization": 1, "user_id": 2, "token": "t0k3n", "token_expires_at": "2030-01-01T00:00:00Z"}),
        );
        export.auth_token(7, 1, "token");
        export
    };
    tells(&cluster, "nothing is taken", &file("first").to_bytes(), &options, &[]).await;

    let name = "taken in the database";
    let expected = [
        (Kind::UsernameChanged, USER, 2, "username"),
        (Kind::TokenCleared, MEMBER, 3, "token"),
        (Kind::KeyRegenerated, PROJECT_KEY, 6, "public_key"),
        (Kind::KeyRegenerated, PROJECT_KEY, 6, "secret_key"),
        (Kind::KeyRegenerated, "sentry.orgauthtoken", 7, "token_hashed"),
    ];
    tells(&cluster, name, &file("second").to_bytes(), &options, &expected).await;

    let name = "taken earlier in the file";
    let mut twice = Export::new();
    twice.organization(1, "third").user(2, "bob").user(12, "BOB").project(5, 1, "p");
    twice
        .project_key(6, 5, "again")
        .project_key(16, 5, "again")
        .auth_token(7, 1, "again")
        .auth_token(17, 1, "again");
    for (pk, user) in [(3, 2), (13, 12)] {
        let fields = json!({"organization": 1, "user_id": user, "token": "again", "token_expires_at": "2030-01-01T00:00:00Z"});
        twice.push(MEMBER, pk, &fields);
    }
    let expected = [
        (Kind::UsernameChanged, USER, 12, "username"),
        (Kind::TokenCleared, MEMBER, 13, "token"),
        (Kind::KeyRegenerated, PROJECT_KEY, 16, "public_key"),
        (Kind::KeyRegenerated, PROJECT_KEY, 16, "secret_key"),
        (Kind::KeyRegenerated, "sentry.orgauthtoken", 17, "token_hashed"),
    ];
    tells(&cluster, name, &twice.to_bytes(), &options, &expected).await;

    let name = "missing";
    let mut missing = Export::new();
    missing.organization(1, "fourth").project(5, 1, "p");
    missing.push(PROJECT_KEY, 6, &json!({"project": 5, "public_key": null}));
    missing.push("sentry.orgauthtoken", 7, &json!({"organization_id": 1, "name": "n", "token_hashed": null}));
    let expected = [
        (Kind::KeyRegenerated, PROJECT_KEY, 6, "public_key"),
        (Kind::KeyRegenerated, PROJECT_KEY, 6, "secret_key"),
        (Kind::KeyRegenerated, "sentry.orgauthtoken", 7, "token_hashed"),
    ];
    tells(&cluster, name, &missing.to_bytes(), &options, &expected).await;
    cluster.stop().await;
}
