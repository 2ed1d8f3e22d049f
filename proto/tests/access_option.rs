//! What the build refuses: a call that does not define who may make it, or defines what no caller can meet.

#![expect(clippy::expect_used, reason = "all of this is test code, the helpers too")]

#[path = "../../build-access.rs"]
mod build_access;

use std::{fs, path::Path};

use build_access::check_access;
use tempfile::TempDir;

/// A contract of one call, whose access option is this text of the proto language. Returns why it is refused.
fn refusal(option: &str) -> Option<String> {
    let directory = TempDir::new().expect("a directory");
    let text = format!(
        r#"
        syntax = "proto3";
        package test.v1;
        import "causeway/access/v1/access.proto";
        service Things {{ rpc Make(MakeRequest) returns (MakeResponse) {{ {option} }} }}
        message Header {{ string region = 1; int64 number = 2; }}
        message MakeRequest {{
          Header header = 1;
          repeated Header headers = 2;
          string region = 3;
          int64 organization_id = 4;
          map<string, Header> by_name = 5;
        }}
        message MakeResponse {{}}
        "#
    );
    fs::write(directory.path().join("test.proto"), text).expect("it is written");
    let contract = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler =
        protox::Compiler::new([directory.path(), contract]).expect("the directories are there");
    compiler.include_imports(true).open_files(["test.proto"]).expect("it is a contract");
    check_access(&compiler.descriptor_pool()).err().map(|error| error.to_string())
}

/// The same with these fields of the option.
fn refusal_of_rule(fields: &str) -> Option<String> {
    refusal(&format!("option (causeway.access.v1.access) = {{ {fields} }};"))
}

#[test]
fn a_call_without_a_rule_does_not_compile() {
    assert_eq!(
        refusal("").as_deref(),
        Some("test.v1.Things.Make: the option causeway.access.v1.access is missing")
    );
    assert_eq!(
        refusal("option idempotency_level = NO_SIDE_EFFECTS;").as_deref(),
        Some("test.v1.Things.Make: the option causeway.access.v1.access is missing")
    );
}

#[test]
fn a_rule_is_for_roles_or_for_everyone() {
    for fields in ["", "roles: [ROLE_REGION] everyone: true", "own_region: \"region\"", "everyone: false"] {
        assert_eq!(
            refusal_of_rule(fields).as_deref(),
            Some("test.v1.Things.Make: the rule must have either roles or everyone"),
            "{fields}"
        );
    }
    for fields in ["roles: [ROLE_REGION]", "roles: [ROLE_REGION, ROLE_OPERATOR]", "everyone: true"] {
        assert_eq!(refusal_of_rule(fields), None, "{fields}");
    }
}

#[test]
fn a_path_leads_to_one_field_of_the_request_of_the_right_type() {
    for path in ["own_region: \"region\"", "own_region: \"header.region\"", "own_import: \"region\""] {
        assert_eq!(refusal_of_rule(&format!("roles: [ROLE_REGION] {path}")), None, "{path}");
    }
    let organization = "own_organization: \"organization_id\"";
    assert_eq!(refusal_of_rule(&format!("roles: [ROLE_REGION] {organization}")), None);
    for (path, why) in [
        ("own_region: \"absent\"", "is not a field of the request"),
        ("own_region: \"header.absent\"", "is not a field of the request"),
        ("own_region: \"region.name\"", "goes on after a field that is not a message"),
        ("own_region: \"headers.region\"", "goes through a list"),
        ("own_region: \"by_name.region\"", "goes through a list"),
        ("own_region: \"header\"", "has another type"),
        ("own_region: \"organization_id\"", "has another type"),
        ("own_organization: \"region\"", "has another type"),
        ("own_import: \"header.number\"", "has another type"),
    ] {
        let refused = refusal_of_rule(&format!("roles: [ROLE_REGION] {path}"));
        let refused = refused.unwrap_or_else(|| format!("{path} is accepted"));
        assert!(refused.starts_with("test.v1.Things.Make: own_") && refused.ends_with(why), "{refused}");
    }
}
