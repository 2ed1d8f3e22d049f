//! Who may make which call: the rules that the calls of the contract have as their option
//! `causeway.access.v1.access`.

use std::collections::HashMap;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DynamicMessage, MethodDescriptor};

pub use crate::access_v1::{Access, Role};
use crate::json::NoContract;

/// The option, by its full name.
const OPTION: &str = "causeway.access.v1.access";

/// Who may make a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The roles that may make it; `None` for everybody.
    pub roles: Option<Vec<Role>>,
    /// The field that must be the caller's own name, if it is a region.
    pub own_region: Option<FieldPath>,
    /// The field with the id of an organization that must be the caller's own, if it is a region.
    pub own_organization: Option<FieldPath>,
    /// The field with the id of an import that the caller must have begun, if it is an importer.
    pub own_import: Option<FieldPath>,
    /// What the call is to the limits on callers.
    pub kind: CallKind,
}

/// Calls that share a limit on their caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// It only reads, and one message answers it.
    Read,
    /// It changes something, with a request of one message.
    Write,
    /// It reads, and somebody who tries all values learns from the answers what exists.
    Question,
    /// It reads, and answers for as long as the caller listens.
    Stream,
    /// It changes something, with a request of many messages.
    Upload,
}

fn kind(call: &MethodDescriptor, access: &Access) -> CallKind {
    use prost_types::method_options::IdempotencyLevel;
    let options = call.method_descriptor_proto().options.as_ref();
    let level = options.map(prost_types::MethodOptions::idempotency_level).unwrap_or_default();
    match level {
        _ if call.is_client_streaming() => CallKind::Upload,
        IdempotencyLevel::NoSideEffects if call.is_server_streaming() => CallKind::Stream,
        IdempotencyLevel::NoSideEffects if access.question => CallKind::Question,
        IdempotencyLevel::NoSideEffects => CallKind::Read,
        IdempotencyLevel::Idempotent | IdempotencyLevel::IdempotencyUnknown => CallKind::Write,
    }
}

/// The way from a request to one of its fields: numbers of fields, with no list among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(Vec<u32>);

/// A value of a field, as it is in the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// The text of a field of type `string`.
    Text(&'a str),
    /// The number of a field of an integer type, such as an id.
    Number(i64),
}

/// The bytes of a message are not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no message")]
pub struct Malformed;

/// Why the rules cannot be read. The cause is always a defect of the build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRule {
    /// The contract itself cannot be read.
    #[error(transparent)]
    NoContract(#[from] NoContract),
    /// A call has no rule, or one of another form.
    #[error("the contract does not say who may call {0}")]
    OfCall(String),
}

impl FieldPath {
    /// The values that a message has for the field: the first, and the first other one if they differ. A
    /// message may repeat a field, and then the last value counts; so code that checks one value must check
    /// that there is no other. Empty if the message does not have the field: it has its default.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn values<'a>(&self, message: &'a [u8]) -> Result<Vec<FieldValue<'a>>, Malformed> {
        let mut values = Vec::new();
        collect(&self.0, message, &mut values)?;
        Ok(values)
    }
}

/// Adds a value that is not there yet, up to two: a request of 4 MiB may repeat a field two million times.
fn add<'a>(values: &mut Vec<FieldValue<'a>>, value: FieldValue<'a>) {
    if values.len() < 2 && !values.contains(&value) {
        values.push(value);
    }
}

/// Adds the values of the field at the end of `path`.
fn collect<'a>(
    path: &[u32],
    mut message: &'a [u8],
    values: &mut Vec<FieldValue<'a>>,
) -> Result<(), Malformed> {
    let Some((wanted, rest)) = path.split_first() else { return Ok(()) };
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).map_err(|_| Malformed)?;
        if number != *wanted {
            skip_field(wire_type, number, &mut message, DecodeContext::default()).map_err(|_| Malformed)?;
            continue;
        }
        match wire_type {
            WireType::Varint => {
                let value = decode_varint(&mut message).map_err(|_| Malformed)?;
                add(values, FieldValue::Number(value.cast_signed()));
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut message).map_err(|_| Malformed)?;
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                let (value, after) = message.split_at_checked(length).ok_or(Malformed)?;
                message = after;
                if rest.is_empty() {
                    add(values, FieldValue::Text(std::str::from_utf8(value).map_err(|_| Malformed)?));
                } else {
                    collect(rest, value, values)?;
                }
            }
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

/// The rules of all calls of the contract, by the path that HTTP has for a call, such as
/// `/causeway.control.v1.RegionService/LeaseIds`.
///
/// # Errors
/// If the contract cannot be read, or a call has no rule, which the build does not let through.
pub fn rules() -> Result<HashMap<String, Rule>, NoRule> {
    let pool = crate::json::pool()?;
    let calls = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    calls
        .map(|call| {
            let path = format!("/{}/{}", call.parent_service().full_name(), call.name());
            let rule = rule(&call).ok_or_else(|| NoRule::OfCall(call.full_name().to_owned()))?;
            Ok((path, rule))
        })
        .collect()
}

/// The rule of one call; `None` if it has none, or one of another form.
#[must_use]
pub fn rule(call: &MethodDescriptor) -> Option<Rule> {
    let option = call.parent_pool().get_extension_by_name(OPTION)?;
    let options = call.options();
    if !options.has_extension(&option) {
        return None;
    }
    let value = options.get_extension(&option);
    let access: Access =
        value.as_message().and_then(|message: &DynamicMessage| message.transcode_to().ok())?;
    let path = |names: &str| if names.is_empty() { Some(None) } else { field_path(call, names).map(Some) };
    Some(Rule {
        roles: if access.everyone { None } else { Some(access.roles().collect()) },
        own_region: path(&access.own_region)?,
        own_organization: path(&access.own_organization)?,
        own_import: path(&access.own_import)?,
        kind: kind(call, &access),
    })
}

fn field_path(call: &MethodDescriptor, names: &str) -> Option<FieldPath> {
    let mut message = Some(call.input());
    let mut numbers = Vec::new();
    for name in names.split('.') {
        let field = message.take()?.get_field_by_name(name)?;
        message = field.kind().as_message().cloned();
        numbers.push(field.number());
    }
    Some(FieldPath(numbers))
}

impl Role {
    /// The role as it is written in the URI of a certificate, e.g. `region`.
    #[must_use]
    pub fn word(self) -> String {
        let name = self.as_str_name();
        name.strip_prefix("ROLE_").unwrap_or(name).to_lowercase()
    }
}

impl Rule {
    /// The roles that may make the call, in words, for the one who may not.
    #[must_use]
    pub fn roles_in_words(&self) -> String {
        let words: Vec<String> = self.roles.iter().flatten().map(|role| role.word()).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        control::v1::{LeaseIdsRequest, UpdateOrganizationSlugRequest},
        region::v1::{ImportHeader, ImportOrganizationsRequest, import_organizations_request::Part},
    };

    fn rule_of(path: &str) -> Rule {
        rules().expect("every call has a rule").remove(path).expect("the call exists")
    }

    #[test]
    fn a_rule_is_what_the_contract_says() {
        let rule = rule_of("/causeway.control.v1.SlugReservationService/UpdateOrganizationSlug");
        assert_eq!(rule.roles, Some(vec![Role::Region, Role::Operator]));
        assert_eq!(rule.own_organization, Some(FieldPath(vec![1])));
        assert_eq!((rule.own_region, rule.own_import), (None, None));
        let rule = rule_of("/causeway.region.v1.ImportService/ImportOrganizations");
        assert_eq!(rule.own_import, Some(FieldPath(vec![1, 1])));
        let rule = rule_of("/causeway.relocation.v1.VersionService/GetVersion");
        assert_eq!((rule.roles, rule.kind), (None, CallKind::Read));
        for (call, kind) in [
            ("ControlImportService/FindRows", CallKind::Question),
            ("DirectoryService/CheckSlugs", CallKind::Question),
            ("RegionService/LeaseIds", CallKind::Write),
            ("SlugReservationService/BulkCreateOrganizationSlugReservations", CallKind::Upload),
            ("SlugReservationService/WatchSlugReservations", CallKind::Stream),
        ] {
            assert_eq!(rule_of(&format!("/causeway.control.v1.{call}")).kind, kind, "{call}");
        }
    }

    /// The end of docs/access.md: every call, who may make it, and what it must name.
    fn table() -> String {
        let mut lines =
            vec!["| call | who may make it | what is bound |".to_owned(), "| --- | --- | --- |".to_owned()];
        let pool = crate::json::pool().expect("the contract can be read");
        let option = pool.get_extension_by_name(OPTION).expect("it is there");
        for call in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let rule = rule(&call).expect("every call has a rule");
            let options = call.options();
            let access = options.get_extension(&option);
            let path = |name: &str| {
                let value = access.as_message().expect("a message").get_field_by_name(name).expect("a field");
                value.as_str().expect("a text").to_owned()
            };
            let bound = [
                ("own_region", "the region itself"),
                ("own_organization", "an organization of the region"),
                ("own_import", "an import of the importer"),
            ];
            let bound: Vec<String> = bound
                .into_iter()
                .filter(|(name, _)| !path(name).is_empty())
                .map(|(name, what)| format!("`{}`: {what}", path(name)))
                .collect();
            let who = if rule.roles.is_none() { "everybody".to_owned() } else { rule.roles_in_words() };
            let service = call.parent_service().full_name().trim_start_matches("causeway.").to_owned();
            lines.push(format!("| `{service}/{}` | {who} | {} |", call.name(), bound.join(", ")));
        }
        lines.push("| health and reflection | everybody |  |\n".to_owned());
        lines.join("\n")
    }

    #[test]
    fn the_page_about_access_lists_every_call() {
        const HEADING: &str = "## All calls\n\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access.md");
        let page = std::fs::read_to_string(path).expect("the page is there");
        let (before, _) = page.split_once(HEADING).expect("it has the heading");
        let wanted = format!("{before}{HEADING}{}", table());
        if std::env::var_os("CAUSEWAY_BLESS").is_some() {
            std::fs::write(path, &wanted).expect("it can be written");
        }
        let page = std::fs::read_to_string(path).expect("the page is there");
        assert_eq!(
            page, wanted,
            "docs/access.md is out of date; CAUSEWAY_BLESS=1 cargo test -p causeway-proto --lib access brings it up to date"
        );
    }

    #[test]
    fn a_field_that_names_a_region_is_bound_to_the_caller() {
        // A request with a region that no rule checks would let one region act for another one.
        let pool = crate::json::pool().expect("the contract can be read");
        for call in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let rule = rule(&call).expect("every call has a rule");
            let by_region = rule.roles.as_ref().is_some_and(|roles| roles.contains(&Role::Region));
            if by_region && call.input().get_field_by_name("region").is_some() {
                assert!(rule.own_region.is_some() || rule.own_organization.is_some(), "{}", call.full_name());
            }
        }
    }

    #[test]
    fn the_values_of_a_field_are_found_in_the_bytes() {
        let path = rule_of("/causeway.control.v1.RegionService/LeaseIds").own_region.expect("bound");
        let request = LeaseIdsRequest { region: "us".to_owned(), count: 7, ..LeaseIdsRequest::default() };
        let mut bytes = request.encode_to_vec();
        assert_eq!(path.values(&bytes), Ok(vec![FieldValue::Text("us")]));
        // A field that comes twice has its last value: both must be seen.
        bytes.extend(
            LeaseIdsRequest { region: "eu".to_owned(), ..LeaseIdsRequest::default() }.encode_to_vec(),
        );
        assert_eq!(path.values(&bytes), Ok(vec![FieldValue::Text("us"), FieldValue::Text("eu")]));
        assert_eq!(path.values(&[]), Ok(Vec::new()));
        for broken in [&[0x0a, 0x05, b'u'][..], &[0x0a], &[0x0a, 0x01, 0xff], &[0x0d, 1, 2, 3, 4]] {
            assert_eq!(path.values(broken), Err(Malformed), "{broken:?}");
        }
    }

    #[test]
    fn the_values_of_a_field_inside_another_are_found() {
        let path =
            rule_of("/causeway.region.v1.ImportService/ImportOrganizations").own_import.expect("bound");
        let header = ImportHeader { import_id: "a".to_owned(), ..ImportHeader::default() };
        let bytes = ImportOrganizationsRequest { part: Some(Part::Header(header)) }.encode_to_vec();
        assert_eq!(path.values(&bytes), Ok(vec![FieldValue::Text("a")]));
        let bytes = ImportOrganizationsRequest { part: Some(Part::Data(vec![1, 2, 3])) }.encode_to_vec();
        assert_eq!(path.values(&bytes), Ok(Vec::new()));
    }

    #[test]
    fn a_number_is_found() {
        let path = rule_of("/causeway.control.v1.SlugReservationService/UpdateOrganizationSlug");
        let path = path.own_organization.expect("bound");
        for id in [7, -1, i64::MAX] {
            let request = UpdateOrganizationSlugRequest { organization_id: id, ..Default::default() };
            assert_eq!(path.values(&request.encode_to_vec()), Ok(vec![FieldValue::Number(id)]));
        }
    }
}
