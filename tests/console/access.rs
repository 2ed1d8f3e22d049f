//! Who may see the console and act there, if callers have identities.

use std::sync::Arc;

use causeway_harness::{
    cluster::{Cluster, Store},
    pki::Pki,
};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use rcgen::SanType;

use crate::{
    actions::entries,
    http::Visitor,
    support::{operation, reserved_long_ago, token},
};

async fn with_identities() -> (Arc<Pki>, Cluster) {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster = Cluster::builder(Store::Sqlite).region("us").tls(&pki).console().start().await;
    (pki, cluster.expect("it starts"))
}

fn visitor(pki: &Pki, cluster: &Cluster, role: Role, name: &str) -> Visitor {
    let tls = pki.client(Some(pki.pair(role, name).expect("issued"))).expect("it can be used");
    Visitor::new(&cluster.console_url().expect("it has a console"), Some(tls))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_the_console_and_act_and_nobody_else_does() {
    let (pki, cluster) = with_identities().await;
    let ann = visitor(&pki, &cluster, Role::Operator, "ann");
    ann.until("/regions", "alive").await;
    reserved_long_ago(&cluster, 1, 77, "wanted-by-many").await;
    let path = format!("/stuck/us/{}/release", operation(1));
    let asked = ann.get(&path).await;
    asked.says(200, &["spiffe://test.example/operator/ann"]);
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Operator) {
        let other = visitor(&pki, &cluster, role, "us");
        for page in ["/", "/stuck", "/slugs?q=a", &path, "/assets/console.js"] {
            let refused = other.get(page).await;
            let why =
                format!("to operators only; yours is the certificate of spiffe://test.example/{role}/us");
            refused.says(403, &["The console is for operators", &why, "/assets/console.css"]);
            // It leads nowhere, for all else is refused too.
            refused.lacks(&["wanted-by-many", "token", "<nav", "<a href=\"/\""]);
        }
        // The page looks like one of the console.
        assert_eq!(other.get("/assets/console.css").await.status, 200);
        other.post("/assets/console.css", "").await.says(403, &["for operators"]);
        // Not even with the token of somebody who may.
        other.post(&path, &format!("token={}", token(&asked.body))).await.says(403, &["for operators"]);
    }
    // A token is for whoever has asked for the page.
    let bob = visitor(&pki, &cluster, Role::Operator, "bob");
    bob.post(&path, &format!("token={}", token(&asked.body))).await.says(403, &["Nothing was done"]);
    ann.get("/stuck").await.says(200, &["wanted-by-many"]);
    let done = ann.post(&path, &format!("token={}", token(&asked.body))).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let done: Vec<_> = entries(&cluster, 1).await.into_iter().filter(|it| it.outcome == "OK").collect();
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].who, "spiffe://test.example/operator/ann");
    ann.get(&path)
        .await
        .says(200, &["This operation is released by spiffe://test.example/operator/ann: 1 slug"]);
    ann.until("/audit?who=spiffe://test.example/importer/us", "failed")
        .await
        .says(200, &["PERMISSION_DENIED ROLE_NOT_ALLOWED"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_say_who_its_holder_is_shows_nothing() {
    let (pki, cluster) = with_identities().await;
    let ann = visitor(&pki, &cluster, Role::Operator, "ann");
    ann.until("/regions", "alive").await;
    reserved_long_ago(&cluster, 1, 77, "wanted-by-many").await;
    let path = format!("/stuck/us/{}/release", operation(1));
    for (name, uri, why) in [
        ("nobody", None, "it has no URI"),
        ("stranger", Some("spiffe://other.example/operator/me"), "is not of the trust domain test.example"),
        ("rootish", Some("spiffe://test.example/root/me"), "has an unknown role"),
    ] {
        let mut params = pki.parameters(Role::Operator, name).expect("parameters");
        params.subject_alt_names.retain(|it| !matches!(it, SanType::URI(_)));
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().expect("ASCII"))));
        let pair = pki.issue(name, &params).expect("issued");
        let tls = pki.client(Some(pair)).expect("it can be used");
        let other = Visitor::new(&cluster.console_url().expect("it has a console"), Some(tls));
        for page in ["/", "/stuck", &path, "/assets/console.js"] {
            let refused = other.get(page).await;
            refused.says(403, &["The console is for operators", "does not say who you are", why]);
            refused.lacks(&["wanted-by-many", "use strict"]);
        }
        other.post(&path, "token=x").await.says(403, &["for operators"]);
    }
    ann.until("/audit", "UNAUTHENTICATED IDENTITY_INVALID").await;
    ann.get("/stuck").await.says(200, &["wanted-by-many"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_without_a_certificate_gets_nothing() {
    let (pki, cluster) = with_identities().await;
    let url = cluster.console_url().expect("it has a console");
    assert!(url.starts_with("https://"), "{url}");
    let nobody = Visitor::new(&url, Some(pki.client(None).expect("no certificate")));
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", nobody.authority());
    let refused = nobody.send(request.as_bytes()).await;
    assert!(!refused.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")));
    // Nor does one who speaks no TLS.
    let plain = Visitor::new(&url, None);
    let refused = plain.send(request.as_bytes()).await;
    assert!(!refused.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1")));
    cluster.stop().await;
}
