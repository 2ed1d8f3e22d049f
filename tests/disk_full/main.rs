//! Tests with full disks: that of a region's spool directory, and those of the databases of control and of a region.
//! Services are processes of their own, because each gets a small disk for itself.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is test code, the helpers too")]

mod database;
mod spool;

use std::{fmt::Debug, io::Write as _};

use causeway_client::{CallError, Client};
use causeway_proto::{
    region::v1::{
        ImportHeader, ImportOrganizationsRequest, ImportState, WatchImportRequest,
        import_organizations_request::Part,
    },
    whole::UploadDigest,
};
use futures::{StreamExt as _, stream};

/// Fails because a small disk cannot be made here this way. With `CAUSEWAY_SKIP_DISK_FULL` set it only
/// reports that: a test that does not run must not pass unless that is intended.
#[track_caller]
fn not_possible_here(way: &dyn Debug) {
    assert!(
        std::env::var_os("CAUSEWAY_SKIP_DISK_FULL").is_some(),
        "{way:?} cannot be set up here: it needs prlimit, unshare and mount; to go on without it, set \
         CAUSEWAY_SKIP_DISK_FULL=1"
    );
    writeln!(std::io::stderr(), "NOT RUN: {way:?} cannot be set up here").expect("somebody listens");
}

/// Uploads an export of one organization, filled up with spaces to this size, part by part.
async fn send(region: &Client, id: &str, size: usize) -> Result<bool, CallError> {
    let record = br#"[{"model": "sentry.organization", "pk": 1, "fields": {"name": "one", "slug": "one"}}"#;
    let spaces = size.saturating_sub(record.len() + 1);
    let part = 256 * 1024;
    let filling = (0..spaces.div_ceil(part)).map(move |at| vec![b' '; part.min(spaces - at * part)]);
    send_parts(region, id, [record.to_vec()].into_iter().chain(filling).chain([b"]".to_vec()])).await
}

/// Uploads an export in these parts. Returns whether the import existed already.
async fn send_parts(
    region: &Client,
    id: &str,
    data: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Result<bool, CallError> {
    let header = ImportHeader { import_id: id.to_owned(), ..ImportHeader::default() };
    let mut sent = Some(UploadDigest::default());
    // The end contains a hash, so it is made after everything before it has been sent.
    let data = data.map(Some).chain([None]).filter_map(move |data| {
        let Some(data) = data else { return sent.take().map(|sent| Part::End(sent.end())) };
        sent.as_mut()?.add(&data);
        Some(Part::Data(data))
    });
    let parts = stream::iter([Part::Header(header)].into_iter().chain(data))
        .map(|part| ImportOrganizationsRequest { part: Some(part) });
    Ok(region.answer(region.imports().import_organizations(parts)).await?.joined)
}

/// Waits until an import has ended, and returns its state.
async fn ends(region: &Client, id: &str) -> ImportState {
    let request = WatchImportRequest { import_id: id.to_owned() };
    let mut watch = region.answer(region.imports().watch_import(request)).await.expect("it is there");
    let mut last = ImportState::Unspecified;
    while let Some(message) = watch.message().await.expect("the watch does not break") {
        last = message.import.unwrap_or_default().state();
    }
    last
}
