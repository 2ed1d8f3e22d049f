//! The console in headless Chromium. Pictures of all pages are written into `target/console`, light and dark, 1,400 and
//! 400 pixels wide, for a person to look at.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use causeway_client::ClientTls;
use causeway_harness::{
    cluster::{Act, Cluster, ImportOptions, Store},
    export,
    pki::Pki,
};
use causeway_proto::{control::v1::UpdateOrganizationSlugRequest, region::v1::ReconcileMode};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::{
    http::Visitor,
    support::{example, operation, reserved_long_ago, started, visitor},
    webdriver::{Browser, Driver, LIMIT},
};

pub(crate) fn pictures() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/console");
    std::fs::create_dir_all(&place).expect("a directory");
    place
}

/// What the page has loaded from elsewhere, which it must not.
async fn loaded_from_elsewhere(browser: &Browser) -> Vec<String> {
    let script = "return (window.performance.getEntriesByType('resource') || [])
        .map(entry => entry.name).filter(name => !name.startsWith(location.origin))";
    let elsewhere = browser.run(script).await;
    serde_json::from_value(elsewhere).expect("a list of texts")
}

/// The contrast of each text that is shown with what is behind it; those below 4.5 with their text.
pub(crate) const CONTRAST: &str = r"
const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
        const colour = parse(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
};
const weak = [];
for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.getClientRects().length === 0) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) weak.push(`${contrast.toFixed(2)} ${element.textContent.trim().slice(0, 40)}`);
}
return weak;";

/// A control with something on every page.
async fn with_something_everywhere() -> (Cluster, String, String) {
    let (cluster, visitor) = started(Store::Sqlite).await;
    let region = cluster.region(0);
    let import = region.import(&example(), &ImportOptions::default()).await.expect("it ends");
    region.import(b"{\"no\": \"export\"}", &ImportOptions::default()).await.expect("it ends");
    let organization = &import.organizations[0];
    let rename = UpdateOrganizationSlugRequest {
        operation_id: operation(9),
        organization_id: organization.id,
        desired_slug: "a-new-name".to_owned(),
        keep_alias: true,
        ..Default::default()
    };
    cluster.control().reservations().update_organization_slug(rename).await.expect("renamed");
    reserved_long_ago(&cluster, 1, 9_000_001, "wanted-by-many").await;
    let control = cluster.control();
    control.reserve("us", &operation(2), 9_000_002, "elsewhere").await.expect("reserved");
    control.confirm("us", &operation(2)).await.expect("confirmed");
    let of_import = format!("/imports/us/{}", import.import_id);
    let of_organization = format!("/organizations/{}", organization.id);
    visitor.until(&of_organization, "a-new-name").await;
    // Until the region has heard of all that, its comparison sees it moving.
    let until = Instant::now() + LIMIT;
    loop {
        let compared = region.reconcile(ReconcileMode::Check).await.expect("compared");
        if compared.summary.is_some_and(|summary| summary.moving == 0) {
            break;
        }
        assert!(Instant::now() < until, "it always moves");
    }
    visitor.until("/differences", " left").await;
    visitor.until(&of_import, "succeeded").await;
    cluster.failpoints().arm("region.models.written", Act::Hold, 0);
    region.begin(&export::large(40).to_bytes(), &ImportOptions::default()).await.expect("it is taken");
    cluster.failpoints().held().await;
    visitor.until("/imports?state=IN_PROGRESS", "<progress").await;
    (cluster, of_import, of_organization)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_can_be_read_light_and_dark_wide_and_narrow() {
    let (cluster, of_import, of_organization) = with_something_everywhere().await;
    let url = cluster.console_url().expect("it has a console");
    let of_release = format!("/stuck/us/{}/release", operation(1));
    let of_revert = format!("{of_import}/revert");
    let pages = [
        ("overview", "/"),
        ("regions", "/regions"),
        ("imports", "/imports"),
        ("import", of_import.as_str()),
        ("slugs", "/slugs?q=a"),
        ("organization", of_organization.as_str()),
        ("stuck", "/stuck"),
        ("release", of_release.as_str()),
        ("revert", of_revert.as_str()),
        ("differences", "/differences"),
        ("audit", "/audit"),
        ("absent", "/absent"),
    ];
    let driver = Driver::start().await;
    for (width, dark) in [(1_400, false), (1_400, true), (400, false), (400, true)] {
        let scheme = if dark { "dark" } else { "light" };
        let browser = driver.browser(&format!("{scheme}-{width}"), width, dark).await;
        for (name, path) in pages {
            browser.goto(&format!("{url}{path}")).await;
            let script = "return [matchMedia('(prefers-color-scheme: dark)').matches, innerWidth, \
                          document.documentElement.scrollWidth, document.querySelectorAll('h1').length]";
            let facts = browser.run(script).await;
            assert_eq!(facts[0], dark, "{name}");
            let (inner, whole) = (facts[1].as_u64().expect("a number"), facts[2].as_u64().expect("a number"));
            assert!(whole <= inner, "{name} at {width}: {whole} pixels in {inner}");
            assert_eq!(facts[3], 1, "{name} has one heading of the first level");
            let weak = browser.run(CONTRAST).await;
            assert_eq!(weak, json!([]), "{name}, {scheme}: too little contrast");
            assert_eq!(
                loaded_from_elsewhere(&browser).await,
                [] as [String; 0],
                "{name} loads from elsewhere"
            );
            let picture = browser.picture().await;
            std::fs::write(pictures().join(format!("{name}-{scheme}-{width}.png")), picture)
                .expect("written");
        }
        browser.close().await;
    }
    cluster.failpoints().release();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_follows_an_import_while_it_is_open() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    cluster.failpoints().arm("region.models.written", Act::Hold, 0);
    let bytes = export::large(3).to_bytes();
    let begun = cluster.region(0).begin(&bytes, &ImportOptions::default()).await.expect("it is taken");
    let id = begun.import.unwrap_or_default().import_id;
    cluster.failpoints().held().await;
    let path = format!("/imports/us/{id}");
    visitor.until(&path, "writing").await;
    let driver = Driver::start().await;
    let browser = driver.browser("live", 1_400, false).await;
    let url = cluster.console_url().expect("it has a console");
    browser.goto(&format!("{url}{path}")).await;
    browser.until_shown("Live").await;
    browser.until_shown("writing").await;
    browser.run("window.opened = true; document.querySelector('.path a').focus()").await;
    cluster.failpoints().release();
    cluster.region(0).wait(&id).await.expect("it ends");
    browser.until_shown("succeeded").await;
    // The page was not loaded again, and the focus is where it was.
    let script = "return [window.opened, document.activeElement.getAttribute('href')]";
    let kept = browser.run(script).await;
    assert_eq!(kept, json!([true, "/imports?region=us"]));
    cluster.stop().await;
    browser.until_shown("this may be out of date").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_answers_says_when_the_last_one_came() {
    let (cluster, _) = started(Store::Sqlite).await;
    let driver = Driver::start().await;
    let browser = driver.browser("away", 1_400, false).await;
    browser.goto(&cluster.console_url().expect("it has a console")).await;
    browser.until_shown("Live, updated").await;
    // Everything that the line at the bottom says from now on, and how often there was no answer.
    let script = "const line = document.getElementById('live');
        window.said = [line.textContent];
        new MutationObserver(() => said.push(line.textContent)).observe(line, {childList: true});
        window.failed = 0;
        window.fetch = () => { failed += 1; return Promise.reject(new Error('away')); };";
    browser.run(script).await;
    browser.until_true("return failed >= 3").await;
    let said: Vec<String> = serde_json::from_value(browser.run("return said").await).expect("texts");
    let updated: Vec<_> = said.iter().filter_map(|it| it.strip_prefix("Live, updated ")).collect();
    let last = updated.last().expect("an answer before");
    assert!(last.ends_with(" UTC"), "{last}");
    let failed: Vec<_> = said.iter().filter(|it| it.starts_with("No answer")).collect();
    assert!(failed.len() >= 2, "{said:?}");
    let expected = format!("No answer since {last}: this may be out of date");
    assert!(failed.iter().all(|it| **it == expected), "{expected}: {said:?}");
    browser.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_focus_keeps_its_place_while_a_page_changes() {
    let (cluster, _) = started(Store::Sqlite).await;
    let driver = Driver::start().await;
    let browser = driver.browser("focus", 1_400, false).await;
    browser.goto(&cluster.console_url().expect("it has a console")).await;
    browser.until_shown("Live, updated").await;
    // A page that has two links to the same place, and a command. What it shows changes with each answer.
    let script = "window.page = 0; window.gone = false;
        window.fetch = () => { page += 1; return Promise.resolve(new Response(`<p>Page ${page}.</p>` + (gone ? '' :
            `<a href='/x'>first ${page}</a><a href='/x'>second ${page}</a><code tabindex='0'>command</code>`))); };";
    browser.run(script).await;
    browser.until_shown("second").await;
    for (css, text) in [("a:nth-of-type(2)", "second"), ("code", "command")] {
        let before = format!(
            "document.querySelector('main {css}').focus(); \
             window.before = document.querySelector('main p').textContent"
        );
        browser.run(&before).await;
        browser.until_true("return document.querySelector('main p').textContent !== before").await;
        let focused = browser.run("return document.activeElement.textContent").await;
        assert!(focused.as_str().is_some_and(|it| it.starts_with(text)), "{css}: {focused}");
    }
    // What is gone leaves the focus to the main part, and not to the beginning of the page.
    browser.run("gone = true").await;
    browser.until_true("return document.querySelector('main code') === null").await;
    assert_eq!(browser.run("return document.activeElement.id").await, "main");
    browser.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_leads_through_a_page_and_the_focus_is_seen() {
    let (cluster, _) = started(Store::Sqlite).await;
    let url = cluster.console_url().expect("it has a console");
    let driver = Driver::start().await;
    let browser = driver.browser("keyboard", 1_400, false).await;
    browser.goto(&format!("{url}/slugs")).await;
    let script = "const at = document.activeElement; const style = getComputedStyle(at); \
                  return [at.textContent.trim() || at.id, style.outlineStyle, at.getBoundingClientRect().left >= 0]";
    let mut order = Vec::new();
    for _ in 0..11 {
        browser.press_tab().await;
        let at = browser.run(script).await;
        assert_eq!((&at[1], &at[2]), (&json!("solid"), &json!(true)), "{at}");
        order.push(at[0].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(
        order,
        [
            "To the content",
            "Causeway",
            "Overview",
            "Regions",
            "Imports",
            "Slugs",
            "Stuck",
            "Differences",
            "Audit",
            "q",
            "Search"
        ]
    );
    browser.close().await;
    cluster.stop().await;
}

/// Lets a browser that shows no certificate reach a console as somebody who does.
pub(crate) async fn as_somebody(url: &str, tls: Arc<ClientTls>) -> String {
    let authority = url.split_once("://").expect("a URL").1.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = format!("http://{}", listener.local_addr().expect("bound"));
    let mut config = ClientConfig::clone(&tls.config());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            let (connector, authority) = (connector.clone(), authority.clone());
            tokio::spawn(async move {
                let name = ServerName::try_from("localhost").expect("a name");
                let tcp = TcpStream::connect(authority).await?;
                let mut console = connector.connect(name, tcp).await?;
                copy_bidirectional(&mut browser, &mut console).await
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_releases_a_reservation_in_a_browser_and_an_importer_cannot() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let built = Cluster::builder(Store::Sqlite).region("us").tls(&pki).console().start().await;
    let cluster = built.expect("it starts");
    let tls = pki.operator().expect("an operator");
    Visitor::new(&cluster.console_url().expect("a console"), Some(tls)).until("/regions", "alive").await;
    reserved_long_ago(&cluster, 1, 77, "wanted-by-many").await;
    let url = cluster.console_url().expect("it has a console");
    let caller =
        |role, name: &str| pki.client(Some(pki.pair(role, name).expect("issued"))).expect("it can be used");
    let driver = Driver::start().await;
    let browser = driver.browser("actions", 1_400, false).await;

    let importer = as_somebody(&url, caller(Role::Importer, "bob")).await;
    for path in ["/stuck".to_owned(), format!("/stuck/us/{}/release", operation(1))] {
        browser.goto(&format!("{importer}{path}")).await;
        browser.until_shown("The console is for operators").await;
        assert_eq!(browser.run("return document.forms.length").await, 0);
    }

    let operator = as_somebody(&url, caller(Role::Operator, "ann")).await;
    browser.goto(&format!("{operator}/stuck")).await;
    browser.until_shown("wanted-by-many").await;
    browser.until_shown("spiffe://test.example/operator/ann").await;
    browser.click("td a.button").await;
    browser.until_shown("This cannot be undone").await;
    browser.click("button.danger").await;
    browser.until_shown("1 slug was freed").await;
    browser.goto(&format!("{operator}/stuck")).await;
    browser.until_shown("Nothing is stuck").await;
    browser.goto(&format!("{operator}/audit")).await;
    browser.until_shown("release-operation").await;
    browser.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_need_no_script_to_be_read() {
    let (cluster, of_import, _) = with_something_everywhere().await;
    let plain = visitor(&cluster);
    // What the script would show later is in the page itself.
    plain.get(&of_import).await.says(200, &["As it was when the page was loaded", "Records by model"]);
    plain.get("/stuck").await.says(200, &["wanted-by-many", "Release…"]);
    cluster.failpoints().release();
    cluster.stop().await;
}
