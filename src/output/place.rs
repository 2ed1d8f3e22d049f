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
}

/// Adds a word, quoted for a shell.
fn push(line: &mut String, word: &str) {
    line.push(' ');
    // Only a NUL character cannot be quoted, and no argument has one.
    line.push_str(&shlex::try_quote(word).unwrap_or(Cow::Borrowed(word)));
}

/// Whether a command goes to control: those about slugs do, the others to a region.
fn is_for_control(command: &str) -> bool {
    command.starts_with("causeway slugs ")
}

impl CommandTarget {
    fn arguments(&self) -> [String; 2] {
        match self {
            Self::Region(url) => ["--region".to_owned(), url.clone()],
            Self::Control(url) => ["--control".to_owned(), url.clone()],
            Self::Data(dir) => ["--data-dir".to_owned(), dir.display().to_string()],
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
            let elsewhere = match (self, control) {
                (Self::Region(_), [first, ..]) if is_for_control(part) => Some(Self::Control(first.clone())),
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
