//! Commands that are suggested to people. Texts of services name them without addresses; whoever shows a text knows where
//! they go, and completes them so that they can be pasted into a shell.

use std::{borrow::Cow, path::PathBuf};

/// Where a command goes. A suggested command gets the arguments to go there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandTarget {
    /// The region at this URL.
    Region(String),
    /// The control at this URL.
    Control(String),
    /// The embedded control and region with their data in this directory.
    Data(PathBuf),
    /// The same, for a command about the audit log of the embedded control: each of the two has one.
    AuditOfControl(PathBuf),
    /// One of the above, with these options about TLS.
    WithTls(Box<Self>, Vec<String>),
}

/// A word, quoted for a shell if it needs that.
#[must_use]
pub fn quoted(word: &str) -> String {
    // Only a NUL character cannot be quoted, and no argument has one.
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word)).into_owned()
}

/// Adds a word, quoted for a shell.
fn push(line: &mut String, word: &str) {
    line.push(' ');
    line.push_str(&quoted(word));
}

/// Which service a command goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    ToControl,
    ToRegion,
    /// To either of the two. The service that names the command means itself.
    ToEither,
    /// The same, where the embedded ones must be told apart.
    ToAudit,
    /// To no service, such as one that makes certificates.
    Nowhere,
}

impl Goes {
    fn of(command: &str) -> Self {
        match command.split_whitespace().nth(1) {
            Some("slugs" | "regions") => Self::ToControl,
            Some("import" | "imports" | "reconcile" | "throttle") => Self::ToRegion,
            Some("audit") => Self::ToAudit,
            Some("organizations") => Self::ToEither,
            _ => Self::Nowhere,
        }
    }
}

/// How a command in a text begins. It ends with the next backtick.
pub const COMMAND: &str = "`causeway ";

/// Replaces an address that is unknown. A command with it is refused, and does not act on the local data
/// directory instead.
const UNKNOWN: &str = "URL";

impl CommandTarget {
    /// The region at this URL; without one, a region whose URL whoever pastes the command has to write.
    #[must_use]
    pub fn region(url: Option<&str>) -> Self {
        Self::Region(url.filter(|url| !url.is_empty()).unwrap_or(UNKNOWN).to_owned())
    }

    /// The same place, reached with these options about TLS.
    #[must_use]
    pub fn with_tls(self, words: Vec<String>) -> Self {
        if words.is_empty() { self } else { Self::WithTls(Box::new(self), words) }
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Region(url) => vec!["--region".to_owned(), url.clone()],
            Self::Control(url) => vec!["--control".to_owned(), url.clone()],
            Self::Data(dir) => vec!["--data-dir".to_owned(), dir.display().to_string()],
            Self::AuditOfControl(dir) => {
                let words = ["--service", "control", "--data-dir"].map(str::to_owned);
                words.into_iter().chain([dir.display().to_string()]).collect()
            }
            Self::WithTls(place, words) => [place.arguments().as_slice(), words].concat(),
        }
    }

    /// Where a command goes that a service at this place names. `control` lists the addresses of control, as far as
    /// they are known.
    fn of_command(&self, goes: Goes, control: &[String]) -> Self {
        match (self, goes) {
            (Self::WithTls(place, words), _) => place.of_command(goes, control).with_tls(words.clone()),
            (Self::Region(_), Goes::ToControl) => {
                Self::Control(control.first().map_or(UNKNOWN, String::as_str).to_owned())
            }
            (Self::Control(_), Goes::ToRegion) => Self::Region(UNKNOWN.to_owned()),
            (Self::AuditOfControl(dir), Goes::ToControl | Goes::ToRegion | Goes::ToEither) => {
                Self::Data(dir.clone())
            }
            (Self::Region(_) | Self::Control(_) | Self::Data(_) | Self::AuditOfControl(_), _) => self.clone(),
        }
    }

    /// The place in words.
    #[must_use]
    pub fn named(&self) -> String {
        match self {
            Self::Region(url) => format!("the region at {url}"),
            Self::Control(url) => format!("control at {url}"),
            Self::Data(dir) | Self::AuditOfControl(dir) => {
                let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                format!("the local data directory {}", dir.display())
            }
            Self::WithTls(place, _) => place.named(),
        }
    }

    /// Whether these are the embedded services, which need no address.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        match self {
            Self::Data(_) | Self::AuditOfControl(_) => true,
            Self::Region(_) | Self::Control(_) => false,
            Self::WithTls(place, _) => place.is_embedded(),
        }
    }

    /// A command that goes to this place.
    #[must_use]
    pub fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        let mut line = String::from("causeway");
        words.into_iter().for_each(|word| push(&mut line, word));
        self.arguments().iter().for_each(|word| push(&mut line, word));
        line
    }

    /// Completes a text of a service: each command in backticks gets the arguments to go to this place. `control` lists
    /// the addresses of control that a region reported, for commands that go there.
    #[must_use]
    pub fn complete(&self, text: &str, control: &[String]) -> String {
        let mut completed = String::with_capacity(text.len());
        let mut rest = text;
        // Texts also quote what users wrote, with backticks of their own. So commands are searched for, and
        // not every second part between backticks is one.
        while let Some(at) = rest.find(COMMAND) {
            let (before, from) = rest.split_at(at + 1);
            completed.push_str(before);
            let Some((command, _)) = from.split_once('`') else {
                rest = from;
                break;
            };
            completed.push_str(command);
            let goes = Goes::of(command);
            if goes != Goes::Nowhere {
                let place = self.of_command(goes, control);
                place.arguments().iter().for_each(|word| push(&mut completed, word));
                completed.push('`');
                rest = from.get(command.len() + 1..).unwrap_or_default();
            } else {
                // The backtick after it may be the first one of a command.
                rest = from.get(command.len()..).unwrap_or_default();
            }
        }
        completed.push_str(rest);
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_where_the_one_before_went() {
        let words = ["imports", "show", "3b1f"];
        let region = CommandTarget::Region("http://127.0.0.1:50052".to_owned());
        assert_eq!(region.command(words), "causeway imports show 3b1f --region http://127.0.0.1:50052");
        let options = ["--tls-ca".to_owned(), "my ca.pem".to_owned()];
        let region = CommandTarget::Region("https://r:1".to_owned()).with_tls(options.to_vec());
        assert_eq!(
            region.complete("`causeway slugs list`", &["https://c:1".to_owned()]),
            "`causeway slugs list --control https://c:1 --tls-ca 'my ca.pem'`"
        );
        let control = CommandTarget::Control("http://[::1]:50051".to_owned());
        assert_eq!(control.command(["slugs", "list"]), "causeway slugs list --control 'http://[::1]:50051'");
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        let data = CommandTarget::Data("my data; rm -rf '$HOME'".into());
        let command = data.command(["import", "organizations", "it's `here`.json"]);
        let words = shlex::split(&command).expect("a line of a shell");
        let expected = [
            "causeway",
            "import",
            "organizations",
            "it's `here`.json",
            "--data-dir",
            "my data; rm -rf '$HOME'",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_command_for_another_service_never_goes_to_the_local_data() {
        let region = CommandTarget::Region("http://r:1".to_owned());
        let text = "`causeway regions add us`, `causeway audit verify`, `causeway certs init`, `causeway imports list`";
        assert_eq!(
            region.complete(text, &["http://c:1".to_owned()]),
            "`causeway regions add us --control http://c:1`, `causeway audit verify --region http://r:1`, \
             `causeway certs init`, `causeway imports list --region http://r:1`"
        );
        // An older region does not return control's address.
        assert_eq!(
            region.complete("`causeway regions add us`", &[]),
            "`causeway regions add us --control URL`"
        );
        let control = CommandTarget::Control("http://c:1".to_owned());
        assert_eq!(
            control.complete("`causeway reconcile --check`; `causeway regions list`", &[]),
            "`causeway reconcile --check --region URL`; `causeway regions list --control http://c:1`"
        );
    }

    #[test]
    fn a_command_about_the_audit_log_of_the_embedded_control_says_so() {
        let control = CommandTarget::AuditOfControl("./data".into());
        assert_eq!(
            control.complete("`causeway audit verify` says more; `causeway imports list`", &[]),
            "`causeway audit verify --service control --data-dir ./data` says more; \
             `causeway imports list --data-dir ./data`"
        );
    }

    #[test]
    fn what_users_wrote_does_not_hide_a_command() {
        let region = CommandTarget::Region("http://r:1".to_owned());
        let text = "suspended (a ` and `causeway) is open: `causeway reconcile --check`, `causeway ";
        assert_eq!(
            region.complete(text, &[]),
            "suspended (a ` and `causeway) is open: `causeway reconcile --check --region http://r:1`, `causeway "
        );
    }

    #[test]
    fn commands_of_a_service_are_completed() {
        let text =
            "have it: `causeway reconcile --repair`; or `causeway slugs rename 7 elm --exact`. `elm` is free";
        let region = CommandTarget::Region("http://r:1".to_owned());
        assert_eq!(
            region.complete(text, &["http://c:1".to_owned(), "http://c:2".to_owned()]),
            "have it: `causeway reconcile --repair --region http://r:1`; or \
             `causeway slugs rename 7 elm --exact --control http://c:1`. `elm` is free"
        );
        let data = CommandTarget::Data("./causeway-data".into());
        assert_eq!(
            data.complete(text, &[]),
            "have it: `causeway reconcile --repair --data-dir ./causeway-data`; or \
             `causeway slugs rename 7 elm --exact --data-dir ./causeway-data`. `elm` is free"
        );
    }
}
