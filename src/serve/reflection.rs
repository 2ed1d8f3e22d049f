//! Server reflection: the contract and its options, for clients that do not have the `.proto` files. It answers for the
//! services that are served. The one of tonic leaves out options that it does not know, such as who may make a call.

use std::sync::Arc;

use anyhow::Context as _;
use causeway_proto::failure::shown;
use futures::{Stream, StreamExt as _};
use prost_reflect::{DescriptorPool, FileDescriptor};
use tonic::{Code, Request, Response, Status, Streaming, codegen::BoxStream, service::RoutesBuilder};
use tonic_reflection::pb::{v1, v1alpha};

/// What there is to reflect.
#[derive(Debug)]
struct Reflected {
    pool: DescriptorPool,
    /// The full names of the services that are served, sorted.
    services: Vec<String>,
}

/// An answer, in whichever version of the protocol it is sent.
enum Answer {
    /// A file and all that it imports, encoded.
    Files(Vec<Vec<u8>>),
    /// A type, and the numbers of its extensions.
    Numbers(String, Vec<i32>),
    Services(Vec<String>),
    NotFound(String),
}

/// A file, and the files that it imports: a client needs them all.
fn with_imports(file: FileDescriptor) -> Answer {
    let mut files = vec![file];
    let mut at = 0;
    while let Some(file) = files.get(at) {
        let imports: Vec<FileDescriptor> = file.dependencies().filter(|it| !files.contains(it)).collect();
        files.extend(imports);
        at += 1;
    }
    Answer::Files(files.iter().map(FileDescriptor::encode_to_vec).collect())
}

impl Reflected {
    fn new(services: &[&str]) -> anyhow::Result<Self> {
        let mut pool = causeway_proto::json::pool()?;
        for set in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            // The types of error details, so that a client without the .proto files can show reasons.
            tonic_types::pb::FILE_DESCRIPTOR_SET,
            v1::FILE_DESCRIPTOR_SET,
            v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let set = DescriptorPool::decode(set).context("a descriptor set cannot be read")?;
            let new =
                set.file_descriptor_protos().filter(|file| pool.get_file_by_name(file.name()).is_none());
            let new: Vec<_> = new.cloned().collect();
            pool.add_file_descriptor_protos(new).context("descriptor sets contradict each other")?;
        }
        let own = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ];
        let mut services: Vec<String> = services.iter().chain(&own).map(|name| (*name).to_owned()).collect();
        services.sort();
        Ok(Self { pool, services })
    }

    fn file(&self, name: &str) -> Answer {
        match self.pool.get_file_by_name(name) {
            Some(file) => with_imports(file),
            None => Answer::NotFound(format!("there is no file {}", shown(name))),
        }
    }

    /// The file that defines a service, a call, a message, a field, an enum, a value or an extension.
    fn symbol(&self, name: &str) -> Answer {
        let name = name.trim_start_matches('.');
        let pool = &self.pool;
        let of_name = |name: &str| {
            let service = || pool.get_service_by_name(name).map(|it| it.parent_file());
            let message = || pool.get_message_by_name(name).map(|it| it.parent_file());
            let values = || pool.get_enum_by_name(name).map(|it| it.parent_file());
            let extension = || pool.get_extension_by_name(name).map(|it| it.parent_file());
            service().or_else(message).or_else(values).or_else(extension)
        };
        let of_member = || {
            let (parent, last) = name.rsplit_once('.')?;
            let call =
                pool.get_service_by_name(parent).is_some_and(|it| it.methods().any(|it| it.name() == last));
            let field =
                pool.get_message_by_name(parent).is_some_and(|it| it.get_field_by_name(last).is_some());
            // The values of an enum are named next to it, not in it.
            let is_value = |value: prost_reflect::EnumValueDescriptor| value.full_name() == name;
            let value = pool.all_enums().find(|it| it.values().any(is_value)).map(|it| it.parent_file());
            value.or_else(|| if call || field { of_name(parent) } else { None })
        };
        match of_name(name).or_else(of_member) {
            Some(file) => with_imports(file),
            None => Answer::NotFound(format!("there is no symbol {}", shown(name))),
        }
    }

    fn extension(&self, of: &str, number: i32) -> Answer {
        let message = self.pool.get_message_by_name(of);
        // No extension has a negative number.
        let extension = message.zip(u32::try_from(number).ok());
        match extension.and_then(|(message, number)| message.get_extension(number)) {
            Some(extension) => with_imports(extension.parent_file()),
            None => Answer::NotFound(format!("{} has no extension {number}", shown(of))),
        }
    }

    fn extensions(&self, of: &str) -> Answer {
        let Some(message) = self.pool.get_message_by_name(of) else {
            return Answer::NotFound(format!("there is no type {}", shown(of)));
        };
        let numbers = message.extensions().filter_map(|it| i32::try_from(it.number()).ok()).collect();
        Answer::Numbers(of.to_owned(), numbers)
    }
}

/// Serves one version of the protocol. Their messages are the same but for their package.
macro_rules! serve {
    ($version:ident) => {
        #[tonic::async_trait]
        impl $version::server_reflection_server::ServerReflection for Handler {
            type ServerReflectionInfoStream = BoxStream<$version::ServerReflectionResponse>;

            async fn server_reflection_info(
                &self,
                requests: Request<Streaming<$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use $version::{
                    server_reflection_request::MessageRequest as Asked,
                    server_reflection_response::MessageResponse as Answered,
                };
                let reflected = Arc::clone(&self.0);
                let answer = move |request: $version::ServerReflectionRequest| {
                    let answer = match &request.message_request {
                        None => return Err(Status::invalid_argument("the request asks for nothing")),
                        Some(Asked::FileByFilename(name)) => reflected.file(name),
                        Some(Asked::FileContainingSymbol(name)) => reflected.symbol(name),
                        Some(Asked::FileContainingExtension(it)) => {
                            reflected.extension(&it.containing_type, it.extension_number)
                        }
                        Some(Asked::AllExtensionNumbersOfType(name)) => reflected.extensions(name),
                        Some(Asked::ListServices(_)) => Answer::Services(reflected.services.clone()),
                    };
                    let answered = match answer {
                        Answer::Files(file_descriptor_proto) => {
                            Answered::FileDescriptorResponse($version::FileDescriptorResponse {
                                file_descriptor_proto,
                            })
                        }
                        Answer::Numbers(base_type_name, extension_number) => {
                            Answered::AllExtensionNumbersResponse($version::ExtensionNumberResponse {
                                base_type_name,
                                extension_number,
                            })
                        }
                        Answer::Services(names) => {
                            let service = names.into_iter().map(|name| $version::ServiceResponse { name });
                            Answered::ListServicesResponse($version::ListServiceResponse {
                                service: service.collect(),
                            })
                        }
                        Answer::NotFound(error_message) => Answered::ErrorResponse($version::ErrorResponse {
                            error_code: Code::NotFound as i32,
                            error_message,
                        }),
                    };
                    Ok($version::ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(answered),
                    })
                };
                let answers = requests.into_inner().map(move |request| answer(request?));
                Ok(Response::new(Box::pin(until_error(answers))))
            }
        }
    };
}

/// A stream that ends after its first error.
fn until_error<T: Send + Sync>(
    answers: impl Stream<Item = Result<T, Status>> + Send,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let mut failed = false;
    answers.take_while(move |answer| {
        let goes_on = !failed;
        failed = answer.is_err();
        futures::future::ready(goes_on)
    })
}

#[derive(Debug, Clone)]
struct Handler(Arc<Reflected>);

serve!(v1);
serve!(v1alpha);

/// Adds both versions of server reflection for these services.
///
/// # Errors
/// If the descriptors are broken.
pub(super) fn add(routes: &mut RoutesBuilder, services: &[&str]) -> anyhow::Result<()> {
    let handler = Handler(Arc::new(Reflected::new(services)?));
    routes.add_service(v1::server_reflection_server::ServerReflectionServer::new(handler.clone()));
    routes.add_service(v1alpha::server_reflection_server::ServerReflectionServer::new(handler));
    Ok(())
}
