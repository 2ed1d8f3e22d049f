//! More than one import: the same file under another id, and under the same id.

use causeway_harness::{
    account::{Audit, Outcome},
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{
        Import, ImportHeader, ImportOrganizationsRequest, ImportState, ListImportsRequest,
        import_organizations_request::Part,
    },
    relocation::v1::{ErrorReason, FindingKind},
};

use crate::support::{
    MEMBER, USER, accounted, cluster, exhaustive, import, kinds, refused, reported, rows_now,
};

/// An import without its progress, which is known only while it runs, and without when it last changed: control's
/// directory may get it a little later.
fn lasting(import: Import) -> Import {
    Import { progress: None, update_time: None, ..import }
}

const ID: &str = "0d8a52a3-36f1-4d5e-8d63-6d1f7d2f7b11";

pub(crate) async fn a_second_import_changes_only_what_is_taken(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = exhaustive();
    let (_, first) = import(&cluster, &export, &ImportOptions::default()).await;
    let (_, second) = import(&cluster, &export, &ImportOptions::default()).await;

    let records = |model: &str| export.records.iter().filter(|record| record.model == model).count();
    // The second import has the findings of the first one, and those for values that other rows have by now.
    let mut expected = kinds(&first);
    expected.insert("SLUG_CHANGED", records("sentry.organization"));
    expected.insert("USERNAME_CHANGED", records(USER));
    expected.insert("TOKEN_CLEARED", records(MEMBER) + records(USER));
    let invites = records("sentry.organizationmemberinvite");
    let keys = 2 * records("sentry.projectkey") + records("sentry.orgauthtoken") + invites;
    expected.insert("KEY_REGENERATED", keys);
    assert_eq!(kinds(&second), expected);
    assert_eq!(second.count(|outcome| matches!(outcome, Outcome::Existing(_))), records("sentry.email"));
    assert_eq!(second.inserted() + records("sentry.email"), first.inserted());
    let added = reported(&first, FindingKind::RowAdded) + reported(&second, FindingKind::RowAdded);
    assert_eq!(first.inserted() + second.inserted() + added, second.after.row_count());

    // A third import also conflicts with the names that the second one made.
    import(&cluster, &export, &ImportOptions::default()).await;
    cluster.stop().await;
}

pub(crate) async fn a_merging_import_leaves_users_as_they_are(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = exhaustive();
    let (_, first) = import(&cluster, &export, &ImportOptions::default()).await;
    let (_, second) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    for record in export.records.iter().filter(|record| record.model == USER) {
        let Some(Outcome::Inserted(id)) = first.outcome(USER, record.pk) else {
            panic!("user {}", record.pk)
        };
        assert_eq!(second.outcome(USER, record.pk), Some(Outcome::Existing(id)));
    }
    for record in &export.records {
        match record.model.as_str() {
            "sentry.useremail" | "sentry.useroption" => {
                assert_eq!(second.outcome(&record.model, record.pk), Some(Outcome::Dropped))
            }
            // The members of the second import's organizations are the users of the first import.
            MEMBER => {
                let user =
                    |row: Option<&causeway_harness::account::Row>| row.expect("a member")["user_id"].clone();
                assert_eq!(user(first.row(MEMBER, record.pk)), user(second.row(MEMBER, record.pk)));
            }
            _ => {}
        }
    }
    assert_eq!(reported(&second, FindingKind::UserMerged), 4);
    assert_eq!(reported(&second, FindingKind::UsernameChanged), 0);
    cluster.stop().await;
}

pub(crate) async fn the_same_import_again_changes_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let (export, options) = (exhaustive(), ImportOptions::default().import_id(ID));
    let (first, _) = import(&cluster, &export, &options).await;
    let after = rows_now(&cluster, 0).await;

    let joined = region.begin(&export.to_bytes(), &options).await.expect("it is joined");
    assert!(joined.joined);
    assert_eq!(lasting(region.wait(ID).await.expect("it has ended")), lasting(first.clone()));
    // A client that knows the hash need not send the file.
    let header =
        ImportHeader { import_id: ID.to_owned(), sha256: first.sha256.clone(), ..ImportHeader::default() };
    let parts = [ImportOrganizationsRequest { part: Some(Part::Header(header)) }];
    let joined = region.imports().import_organizations(tokio_stream::iter(parts)).await;
    assert!(joined.expect("it is joined").into_inner().joined);

    assert_eq!(rows_now(&cluster, 0).await, after, "rows or reservations have changed");
    let imports = region.imports().list_imports(ListImportsRequest::default()).await;
    assert_eq!(imports.expect("a list").into_inner().imports.len(), 1);
    cluster.stop().await;
}

pub(crate) async fn an_import_that_is_sent_twice_at_once_is_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let (export, options) = (exhaustive().to_bytes(), ImportOptions::default().import_id(ID));
    let before = rows_now(&cluster, 0).await;
    let (one, other) = tokio::join!(region.begin(&export, &options), region.begin(&export, &options));
    let (one, other) = (one.expect("it is taken"), other.expect("it is taken"));
    assert!(one.joined ^ other.joined, "exactly one of them started it: {} {}", one.joined, other.joined);
    let import = region.wait(ID).await.expect("the import ends");
    accounted(Audit::new(&cluster, 0, &before, &export, &options, &import).run().await);
    cluster.stop().await;
}

pub(crate) async fn an_import_id_stands_for_one_content_and_one_set_of_parameters(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two");
    let options = ImportOptions::default().import_id(ID);
    let (first, _) = import(&cluster, &export, &options).await;
    let after = rows_now(&cluster, 0).await;

    let mut other = export.clone();
    other.organization(3, "three");
    let same = export.to_bytes();
    for (bytes, options) in [
        (&other.to_bytes(), options.clone()),
        (&same, options.clone().filter(&["one"])),
        (&same, options.clone().filter(&[])),
        (&same, options.clone().merge_users()),
        (&same, options.clone().hide_organizations()),
    ] {
        let refusal = refused(region.begin(bytes, &options).await);
        assert_eq!(refusal, ErrorReason::ImportContentDiffers, "{options:?}");
    }
    assert_eq!(lasting(region.wait(ID).await.expect("it has ended")), lasting(first.clone()));
    assert_eq!(rows_now(&cluster, 0).await, after, "rows or reservations have changed");

    // A failed import keeps its id too.
    let options =
        ImportOptions::default().filter(&["nobody"]).import_id("0d8a52a3-36f1-4d5e-8d63-6d1f7d2f7b12");
    let failed = region.import(&same, &options).await.expect("it ends");
    assert_eq!(failed.state(), ImportState::Failed);
    assert!(region.begin(&same, &options).await.expect("it is joined").joined);
    assert_eq!(refused(region.begin(&other.to_bytes(), &options).await), ErrorReason::ImportContentDiffers);
    cluster.stop().await;
}
