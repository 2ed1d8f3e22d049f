//! The slugs that a filter may have meant, in the message about a filter that matches nothing. Whoever shows the message
//! can read them back, for a command that uses them.

const BEGIN: &str = "Did you mean ";
const END: &str = "? ";

/// Whether a slug can be read back: one of the characters that slugs of the product have.
fn is_plain(slug: &str) -> bool {
    !slug.is_empty() && slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The sentence, with a space after it; empty without slugs.
#[must_use]
pub fn said(slugs: &[String]) -> String {
    let quoted: Vec<String> = slugs.iter().map(|slug| format!("`{slug}`")).collect();
    if quoted.is_empty() { String::new() } else { format!("{BEGIN}{}{END}", quoted.join(", ")) }
}

/// The slugs of the sentence in a message; none if it is not there, or if a slug of it has characters that slugs do not
/// have.
#[must_use]
pub fn read(message: &str) -> Vec<String> {
    let sentence = message.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let Some((sentence, _)) = sentence else { return Vec::new() };
    let slugs: Option<Vec<String>> = sentence
        .split(", ")
        .map(|word| {
            word.strip_prefix('`')?.strip_suffix('`').filter(|slug| is_plain(slug)).map(str::to_owned)
        })
        .collect();
    slugs.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_that_were_meant_can_be_read_back() {
        for slugs in [&[][..], &["acme"], &["acme", "sup-port_2"]] {
            let slugs: Vec<String> = slugs.iter().map(|slug| (*slug).to_owned()).collect();
            let message = format!("none is in the export. {}The export has many", said(&slugs));
            assert_eq!(read(&message), slugs);
        }
        // What somebody else wrote into a file is no part of a command.
        for odd in ["a`, `b c", "a; rm", "", "a,b"] {
            assert_eq!(read(&said(&[odd.to_owned()])), Vec::<String>::new(), "{odd}");
        }
        assert_eq!(read("Did you mean `a`"), Vec::<String>::new());
    }
}
