//! Services that speak TLS.

use std::{sync::Arc, time::Duration};

use causeway_harness::{
    cluster::{Cluster, Service, Silo, Store},
    pki::Pki,
};
use causeway_proto::control::v1::SuspendRegionRequest;
use causeway_silo::env::Environment;
use causeway_tls::Role;

use crate::{
    doctor,
    services::{run_printed, until_healthy},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_doctor_that_ends_soon_is_one_finding_and_commands_name_its_files() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster =
        Cluster::builder(Store::Sqlite).region("us").region("de").tls(&pki).start().await.expect("it starts");
    let mut params = pki.parameters(Role::Operator, "ann").expect("a name");
    pki.set_days(&mut params, -1, 5).expect("a time");
    let pair = pki.issue("ann", &params).expect("a certificate");
    let [ca, cert, key] =
        [pki.ca(), pair.cert, pair.key].map(|path| path.into_os_string().into_string().expect("UTF-8"));
    let urls = [cluster.control_url(), cluster.url(Service::Region(0))];
    let line = [
        ["--control", &urls[0]],
        ["--region", &urls[1]],
        ["--tls-ca", &ca],
        ["--tls-cert", &cert],
        ["--tls-key", &key],
    ]
    .concat();
    let found = until_healthy(true, || doctor(&line)).await;
    let text = found.has("a certificate that ends soon", &[("certificates", "warning")]);
    assert!(text.contains("ann.pem"), "{text}");
    let of_certificates = found.findings.iter().filter(|finding| finding.check == "certificates");
    assert_eq!(of_certificates.count(), 1, "{:#?}", found.findings);

    let suspend = SuspendRegionRequest { name: "us".to_owned(), text: "a test".to_owned() };
    cluster.control().regions().suspend_region(suspend).await.expect("suspended");
    let text =
        doctor(&line).await.has("suspended", &[("registration", "warning"), ("certificates", "warning")]);
    run_printed(&text, "causeway regions resume us", &[]).await;
    doctor(&line).await.has("resumed", &[("certificates", "warning")]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_printed_for_a_region_leave_the_certificate_of_an_operator_open() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster = Cluster::builder(Store::Sqlite).region("us").tls(&pki).start().await.expect("it starts");
    let params = pki.parameters(Role::Region, "us").expect("a name");
    let pair = pki.issue("a-region", &params).expect("a certificate");
    let [ca, cert, key] =
        [pki.ca(), pair.cert, pair.key].map(|path| path.into_os_string().into_string().expect("UTF-8"));
    let (spool, control) = (cluster.spool_dir(0).display().to_string(), cluster.control_url());
    let settings = [
        ["--name", "us"],
        ["--control", &control],
        ["--spool-dir", &spool],
        ["--database-url", cluster.database_url(Silo::Region(0))],
        ["--tls-client-ca", &ca],
        ["--tls-cert", &cert],
        ["--tls-key", &key],
    ];
    let line = [&["region"], &settings.concat()[..]].concat();
    cluster.quiet(Duration::from_secs(60)).await.expect("it registers");
    let suspend = SuspendRegionRequest { name: "us".to_owned(), text: "a test".to_owned() };
    cluster.control().regions().suspend_region(suspend).await.expect("suspended");
    let text = doctor(&line).await.has("suspended", &[("registration", "warning")]);
    assert!(text.contains("--tls-cert OPERATOR.pem --tls-key OPERATOR-key.pem"), "{text}");
    cluster.stop().await;
}
