//! Where a command goes: its line, variables, contexts and the table of the file.

use std::ffi::OsString;

use tempfile::TempDir;

use super::{Refusal, parse_with};

const FILE: &str = r#"
[client]
control = "http://client-control:1"
tls_ca = "client-ca.pem"

[contexts.prod-us]
region = "http://us-1:1,http://us-2:1"
control = "http://prod:1"
tls_cert = "ann.pem"
tls_key = "ann-key.pem"

[contexts.prod-eu]
region = ["http://eu-1:1", "http://eu-2:1"]

[contexts.local]
data_dir = "./here"
"#;

struct Config(TempDir);

impl Config {
    fn new(text: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("causeway.toml"), text).expect("it is written");
        Self(directory)
    }

    /// The command that goes where this line does, and what said so. The path of the file is replaced by FILE.
    fn place(&self, line: &str, variables: &[(&str, &str)]) -> Result<(String, String), String> {
        let file = self.0.path().join("causeway.toml").display().to_string();
        let words = ["causeway"].into_iter().chain(line.split(' '));
        let words: Vec<OsString> = words.map(|word| word.replace("FILE", &file).into()).collect();
        let value = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty())
        };
        match parse_with(&words, &value) {
            Ok(line) => {
                let place = line.cli.place().expect("it calls a service");
                Ok((place.command(["x"]), line.origin.unwrap_or_default().replace(&file, "FILE")))
            }
            Err(Refusal::Usage(error)) => Err(error.to_string()),
            Err(Refusal::Settings(error)) => Err(format!("{error:#}").replace(&file, "FILE")),
        }
    }
}

#[test]
fn the_strongest_says_where_a_command_goes() {
    let config = Config::new(FILE);
    let region = [("CAUSEWAY_REGION", "http://v-1:1,http://v-2:1")];
    let both = [("CAUSEWAY_REGION", "http://v-1:1"), ("CAUSEWAY_CONTROL", "http://vc:1")];
    for (line, variables, goes, origin) in [
        ("imports list", &[][..], "--data-dir ./causeway-data", ""),
        ("imports list --region http://a:1,http://b:1", &[], "--region http://a:1,http://b:1", "--region"),
        ("imports list", &region, "--region http://v-1:1,http://v-2:1", "CAUSEWAY_REGION"),
        // The line is stronger than a variable, and they are in no conflict.
        ("imports list --data-dir d", &region, "--data-dir d", "--data-dir"),
        ("imports list --region http://a:1", &region, "--region http://a:1", "--region"),
        ("organizations list --control http://a:1", &both, "--control http://a:1", "--control"),
        // A command that may go to either goes to the region.
        ("organizations list", &both, "--region http://v-1:1", "CAUSEWAY_REGION"),
        ("organizations list", &both[1..], "--control http://vc:1", "CAUSEWAY_CONTROL"),
        ("audit list", &both, "--region http://v-1:1", "CAUSEWAY_REGION"),
        ("audit list --service control", &both, "--control http://vc:1", "CAUSEWAY_CONTROL"),
        ("audit list --service control", &[], "--service control --data-dir ./causeway-data", ""),
        ("slugs list", &both, "--control http://vc:1", "CAUSEWAY_CONTROL"),
        ("imports list", &[("CAUSEWAY_DATA_DIR", "d")], "--data-dir d", "CAUSEWAY_DATA_DIR"),
        ("imports list", &[("CAUSEWAY_REGION", "")], "--data-dir ./causeway-data", ""),
        // The file.
        (
            "imports list --config FILE --context prod-us",
            &region,
            "--region http://us-1:1,http://us-2:1 --tls-ca client-ca.pem --tls-cert ann.pem --tls-key ann-key.pem",
            "[contexts.prod-us] of FILE",
        ),
        (
            "imports list --config FILE --context prod-eu --tls-ca my.pem",
            &[("CAUSEWAY_TLS_CA", "variable.pem")],
            "--region http://eu-1:1,http://eu-2:1 --tls-ca my.pem",
            "[contexts.prod-eu] of FILE",
        ),
        (
            "slugs list --config FILE",
            &[("CAUSEWAY_TLS_CA", "variable.pem")],
            "--control http://client-control:1 --tls-ca variable.pem",
            "[client] of FILE",
        ),
        // A variable is stronger than a context that a variable names.
        (
            "slugs list --config FILE",
            &both[1..],
            "--control http://vc:1 --tls-ca client-ca.pem",
            "CAUSEWAY_CONTROL",
        ),
        // A context without control leaves it to the table.
        (
            "slugs list --config FILE --context prod-eu",
            &both,
            "--control http://client-control:1 --tls-ca client-ca.pem",
            "[client] of FILE",
        ),
        // A context with local data means them.
        (
            "imports list --config FILE --context local",
            &both,
            "--data-dir ./here",
            "[contexts.local] of FILE",
        ),
    ] {
        let place = config.place(line, variables).expect(line);
        // A shell would take some lists of addresses apart, so they are quoted.
        let words = shlex::split(&place.0).expect("words of a shell").join(" ");
        assert_eq!(
            (words, place.1),
            (format!("causeway x {goes}"), origin.to_owned()),
            "{line} {variables:?}"
        );
    }
}

#[test]
fn a_context_that_does_not_exist_is_refused() {
    let config = Config::new(FILE);
    for (line, why) in [
        ("imports list --context prod-us", "name the file that has it by --config FILE or CAUSEWAY_CONFIG"),
        ("imports list --config FILE --context prod-ue", "is \"prod-us\" meant? It has "),
        ("imports list --config FILE --context zzz", "FILE has no context \"zzz\"; it has "),
        ("slugs list --config FILE --context Prod-us", "has no context \"Prod-us\"; is \"prod-us\" meant?"),
    ] {
        let refused = config.place(line, &[]).expect_err(line);
        assert!(refused.contains(why), "{line}: {refused}");
    }
    let empty =
        Config::new("").place("imports list --config FILE --context x", &[]).expect_err("there is none");
    assert!(empty.contains("FILE has no contexts; a context is a table [contexts.NAME]"), "{empty}");
}

/// A command for the service that is not known never goes to local data when the other service is known.
#[test]
fn a_command_for_the_other_service_is_refused() {
    let config = Config::new("[contexts.half]\nregion = \"http://us:1\"\n");
    for (line, variables, why) in [
        (
            "slugs list",
            &[("CAUSEWAY_REGION", "http://v:1")][..],
            "CAUSEWAY_REGION says where region is, but nothing says where control is: give --control URL",
        ),
        (
            "imports list",
            &[("CAUSEWAY_CONTROL", "http://v:1")],
            "nothing says where region is: give --region URL or CAUSEWAY_REGION",
        ),
        ("slugs list --config FILE --context half", &[], "[contexts.half] of FILE says where region is"),
        (
            "audit list --service control",
            &[("CAUSEWAY_REGION", "http://v:1")],
            "nothing says where control is",
        ),
    ] {
        let refused = config.place(line, variables).expect_err(line);
        assert!(refused.contains(why), "{line}: {refused}");
        let local = format!("{} --data-dir d", line.replace(" --service control", ""));
        assert!(config.place(&local, variables).expect("it is said").0.ends_with("--data-dir d"));
    }
}

#[test]
fn a_wrong_table_for_clients_is_reported_with_its_line() {
    let config = Config::new("contexts = 1\nclient = 2\n[region]\ntls_ca = \"x\"\n");
    let refused = config.place("imports list --config FILE", &[]).expect_err("it is wrong");
    for why in [
        ":1: `contexts` must have a table for each context: [contexts.NAME]",
        ":2: `client` must be a table: [client]",
        ":4: `tls_ca` is not a setting in [region]; its place is in [client]",
    ] {
        assert!(refused.contains(why), "{refused}");
    }
    let config = Config::new("[contexts]\nx = 1\n[contexts.y]\nregion = \"us\"\nregoin = \"http://us:1\"\n");
    let refused = config.place("imports list --config FILE", &[]).expect_err("it is wrong");
    for why in [
        ":2: `x` must be a table: [contexts.x]",
        ":4: invalid value 'us' for '--region <URL>': it must begin with http://",
        ":5: `regoin` is not a setting in [contexts.y]; is `region` meant?",
    ] {
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn variables_are_no_options_and_wrong_ones_are_refused() {
    let config = Config::new("");
    let refused = config.place("imports list", &[("CAUSEWAY_REGION", "us")]).expect_err("it is not a URL");
    assert!(refused.contains("invalid value 'us' for '--region <URL>'"), "{refused}");
    let both = "organizations list --region http://a:1 --control http://b:1";
    assert!(config.place(both, &[]).expect_err("they conflict").contains("cannot be used with"));
}

impl Config {
    /// What a line of `causeway doctor` or `causeway health` has become, as Rust shows it.
    fn parsed(&self, line: &str, variables: &[(&str, &str)]) -> String {
        let file = self.0.path().join("causeway.toml").display().to_string();
        let words = ["causeway"].into_iter().chain(line.split(' '));
        let words: Vec<OsString> = words.map(|word| word.replace("FILE", &file).into()).collect();
        let value = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        format!("{:?}", parse_with(&words, &value).map(|line| line.cli))
    }
}

#[test]
fn the_doctor_and_health_ask_what_a_context_names_unless_the_line_says_otherwise() {
    let config = Config::new(FILE);
    let variables = [("CAUSEWAY_REGION", "http://v:1"), ("CAUSEWAY_TLS_CA", "variable.pem")];
    let own = [("CAUSEWAY_HEALTH_URL", "https://own:1"), ("CAUSEWAY_REGION", "http://v:1")];
    let (prod, us) = (r#"control: ["http://prod:1"]"#, r#"region: ["http://us-1:1", "http://us-2:1"]"#);
    for (line, variables, has) in [
        (
            "doctor --config FILE --context prod-us",
            &variables[..],
            vec![prod, us, "\"client-ca.pem\"", "\"ann.pem\""],
        ),
        ("doctor --config FILE", &[], vec![r#"control: ["http://client-control:1"]"#, "region: []"]),
        (
            "doctor --control http://a:1 --config FILE",
            &[],
            vec![r#"control: ["http://a:1"]"#, "region: []", "\"client-ca.pem\""],
        ),
        (
            "doctor --config FILE --context prod-us --region http://a:1",
            &[],
            vec!["control: []", r#"region: ["http://a:1"]"#, "\"ann.pem\""],
        ),
        ("doctor", &variables, vec!["control: []", r#"region: ["http://v:1"]"#, "\"variable.pem\""]),
        // One server is meant, unless a context is named.
        ("doctor control --database-url sqlite:c.db", &variables, vec!["control: [], region: []"]),
        ("doctor --config FILE --context prod-us control --database-url sqlite:c.db", &[], vec![prod, us]),
        (
            "health --config FILE --context prod-us",
            &variables,
            vec![r#"url: "http://us-1:1""#, "\"ann.pem\""],
        ),
        ("health --config FILE", &[], vec![r#"url: "http://client-control:1""#]),
        (
            "health https://a:1 --config FILE --context prod-us",
            &[],
            vec![r#"url: "https://a:1""#, "\"ann.pem\""],
        ),
        // Its variable is stronger than others, and weaker than what is on the line.
        ("health --config FILE", &own, vec![r#"url: "https://own:1""#]),
        ("health https://a:1", &own, vec![r#"url: "https://a:1""#]),
        ("health --config FILE --context prod-us", &own, vec![r#"url: "http://us-1:1""#, "\"ann.pem\""]),
        ("health --config FILE --context local", &own, vec![r#"url: "http://client-control:1""#]),
        ("health", &[("CAUSEWAY_HEALTH_URL", "own")], vec!["it must begin with http:// or https://"]),
        ("health --config FILE --context prod", &[], vec![r#"is "prod-us" meant?"#]),
        ("health", &[], vec!["MissingRequiredArgument"]),
    ] {
        let parsed = config.parsed(line, variables);
        for text in has {
            assert!(parsed.contains(text), "{line}: {text} is not in {parsed}");
        }
    }
}
