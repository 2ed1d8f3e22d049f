//! The limits of a region, exactly at each limit and one beyond it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Store},
    export::{self, Export},
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{ImportState, RevertImportRequest},
    relocation::v1::{ErrorReason, FindingKind},
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{cluster, eventually, fails, import, kinds, limited};

/// The most bytes of a record of a model that control stores.
const CONTROL_RECORD: usize = 3 << 20;

/// An export with a record of this model that has exactly this many bytes. Its primary key is 9.
fn record_of(bytes: usize, model: &str, fields: impl Fn(&str) -> Value) -> Export {
    let with = |text: &str| {
        let mut export = Export::new();
        export.organization(1, "one").user(2, "ann").project(5, 1, "p").push(model, 9, &fields(text));
        export
    };
    let length = |export: &Export| {
        let file = export.to_bytes();
        file.len() - "\n]\n".len() - export.offset(model, 9).expect("it is there")
    };
    let export = with(&"x".repeat(bytes - length(&with(""))));
    assert_eq!(length(&export), bytes);
    export
}

pub(crate) async fn a_record_may_have_as_many_bytes_as_the_limit(store: Store) {
    const MOST: usize = 20_000;
    let cluster = limited(store, |limits| limits.record.record_bytes = MOST).await;
    let options = ImportOptions::default();
    let rule = |bytes| {
        record_of(bytes, "sentry.rule", |text| json!({"project": 5, "label": "l", "data": {"text": text}}))
    };
    import(&cluster, &rule(MOST), &options).await;
    let larger = rule(MOST + 1);
    let (_, message) = fails(&cluster, &larger, &options, ErrorReason::RecordTooLarge).await;
    let place =
        format!("byte {}, sentry.rule record 1, pk 9: ", larger.offset("sentry.rule", 9).expect("there"));
    assert!(message.starts_with(&place) && message.contains("20000 bytes"), "{message}");
    cluster.stop().await;
}

/// A record of a model of control must fit into one message to control.
pub(crate) async fn a_record_for_control_may_have_as_many_bytes_as_a_message_takes(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default();
    let option = |bytes| {
        record_of(bytes, "sentry.useroption", |text| json!({"user": 2, "key": "note", "value": text}))
    };
    import(&cluster, &option(CONTROL_RECORD), &options).await;
    let larger = option(CONTROL_RECORD + 1);
    let (_, message) = fails(&cluster, &larger, &options, ErrorReason::RecordTooLarge).await;
    let place = format!(
        "byte {}, sentry.useroption record 1, pk 9: ",
        larger.offset("sentry.useroption", 9).expect("there")
    );
    assert!(message.starts_with(&place) && message.contains("3145729 bytes"), "{message}");
    cluster.stop().await;
}

pub(crate) async fn a_record_may_be_nested_as_deep_as_the_limit(store: Store) {
    const DEEPEST: usize = 12;
    let cluster = limited(store, |limits| limits.record.depth = DEEPEST).await;
    let options = ImportOptions::default();
    // The record itself and its fields are two of the levels.
    let nested = |depth: usize| {
        let data = (2..depth)
            .fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) });
        let mut export = Export::new();
        export.organization(1, "one").project(5, 1, "p");
        export.push("sentry.rule", 9, &json!({"project": 5, "label": "l", "data": data}));
        export
    };
    import(&cluster, &nested(DEEPEST), &options).await;
    let deeper = nested(DEEPEST + 1);
    let (_, message) = fails(&cluster, &deeper, &options, ErrorReason::RecordTooDeep).await;
    let place = format!("byte {}, sentry.rule", deeper.offset("sentry.rule", 9).expect("there"));
    assert!(message.starts_with(&place) && message.contains("deeper than 12"), "{message}");
    cluster.stop().await;
}

pub(crate) async fn as_many_findings_are_stored_as_the_limit(store: Store) {
    const MOST: usize = 10;
    let cluster = limited(store, |limits| limits.findings = 10).await;
    let wanted_alike = |slug: &str, organizations: i64| {
        let mut export = Export::new();
        export.user(1, slug).user_email(1, 1, "all@example.com");
        for pk in 1..=organizations {
            export.organization(pk, slug).member(pk, pk, 1);
        }
        export
    };
    // All but the first one get another slug, each with a finding.
    let (_, account) = import(&cluster, &wanted_alike("wanted-by-all", 11), &ImportOptions::default()).await;
    assert_eq!(kinds(&account), [("SLUG_CHANGED", MOST)].into());
    let region = cluster.region(0);
    let beyond = wanted_alike("wanted-by-more", 12).to_bytes();
    let done = region.import(&beyond, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded);
    let counts: Vec<_> = done.finding_counts.iter().map(|count| (count.kind(), count.count)).collect();
    assert_eq!(counts, [(FindingKind::SlugChanged, 11), (FindingKind::FindingsNotStored, 1)]);
    assert_eq!(region.findings(&done.import_id).await.expect("a list").len(), MOST + 1);
    cluster.stop().await;
}

/// Checks that a call was refused because of a limit of this size.
pub(crate) fn is_over(status: &Status, reason: ErrorReason, limit: &str) {
    assert_eq!((reason_of(status), status.code()), (Some(reason), Code::ResourceExhausted), "{status:?}");
    let details = tonic_types::StatusExt::get_error_details(status);
    let limit_of_error = details.error_info().and_then(|info| info.metadata.get("limit").cloned());
    assert_eq!(limit_of_error.as_deref(), Some(limit), "{status:?}");
}

pub(crate) async fn as_many_watches_are_open_at_once_as_the_limit(store: Store) {
    let mut cluster = limited(store, |limits| limits.watches = 2).await;
    // Without control the import waits, so it can be watched.
    cluster.stop_control().await;
    let region = cluster.region(0);
    let file = Export::new().organization(1, "one").to_bytes();
    let id = region.begin(&file, &ImportOptions::default()).await.expect("it begins").import;
    let id = id.unwrap_or_default().import_id;
    let mut one = region.watch(&id).await.expect("there is a place");
    let other = region.watch(&id).await.expect("there is a place");
    let refused = region.watch(&id).await.expect_err("there is no place");
    is_over(&refused, ErrorReason::TooManyWatches, "2");
    assert!(refused.message().contains("--max-watches"), "{refused:?}");

    drop(other);
    eventually("there is a place again", async || region.watch(&id).await.is_ok()).await;
    cluster.start_control().await.expect("it starts");
    let mut last = ImportState::Unspecified;
    while let Some(message) = one.message().await.expect("the watch does not break") {
        last = message.import.unwrap_or_default().state();
    }
    assert_eq!(last, ImportState::Succeeded);
    // A watch that has ended leaves its place too.
    for _ in 0..5 {
        eventually("there is a place again", async || region.wait(&id).await.is_ok()).await;
    }
    cluster.stop().await;
}

/// One organization beyond the limit is refused before anything is written, and a dry run reports that.
pub(crate) async fn an_import_may_have_as_many_organizations_as_the_limit(store: Store) {
    let cluster = limited(store, |limits| limits.organizations = 3).await;
    let options = ImportOptions::default();
    let of = |count: i64| {
        let mut export = Export::new();
        (1..=count).for_each(|pk| {
            export.organization(pk, &format!("organization-{pk}"));
        });
        export
    };
    import(&cluster, &of(3), &options).await;
    for options in [options.clone().dry_run(), options.clone()] {
        let (_, message) = fails(&cluster, &of(4), &options, ErrorReason::ExportInvalid).await;
        assert!(message.contains("sentry.organization record 4, pk 4: "), "{message}");
        assert!(message.contains("4 organizations to import, and an import takes 3"), "{message}");
    }
    // The advice in the message helps.
    let part = options.filter(&["organization-2", "organization-3", "organization-4"]);
    import(&cluster, &of(4), &part).await;
    cluster.stop().await;
}

/// Control never has memory for the slugs of the import, so the import does not wait for it.
pub(crate) async fn an_import_whose_slugs_control_never_has_memory_for_fails(store: Store) {
    let configured = Cluster::builder(store).region("us").configure_control(|options| {
        // A region may take half of it: enough for ten organizations, and not for twenty.
        options.bulk.bytes = 2 * 15 * 300;
    });
    let cluster = configured.start().await.expect("a cluster; on PostgreSQL this test needs one installed");
    let options = ImportOptions::default();
    for options in [options.clone().dry_run(), options.clone()] {
        let (_, message) = fails(&cluster, &export::large(20), &options, ErrorReason::TooManySlugs).await;
        assert!(message.contains("start control with a larger --max-bulk-bytes"), "{message}");
        assert!(message.contains(&format!("one import {}:", 15 * 300)), "{message}");
    }
    // Those that the filter leaves out do not count.
    let slugs: Vec<String> = (1..=9).map(|number| format!("tenant-{number}")).collect();
    let slugs: Vec<&str> = slugs.iter().map(String::as_str).collect();
    let filtered = export::large(20).to_bytes();
    let filtered = cluster.region(0).import(&filtered, &options.filter(&slugs)).await.expect("it ends");
    assert_eq!(filtered.state(), ImportState::Succeeded, "{:?}", filtered.failure);
    import_of(&cluster, 10).await;
    cluster.stop().await;
}

/// Control had more memory when the import was planned.
pub(crate) async fn an_import_for_which_control_has_no_memory_any_more_fails(store: Store) {
    let failpoints = Failpoints::default();
    let most = Arc::new(AtomicUsize::new(1 << 30));
    let configured = Cluster::builder(store).region("us").failpoints(&failpoints).configure_control({
        let most = Arc::clone(&most);
        move |options| options.bulk.bytes = most.load(Ordering::SeqCst)
    });
    let mut cluster = configured.start().await.expect("a cluster");
    failpoints.arm("region.slugs.chosen", Act::Kill, 0);
    let bytes = export::large(20).to_bytes();
    let id = cluster
        .region(0)
        .begin(&bytes, &ImportOptions::default())
        .await
        .expect("it begins")
        .import
        .expect("an import")
        .import_id;
    cluster.killed().await;
    most.store(2 * 15 * 300, Ordering::SeqCst);
    cluster.stop_control().await;
    cluster.heal().await.expect("both are back");
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Failed, "{:?}", import.waiting);
    let failure = import.failure.clone().unwrap_or_default();
    assert_eq!(failure.reason(), ErrorReason::TooManySlugs, "{}", failure.message);
    assert_eq!(failure.state(), ImportState::ResolvingSlugs);
    assert_eq!(cluster.region(0).visible_organizations().await.expect("a list"), []);
    let request = RevertImportRequest { import_id: import.import_id.clone() };
    cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
    cluster.region(0).wait(&import.import_id).await.expect("it ends");
    import_of(&cluster, 10).await;
    cluster.stop().await;
}

/// Imports this many organizations.
async fn import_of(cluster: &Cluster, organizations: i64) {
    let bytes = export::large(organizations).to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
}
