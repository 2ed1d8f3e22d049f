//! Calls of a region's import service: watches, invalid uploads, and imports that do not exist.

use causeway_harness::{
    cluster::{ImportOptions, RegionApi, Store, upload_messages},
    export::Export,
};
use causeway_proto::{
    region::v1::{
        GetImportRequest, ImportHeader, ImportOrganizationsRequest, ImportState, ListFindingsRequest,
        ListImportsRequest, ListMappedKeysRequest, UploadEnd, WatchImportRequest,
        import_organizations_request::Part,
    },
    relocation::v1::{ErrorReason, Scope},
    whole::upload_end,
};

use crate::support::{cluster, exhaustive, refused};

const ID: &str = "0d8a52a3-36f1-4d5e-8d63-6d1f7d2f7b13";

pub(crate) async fn a_watch_shows_an_import_from_its_beginning_to_its_end(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let options = ImportOptions::default().import_id(ID);
    region.begin(&exhaustive().to_bytes(), &options).await.expect("it begins");
    let mut watch = region.watch(ID).await.expect("it is there");
    let mut states = Vec::new();
    while let Some(message) = watch.message().await.expect("the watch does not break") {
        let import = message.import.expect("an import");
        assert_eq!((import.import_id.as_str(), import.region.as_str()), (ID, "us"));
        let progress = import.progress.clone().unwrap_or_default();
        assert!(
            progress.records_total == 0 || progress.records_done <= progress.records_total,
            "{progress:?}"
        );
        states.push(import.state());
    }
    assert!(states.is_sorted(), "the state went back: {states:?}");
    assert_eq!(states.last(), Some(&ImportState::Succeeded));

    // A watch that starts after the end receives the import once.
    let mut watch = region.watch(ID).await.expect("it is there");
    let seen = watch.message().await.expect("the watch does not break").expect("an import");
    assert_eq!(seen.import.expect("an import").state(), ImportState::Succeeded);
    assert!(watch.message().await.expect("the watch does not break").is_none());
    cluster.stop().await;
}

async fn upload(region: &RegionApi, messages: Vec<ImportOrganizationsRequest>) -> ErrorReason {
    refused(region.imports().import_organizations(tokio_stream::iter(messages)).await)
}

pub(crate) async fn an_upload_that_is_not_what_it_says_leaves_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let mut export = Export::new();
    let bytes = export.organization(1, "one").to_bytes();
    let size = i64::try_from(bytes.len()).expect("a size");
    let header = ImportHeader { import_id: ID.to_owned(), ..ImportHeader::default() };
    let data = || Part::Data(bytes.clone());
    // The end of an upload, with another size or another hash.
    let end = |more: i64, hashed: usize| {
        let end = upload_end(&bytes[hashed..]);
        Part::End(UploadEnd { size_bytes: size + more, ..end })
    };
    let with = |header: ImportHeader| vec![Part::Header(header), data()];
    for (parts, reason) in [
        (vec![], ErrorReason::UploadInvalid),
        (vec![data()], ErrorReason::UploadInvalid),
        (
            vec![Part::Header(header.clone()), data(), Part::Header(header.clone())],
            ErrorReason::UploadInvalid,
        ),
        (vec![Part::Header(header.clone()), data(), end(0, 0)], ErrorReason::UploadInvalid),
        (vec![Part::Header(header.clone()), end(1, 0), data()], ErrorReason::UploadInvalid),
        (with(ImportHeader { size_bytes: Some(size - 1), ..header.clone() }), ErrorReason::UploadInvalid),
        (with(ImportHeader { size_bytes: Some(size + 1), ..header.clone() }), ErrorReason::UploadInvalid),
        (with(ImportHeader { sha256: "0".repeat(64), ..header.clone() }), ErrorReason::UploadInvalid),
        (with(ImportHeader { sha256: "0".repeat(63), ..header.clone() }), ErrorReason::InvalidArgument),
        (with(ImportHeader { import_id: "x".to_owned(), ..header.clone() }), ErrorReason::InvalidArgument),
        (with(ImportHeader { scope: 77, ..header.clone() }), ErrorReason::InvalidArgument),
    ] {
        let shown = format!("{parts:?}");
        assert_eq!(upload(&region, upload_messages(parts)).await, reason, "{shown}");
    }
    let message = |part| ImportOrganizationsRequest { part: Some(part) };
    // The end must match what was sent, and nothing may follow it.
    for parts in [
        vec![Part::Header(header.clone()), data(), end(1, 0)],
        vec![Part::Header(header.clone()), data(), end(-1, 0)],
        vec![Part::Header(header.clone()), data(), end(0, 1)],
        vec![Part::Header(header.clone()), data(), end(0, 0), end(0, 0)],
        vec![Part::Header(header.clone()), data(), end(0, 0), Part::Data(Vec::new())],
    ] {
        let shown = format!("{parts:?}");
        let messages = parts.into_iter().map(message).collect();
        assert_eq!(upload(&region, messages).await, ErrorReason::UploadInvalid, "{shown}");
    }
    // Without the end, it is unknown whether there was more.
    let whole = upload_messages(with(header.clone()));
    for cut in 0..whole.len() {
        assert_eq!(upload(&region, whole[..cut].to_vec()).await, ErrorReason::StreamIncomplete, "{cut}");
    }
    let imports = region.imports().list_imports(ListImportsRequest::default()).await;
    assert_eq!(imports.expect("a list").into_inner().imports, []);

    // The id is still free: the right file can be sent under it.
    let right = ImportHeader { size_bytes: Some(size), scope: Scope::Organization.into(), ..header };
    let messages = tokio_stream::iter(upload_messages(with(right)));
    let begun = region.imports().import_organizations(messages).await;
    assert!(!begun.expect("it is taken").into_inner().joined);
    assert_eq!(region.wait(ID).await.expect("it ends").organization_count, 1);
    cluster.stop().await;
}

pub(crate) async fn an_import_that_is_not_there_is_not_found(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut imports = cluster.region(0).imports();
    for (id, reason) in [
        (ID, ErrorReason::ImportNotFound),
        ("", ErrorReason::InvalidArgument),
        ("x", ErrorReason::InvalidArgument),
    ] {
        let import_id = || id.to_owned();
        let get = imports.get_import(GetImportRequest { import_id: import_id() }).await;
        assert_eq!(refused(get), reason);
        let watch = imports.watch_import(WatchImportRequest { import_id: import_id() }).await;
        assert_eq!(refused(watch.map(drop)), reason);
        let findings = ListFindingsRequest { import_id: import_id(), ..Default::default() };
        assert_eq!(refused(imports.list_findings(findings).await), reason);
        let keys = ListMappedKeysRequest { import_id: import_id(), ..Default::default() };
        assert_eq!(refused(imports.list_mapped_keys(keys).await), reason);
    }
    cluster.stop().await;
}
