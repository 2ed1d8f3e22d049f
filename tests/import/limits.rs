//! What a region bounds, exactly at each bound and one beyond it.

use std::{fs, time::Duration};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, RegionApi, Store},
    export::Export,
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{
        ImportHeader, ImportOrganizationsRequest, ImportOrganizationsResponse, ImportState,
        import_organizations_request::Part,
    },
    relocation::v1::{ErrorReason, FindingKind},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::stage::{cluster, eventually, fails, import, import_bytes, kinds, limited, look};

/// The most bytes of a record of a model that control keeps.
const CONTROL_RECORD: usize = 3 << 20;

/// An export with a record of this model that has exactly so many bytes, and its primary key 9.
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

/// A record of control's models travels to it in one message.
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
    // The record and its fields are two of them.
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
        for pk in 1..=organizations {
            export.organization(pk, slug);
        }
        export
    };
    // All but the first get another slug, which is a finding of each.
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

/// An upload that is under way. Dropped, it breaks off.
struct Upload {
    parts: mpsc::Sender<ImportOrganizationsRequest>,
    call: JoinHandle<Result<ImportOrganizationsResponse, Status>>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.call.abort();
    }
}

impl Upload {
    fn begin(region: &RegionApi) -> Self {
        let (parts, waiting) = mpsc::channel(4);
        let mut imports = region.imports();
        let call = tokio::spawn(async move {
            Ok(imports.import_organizations(ReceiverStream::new(waiting)).await?.into_inner())
        });
        Self { parts, call }
    }

    async fn send(&self, part: Part) {
        self.parts.send(ImportOrganizationsRequest { part: Some(part) }).await.expect("it is taken");
    }

    /// One that has sent its header and the beginning of this file.
    async fn of(region: &RegionApi, id: &str, beginning: &[u8]) -> Self {
        let upload = Self::begin(region);
        upload.send(Part::Header(ImportHeader { import_id: id.to_owned(), ..Default::default() })).await;
        upload.send(Part::Data(beginning.to_vec())).await;
        upload
    }

    /// Sends the rest of its file and ends it.
    async fn end(mut self, rest: &[u8]) -> Result<ImportOrganizationsResponse, Status> {
        self.send(Part::Data(rest.to_vec())).await;
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.parts, closed));
        (&mut self.call).await.expect("it is not aborted")
    }
}

/// The uploads in the spool directory that are not at their end.
fn under_way(cluster: &Cluster) -> usize {
    let entries = fs::read_dir(cluster.spool_dir(0)).expect("it is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "part")).count()
}

/// Refused for a bound of this size.
fn is_over(status: &Status, reason: ErrorReason, limit: &str) {
    assert_eq!((reason_of(status), status.code()), (Some(reason), Code::ResourceExhausted), "{status:?}");
    let details = tonic_types::StatusExt::get_error_details(status);
    let told = details.error_info().and_then(|info| info.metadata.get("limit").cloned());
    assert_eq!(told.as_deref(), Some(limit), "{status:?}");
}

pub(crate) async fn as_many_uploads_are_taken_at_once_as_the_limit(store: Store) {
    let cluster = limited(store, |limits| limits.uploads = 2).await;
    let region = cluster.region(0);
    let file = Export::new().organization(1, "one").to_bytes();
    let (beginning, rest) = file.split_at(20);
    let [first, second] = [1, 2].map(|id| Uuid::from_u128(id).to_string());
    let uploads =
        (Upload::of(&region, &first, beginning).await, Upload::of(&region, &second, beginning).await);
    eventually("two uploads are under way", async || under_way(&cluster) == 2).await;

    let before = look(&cluster, 0).await;
    let refused = region.begin(&file, &ImportOptions::default()).await.expect_err("there is no place");
    is_over(&refused, ErrorReason::TooManyUploads, "2");
    assert!(refused.message().contains("--max-uploads"), "{refused:?}");
    assert_eq!(look(&cluster, 0).await, before, "something was written");
    assert_eq!(under_way(&cluster), 2, "something was kept");

    // One that breaks off leaves its place, and so does one that comes to its end.
    let (one, other) = uploads;
    drop(one);
    eventually("its file is gone", async || under_way(&cluster) == 1).await;
    import_bytes(&cluster, &file, &ImportOptions::default()).await;
    assert!(!other.end(rest).await.expect("it is taken").joined);
    assert_eq!(region.wait(&second).await.expect("it ends").state(), ImportState::Succeeded);
    let uploads = (
        Upload::of(&region, &first, beginning).await,
        Upload::of(&region, &Uuid::nil().to_string(), beginning).await,
    );
    eventually("there are two places again", async || under_way(&cluster) == 2).await;
    drop(uploads);

    // Whoever says nothing at all has a place too.
    eventually("both have gone", async || under_way(&cluster) == 0).await;
    let mut silent = Vec::new();
    eventually("they are counted", async || {
        // The question itself may have been in the place of the one before.
        silent.push(Upload::begin(&region));
        let asked = region.begin(&file, &ImportOptions::default().import_id(&second)).await;
        asked.is_err_and(|status| reason_of(&status) == Some(ErrorReason::TooManyUploads))
    })
    .await;
    drop(silent);
    cluster.stop().await;
}

pub(crate) async fn an_upload_that_stalls_gives_its_place_to_others(store: Store) {
    let cluster = limited(store, |limits| {
        (limits.uploads, limits.upload_idle) = (1, Duration::from_millis(100));
    })
    .await;
    let region = cluster.region(0);
    let file = Export::new().organization(1, "one").to_bytes();
    let id = Uuid::from_u128(1).to_string();
    for silent in [true, false] {
        let mut stalled = match silent {
            true => Upload::begin(&region),
            false => Upload::of(&region, &id, &file[..20]).await,
        };
        let status = (&mut stalled.call).await.expect("it is not aborted").expect_err("it stalls");
        assert_eq!(reason_of(&status), Some(ErrorReason::UploadStalled), "{status:?}");
        assert_eq!(status.code(), Code::Aborted);
        eventually("nothing was kept", async || under_way(&cluster) == 0).await;
    }
    let options = ImportOptions::default().import_id(&id);
    let (import, _) = import_bytes(&cluster, &file, &options).await;
    assert_eq!(import.state(), ImportState::Succeeded);
    cluster.stop().await;
}

pub(crate) async fn as_many_watches_are_open_at_once_as_the_limit(store: Store) {
    let mut cluster = limited(store, |limits| limits.watches = 2).await;
    // Without control the import waits as long as it is watched.
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
    // Nor does one that has come to its end keep its place.
    for _ in 0..5 {
        eventually("there is a place again", async || region.wait(&id).await.is_ok()).await;
    }
    cluster.stop().await;
}
