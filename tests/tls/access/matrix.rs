//! Every role and every call: who may make it according to the services themselves.

use std::{collections::BTreeMap, sync::Arc};

use causeway_client::{Client, Service, Timeouts};
use causeway_harness::{
    cluster::{Cluster, ImportOptions},
    pki::Pki,
};
use causeway_proto::{
    access::Role as Allowed, failure::reason_of, region::v1::ImportState, relocation::v1::ErrorReason,
};
use causeway_tls::Role;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value};
use tonic::{Code, Status};

use super::reflected::{Reflected, outcome, refusal, set};
use crate::support::{Server, caller, example, two_regions};

/// The rule of a call, read from its option as a client reads it.
#[derive(Debug, Default)]
struct Rule {
    roles: Option<Vec<String>>,
    /// The field that binds a role, and what kind of thing it names.
    bound: BTreeMap<&'static str, String>,
}

fn rule(reflected: &Reflected, call: &MethodDescriptor) -> Option<Rule> {
    let option = reflected.pool.get_extension_by_name("causeway.access.v1.access")?;
    let options = call.options();
    if !options.has_extension(&option) {
        return None;
    }
    let access = options.get_extension(&option);
    let access = access.as_message().expect("a message");
    let field = |name: &str| access.get_field_by_name(name).expect("a field").into_owned();
    let roles = field("roles");
    let names = roles.as_list().expect("a list").iter().map(|role| {
        let number = role.as_enum_number().expect("an enum");
        Allowed::try_from(number).expect("a role").word()
    });
    let roles = (field("everyone").as_bool() == Some(false)).then(|| names.collect());
    let mut rule = Rule { roles, ..Rule::default() };
    for name in ["own_region", "own_organization", "own_import"] {
        let path = field(name).as_str().expect("a text").to_owned();
        if !path.is_empty() {
            rule.bound.insert(name, path);
        }
    }
    Some(rule)
}

/// Whether an outcome shows that a handler has looked at the request: it was answered, or refused for what it contains.
/// Whoever calls, a call may also fail because nothing serves it, by a defect, or because something does not answer.
fn is_let_in(outcome: &Result<(), Status>) -> bool {
    let Err(status) = outcome else { return true };
    !matches!(
        status.code(),
        Code::Unimplemented
            | Code::Internal
            | Code::Unknown
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}

/// Whether a rule checks what a caller with this role asks for.
fn binds(rule: &Rule, role: Role) -> bool {
    match role {
        Role::Region => rule.bound.contains_key("own_region") || rule.bound.contains_key("own_organization"),
        Role::Importer => rule.bound.contains_key("own_import"),
        _ => false,
    }
}

/// Two regions with an organization each, and what somebody owns and somebody else does not.
struct Fixture {
    pki: Arc<Pki>,
    cluster: Cluster,
    /// What is of region `us` and importer `ann`, by the name of the rule, and what is not.
    own: BTreeMap<&'static str, Value>,
    others: BTreeMap<&'static str, Value>,
}

impl Fixture {
    async fn start() -> Self {
        let (pki, cluster) = two_regions().await;
        let mut imports = Vec::new();
        for (region, importer) in [(0, "ann"), (0, "bob"), (1, "ann")] {
            let caller = caller(&pki, Role::Importer, importer);
            let import = cluster
                .region_as(region, &caller)
                .expect("a URL")
                .import(&example(), &ImportOptions::default())
                .await;
            let import = import.expect("it is taken");
            assert_eq!(import.state(), ImportState::Succeeded, "{import:?}");
            assert_eq!(import.begun_by, format!("spiffe://test.example/importer/{importer}"));
            imports.push(import);
        }
        let organization = |index: usize| Value::I64(imports[index].organizations[0].id);
        let import = |index: usize| Value::String(imports[index].import_id.clone());
        let region = |name: &str| Value::String(name.to_owned());
        Self {
            own: BTreeMap::from([
                ("own_region", region("us")),
                ("own_organization", organization(0)),
                ("own_import", import(0)),
            ]),
            others: BTreeMap::from([
                ("own_region", region("eu")),
                ("own_organization", organization(2)),
                ("own_import", import(1)),
            ]),
            pki,
            cluster,
        }
    }

    fn client(&self, service: Service, role: Role) -> Client {
        let name = if role == Role::Region { "us" } else { "ann" };
        let url = match service {
            Service::Control => self.cluster.control_url(),
            Service::Region => self.cluster.region(0).url().to_owned(),
        };
        let tls = Some(caller(&self.pki, role, name));
        Client::with_tls(service, &[url], Timeouts::default(), tls).expect("a URL")
    }
}

/// A request with these values at the paths of a rule.
fn request(call: &MethodDescriptor, rule: &Rule, values: &BTreeMap<&'static str, Value>) -> DynamicMessage {
    let mut request = DynamicMessage::new(call.input());
    for (name, path) in &rule.bound {
        set(&mut request, path, values[name].clone());
    }
    request
}

/// The paths of all fields of a message, and of the messages in it, that are called so.
fn paths_to(name: &str, message: &MessageDescriptor, seen: &mut Vec<String>) -> Vec<String> {
    let mut paths = Vec::new();
    if seen.iter().any(|outer| outer == message.full_name()) {
        return paths;
    }
    seen.push(message.full_name().to_owned());
    for field in message.fields() {
        if field.name() == name {
            paths.push(name.to_owned());
        }
        if let Kind::Message(inner) = field.kind() {
            let inner = paths_to(name, &inner, seen);
            paths.extend(inner.into_iter().map(|path| format!("{}.{path}", field.name())));
        }
    }
    seen.pop();
    paths
}

/// A field that names a region and is not bound would let a region speak for another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_that_names_a_region_is_bound_for_regions() {
    let server = Server::start().await;
    let urls = [server.running.url()];
    let tls = Some(caller(&server.pki, Role::Monitor, "eye"));
    let control = Client::with_tls(Service::Control, &urls, Timeouts::default(), tls).expect("a URL");
    let reflected = Reflected::of(&control).await;
    let mut checked = 0;
    for call in &reflected.calls {
        let Some(rule) = rule(&reflected, call) else { continue };
        if !rule.roles.as_ref().is_some_and(|roles| roles.iter().any(|role| role == Role::Region.as_str())) {
            continue;
        }
        // Where the organization must be the caller's own, a region beside it can only be the right one.
        if rule.bound.contains_key("own_organization") {
            continue;
        }
        let bound: Vec<String> = rule.bound.get("own_region").into_iter().cloned().collect();
        for path in paths_to("region", &call.input(), &mut Vec::new()) {
            assert!(bound.contains(&path), "{}: {path} is not bound: {rule:?}", call.full_name());
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} fields");
    server.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_open_to_the_roles_of_its_option_and_to_no_others() {
    let fixture = Fixture::start().await;
    let mut checked = 0;
    for service in [Service::Control, Service::Region] {
        let reflected = Reflected::of(&fixture.client(service, Role::Monitor)).await;
        for call in &reflected.calls {
            let rule = match rule(&reflected, call) {
                Some(rule) => rule,
                None if call.full_name().starts_with("grpc.") => Rule::default(),
                None => panic!("{} says nothing of who may make it", call.full_name()),
            };
            for role in Role::ALL {
                let client = fixture.client(service, role);
                let what = format!("{} by {role}", call.full_name());
                let own = outcome(&client, call, vec![request(call, &rule, &fixture.own)]).await;
                let allowed =
                    rule.roles.as_ref().is_none_or(|roles| roles.iter().any(|it| *it == role.as_str()));
                if !allowed {
                    let status = refusal(own).unwrap_or_else(|| panic!("{what} is let in"));
                    assert_eq!(reason_of(&status), Some(ErrorReason::RoleNotAllowed), "{what}: {status:?}");
                    let wanted = rule.roles.as_deref().unwrap_or_default().join(", ");
                    assert!(status.message().ends_with(&format!(": {wanted}")), "{what}: {status:?}");
                } else {
                    assert!(is_let_in(&own), "{what} is not answered as a call that is let in: {own:?}");
                }
                checked += 1;
                if !allowed || !binds(&rule, role) {
                    continue;
                }
                let reason = match role {
                    Role::Importer => ErrorReason::NotOwnImport,
                    _ => ErrorReason::NotOwnRegion,
                };
                let others = outcome(&client, call, vec![request(call, &rule, &fixture.others)]).await;
                let others =
                    refusal(others).unwrap_or_else(|| panic!("{what} is let in for what is not its own"));
                assert_eq!(reason_of(&others), Some(reason), "{what}: {others:?}");
                if role == Role::Region {
                    // A request that names nothing is not about its own either.
                    let nothing = outcome(&client, call, vec![DynamicMessage::new(call.input())]).await;
                    let nothing = refusal(nothing).unwrap_or_else(|| panic!("{what} is let in for nothing"));
                    assert_eq!(reason_of(&nothing), Some(reason), "{what}: {nothing:?}");
                }
            }
        }
    }
    assert!(checked > 250, "only {checked} pairs of role and call");
    fixture.cluster.stop().await;
}
