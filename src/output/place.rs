//! Commands that the output suggests. They go to the same place as the command that prints them, and can be pasted into
//! a shell.

use std::{borrow::Cow, path::PathBuf};

/// Where a command goes. A suggested command gets the arguments to go there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandTarget {
    /// The region at this URL.
    Region(String),
    /// The control at this URL.
    Control(String),
    /// The embedded control and region with their data in this directory.
    Data(PathBuf),
    /// One of the above, with these options about TLS.
    WithTls(Box<Self>, Vec<String>),
}

/// A word, quoted for a shell if it needs that.
pub(crate) fn quoted(word: &str) -> String {
    // Only a NUL character cannot be quoted, and no argument has one.
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word)).into_owned()
}

/// Adds a word, quoted for a shell.
fn push(line: &mut String, word: &str) {
    line.push(' ');
    line.push_str(&quoted(word));
}

/// Whether a command goes to control: those about slugs do, the others to a region.
fn is_for_control(command: &str) -> bool {
    command.starts_with("causeway slugs ")
}

impl CommandTarget {
    /// The same place, reached with these options about TLS.
    pub(crate) fn with_tls(self, words: Vec<String>) -> Self {
        if words.is_empty() { self } else { Self::WithTls(Box::new(self), words) }
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Region(url) => vec!["--region".to_owned(), url.clone()],
            Self::Control(url) => vec!["--control".to_owned(), url.clone()],
            Self::Data(dir) => vec!["--data-dir".to_owned(), dir.display().to_string()],
            Self::WithTls(place, words) => [place.arguments().as_slice(), words].concat(),
        }
    }

    /// The control at this URL, for somebody who is at a region. `None` if this is no region.
    fn control_of_region(&self, url: &str) -> Option<Self> {
        match self {
            Self::Region(_) => Some(Self::Control(url.to_owned())),
            Self::WithTls(place, words) => {
                place.control_of_region(url).map(|control| control.with_tls(words.clone()))
            }
            Self::Control(_) | Self::Data(_) => None,
        }
    }

    /// A command that goes to this place.
    pub(crate) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        let mut line = String::from("causeway");
        words.into_iter().for_each(|word| push(&mut line, word));
        self.arguments().iter().for_each(|word| push(&mut line, word));
        line
    }

    /// Completes a text of a service: each command in backticks gets the arguments to go to this place. `control` lists
    /// the addresses of control that a region reported, for commands that go there.
    pub(crate) fn complete(&self, text: &str, control: &[String]) -> String {
        let mut completed = String::with_capacity(text.len());
        for (index, part) in text.split('`').enumerate() {
            if index > 0 {
                completed.push('`');
            }
            completed.push_str(part);
            // Every second part is between two backticks.
            if index % 2 == 0 || !part.starts_with("causeway ") {
                continue;
            }
            let elsewhere = match control {
                [first, ..] if is_for_control(part) => self.control_of_region(first),
                _ => None,
            };
            let place = elsewhere.as_ref().unwrap_or(self);
            place.arguments().iter().for_each(|word| push(&mut completed, word));
        }
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
