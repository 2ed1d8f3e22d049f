//! Compiles the contract for the `proto` crate, which names this file as its build script.
//!
//! protox reads the `.proto` files in pure Rust, so no protoc has to be on the machine. The descriptor set is
//! stored with its comments and options: reflection serves it, the services learn from it who may call what,
//! and the command prints messages as JSON with it. A call without a rule about who may make it fails the
//! build.

use std::{env, error::Error, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor, Value};

const FILES: &[&str] = &[
    "causeway/access/v1/access.proto",
    "causeway/relocation/v1/audit_service.proto",
    "causeway/relocation/v1/error.proto",
    "causeway/relocation/v1/relocation.proto",
    "causeway/relocation/v1/version_service.proto",
    "causeway/control/v1/control_import_service.proto",
    "causeway/control/v1/directory_service.proto",
    "causeway/control/v1/instruction.proto",
    "causeway/control/v1/region_service.proto",
    "causeway/control/v1/report_service.proto",
    "causeway/control/v1/slug_reservation_service.proto",
    "causeway/region/v1/import_service.proto",
    "causeway/region/v1/organization_service.proto",
    "causeway/region/v1/reconciliation_service.proto",
    "causeway/region/v1/throttle_service.proto",
];

/// The option of a call that defines who may make it.
const ACCESS: &str = "causeway.access.v1.access";
/// The fields of the rule that are paths of fields of the request, and the kind that each must have.
const PATHS: [(&str, Kind); 3] =
    [("own_region", Kind::String), ("own_organization", Kind::Int64), ("own_import", Kind::String)];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed={}", root.join("causeway").display());
    println!("cargo::rerun-if-changed={}", root.join("../build.rs").display());

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    check_access(&compiler.descriptor_pool())?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("causeway.bin"), compiler.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::Config::new();
    // The codec of the contract looks requests up by their name.
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::codec::ContractCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// Fails if a call has no rule, or a rule that no caller can meet.
fn check_access(pool: &DescriptorPool) -> Result<(), Box<dyn Error>> {
    let option =
        pool.get_extension_by_name(ACCESS).ok_or("the contract does not define the access option")?;
    for service in pool.services() {
        for call in service.methods() {
            let options = call.options();
            if !options.has_extension(&option) {
                return Err(format!("{}: the option {ACCESS} is missing", call.full_name()).into());
            }
            let value = options.get_extension(&option);
            let rule = value.as_message().ok_or("the access option is not a message")?;
            let field = |name: &str| rule.get_field_by_name(name).map(|value| value.into_owned());
            let has_roles = field("roles").is_some_and(|it| it.as_list().is_some_and(|it| !it.is_empty()));
            let is_for_everyone = field("everyone").and_then(|it| it.as_bool()).unwrap_or_default();
            if has_roles == is_for_everyone {
                return Err(
                    format!("{}: the rule must have either roles or everyone", call.full_name()).into()
                );
            }
            for (name, kind) in PATHS {
                let path = field(name).as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
                if !path.is_empty() {
                    check_path(&call, name, &path, &kind)?;
                }
            }
        }
    }
    Ok(())
}

/// Fails unless `path` leads from the request of a call to a field of this kind, with no list on the way.
fn check_path(call: &MethodDescriptor, rule: &str, path: &str, kind: &Kind) -> Result<(), Box<dyn Error>> {
    let wrong = |why: &str| -> Box<dyn Error> {
        format!("{}: {rule} = {path:?}, which {why}", call.full_name()).into()
    };
    let mut message: Option<MessageDescriptor> = Some(call.input());
    let mut found = None;
    for name in path.split('.') {
        let parent = message.take().ok_or_else(|| wrong("goes on behind a field that is not a message"))?;
        let field = parent.get_field_by_name(name).ok_or_else(|| wrong("is not a field of the request"))?;
        if field.is_list() || field.is_map() {
            return Err(wrong("goes through a list"));
        }
        message = field.kind().as_message().cloned();
        found = Some(field.kind());
    }
    if found.as_ref() == Some(kind) { Ok(()) } else { Err(wrong("has another type")) }
}
