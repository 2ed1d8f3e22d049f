//! What `causeway doctor` has found: a line for each check, and what to do about those that failed.

use serde::Serialize;

use super::{
    table::clean,
    terminal::{ATTENTION, BAD, Width, styled},
    wrap::wrap,
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// All is as it should be.
    Ok,
    /// Something works that will not for long, or not as well as it could.
    Warning,
    /// Something does not work.
    Error,
}

/// What was checked. The names are part of the JSON output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Check {
    /// The settings of a server, each alone and against each other.
    Configuration,
    /// Certificates, their keys, and how long they are valid.
    Certificates,
    /// The private keys that open encrypted exports.
    DecryptionKeys,
    /// The connection to the database, and whether it is the right one.
    Database,
    /// The version, encoding and number of connections of the database's server.
    DatabaseServer,
    /// What the user may do in the database.
    DatabaseRights,
    /// The extensions that the tables need.
    DatabaseExtensions,
    /// The clock of the database's server, compared with that of this machine.
    Clock,
    /// The migrations that were applied.
    Migrations,
    /// The tables of the models, compared with the catalog.
    Schema,
    /// The sequences of the tables' ids.
    Sequences,
    /// The directory for uploads: rights and free space.
    Spool,
    /// Whether a service answers at its address, and its version.
    Reachable,
    /// What a service says of its health.
    Health,
    /// What control knows of a region: registration, suspension, ids that other regions have too.
    Registration,
    /// How far a region has read control's feed.
    Feed,
    /// Reservations that nobody has confirmed or released for long.
    Reservations,
    /// Imports that wait or have failed.
    Imports,
    /// The comparison of a region's organizations with what control has stored for them.
    Differences,
}

/// One thing that was found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// What it is about, e.g. `region us (us.toml)`.
    pub(crate) subject: String,
    /// What was checked.
    pub(crate) check: Check,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was found.
    pub(crate) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// The column at which texts begin, after severity and check.
const INDENT: usize = 32;
/// The width below which there is no room for texts after that column.
const NARROW: usize = 70;

/// A text of one line or several, without characters that would paint the terminal.
fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// All findings, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding.
    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The findings so far.
    #[cfg(test)]
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The worst severity of all findings.
    pub(crate) fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// The findings as a JSON array.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&self.findings)?)
    }

    /// The findings as text, grouped by what they are about, and how many there are of each severity.
    pub(crate) fn text(&self, width: Width) -> String {
        // On a narrow terminal, texts begin below the name of their check.
        let indent = if width.0 < NARROW { 4 } else { INDENT };
        let mut text = String::new();
        let mut subject = None;
        for finding in &self.findings {
            if subject != Some(&finding.subject) {
                text.push_str(&format!("{}\n", clean(&finding.subject)));
                subject = Some(&finding.subject);
            }
            let severity = match finding.severity {
                Severity::Ok => format!("{:<7}", "ok"),
                Severity::Warning => styled("warning", ATTENTION),
                Severity::Error => styled(&format!("{:<7}", "error"), BAD),
            };
            let check: &str = finding.check.into();
            let begin = format!("  {severity}  {check:<19}  ");
            if indent == INDENT {
                text.push_str(&wrap(&clean_lines(&finding.text), width, &begin, indent));
            } else {
                text.push_str(&format!("{}\n", begin.trim_end()));
                text.push_str(&wrap(&clean_lines(&finding.text), width, &" ".repeat(indent), indent));
            }
            if let Some(advice) = &finding.advice {
                let begin = format!("{}To do: ", " ".repeat(indent));
                text.push_str(&wrap(&clean_lines(advice), width, &begin, indent));
            }
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let plural =
            |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        text.push_str(&format!(
            "{}: {}, {}\n",
            plural(self.findings.len(), "check"),
            plural(count(Severity::Error), "error"),
            plural(count(Severity::Warning), "warning")
        ));
        text
    }
}

/// Adds findings about one subject.
#[derive(Debug)]
pub(crate) struct About<'a> {
    report: &'a mut Report,
    subject: String,
}

impl<'a> About<'a> {
    /// For findings about `subject`.
    pub(crate) fn new(report: &'a mut Report, subject: String) -> Self {
        Self { report, subject }
    }

    fn add(&mut self, check: Check, severity: Severity, text: String, advice: Option<String>) {
        self.report.add(Finding { subject: self.subject.clone(), check, severity, text, advice });
    }

    /// Something is as it should be.
    pub(crate) fn ok(&mut self, check: Check, text: impl Into<String>) {
        self.add(check, Severity::Ok, text.into(), None);
    }

    /// Something will not work for long, or not as well as it could.
    pub(crate) fn warning(&mut self, check: Check, text: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Severity::Warning, text.into(), Some(advice.into()));
    }

    /// Something does not work, and the text says what to do already.
    pub(crate) fn error_that_says_what_to_do(&mut self, check: Check, text: impl Into<String>) {
        self.add(check, Severity::Error, text.into(), None);
    }

    /// Something does not work.
    pub(crate) fn error(&mut self, check: Check, text: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Severity::Error, text.into(), Some(advice.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::terminal::plain, *};

    #[test]
    fn a_report_fits_the_terminal_and_keeps_commands_whole() {
        let mut report = Report::default();
        let mut about = About::new(&mut report, "control".to_owned());
        let text = "the import has failed, because the file was cut somewhere on its way to the region";
        about.warning(
            Check::Imports,
            text,
            "take it back: `causeway imports revert 3b1f --region http://127.0.0.1:50052`",
        );
        assert_eq!(
            plain(&report.text(Width(80))),
            "control\n\
             \x20 warning  imports              the import has failed, because the file was cut\n\
             \x20                               somewhere on its way to the region\n\
             \x20                               To do: take it back:\n\
             \x20                               `causeway imports revert 3b1f --region http://127.0.0.1:50052`\n\
             1 check: 0 errors, 1 warning\n"
        );
        assert!(
            plain(&report.text(Width(40))).starts_with(
                "control\n  warning  imports\n    the import has failed, because the\n    file was cut somewhere on its way to\n"
            ),
            "{}",
            report.text(Width(40))
        );
    }

    #[test]
    fn a_report_names_the_subject_once_and_says_what_to_do() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Severity::Ok);
        let mut about = About::new(&mut report, "control (c.toml)".to_owned());
        about.ok(Check::Configuration, "it is complete");
        about.warning(Check::Spool, "500 MiB are free", "make room");
        about.error(Check::DatabaseRights, "no INSERT on \u{1b}x\nand no UPDATE", "GRANT INSERT");
        assert_eq!(report.worst(), Severity::Error);
        assert_eq!(
            plain(&report.text(Width::UNLIMITED)),
            "control (c.toml)\n\
             \x20 ok       configuration        it is complete\n\
             \x20 warning  spool                500 MiB are free\n\
             \x20                               To do: make room\n\
             \x20 error    database-rights      no INSERT on \u{fffd}x\n\
             \x20                               and no UPDATE\n\
             \x20                               To do: GRANT INSERT\n\
             3 checks: 1 error, 1 warning\n"
        );
        assert!(report.json().expect("it is JSON").contains("\"check\": \"database-rights\""));
    }
}
