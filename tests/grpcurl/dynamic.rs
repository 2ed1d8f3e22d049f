//! A client that learns services and messages by reflection, and speaks JSON.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
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

const REASONS: &str = "causeway.relocation.v1.ErrorReason";

/// Encodes and decodes messages with types that are known only at run time.
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

/// Sends a server one reflection request.
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

/// Adds the files that answer a reflection request, and the files that they import.
async fn learn(
    channel: &Channel,
    question: MessageRequest,
    files: &mut Vec<prost_types::FileDescriptorProto>,
) {
    let mut open = vec![question];
    while let Some(question) = open.pop() {
        let MessageResponse::FileDescriptorResponse(answer) = ask(channel, question.clone()).await else {
            panic!("{question:?} got another kind of answer")
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

/// The status of a failed call.
#[derive(Debug, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The reasons that any call may give, according to the comment of `ErrorReason`.
const OF_ANY_CALL: [&str; 5] =
    ["DATABASE_UNAVAILABLE", "DATABASE_CONTENTION", "DATABASE_FULL", "SHUTTING_DOWN", "INTERNAL"];

/// A client of the server at one address.
pub(crate) struct Client {
    channel: Channel,
    pub(crate) services: BTreeSet<String>,
    pub(crate) pool: DescriptorPool,
}

impl Client {
    /// Connects to a server and loads all its services and messages by reflection.
    pub(crate) async fn meet(address: &str) -> Self {
        let channel =
            Channel::from_shared(address.to_owned()).expect("an address").connect().await.expect("a server");
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

    /// Whether the comment of a method lists a reason, or any call may give it.
    pub(crate) fn lists(&self, method: &str, reason: &str) -> bool {
        let (service, name) = method.split_once('/').expect("a service and a method");
        let service = self.pool.get_service_by_name(service).expect("it is known");
        let method = service.methods().find(|method| method.name() == name).expect("it is known");
        let file = service.parent_file();
        let info = file.file_descriptor_proto().source_code_info.as_ref().expect("comments are served");
        let location = info.location.iter().find(|location| location.path == method.path());
        let comment = location.expect("it is in the file").leading_comments();
        let (_, reasons) = comment.split_once("Reasons:").expect("it lists its reasons");
        let mut words = reasons.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        words.any(|word| word == reason) || OF_ANY_CALL.contains(&reason)
    }

    /// Calls a method with any kind of streaming, and returns all answers as JSON.
    pub(crate) async fn call(&self, method: &str, requests: &[Value]) -> Result<Vec<Value>, Mistake> {
        self.call_for(method, requests, usize::MAX).await
    }

    /// Like [`call`](Self::call), but disconnects after this many answers.
    pub(crate) async fn call_for(
        &self,
        method: &str,
        requests: &[Value],
        most: usize,
    ) -> Result<Vec<Value>, Mistake> {
        let descriptor = method_of(&self.pool, method);
        let requests: Vec<DynamicMessage> =
            requests.iter().map(|request| message(descriptor.input(), request)).collect();
        let outcome = self.stream(method, descriptor.output(), requests, most).await;
        outcome.map_err(|status| {
            let details = status.get_error_details();
            let info = details.error_info().unwrap_or_else(|| panic!("{method}: no reason in {status:?}"));
            assert_eq!(info.domain, "causeway", "{method}: {status:?}");
            assert_eq!(self.documented(&info.reason), status.code(), "{}", info.reason);
            Mistake { code: status.code(), reason: info.reason.clone(), message: status.message().to_owned() }
        })
    }

    async fn stream(
        &self,
        method: &str,
        output: MessageDescriptor,
        requests: Vec<DynamicMessage>,
        most: usize,
    ) -> Result<Vec<Value>, Status> {
        let path = PathAndQuery::try_from(format!("/{method}")).expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.expect("the server is there");
        let request = Request::new(tokio_stream::iter(requests));
        let mut answers = grpc.streaming(request, path, Dynamic(output)).await?.into_inner();
        let mut all = Vec::new();
        while all.len() < most
            && let Some(answer) = answers.message().await?
        {
            let options = SerializeOptions::new().skip_default_fields(true);
            all.push(answer.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON"));
        }
        Ok(all)
    }

    /// Calls a method with one request and one answer.
    pub(crate) async fn one(&self, method: &str, request: Value) -> Result<Value, Mistake> {
        let mut answers = self.call(method, &[request]).await?;
        assert_eq!(answers.len(), 1, "{method}: {answers:?}");
        Ok(answers.remove(0))
    }

    /// Whether the server can describe this service, method, message or enum.
    pub(crate) async fn describes(&self, symbol: &str) -> bool {
        let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
        matches!(ask(&self.channel, question).await, MessageResponse::FileDescriptorResponse(_))
    }

    /// All reasons of the contract, without their prefix.
    pub(crate) fn reasons(&self) -> BTreeSet<String> {
        let reasons = self.pool.get_enum_by_name(REASONS).expect("reasons are documented");
        let name = |value: prost_reflect::EnumValueDescriptor| {
            value.name().strip_prefix("ERROR_REASON_").expect("the prefix of all").to_owned()
        };
        reasons.values().skip(1).map(name).collect()
    }

    /// The status code of a reason according to the contract, which the server itself provides. The contract must also
    /// explain the reason.
    pub(crate) fn documented(&self, reason: &str) -> Code {
        let reasons = self.pool.get_enum_by_name(REASONS).expect("reasons are documented");
        let name = format!("ERROR_REASON_{reason}");
        let value = reasons.get_value_by_name(&name).unwrap_or_else(|| panic!("the contract has no {name}"));
        let file = reasons.parent_file();
        let source = file.file_descriptor_proto().source_code_info.as_ref().expect("comments are served");
        let comment = source
            .location
            .iter()
            .find(|location| location.path == value.path())
            .map(|location| location.leading_comments().trim().to_owned())
            .unwrap_or_default();
        let (named, text) = comment.split_once('.').unwrap_or_else(|| panic!("{name} has no comment"));
        assert!(text.len() > 10, "{name} is not explained");
        let named = named.strip_suffix(", retry").unwrap_or(named);
        let plain = |code: &str| code.replace('_', "").to_lowercase();
        (1..=16)
            .map(Code::from)
            .find(|code| plain(&format!("{code:?}")) == plain(named))
            .unwrap_or_else(|| panic!("{name}: {named} is not a code"))
    }
}

pub(crate) fn method_of(pool: &DescriptorPool, method: &str) -> MethodDescriptor {
    let (service, name) = method.split_once('/').unwrap_or_else(|| panic!("{method} is not a method"));
    let service = pool.get_service_by_name(service).unwrap_or_else(|| panic!("no service {service}"));
    let method = service.methods().find(|method| method.name() == name);
    method.unwrap_or_else(|| panic!("{} has no {name}", service.full_name()))
}

/// Makes a message from proto3 JSON. Panics if the JSON has a field that the message does not have.
pub(crate) fn message(descriptor: MessageDescriptor, json: &Value) -> DynamicMessage {
    let name = descriptor.full_name().to_owned();
    DynamicMessage::deserialize(descriptor, json).unwrap_or_else(|error| panic!("{json} as {name}: {error}"))
}
