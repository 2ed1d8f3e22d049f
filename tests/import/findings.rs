//! Findings as a whole: how many are stored, which are listed, and where they are.

use causeway_harness::{
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::ListFindingsRequest,
    relocation::v1::{ErrorReason, FindingKind, Severity},
};
use serde_json::json;

use crate::support::{ORGANIZATION, cluster, exhaustive, import, limited, refused};

pub(crate) async fn findings_are_kept_up_to_a_limit_and_counted_past_it(store: Store) {
    let cluster = limited(store, |limits| limits.findings = 10).await;
    let mut export = Export::new();
    for pk in 1..=30 {
        export.organization(pk, "same").email(pk, "same@example.com");
        export.push("sentry.user", pk, &json!({"username": "same", "password": "x", "email": ""}));
    }
    let region = cluster.region(0);
    let done = region.import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    let counts: Vec<_> = done.finding_counts.iter().map(|count| (count.kind(), count.count)).collect();
    let expected = [
        (FindingKind::SlugChanged, 29),
        (FindingKind::UsernameChanged, 29),
        (FindingKind::FindingsNotStored, 1),
        (FindingKind::OrganizationWithoutOwner, 30),
    ];
    assert_eq!(counts, expected);
    let kept = region.findings(&done.import_id).await.expect("a list");
    let of = |kind| kept.iter().filter(|finding| finding.kind() == kind).count();
    // Kinds that come late still have a few findings stored.
    assert_eq!(expected.map(|(kind, _)| of(kind)), [5, 10, 1, 5]);

    // An error is always stored.
    for pk in 1..=20 {
        let fields = json!({"username": format!("u{pk}"), "password": "x", "email": "", format!("x{pk}"): 1});
        export.push("sentry.user", 100 + pk, &fields);
    }
    export.push("sentry.user", 200, &json!({"username": 1}));
    let failed = region.import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    let kept = region.findings(&failed.import_id).await.expect("a list");
    assert_eq!(kept.last().map(causeway_proto::relocation::v1::Finding::severity), Some(Severity::Error));
    cluster.stop().await;
}

pub(crate) async fn findings_of_a_severity_are_given(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = exhaustive();
    export.push("sentry.nonsense", 1, &json!({})).organization(900, "Not A Slug");
    let (done, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let region = cluster.region(0);
    let list = async |severity: i32| {
        let import_id = done.import_id.clone();
        let request = ListFindingsRequest { import_id, severity, page_size: 1_000, ..Default::default() };
        region.imports().list_findings(request).await
    };
    for severity in [Severity::Info, Severity::Warning, Severity::Error] {
        let given = list(severity.into()).await.expect("a page").into_inner().findings;
        let expected: Vec<_> =
            account.findings.iter().filter(|it| it.severity() == severity).cloned().collect();
        assert_eq!(given, expected);
        assert_eq!(given.is_empty(), severity == Severity::Error);
    }
    assert_eq!(refused(list(77).await), ErrorReason::InvalidArgument);
    // Each finding contains what to do, if there is something to do, and where it is.
    let findings = account.findings_of(FindingKind::SlugChanged);
    let last = findings.last().expect("one");
    assert_eq!((last.model.as_str(), last.source_pk), (ORGANIZATION, 900));
    assert!(last.ordinal > 1 && last.byte_offset > 0, "{last:?}");
    assert!(last.remedy.contains("new slug"), "{last:?}");
    cluster.stop().await;
}
