//! A browser, driven by the few commands of WebDriver (<https://www.w3.org/TR/webdriver2/>) that these tests need.

use std::{process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::http::Visitor;

/// The longest that anything may take. Nothing here takes this long unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const HOW: &str = "Chromium and its driver are needed: `bash .ci/install-chromium` installs them";

/// A running chromedriver, with a directory of its own for everything that browsers write.
pub(crate) struct Driver {
    driver: Visitor,
    directory: TempDir,
    _process: Child,
}

impl Driver {
    /// Starts one on a free port of IPv4. Left to itself, chromedriver takes a port that is free for IPv6, and ends if
    /// somebody has it for IPv4. Another process may take the port before chromedriver does: then it is tried again.
    pub(crate) async fn start() -> Self {
        let mut said = Vec::new();
        for _ in 0..5 {
            match Self::try_start().await {
                Ok(driver) => return driver,
                Err(output) => said.push(output),
            }
        }
        panic!("chromedriver ended five times before it listened: {said:?}")
    }

    /// # Errors
    ///
    /// What it said, if it ended before it listened.
    async fn try_start() -> Result<Self, String> {
        let directory = TempDir::new().expect("a directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let mut process = Command::new("chromedriver")
            .arg(format!("--port={}", free.port()))
            .env("HOME", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{HOW}: {error}"));
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut errors = process.stderr.take().expect("a pipe");
        let mut output = String::new();
        loop {
            let line =
                timeout(LIMIT, lines.next_line()).await.unwrap_or_else(|_| panic!("it hangs: {output}"));
            let Some(line) = line.expect("its output") else {
                errors.read_to_string(&mut output).await.expect("its errors");
                return Err(output);
            };
            if line.contains("started successfully") {
                break;
            }
            output.push_str(&line);
            output.push('\n');
        }
        // It must not wait for somebody to read what it says.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        tokio::spawn(async move { tokio::io::copy(&mut errors, &mut tokio::io::sink()).await });
        Ok(Self { driver: Visitor::new(&format!("http://{free}"), None), directory, _process: process })
    }

    /// A browser with a window of this width, that prefers this colour scheme.
    pub(crate) async fn browser(&self, name: &str, width: u32, dark: bool) -> Browser {
        let profile = self.directory.path().join(name);
        let mut arguments: Vec<String> = [
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "disable-dev-shm-usage",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "hide-scrollbars",
        ]
        .iter()
        .map(|argument| format!("--{argument}"))
        .collect();
        let scheme = if dark { "0" } else { "1" };
        arguments.push(format!("--blink-settings=preferredColorScheme={scheme}"));
        arguments.push(format!("--window-size={width},1400"));
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let mut options = json!({"args": arguments});
        if width < 500 {
            // No window is that narrow, but the screen of a telephone is.
            options["mobileEmulation"] =
                json!({"deviceMetrics": {"width": width, "height": 1400, "pixelRatio": 1.0}});
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let mut browser = Browser { driver: self.driver.clone(), session: String::new() };
        let session = browser.call("POST", "/session", &capabilities).await;
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("{HOW}: {session}"));
        browser.session = format!("/session/{id}");
        browser
    }
}

/// A browser with one window.
pub(crate) struct Browser {
    driver: Visitor,
    session: String,
}

impl Browser {
    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let answer = self.driver.request(method, &format!("{}{path}", self.session), &[], &body).await;
        let value: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(answer.status, 200, "{path}: {}", value["value"]);
        value["value"].clone()
    }

    /// Opens a page, and waits until it is loaded.
    pub(crate) async fn goto(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url})).await;
    }

    /// Runs a script in the page, and returns what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// A picture of what the window shows, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let picture = self.call("GET", "/screenshot", &Value::Null).await;
        STANDARD.decode(picture.as_str().expect("a text")).expect("base64")
    }

    /// Presses the tabulator key.
    pub(crate) async fn press_tab(&self) {
        const TAB: &str = "\u{e004}";
        let keys = [json!({"type": "keyDown", "value": TAB}), json!({"type": "keyUp", "value": TAB})];
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]});
        self.call("POST", "/actions", &actions).await;
    }

    /// Clicks the first element that matches, as a mouse does.
    pub(crate) async fn click(&self, css: &str) {
        let element = self.call("POST", "/element", &json!({"using": "css selector", "value": css})).await;
        let id = element.as_object().and_then(|it| it.values().next()?.as_str()).expect("an id").to_owned();
        self.call("POST", &format!("/element/{id}/click"), &json!({})).await;
    }

    /// Waits until the page shows a text.
    pub(crate) async fn until_shown(&self, text: &str) {
        let until = Instant::now() + LIMIT;
        loop {
            let shown = self.run("return document.body.innerText").await;
            let shown = shown.as_str().unwrap_or_default();
            if shown.contains(text) {
                return;
            }
            assert!(Instant::now() < until, "{text:?} is never shown: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a script returns `true`.
    pub(crate) async fn until_true(&self, script: &str) {
        let until = Instant::now() + LIMIT;
        while self.run(script).await != Value::Bool(true) {
            assert!(Instant::now() < until, "it never becomes true: {script}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.call("DELETE", "", &Value::Null).await;
    }
}
