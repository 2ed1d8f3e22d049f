//! Uploads that are many, slow, or that do not reach their end.

use std::{fs, time::Duration};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, RegionApi, Silo, Store},
    export::Export,
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{
        ImportHeader, ImportOrganizationsRequest, ImportOrganizationsResponse, ImportState,
        ListImportsRequest, import_organizations_request::Part,
    },
    relocation::v1::ErrorReason,
    whole::upload_end,
};
use causeway_silo::db::Statement;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::{
    limits::is_over,
    support::{cluster, eventually, import_bytes, limited, rows_now},
};

/// An upload in progress. Dropping it breaks the upload off.
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
        Self::begin_within(region, None)
    }

    /// Starts an upload that ends after this time, if any.
    fn begin_within(region: &RegionApi, timeout: Option<Duration>) -> Self {
        let (parts, waiting) = mpsc::channel(4);
        let mut imports = region.imports();
        let call = tokio::spawn(async move {
            let mut request = Request::new(ReceiverStream::new(waiting));
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            Ok(imports.import_organizations(request).await?.into_inner())
        });
        Self { parts, call }
    }

    /// The outcome of the upload.
    async fn ended(mut self) -> Result<ImportOrganizationsResponse, Status> {
        (&mut self.call).await.expect("it is not aborted")
    }

    async fn send(&self, part: Part) {
        self.parts.send(ImportOrganizationsRequest { part: Some(part) }).await.expect("it is taken");
    }

    /// Starts an upload, and sends its header and the beginning of its file.
    async fn of(region: &RegionApi, id: &str, beginning: &[u8]) -> Self {
        let upload = Self::begin(region);
        upload.send(Part::Header(ImportHeader { import_id: id.to_owned(), ..Default::default() })).await;
        upload.send(Part::Data(beginning.to_vec())).await;
        upload
    }

    /// Sends the rest of the file and ends the upload. `file` is the whole file.
    async fn end(mut self, rest: &[u8], file: &[u8]) -> Result<ImportOrganizationsResponse, Status> {
        self.send(Part::Data(rest.to_vec())).await;
        self.send(Part::End(upload_end(file))).await;
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.parts, closed));
        (&mut self.call).await.expect("it is not aborted")
    }
}

/// The number of unfinished uploads in the spool directory.
fn under_way(cluster: &Cluster) -> usize {
    let entries = fs::read_dir(cluster.spool_dir(0)).expect("it is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "part")).count()
}

/// Several uploads of one import share its row until the region accepts one of them. An upload that ends early removes
/// the row, also while another upload is about to be accepted.
pub(crate) async fn an_upload_is_taken_whatever_becomes_of_another_one_of_its_import(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let file = Export::new().organization(1, "one").to_bytes();
    let (beginning, rest) = file.split_at(20);
    let id = Uuid::from_u128(1);
    let upload = Upload::of(&region, &id.to_string(), beginning).await;
    eventually("it is under way", async || under_way(&cluster) == 1).await;

    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let mut other = db.begin().await.expect("a transaction");
    // Lock the row without a change: a transaction that inserts the row finds it there, and one that changes it waits.
    let lock = match store {
        Store::Postgres => "SELECT state FROM causeway_import WHERE import_id = $1 FOR UPDATE",
        Store::Sqlite => "SELECT state FROM causeway_import WHERE import_id = $1",
    };
    let row = other.fetch_one(Statement::new(lock).with(id)).await.expect("locked");
    assert_eq!(row.text("state").expect("a text"), "receiving");
    let file_of_it = file.clone();
    let rest = rest.to_vec();
    let ending = tokio::spawn(async move { upload.end(&rest, &file_of_it).await });
    if store == Store::Postgres {
        eventually("it waits for the row", async || {
            let waits = "SELECT count(*) AS waits FROM pg_locks WHERE NOT granted";
            let row = db.fetch_optional(Statement::new(waits)).await.expect("asked").expect("a row");
            row.int("waits").expect("a number") > 0
        })
        .await;
    }
    let forget = "DELETE FROM causeway_import WHERE import_id = $1 AND state = 'receiving'";
    assert_eq!(other.execute(Statement::new(forget).with(id)).await.expect("removed"), 1);
    other.commit().await.expect("committed");
    let begun = ending.await.expect("it ends").expect("it is taken");
    assert!(!begun.joined);
    assert_eq!(region.wait(&id.to_string()).await.expect("it ends").state(), ImportState::Succeeded);
    cluster.stop().await;
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

    let before = rows_now(&cluster, 0).await;
    let refused = region.begin(&file, &ImportOptions::default()).await.expect_err("there is no place");
    is_over(&refused, ErrorReason::TooManyUploads, "2");
    assert!(refused.message().contains("--max-uploads"), "{refused:?}");
    assert_eq!(rows_now(&cluster, 0).await, before, "something was written");
    assert_eq!(under_way(&cluster), 2, "something was kept");

    // An upload that breaks off leaves its place, and so does one that reaches its end.
    let (one, other) = uploads;
    drop(one);
    eventually("its file is gone", async || under_way(&cluster) == 1).await;
    import_bytes(&cluster, &file, &ImportOptions::default()).await;
    assert!(!other.end(rest, &file).await.expect("it is taken").joined);
    assert_eq!(region.wait(&second).await.expect("it ends").state(), ImportState::Succeeded);
    let uploads = (
        Upload::of(&region, &first, beginning).await,
        Upload::of(&region, &Uuid::nil().to_string(), beginning).await,
    );
    eventually("there are two places again", async || under_way(&cluster) == 2).await;
    drop(uploads);

    // An upload that sends nothing takes a place too.
    eventually("both have gone", async || under_way(&cluster) == 0).await;
    let mut silent = Vec::new();
    eventually("they are counted", async || {
        // The test upload itself may have been in the place of the one before.
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

/// The number of uploads that the test breaks off.
const CUT: u16 = 60;

/// In the transport, a cancelled or timed-out stream looks like one that has ended normally.
pub(crate) async fn an_upload_that_is_cut_off_leaves_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    // Each part of the file that is sent would be an export by itself.
    let file = Export::new().organization(1, "one").to_bytes();
    let id = |number: u16| Uuid::from_u128(1_000 + u128::from(number)).to_string();
    for number in 0..CUT {
        let timeout = (number % 2 == 0).then(|| Duration::from_micros(u64::from(number) * 200 + 500));
        let upload = Upload::begin_within(&region, timeout);
        let header = ImportHeader { import_id: id(number), ..Default::default() };
        let mut parts = vec![Part::Header(header), Part::Data(file.clone()), Part::Data(b" ".to_vec())];
        parts.truncate(usize::from(number % 4));
        for part in parts {
            // The upload may be over by now.
            let _over = upload.parts.send(ImportOrganizationsRequest { part: Some(part) }).await;
        }
        match timeout {
            // The test sends nothing more until the time is over.
            Some(_) => {
                upload.ended().await.expect_err("its time is over");
            }
            None => {
                tokio::task::yield_now().await;
                drop(upload);
            }
        }
    }
    let imports = region.imports().list_imports(ListImportsRequest::default()).await;
    assert_eq!(imports.expect("a list").into_inner().imports, []);
    eventually("their files are gone", async || under_way(&cluster) == 0).await;
    let db = cluster.db(Silo::Region(0)).await.expect("its database");
    eventually("their rows are gone", async || {
        let rows = db.fetch_all(Statement::new("SELECT state FROM causeway_import")).await;
        rows.expect("the imports").is_empty()
    })
    .await;
    db.close().await;
    // Each id can be used for the file.
    for number in [0, 1, 2, 3, CUT - 1] {
        let options = ImportOptions::default().import_id(&id(number));
        assert!(!region.begin(&file, &options).await.expect("it is taken").joined);
        assert_eq!(region.wait(&id(number)).await.expect("it ends").state(), ImportState::Succeeded);
    }
    cluster.stop().await;
}

/// Messages without bytes do not count as progress, and a few bytes are too few.
pub(crate) async fn an_upload_that_trickles_gives_its_place_to_others(store: Store) {
    let cluster = limited(store, |limits| {
        (limits.uploads, limits.upload_idle) = (1, Duration::from_millis(200));
        limits.upload_rate = 1 << 40;
    })
    .await;
    let region = cluster.region(0);
    let file = Export::new().organization(1, "one").to_bytes();
    for part in [Vec::new(), b" ".to_vec()] {
        let upload = Upload::begin(&region);
        let header = ImportHeader { import_id: Uuid::from_u128(1).to_string(), ..Default::default() };
        upload.send(Part::Header(header)).await;
        // Until the region accepts no more parts.
        let next = || ImportOrganizationsRequest { part: Some(Part::Data(part.clone())) };
        while upload.parts.send(next()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let status = upload.ended().await.expect_err("it trickles");
        assert_eq!(reason_of(&status), Some(ErrorReason::UploadStalled), "{status:?}");
        eventually("nothing was kept", async || under_way(&cluster) == 0).await;
    }
    let begun = region.begin(&file, &ImportOptions::default()).await;
    assert!(!begun.expect("there is a place").joined);
    cluster.stop().await;
}

/// However many uploads come from one address, others get through.
pub(crate) async fn one_address_has_as_many_uploads_as_its_limit(store: Store) {
    let cluster = limited(store, |limits| (limits.uploads, limits.uploads_per_address) = (3, 1)).await;
    let region = cluster.region(0);
    let file = Export::new().organization(1, "one").to_bytes();
    let upload = Upload::of(&region, &Uuid::from_u128(1).to_string(), &file[..20]).await;
    eventually("it is under way", async || under_way(&cluster) == 1).await;
    let refused = region.begin(&file, &ImportOptions::default()).await.expect_err("there is no place");
    is_over(&refused, ErrorReason::TooManyUploads, "1");
    assert!(refused.message().contains("--max-uploads-per-address"), "{refused:?}");
    drop(upload);
    eventually("there is a place again", async || {
        region.begin(&file, &ImportOptions::default()).await.is_ok()
    })
    .await;
    cluster.stop().await;
}
