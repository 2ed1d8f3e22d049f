//! Compiles the contract for the `proto` crate, which names this file as its build script.
//!
//! protox reads the `.proto` files in pure Rust, so no protoc has to be on the machine. The descriptor set is
//! stored with its comments and options: reflection serves it, the services learn from it who may call what,
//! and the command prints messages as JSON with it. A call without a rule about who may make it fails the
//! build.

#[path = "build-access.rs"]
mod access;

use std::{env, error::Error, fs, path::PathBuf};

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

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed={}", root.join("causeway").display());
    for script in ["build.rs", "build-access.rs"] {
        println!("cargo::rerun-if-changed={}", root.join("..").join(script).display());
    }

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    access::check_access(&compiler.descriptor_pool())?;
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
