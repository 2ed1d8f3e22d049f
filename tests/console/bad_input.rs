//! Requests that are wrong. Each is refused, and the console goes on.

use causeway_harness::cluster::Store;

use crate::{
    http::{Visitor, parsed},
    support::started,
};

async fn goes_on(visitor: &Visitor) {
    visitor.get("/").await.says(200, &["Overview"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_megabyte_of_headers_is_refused() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    let host = visitor.authority();
    let one = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many: String = (0..10_000).map(|number| format!("X-{number}: {}\r\n", "x".repeat(90))).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n");
    let few_too_many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    let few_too_many = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{few_too_many}\r\n");
    let address = format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(1 << 20));
    for request in [one, many, few_too_many, address] {
        // The server need not read it all, so the connection may be reset before the answer is read.
        if let Ok(answer) = visitor.send(request.as_bytes()).await {
            let status = parsed(&answer).status;
            assert!([414, 431].contains(&status), "{status}");
        }
        goes_on(&visitor).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_host_is_refused() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80",
        "localhost@evil.example",
        "",
        "127.0.0.1:1:2",
        "10.0.0.1",
    ] {
        for path in ["/", "/assets/console.js", "/stuck/us/x/release"] {
            let refused = visitor.request("GET", path, &[&format!("Host: {host}")], "").await;
            assert!([400, 421].contains(&refused.status), "{host}: {}", refused.status);
            // Nor does it say by which names it could be reached.
            refused.lacks(&["data-live", "\"use strict\"", "[::1]"]);
        }
    }
    let twice = visitor.request("GET", "/", &["Host: localhost", "Host: evil.example"], "").await;
    assert!([400, 421].contains(&twice.status), "{}", twice.status);
    let whole = format!(
        "GET http://evil.example/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        visitor.authority()
    );
    assert_eq!(parsed(&visitor.send(whole.as_bytes()).await.expect("an answer")).status, 421);
    for host in ["localhost", "LOCALHOST:9", "127.0.0.1", "[::1]:9"] {
        let answer = visitor.request("GET", "/", &[&format!("Host: {host}")], "").await;
        assert_eq!(answer.status, 200, "{host}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_leads_out_leads_nowhere() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    for path in [
        "/assets/../../Cargo.toml",
        "/../../../../etc/passwd",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/console.css",
        "/assets/",
        "/assets/console.css/",
        "//etc/passwd",
        "/imports/us/..",
        "/imports/../us/x",
        "/organizations/..",
        "/organizations/-1",
        "/organizations/99999999999999999999",
        "/imports/us/not-a-uuid",
        "/imports/%ff/00000000-0000-0000-0000-000000000000",
    ] {
        let answer = visitor.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(answer.headers.contains_key("content-security-policy"), "{path}");
        answer.lacks(&["[workspace]", "root:"]);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_of_the_console_is_refused() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "POST", "OPTIONS"] {
        visitor.request(method, "/imports", &[], "").await.says(405, &["Nothing was done"]);
    }
    for (path, wrong) in [
        ("/imports?after=x", "not one that the console has linked"),
        ("/imports?after=1%20US%20x", "not one that the console has linked"),
        ("/stuck?after=x", "not one that the console has linked"),
        ("/audit?after=1", "not one that the console has linked"),
    ] {
        visitor.get(path).await.says(400, &[wrong]);
    }
    let long = "x".repeat(300);
    visitor.get(&format!("/slugs?q={long}")).await.says(400, &["at most 255 bytes"]);
    // A form that is larger than any of the console.
    let large = format!("token={}", "x".repeat(3 << 20));
    let path = "/stuck/us/00000000-0000-0000-0000-000000000001/release";
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{large}",
        visitor.authority(),
        large.len()
    );
    if let Ok(answer) = visitor.send(request.as_bytes()).await {
        assert_eq!(parsed(&answer).status, 413);
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\0\0\0",
        b"GET",
    ] {
        if let Ok(answer) = visitor.send_and_close(bytes).await {
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
        }
    }
    goes_on(&visitor).await;
    cluster.stop().await;
}

pub(crate) async fn a_zero_character_in_an_address_is_refused(store: Store) {
    let (cluster, visitor) = started(store).await;
    for path in [
        "/imports?region=%00",
        "/imports?state=%00",
        "/slugs?q=a%00",
        "/slugs?after=%00",
        "/regions?after=%00",
        "/differences?after=%00",
        "/audit?object=%00",
        "/audit?who=x%00x",
        "/?x=%00",
        "/imports/%00/00000000-0000-0000-0000-000000000000",
    ] {
        visitor.get(path).await.says(400, &["The address must not have a zero character"]);
    }
    // An escaped percent sign is none.
    visitor.get("/imports?region=%2500").await.says(200, &["No region has reported such an import"]);
    goes_on(&visitor).await;
    cluster.stop().await;
}

/// What a connection gets that sends these bytes and then waits.
async fn after(visitor: &Visitor, bytes: &str) -> Vec<u8> {
    visitor.send(bytes.as_bytes()).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_request_is_ended_and_a_late_action_is_recorded() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    let host = visitor.authority();
    let id = "00000000-0000-0000-0000-000000000001";
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n");
    let body = format!(
        "POST /stuck/us/{id}/release HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\ntoken="
    );
    let (of_nothing, of_head, of_body) =
        tokio::join!(after(&visitor, ""), after(&visitor, &head), after(&visitor, &body));
    for closed in [of_nothing, of_head] {
        assert!(closed.is_empty() || parsed(&closed).status == 408, "{}", String::from_utf8_lossy(&closed));
    }
    let late = parsed(&of_body);
    late.says(503, &["did not get an answer in time", "a large release goes on where it was"]);
    assert_eq!(late.headers["cache-control"], "no-store");
    assert!(late.headers.contains_key("content-security-policy"));
    visitor.until("/audit", "UNAVAILABLE").await.says(200, &["release-operation"]);
    goes_on(&visitor).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_64_connections_and_no_more() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(visitor.connect().await);
    }
    // Those that the test had before may still be closing.
    let refused =
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", visitor.authority()).as_bytes()).await;
    assert!(!refused.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1")), "it is the 65th");
    open.pop();
    visitor.until_answered("/").await;
    drop(open);
    goes_on(&visitor).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markup_is_shown_as_text() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    let query = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%20onfocus%3Dx";
    for path in [
        format!("/slugs?q={query}"),
        format!("/audit?object={query}&who={query}"),
        format!("/imports?region={query}"),
    ] {
        let page = visitor.get(&path).await;
        page.says(200, &["&lt;script&gt;alert(1)&lt;/script&gt;&quot; onfocus=x"]);
        page.lacks(&["<script>", "\" onfocus"]);
    }
    let forged = visitor.request("GET", "/", &["Host: <img>"], "").await;
    forged.lacks(&["<img>"]);
    cluster.stop().await;
}
