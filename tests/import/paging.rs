//! Lists in pages.

use causeway_harness::cluster::{ImportOptions, RegionApi, Store};
use causeway_proto::{
    region::v1::{
        Import, ListFindingsRequest, ListImportsRequest, ListMappedKeysRequest, ListOrganizationsRequest,
        Organization,
    },
    relocation::v1::{ErrorReason, Finding, FindingKind, MappedKey},
};

use crate::stage::{cluster, exhaustive, import, refused};

async fn findings(region: &RegionApi, id: &str, kind: FindingKind, page_size: i32) -> Vec<Finding> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListFindingsRequest {
            import_id: id.to_owned(),
            kind: kind.into(),
            page_size,
            page_token,
            ..Default::default()
        };
        let page = region.imports().list_findings(request).await.expect("a page").into_inner();
        assert!(page.findings.len() <= usize::try_from(page_size).expect("a size"));
        all.extend(page.findings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn keys(region: &RegionApi, id: &str, model: &str, page_size: i32) -> Vec<MappedKey> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListMappedKeysRequest {
            import_id: id.to_owned(),
            model: model.to_owned(),
            page_size,
            page_token,
        };
        let page = region.imports().list_mapped_keys(request).await.expect("a page").into_inner();
        assert!(page.keys.len() <= usize::try_from(page_size).expect("a size"));
        all.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn imports(region: &RegionApi, page_size: i32) -> Vec<Import> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListImportsRequest { page_size, page_token };
        let page = region.imports().list_imports(request).await.expect("a page").into_inner();
        all.extend(page.imports);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn organizations(region: &RegionApi, page_size: i32) -> Vec<Organization> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOrganizationsRequest { page_size, page_token };
        let page = region.organizations().list_organizations(request).await.expect("a page").into_inner();
        all.extend(page.organizations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

pub(crate) async fn pages_cover_everything_once(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(import(&cluster, &exhaustive(), &ImportOptions::default()).await.0.import_id);
    }
    // What was accounted for was read in the largest pages.
    for id in &ids {
        let all = region.findings(id).await.expect("a list");
        for page_size in [1, 7] {
            assert_eq!(findings(&region, id, FindingKind::Unspecified, page_size).await, all);
        }
        let changed: Vec<Finding> =
            all.iter().filter(|it| it.kind() == FindingKind::UsernameChanged).cloned().collect();
        assert_eq!(findings(&region, id, FindingKind::UsernameChanged, 3).await, changed);
        assert_eq!(findings(&region, id, FindingKind::Unknown, 3).await, []);

        let all = region.mapped_keys(id).await.expect("a list");
        for page_size in [3, 64] {
            assert_eq!(keys(&region, id, "", page_size).await, all);
        }
        for model in ["sentry.email", "Sentry.ProjectKey", "sentry.organization", "sentry.nonsense"] {
            let of: Vec<MappedKey> =
                all.iter().filter(|key| key.model.eq_ignore_ascii_case(model)).cloned().collect();
            for page_size in [1, 2, 100] {
                assert_eq!(keys(&region, id, model, page_size).await, of, "{model}");
            }
        }
    }
    for page_size in [1, 2, 3, 50] {
        let newest_first: Vec<String> =
            imports(&region, page_size).await.into_iter().map(|import| import.import_id).collect();
        assert_eq!(newest_first, ids.iter().rev().cloned().collect::<Vec<_>>());
        let ids: Vec<i64> = organizations(&region, page_size).await.into_iter().map(|it| it.id).collect();
        assert!(ids.len() == 4 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    // A token is for the list that gave it.
    let request = ListFindingsRequest { import_id: ids[0].clone(), page_size: 1, ..Default::default() };
    let page = region.imports().list_findings(request.clone()).await.expect("a page").into_inner();
    let other =
        ListFindingsRequest { import_id: ids[1].clone(), page_token: page.next_page_token, ..request };
    assert_eq!(refused(region.imports().list_findings(other).await), ErrorReason::InvalidPageToken);
    cluster.stop().await;
}
