//! A client that knows nothing but the address: it learns services and messages by reflection, as grpcurl does, and
//! speaks JSON. What `docs/grpcurl.md` shows is held against the contract.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

use std::{collections::BTreeSet, process::Stdio};

use causeway_harness::cluster::{Cluster, Store};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

const DOCS: &str = include_str!("../docs/grpcurl.md");
const EXPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/acme.json");
const IMPORT_ID: &str = "2f6c1d0e-8a57-4f9a-9f10-6f3f6d1b7a55";
const REASONS: &str = "causeway.relocation.v1.ErrorReason";

const RESOLVE: &str = "causeway.control.v1.DirectoryService/ResolveSlug";
const RESERVATIONS: &str = "causeway.control.v1.SlugReservationService/ListSlugReservations";
const CONFIRM: &str = "causeway.control.v1.SlugReservationService/ConfirmOrganizationSlugReservations";
const LEASE: &str = "causeway.control.v1.RegionService/LeaseIds";
const GET_REGION: &str = "causeway.control.v1.RegionService/GetRegion";
const IMPORT: &str = "causeway.region.v1.ImportService/ImportOrganizations";
const GET: &str = "causeway.region.v1.ImportService/GetImport";
const LIST: &str = "causeway.region.v1.ImportService/ListImports";
const WATCH: &str = "causeway.region.v1.ImportService/WatchImport";
const FINDINGS: &str = "causeway.region.v1.ImportService/ListFindings";
const ORGANIZATION: &str = "causeway.region.v1.OrganizationService/GetOrganization";

/// Encodes and decodes messages whose types are known only while it runs.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Writer;
    type Decoder = Reader;

    fn encoder(&mut self) -> Writer {
        Writer
    }

    fn decoder(&mut self) -> Reader {
        Reader(self.0.clone())
    }
}

struct Writer;

impl Encoder for Writer {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

struct Reader(MessageDescriptor);

impl Decoder for Reader {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Asks a server about itself.
async fn ask(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection is served")
        .into_inner();
    let answer = answers.message().await.expect("it answers").expect("there is an answer");
    answer.message_response.expect("it is set")
}

/// Adds the files that answer a question, and those that they import.
async fn learn(
    channel: &Channel,
    question: MessageRequest,
    files: &mut Vec<prost_types::FileDescriptorProto>,
) {
    let mut open = vec![question];
    while let Some(question) = open.pop() {
        let MessageResponse::FileDescriptorResponse(answer) = ask(channel, question.clone()).await else {
            panic!("{question:?} is answered by something else")
        };
        for bytes in answer.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(bytes.as_slice()).expect("a descriptor");
            if files.iter().all(|known| known.name != file.name) {
                open.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                files.push(file);
            }
        }
    }
}

/// What a failed call says.
#[derive(Debug, PartialEq)]
struct Mistake {
    code: Code,
    reason: String,
}

/// A client of one address.
struct Client {
    channel: Channel,
    services: BTreeSet<String>,
    pool: DescriptorPool,
}

impl Client {
    /// Learns all that there is to know of a server.
    async fn meet(address: String) -> Self {
        let channel = Channel::from_shared(address).expect("an address").connect().await.expect("a server");
        let MessageResponse::ListServicesResponse(list) =
            ask(&channel, MessageRequest::ListServices(String::new())).await
        else {
            panic!("services are not listed")
        };
        let services: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
        let mut files = Vec::new();
        for symbol in services.iter().map(String::as_str).chain([REASONS]) {
            learn(&channel, MessageRequest::FileContainingSymbol(symbol.to_owned()), &mut files).await;
        }
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(files).expect("the files fit together");
        Self { channel, services, pool }
    }

    /// Calls a method, of whatever kind of streaming, and gives all answers as JSON.
    async fn call(&self, method: &str, requests: &[Value]) -> Result<Vec<Value>, Mistake> {
        let descriptor = method_of(&self.pool, method);
        let requests: Vec<DynamicMessage> =
            requests.iter().map(|request| message(descriptor.input(), request)).collect();
        let outcome = self.stream(method, descriptor.output(), requests).await;
        outcome.map_err(|status| {
            let details = status.get_error_details();
            let info = details.error_info().unwrap_or_else(|| panic!("{method}: no reason in {status:?}"));
            assert_eq!(info.domain, "causeway", "{method}: {status:?}");
            self.check_documented(&info.reason, status.code());
            Mistake { code: status.code(), reason: info.reason.clone() }
        })
    }

    async fn stream(
        &self,
        method: &str,
        output: MessageDescriptor,
        requests: Vec<DynamicMessage>,
    ) -> Result<Vec<Value>, Status> {
        let path = PathAndQuery::try_from(format!("/{method}")).expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("the server is there");
        let request = Request::new(tokio_stream::iter(requests));
        let mut answers = grpc.streaming(request, path, Dynamic(output)).await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            let options = SerializeOptions::new().skip_default_fields(true);
            all.push(answer.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON"));
        }
        Ok(all)
    }

    /// Calls a method with one request and one answer.
    async fn one(&self, method: &str, request: Value) -> Result<Value, Mistake> {
        let mut answers = self.call(method, &[request]).await?;
        assert_eq!(answers.len(), 1, "{method}: {answers:?}");
        Ok(answers.remove(0))
    }

    /// The contract, as the server itself tells it, says what the reason means and which code it comes with.
    fn check_documented(&self, reason: &str, code: Code) {
        let reasons = self.pool.get_enum_by_name(REASONS).expect("reasons are documented");
        let name = format!("ERROR_REASON_{reason}");
        let value = reasons.get_value_by_name(&name).unwrap_or_else(|| panic!("{name} is in no contract"));
        let file = reasons.parent_file();
        let source = file.file_descriptor_proto().source_code_info.as_ref().expect("comments are served");
        let comment = source
            .location
            .iter()
            .find(|location| location.path == value.path())
            .map(|location| location.leading_comments().trim().to_owned())
            .unwrap_or_default();
        let (named, text) = comment.split_once('.').unwrap_or_else(|| panic!("{name} has no comment"));
        assert_eq!(named.replace('_', "").to_lowercase(), format!("{code:?}").to_lowercase(), "{name}");
        assert!(text.len() > 10, "{name} is not explained");
    }
}

fn method_of(pool: &DescriptorPool, method: &str) -> MethodDescriptor {
    let (service, name) = method.split_once('/').unwrap_or_else(|| panic!("{method} is no method"));
    let service = pool.get_service_by_name(service).unwrap_or_else(|| panic!("no service {service}"));
    let method = service.methods().find(|method| method.name() == name);
    method.unwrap_or_else(|| panic!("{} has no {name}", service.full_name()))
}

/// Makes a message of proto3 JSON. Fields that it does not have are refused.
fn message(descriptor: MessageDescriptor, json: &Value) -> DynamicMessage {
    let name = descriptor.full_name().to_owned();
    DynamicMessage::deserialize(descriptor, json).unwrap_or_else(|error| panic!("{json} as {name}: {error}"))
}

/// A text in the fences of the documentation, with what stands behind the opening fence.
fn fences() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in DOCS.lines() {
        match (line.trim().strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

/// The messages of an upload, made by the shell function that the documentation shows.
async fn documented_messages(file: &str, id: &str) -> Vec<Value> {
    let (_, script) =
        fences().into_iter().find(|(_, text)| text.starts_with("messages()")).expect("the function is shown");
    let output = tokio::process::Command::new("sh")
        .args(["-c", &format!("{script}\nmessages \"$1\" \"$2\""), "sh", file, id])
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("there is a shell");
    assert!(output.status.success(), "the function fails");
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    messages.collect::<Result<_, _>>().expect("it makes JSON")
}

async fn import(client: &Client) -> Value {
    let messages = documented_messages(EXPORT, IMPORT_ID).await;
    assert!(messages.len() > 1);
    let begun = client.call(IMPORT, &messages).await.expect("the file is taken");
    assert_eq!(begun[0]["import"]["importId"], IMPORT_ID);
    let again = client.call(IMPORT, &messages).await.expect("the same again is no mistake");
    assert_eq!(again[0]["joined"], true);
    let seen = client.call(WATCH, &[json!({"importId": IMPORT_ID})]).await.expect("it can be watched");
    seen.last().expect("it was seen")["import"].clone()
}

async fn check_services(control: &Client, region: &Client) {
    for (client, names) in [
        (
            control,
            &["DirectoryService", "RegionService", "SlugReservationService", "ControlImportService"][..],
        ),
        (region, &["ImportService", "OrganizationService"]),
    ] {
        for name in names {
            let listed = client.services.iter().any(|service| service.ends_with(&format!(".{name}")));
            assert!(listed, "{name} is not in {:?}", client.services);
        }
        assert!(client.services.contains("grpc.health.v1.Health"), "{:?}", client.services);
    }
    let health = region.call("grpc.health.v1.Health/Check", &[json!({})]).await.expect("it answers");
    assert_eq!(health, [json!({"status": "SERVING"})]);
}

/// Pages of two hold the same as one page of all.
async fn check_pages(control: &Client) {
    let whole = control.one(RESERVATIONS, json!({"region": "us"})).await.expect("a list");
    let all = whole["reservations"].as_array().expect("a list").clone();
    assert_eq!(all.len(), 3, "{all:?}");
    let (mut paged, mut sizes, mut token) = (Vec::new(), Vec::new(), json!(""));
    loop {
        let request = json!({"region": "us", "pageSize": 2, "pageToken": token});
        let page = control.one(RESERVATIONS, request).await.expect("a page");
        let reservations = page["reservations"].as_array().expect("a list").clone();
        sizes.push(reservations.len());
        paged.extend(reservations);
        match page.get("nextPageToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    assert_eq!((paged, sizes), (all, vec![2, 1]));
}

async fn check_mistakes(control: &Client, region: &Client) {
    let other = json!({"header": {"importId": IMPORT_ID}});
    let no_id = json!({"header": {"importId": "7"}});
    let empty = json!({"data": "W10="});
    let unknown = "00000000-0000-4000-8000-000000000000";
    let token = |token: &str| json!({"pageSize": 2, "pageToken": token});
    for (client, method, requests, code, reason) in [
        (control, RESOLVE, vec![json!({"slug": "nobody"})], Code::NotFound, "SLUG_NOT_FOUND"),
        (control, RESERVATIONS, vec![token("x")], Code::InvalidArgument, "INVALID_PAGE_TOKEN"),
        (control, GET_REGION, vec![json!({"name": "atlantis"})], Code::NotFound, "REGION_NOT_FOUND"),
        (
            control,
            LEASE,
            vec![json!({"region": "us", "operationId": "7", "model": "sentry.project", "count": 1})],
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (
            control,
            LEASE,
            vec![
                json!({"region": "atlantis", "operationId": unknown, "model": "sentry.project", "count": 1}),
            ],
            Code::FailedPrecondition,
            "REGION_NOT_REGISTERED",
        ),
        (
            control,
            CONFIRM,
            vec![json!({"region": "us", "operationId": unknown})],
            Code::NotFound,
            "OPERATION_NOT_FOUND",
        ),
        (region, GET, vec![json!({"importId": "7"})], Code::InvalidArgument, "INVALID_ARGUMENT"),
        (region, GET, vec![json!({"importId": unknown})], Code::NotFound, "IMPORT_NOT_FOUND"),
        (region, WATCH, vec![json!({"importId": unknown})], Code::NotFound, "IMPORT_NOT_FOUND"),
        (region, FINDINGS, vec![json!({"importId": unknown})], Code::NotFound, "IMPORT_NOT_FOUND"),
        (region, LIST, vec![token("x")], Code::InvalidArgument, "INVALID_PAGE_TOKEN"),
        (region, ORGANIZATION, vec![json!({"id": "1234567"})], Code::NotFound, "ORGANIZATION_NOT_FOUND"),
        (region, ORGANIZATION, vec![json!({})], Code::InvalidArgument, "INVALID_ARGUMENT"),
        (region, IMPORT, vec![other, empty.clone()], Code::AlreadyExists, "IMPORT_CONTENT_DIFFERS"),
        (region, IMPORT, vec![no_id, empty.clone()], Code::InvalidArgument, "INVALID_ARGUMENT"),
        (region, IMPORT, vec![empty], Code::InvalidArgument, "UPLOAD_INVALID"),
    ] {
        let mistake = client.call(method, &requests).await.expect_err("it is a mistake");
        assert_eq!(mistake, Mistake { code, reason: reason.to_owned() }, "{method} {requests:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_knows_only_the_address_can_do_everything() {
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let control = Client::meet(cluster.control_url()).await;
    let region = Client::meet(cluster.region(0).url().to_owned()).await;
    check_services(&control, &region).await;

    let import = import(&region).await;
    assert_eq!(import["state"], "IMPORT_STATE_SUCCEEDED", "{import}");
    assert_eq!(import["organizationCount"], "3", "{import}");
    let found = region.one(FINDINGS, json!({"importId": IMPORT_ID, "kind": "FINDING_KIND_SLUG_CHANGED"}));
    let found = found.await.expect("a list");
    assert_eq!(found["findings"].as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(found["findings"][0]["model"], "sentry.organization", "{found}");

    // Without regard to case.
    for slug in ["acme", "ACME"] {
        let resolved = control.one(RESOLVE, json!({"slug": slug})).await.expect("somebody has it");
        assert_eq!(resolved["organization"]["slug"], "acme");
        assert_eq!(resolved["organization"]["region"], "us");
    }
    check_pages(&control).await;
    check_mistakes(&control, &region).await;
    drop((control, region));
    cluster.stop().await;
}

/// Every request and answer that the documentation shows is one.
#[test]
fn the_documentation_shows_messages_of_the_contract() {
    let pool = causeway_proto::json::pool();
    let (mut messages, mut calls) = (0, 0);
    for (info, text) in fences() {
        if let Some(name) = info.strip_prefix("json ") {
            let descriptor = pool.get_message_by_name(name).unwrap_or_else(|| panic!("no message {name}"));
            for json in serde_json::Deserializer::from_str(&text).into_iter() {
                message(descriptor.clone(), &json.unwrap_or_else(|error| panic!("{text}: {error}")));
                messages += 1;
            }
        }
        if info == "sh" {
            for command in text.replace("\\\n", " ").lines().filter(|line| line.contains("grpcurl ")) {
                calls += usize::from(check_command(&pool, command));
            }
        }
    }
    assert!(messages >= 4 && calls >= 5, "{messages} messages and {calls} calls");
}

/// Whether a line calls a method of the contract; then that method is there and takes the JSON of the line.
fn check_command(pool: &DescriptorPool, command: &str) -> bool {
    let Some(method) =
        command.split_whitespace().find(|word| word.starts_with("causeway.") && word.contains('/'))
    else {
        return false;
    };
    let method = method_of(pool, method);
    if let Some(data) = command.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()) {
        let json = serde_json::from_str(data).unwrap_or_else(|error| panic!("{command}: {error}"));
        message(method.input(), &json);
    }
    true
}
