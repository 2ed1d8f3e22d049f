//! A client that knows a service by its reflection only.

use std::{collections::BTreeSet, time::Duration};

use causeway_client::Client;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use prost_types::FileDescriptorProto;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::LIMIT;

/// How long a stream that has begun may take to fail. One that has not failed in this time goes on.
const GOES_ON_AFTER: Duration = Duration::from_millis(300);

/// Reads and writes messages of types that are known at run time only.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// What a service reports about itself.
pub(crate) struct Reflected {
    pub(crate) pool: DescriptorPool,
    pub(crate) calls: Vec<MethodDescriptor>,
}

async fn answer(channel: Channel, asked: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("it is served");
    let answer = answers.into_inner().message().await.expect("an answer").expect("one answer");
    answer.message_response.expect("it says something")
}

impl Reflected {
    /// Asks a service for its services and their types.
    pub(crate) async fn of(client: &Client) -> Self {
        let asked = MessageRequest::ListServices(String::new());
        let MessageResponse::ListServicesResponse(list) = answer(client.channel(), asked).await else {
            panic!("no list of services");
        };
        let mut files: Vec<Vec<u8>> = Vec::new();
        let mut names = BTreeSet::new();
        for service in &list.service {
            let asked = MessageRequest::FileContainingSymbol(service.name.clone());
            let MessageResponse::FileDescriptorResponse(found) = answer(client.channel(), asked).await else {
                panic!("{} has no file", service.name);
            };
            for file in found.file_descriptor_proto {
                let name = FileDescriptorProto::decode(file.as_slice()).expect("a file").name().to_owned();
                if names.insert(name) {
                    files.push(file);
                }
            }
        }
        // The encoded files as a set: field 1, again and again. Decoding them one by one would lose the options.
        let mut set = Vec::new();
        for file in &files {
            prost::encoding::bytes::encode(1, file, &mut set);
        }
        let pool = DescriptorPool::decode(set.as_slice()).expect("the files are whole");
        let services =
            list.service.iter().map(|it| pool.get_service_by_name(&it.name).expect("it is in its file"));
        let calls = services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        Self { pool, calls }
    }
}

/// Sets the field at the end of a path to a value.
pub(crate) fn set(message: &mut DynamicMessage, path: &str, value: Value) {
    match path.split_once('.') {
        None => message.set_field_by_name(path, value),
        Some((first, rest)) => {
            let inner =
                message.get_field_by_name_mut(first).expect("a field").as_message_mut().expect("a message");
            set(inner, rest, value);
        }
    }
}

/// Makes a call of any kind with these messages. Returns the status with which it fails, if it does. A stream that begins
/// and goes on has not failed, but an answer that does not begin has.
pub(crate) async fn outcome(
    client: &Client,
    call: &MethodDescriptor,
    messages: Vec<DynamicMessage>,
) -> Result<(), Status> {
    let path = format!("/{}/{}", call.parent_service().full_name(), call.name());
    let path = path.parse().expect("a path");
    let mut grpc = Grpc::new(client.channel());
    grpc.ready().await.expect("it is connected");
    let late = |_| Status::deadline_exceeded("there is no answer");
    let request = Request::new(tokio_stream::iter(messages));
    let begun = timeout(LIMIT, grpc.streaming(request, path, Dynamic(call.output()))).await;
    let mut answers = begun.map_err(late)??.into_inner();
    let answer = if call.is_server_streaming() {
        // A stream without an end sends nothing if there is nothing to report.
        timeout(GOES_ON_AFTER, answers.next()).await.unwrap_or(None)
    } else {
        timeout(LIMIT, answers.next()).await.map_err(late)?
    };
    answer.transpose().map(|_| ())
}

/// The status, if it refuses a call for what its caller is.
pub(crate) fn refusal(outcome: Result<(), Status>) -> Option<Status> {
    outcome.err().filter(|status| matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated))
}
