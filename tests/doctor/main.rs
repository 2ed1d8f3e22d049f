//! `causeway doctor` against each single thing that is broken: each has its own finding, and says what to do.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is test code, the helpers too")]

mod certificates;
mod databases;
mod machine;
mod services;

use std::path::Path;

use causeway_harness::process;
use serde::Deserialize;

/// A finding as the JSON output has it.
#[derive(Debug, Clone, Deserialize)]
struct Finding {
    subject: String,
    check: String,
    severity: String,
    text: String,
    advice: Option<String>,
}

/// What one run of the command has found.
#[derive(Debug)]
struct Found {
    code: Option<i32>,
    findings: Vec<Finding>,
}

impl Found {
    /// The findings that are not `ok`, each as check and severity, sorted and each once.
    fn faults(&self) -> Vec<(&str, &str)> {
        let faults = self.findings.iter().filter(|finding| finding.severity != "ok");
        let mut faults: Vec<_> =
            faults.map(|finding| (finding.check.as_str(), finding.severity.as_str())).collect();
        faults.sort_unstable();
        faults.dedup();
        faults
    }

    /// Checks that exactly these checks have found something, and the exit code. Returns the text and advice of the first.
    fn has(&self, name: &str, expected: &[(&str, &str)]) -> String {
        let mut sorted = expected.to_vec();
        sorted.sort_unstable();
        assert_eq!(self.faults(), sorted, "{name}: {:#?}", self.findings);
        let code = if expected.iter().any(|(_, severity)| *severity == "error") { 10 } else { 11 };
        assert_eq!(self.code, Some(if expected.is_empty() { 0 } else { code }), "{name}");
        let first = self.findings.iter().find(|finding| {
            expected
                .first()
                .is_some_and(|(check, severity)| finding.check == *check && finding.severity == *severity)
        });
        first.map_or_else(String::new, |finding| {
            format!("{}: {} {}", finding.subject, finding.text, finding.advice.as_deref().unwrap_or_default())
        })
    }
}

/// Runs a command of the program. Another thread waits for it, because the services are in this process.
async fn run(arguments: &[&str]) -> std::process::Output {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("it runs")
}

/// Runs the doctor.
async fn doctor(arguments: &[&str]) -> Found {
    let output = run(&[&["doctor", "--output", "json"], arguments].concat()).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    Found { code: output.status.code(), findings }
}

/// The same with the servers of a file.
async fn doctor_of_file(path: &Path) -> Found {
    doctor(&["--config", path.to_str().expect("UTF-8")]).await
}

#[tokio::test]
async fn without_anything_to_check_the_doctor_says_what_to_give() {
    let output = run(&["doctor"]).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--config FILE") && stderr.contains("--control URL"), "{stderr}");
}
