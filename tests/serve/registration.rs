//! The health that a region reports before it has registered at control, and after another region has taken its name.

use std::path::Path;

use causeway::serve::{Running, Settings, serve_control, serve_region};
use causeway_control::model::region::AcceptRegions;
use causeway_proto::control::v1::{
    AddRegionRequest, ListRegionsRequest, ResumeRegionRequest, SuspendRegionRequest, TakeOverRegionRequest,
    region_service_client::RegionServiceClient,
};
use causeway_proto::region::v1::{
    ResolveSlugRequest, organization_service_client::OrganizationServiceClient,
};
use causeway_silo::env::Environment;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::{LIMIT, channel, control_options};

const IMPORTS: &str = "causeway.region.v1.ImportService";

/// A region of this name with a database of its own.
async fn region(directory: &Path, control: &str) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let options = causeway_region::Options::new(
        "eu".to_owned(),
        format!("http://{}", listener.local_addr().expect("bound")),
        format!("sqlite:{}", directory.join("region.db").display()),
        vec![control.to_owned()],
        directory.join("spool"),
    );
    serve_region(listener, options, Settings::default(), Environment::system())
        .await
        .expect("the region starts")
}

async fn status(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel.clone()).check(request).await.expect("it is known").into_inner().status()
}

async fn watch(channel: &Channel) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: IMPORTS.to_owned() };
    HealthClient::new(channel.clone()).watch(request).await.expect("it is known").into_inner()
}

async fn until(watch: &mut Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    let seen =
        async { while watch.message().await.expect("not broken").expect("not over").status() != wanted {} };
    timeout(LIMIT, seen).await.expect("it says so");
}

#[tokio::test]
async fn a_region_that_cannot_register_does_not_say_that_it_serves_imports() {
    let directories = [(); 3].map(|()| TempDir::new().expect("a directory"));
    // Nobody answers there yet. The listener only provides the URL.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let first = region(directories[0].path(), &url).await;
    let to_first = channel(&first).await;
    let mut imports = watch(&to_first).await;
    assert_eq!(status(&to_first, IMPORTS).await, ServingStatus::NotServing);
    for service in ["", "causeway.region.v1.OrganizationService"] {
        assert_eq!(status(&to_first, service).await, ServingStatus::Serving, "{service}");
    }
    let options = control_options(directories[1].path());
    let control = serve_control(listener, options, Settings::default(), Environment::system())
        .await
        .expect("control starts");
    until(&mut imports, ServingStatus::Serving).await;

    // A new installation of a region with the same name.
    let second = region(directories[2].path(), &url).await;
    let to_second = channel(&second).await;
    let mut imports_of_second = watch(&to_second).await;
    assert_eq!(status(&to_second, IMPORTS).await, ServingStatus::NotServing);
    assert_eq!(status(&to_second, "").await, ServingStatus::Serving);
    let taken = TakeOverRegionRequest { name: "eu".to_owned(), ..TakeOverRegionRequest::default() };
    RegionServiceClient::new(channel(&control).await).take_over_region(taken).await.expect("allowed");
    until(&mut imports_of_second, ServingStatus::Serving).await;
    // The earlier region learns of it as soon as the new one reads the feed.
    until(&mut imports, ServingStatus::NotServing).await;
    assert_eq!(status(&to_first, "").await, ServingStatus::Serving);
    for running in [first, second, control] {
        timeout(LIMIT, running.stop()).await.expect("it stops");
    }
}

/// A region waits for what an operator decides about it, and needs no restart.
#[tokio::test]
async fn a_region_registers_by_itself_when_it_is_added_or_resumed() {
    let directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut options = control_options(directories[0].path());
    options.accept_regions = AcceptRegions::Added;
    options.feed.heartbeat = std::time::Duration::from_millis(10);
    let control = serve_control(listener, options, Settings::default(), Environment::system())
        .await
        .expect("control starts");
    let mut regions = RegionServiceClient::new(channel(&control).await);
    let of_operator = region(directories[1].path(), &control.url()).await;
    let mut imports = watch(&channel(&of_operator).await).await;
    until(&mut imports, ServingStatus::NotServing).await;
    let known = regions.list_regions(ListRegionsRequest::default()).await.expect("a page").into_inner();
    assert_eq!(known.regions, [], "one that is refused leaves nothing");
    let add = AddRegionRequest { name: "eu".to_owned() };
    let added = regions.add_region(add.clone()).await.expect("added").into_inner();
    assert!(!added.existed && added.region.expect("a region").create_time.is_none());
    until(&mut imports, ServingStatus::Serving).await;
    let again = regions.add_region(add).await.expect("it is there").into_inner();
    assert!(again.existed && again.region.expect("a region").create_time.is_some());

    // One that starts while it is suspended cannot register, and reads its feed all the same.
    timeout(LIMIT, of_operator.stop()).await.expect("it stops");
    let suspend = SuspendRegionRequest { name: "eu".to_owned(), text: String::new() };
    let suspended = regions.suspend_region(suspend).await.expect("suspended").into_inner();
    let before = suspended.region.expect("a region");
    let of_operator = region(directories[1].path(), &control.url()).await;
    let mut imports = watch(&channel(&of_operator).await).await;
    until(&mut imports, ServingStatus::NotServing).await;
    let resolve = ResolveSlugRequest { slug: "nobody".to_owned() };
    let mut organizations = OrganizationServiceClient::new(channel(&of_operator).await);
    let heard = async {
        // As long as the region has not heard from control, it reports that instead.
        while organizations.resolve_slug(resolve.clone()).await.expect_err("nobody has it").code()
            != tonic::Code::NotFound
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, heard).await.expect("it reads its feed");
    let listed = regions.list_regions(ListRegionsRequest::default()).await.expect("a page").into_inner();
    let now = listed.regions.first().expect("the region");
    assert_eq!(now.last_seen_time, before.last_seen_time, "it has not registered");
    let resume = ResumeRegionRequest { name: "eu".to_owned() };
    assert!(regions.resume_region(resume).await.expect("resumed").into_inner().was_suspended);
    until(&mut imports, ServingStatus::Serving).await;
    for running in [of_operator, control] {
        timeout(LIMIT, running.stop()).await.expect("it stops");
    }
}
