//! Lists with pages.

use causeway_harness::{
    cluster::{ImportOptions, RegionApi, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{
        GetOrganizationRequest, Import, ListFindingsRequest, ListImportsRequest, ListMappedKeysRequest,
        ListOrganizationsRequest, Organization, ResolveSlugRequest, get_organization_request::By,
    },
    relocation::v1::{ErrorReason, Finding, FindingKind, MappedKey},
};

use crate::support::{cluster, exhaustive, import, refused};

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
    // The audit has read everything in the largest pages.
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

    // A token is valid only for the list that it came from.
    let request = ListFindingsRequest { import_id: ids[0].clone(), page_size: 1, ..Default::default() };
    let page = region.imports().list_findings(request.clone()).await.expect("a page").into_inner();
    let other =
        ListFindingsRequest { import_id: ids[1].clone(), page_token: page.next_page_token, ..request };
    assert_eq!(refused(region.imports().list_findings(other).await), ErrorReason::InvalidPageToken);
    cluster.stop().await;
}

/// A filter can be large, and a list of imports does not need it.
pub(crate) async fn a_list_of_imports_leaves_their_filters_out(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let slugs: Vec<String> = (0..4_000).map(|number| format!("{:a>240}{number}", "")).collect();
    let mut wanted: Vec<&str> = slugs.iter().map(String::as_str).collect();
    wanted.push("one");
    let mut ids = Vec::new();
    let file = Export::new().organization(1, "one").to_bytes();
    for _ in 0..5 {
        let done = region.import(&file, &ImportOptions::default().filter(&wanted)).await.expect("it ends");
        assert_eq!(done.filter.map(|filter| filter.slugs.len()), Some(4_001));
        ids.push(done.import_id);
    }
    let whole = region.import(&file, &ImportOptions::default()).await.expect("it ends");
    let listed = imports(&region, 1_000).await;
    assert_eq!(listed.len(), 6);
    for import in &listed {
        assert_eq!(import.filter, None);
        let expected = (import.import_id != whole.import_id).then_some(4_001);
        assert_eq!(import.filter_slug_count, expected, "{}", import.import_id);
    }
    // A filter that is larger than an answer is refused.
    let larger: Vec<String> = (0..5_000).map(|number| format!("{:a>240}{number}", "")).collect();
    let larger: Vec<&str> = larger.iter().map(String::as_str).collect();
    let refusal = region.begin(&file, &ImportOptions::default().filter(&larger)).await;
    assert_eq!(refused(refusal), ErrorReason::InvalidArgument);
    cluster.stop().await;
}

pub(crate) async fn what_a_region_is_asked_comes_back_short_or_not_at_all(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let get = async |slug: String| {
        let request = GetOrganizationRequest { by: Some(By::Slug(slug)) };
        region.organizations().get_organization(request).await.map(drop)
    };
    let resolve =
        async |slug: String| region.organizations().resolve_slug(ResolveSlugRequest { slug }).await.map(drop);
    let long = "x".repeat(5_000);
    for outcome in [get(long.clone()).await, resolve(long).await] {
        let status = outcome.expect_err("nobody has it");
        assert!(status.message().len() < 400, "{status:?}");
        let reason = refused(Err::<(), _>(status));
        assert!(matches!(
            reason,
            ErrorReason::OrganizationNotFound | ErrorReason::SlugNotFound | ErrorReason::ControlUnavailable
        ));
    }
    for outcome in [get("a\0".to_owned()).await, resolve("a\0".to_owned()).await] {
        assert_eq!(refused(outcome), ErrorReason::InvalidArgument);
    }
    for page_token in ["AAAAAAAAAAAAAAAAAAAAADc", "x", "NyA3"] {
        let request = ListOrganizationsRequest { page_size: 1, page_token: page_token.to_owned() };
        let outcome = region.organizations().list_organizations(request).await;
        assert_eq!(refused(outcome), ErrorReason::InvalidPageToken);
        let request = ListImportsRequest { page_size: 1, page_token: page_token.to_owned() };
        assert_eq!(refused(region.imports().list_imports(request).await), ErrorReason::InvalidPageToken);
    }
    cluster.stop().await;
}
