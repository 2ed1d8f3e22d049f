//! The calls of control that write for a region, as the contract has them.

use causeway_proto::{
    control::v1::OrganizationSlugRequest, failure::reason_of, json, relocation::v1::ErrorReason,
    whole::OrganizationDigest,
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use prost_types::method_options::IdempotencyLevel;
use serde_json::{Value, json};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use crate::support::operation;

/// What operators decide about a region. It goes on while the region is suspended.
const OF_OPERATORS: [&str; 5] =
    ["AddRegion", "RemoveRegion", "SuspendRegion", "ResumeRegion", "TakeOverRegion"];

/// Encodes and decodes messages whose types are known only at run time.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
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

/// A call that writes for the region `us`, with a request that control would do.
pub(crate) struct WritingCall {
    /// Its name in the contract, without the service.
    pub(crate) name: String,
    path: PathAndQuery,
    answer: MessageDescriptor,
    messages: Vec<DynamicMessage>,
}

impl WritingCall {
    /// Makes the call, and returns the reason of its failure.
    pub(crate) async fn make(&self, channel: Channel) -> Result<(), Option<ErrorReason>> {
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.expect("the server is there");
        let request = Request::new(tokio_stream::iter(self.messages.clone()));
        let codec = Dynamic(self.answer.clone());
        let called = async {
            let mut answers = grpc.streaming(request, self.path.clone(), codec).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        };
        called.await.map_err(|status: Status| reason_of(&status))
    }
}

/// Requests for the region `us`, which has the organization 1 with the slug `acme`, operation 1, and a chunk of the
/// import 1.
fn requests(name: &str) -> Vec<Value> {
    let us = |mut request: Value| {
        request["region"] = "us".into();
        vec![request]
    };
    let (before, new) = (operation(1).to_string(), operation(77).to_string());
    let wanted = json!({"organizationId": "77", "slug": "later"});
    match name {
        "RegisterRegion" => {
            let instance = operation(1000).to_string();
            vec![json!({"name": "us", "address": "https://us.example.com", "instanceId": instance})]
        }
        "LeaseIds" => us(json!({"operationId": new, "model": "sentry.team", "count": 1})),
        "BulkCreateOrganizationSlugReservations" => {
            let mut sent = OrganizationDigest::default();
            let slug = "later".to_owned();
            sent.add(&[OrganizationSlugRequest { organization_id: 77, slug, ..Default::default() }]);
            let end = sent.end();
            vec![
                json!({"header": {"region": "us", "operationId": new}}),
                json!({"batch": {"requests": [wanted]}}),
                json!({"end": {"organizationCount": "1", "sha256": end.sha256}}),
            ]
        }
        "CreateOrganizationSlugReservation" => us(json!({"operationId": new, "organization": wanted})),
        "ConfirmOrganizationSlugReservations" | "ReleaseOrganizationSlugReservations" => {
            us(json!({"operationId": before}))
        }
        "ReleaseOrganizations" => us(json!({"organizationIds": ["1"]})),
        "UpdateOrganizationSlug" => {
            vec![json!({"operationId": new, "organizationId": "1", "desiredSlug": "later", "wait": "0s"})]
        }
        "ReleaseSlugAlias" => vec![json!({"organizationId": "1", "slug": "acme"})],
        "ReportOrganizations" => {
            let organization = json!({"organizationId": "1", "slug": "acme", "name": "Acme", "status": "ORGANIZATION_STATUS_ACTIVE"});
            us(json!({"organizations": [organization]}))
        }
        "ReportImports" => us(json!({"version": "0.1.0"})),
        "ReportComparison" => us(json!({"compareTime": "2026-01-01T00:00:00Z"})),
        "PlanImport" => us(json!({"importId": new})),
        "ImportModels" => {
            let fields =
                json!({"email": "new@example.com", "date_added": "2026-01-01T00:00:00Z"}).to_string();
            us(json!({
                "importId": new, "model": "sentry.email", "minOrdinal": "1", "maxOrdinal": "1",
                "records": [{"ordinal": "1", "sourcePk": "1", "fieldsJson": fields}],
            }))
        }
        "RevertImport" => us(json!({"importId": before})),
        "RevertImportChunk" => us(json!({"importId": before, "model": "sentry.email", "minOrdinal": "1"})),
        other => panic!(
            "{other} writes: if it names a region, or changes what a region has, it must be refused while that region is \
             suspended. Add a request of it here"
        ),
    }
}

fn message(descriptor: MessageDescriptor, request: &Value) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor, request).unwrap_or_else(|error| panic!("{request}: {error}"))
}

fn writes(method: &MethodDescriptor) -> bool {
    let level = method.method_descriptor_proto().options.as_ref().map(|it| it.idempotency_level());
    level != Some(IdempotencyLevel::NoSideEffects) && !OF_OPERATORS.contains(&method.name())
}

/// All calls of control that write for a region.
pub(crate) fn writing_calls() -> Vec<WritingCall> {
    let pool = json::pool().expect("the contract can be read");
    let services = pool.services().filter(|service| service.package_name() == "causeway.control.v1");
    let methods: Vec<MethodDescriptor> =
        services.flat_map(|service| service.methods().filter(writes).collect::<Vec<_>>()).collect();
    assert!(methods.len() > 10, "{methods:?}");
    let call = |method: &MethodDescriptor| WritingCall {
        name: method.name().to_owned(),
        path: format!("/{}/{}", method.parent_service().full_name(), method.name()).parse().expect("a path"),
        answer: method.output(),
        messages: requests(method.name()).iter().map(|request| message(method.input(), request)).collect(),
    };
    methods.iter().map(call).collect()
}
