//! What cannot be together is refused, with the versions of both sides.

use causeway_harness::cluster::{Failpoints, Service, Store};
use causeway_proto::{
    failure::reason_of,
    relocation::v1::{ErrorReason, GetVersionRequest, version_service_client::VersionServiceClient},
    version::CONTRACT_REVISION,
};
use tonic::transport::Channel;

use crate::support::{Release, all_is_well, imported, started};

/// A downgrade: the database has been migrated by this release. If this release has no migration that the previous one does
/// not know, and the same tables of models, there is nothing to refuse, and the older one serves.
async fn refuses(store: Store, service: Service, kind: &str, known: i64) {
    let mut cluster = started(store, Release::This, Release::This, &Failpoints::default()).await;
    imported(&cluster, &["acme"]).await;
    cluster.quiet(crate::support::PATIENCE).await.expect("quiet");
    let newest = crate::rules::newest(kind);
    assert!(newest >= known, "{kind}: .ci/previous names migration {known}, and the last one is {newest}");
    cluster.stop_service(service).await;
    cluster.run_with(service, Release::Previous.program());
    let started = cluster.start_service(service).await;
    assert!(newest == known || started.is_err(), "it must not serve");
    if let Err(refused) = started {
        let refused = format!("{refused:#}");
        let why = if newest == known {
            "its tables of models are those of a catalog of".to_owned()
        } else {
            format!("its schema has migration {newest}, and this release knows those up to {known}")
        };
        assert!(refused.contains("has been used by a newer release of Causeway"), "{refused}");
        assert!(refused.contains(&why), "{refused}");
        assert!(refused.contains("nothing was changed. Start that release"), "{refused}");
    }
    // As the message says.
    cluster.stop_service(service).await;
    cluster.run_with(service, Release::This.program());
    cluster.start_service(service).await.expect("it starts");
    all_is_well(&cluster).await;
    imported(&cluster, &["birch"]).await;
    cluster.quiet(crate::support::PATIENCE).await.expect("quiet");
    cluster.assert_invariants().await.expect("no promise is broken");
    cluster.stop().await;
}

pub(crate) async fn an_older_control_refuses_a_newer_database(store: Store) {
    refuses(store, Service::Control(0), "control", crate::rules::previous("control")).await;
}

pub(crate) async fn an_older_region_refuses_a_newer_database(store: Store) {
    refuses(store, Service::Region(0), "region", crate::rules::previous("region")).await;
}

/// Asks a service with the revision of a client. Returns the revisions that it serves, or the message of its refusal.
async fn asked(url: String, revision: i32) -> Result<(i32, i32), String> {
    let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("it serves");
    let request = GetVersionRequest { contract_revision: revision, ..Default::default() };
    match VersionServiceClient::new(channel).get_version(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok((answer.oldest_contract_revision, answer.contract_revision))
        }
        Err(status) => {
            assert_eq!(reason_of(&status), Some(ErrorReason::ContractNotSupported), "{status:?}");
            Err(status.message().to_owned())
        }
    }
}

pub(crate) async fn a_contract_that_is_too_new_is_refused_each_way(store: Store) {
    for (control, region) in [(Release::Previous, Release::This), (Release::This, Release::Previous)] {
        let cluster = started(store, control, region, &Failpoints::default()).await;
        for service in [Service::Control(0), Service::Region(0)] {
            let url = cluster.url(service);
            let (oldest, newest) = asked(url.clone(), 0).await.expect("it only asks");
            // Each release serves clients of the other one, as far back as it says.
            for revision in [oldest, newest] {
                assert_eq!(asked(url.clone(), revision).await, Ok((oldest, newest)), "{service}");
            }
            let refused = asked(url.clone(), newest + 1).await.expect_err("too new");
            let serves = format!("serves {oldest} to {newest}");
            assert!(refused.contains(&serves) && refused.contains("Causeway "), "{refused}");
            if newest < CONTRACT_REVISION {
                asked(url, CONTRACT_REVISION).await.expect_err("a client that needs this release");
            }
        }
        cluster.stop().await;
    }
}
