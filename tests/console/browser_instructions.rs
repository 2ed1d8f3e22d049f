//! Resuming and reverting an import in headless Chromium. Pictures are written into `target/console`.

use std::sync::Arc;

use causeway_harness::{
    cluster::{Cluster, Service, Store},
    pki::Pki,
};
use causeway_proto::region::v1::ImportState;
use causeway_silo::env::Environment;
use causeway_tls::Role;
use serde_json::json;

use crate::{
    browser::{CONTRAST, as_somebody, pictures},
    http::Visitor,
    instructions::paused,
    support::{started, visitor},
    webdriver::{Browser, Driver},
};

/// Checks that a page fits and can be read, and takes a picture of it.
async fn look(browser: &Browser, name: &str) {
    let script =
        "return [innerWidth, document.documentElement.scrollWidth, document.querySelectorAll('h1').length]";
    let facts = browser.run(script).await;
    assert!(facts[1].as_u64() <= facts[0].as_u64(), "{name} is too wide: {facts}");
    assert_eq!(facts[2], 1, "{name} has one heading of the first level");
    assert_eq!(browser.run(CONTRAST).await, json!([]), "{name}: too little contrast");
    std::fs::write(pictures().join(format!("{name}.png")), browser.picture().await).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_resumes_and_reverts_an_import_in_a_browser_and_an_importer_cannot() {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let built = Cluster::builder(Store::Sqlite).region("us").tls(&pki).console().start().await;
    let cluster = built.expect("it starts");
    let url = cluster.console_url().expect("it has a console");
    let caller =
        |role, name: &str| pki.client(Some(pki.pair(role, name).expect("issued"))).expect("it can be used");
    let plain = Visitor::new(&url, Some(caller(Role::Operator, "ann")));
    plain.until("/regions", "alive").await;
    let id = paused(&cluster, &plain).await;
    let page = format!("/imports/us/{id}");
    let driver = Driver::start().await;
    let browser = driver.browser("instructions", 1_400, false).await;

    let importer = as_somebody(&url, caller(Role::Importer, "bob")).await;
    for path in [page.clone(), format!("{page}/resume"), format!("{page}/revert")] {
        browser.goto(&format!("{importer}{path}")).await;
        browser.until_shown("The console is for operators").await;
        assert_eq!(browser.run("return document.forms.length").await, 0);
    }

    let operator = as_somebody(&url, caller(Role::Operator, "ann")).await;
    browser.goto(&format!("{operator}{page}")).await;
    look(&browser, "import-paused-light-1400").await;
    browser.click("a.button[href$='/resume']").await;
    browser.until_shown("The pause ends").await;
    look(&browser, "resume-light-1400").await;
    browser.click("form.action button").await;
    browser.until_shown("Resumed by region us").await;
    browser.until_shown("spiffe://test.example/operator/ann asked for it").await;
    let ended = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(ended.state(), ImportState::Succeeded);
    // The page follows all of that.
    browser.until_shown("succeeded").await;
    look(&browser, "import-resumed-light-1400").await;
    browser.click("a.button[href$='/revert']").await;
    browser.until_shown("This cannot be undone").await;
    browser.click("button.danger").await;
    browser.until_shown("It is gone").await;
    browser.until_shown("as spiffe://test.example/operator/ann asked").await;
    look(&browser, "import-reverted-light-1400").await;
    browser.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_an_instruction_can_be_read_in_the_dark_and_narrow() {
    let (cluster, plain) = started(Store::Sqlite).await;
    let id = paused(&cluster, &plain).await;
    let url = visitor(&cluster).authority().to_owned();
    let page = format!("http://{url}/imports/us/{id}");
    let driver = Driver::start().await;
    let browser = driver.browser("narrow", 400, true).await;
    browser.goto(&format!("{page}/resume")).await;
    look(&browser, "resume-dark-400").await;
    cluster.kill(Service::Region(0)).await;
    // Without the script, too: it is a form.
    browser.click("form.action button").await;
    browser.until_shown("Waits for the region").await;
    look(&browser, "import-waits-dark-400").await;
    browser.goto(&format!("{page}/revert")).await;
    look(&browser, "revert-of-paused-dark-400").await;
    browser.close().await;
    cluster.stop().await;
}
