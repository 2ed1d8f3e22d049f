//! Compiles the contract for the `proto` crate, which names this file as its build script.
//!
//! protox reads the `.proto` files in pure Rust, so no protoc has to be on the machine. The descriptor set is kept
//! with its comments: reflection serves it, and the command prints messages as JSON with it.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "causeway/relocation/v1/audit_service.proto",
    "causeway/relocation/v1/error.proto",
    "causeway/relocation/v1/relocation.proto",
    "causeway/relocation/v1/version_service.proto",
    "causeway/control/v1/control_import_service.proto",
    "causeway/control/v1/directory_service.proto",
    "causeway/control/v1/region_service.proto",
    "causeway/control/v1/slug_reservation_service.proto",
    "causeway/region/v1/import_service.proto",
    "causeway/region/v1/organization_service.proto",
    "causeway/region/v1/reconciliation_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed={}", root.join("causeway").display());
    println!("cargo::rerun-if-changed={}", root.join("../build.rs").display());

    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("causeway.bin"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    // The codec of the contract looks requests up by their name.
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::codec::ContractCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
