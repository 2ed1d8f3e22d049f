//! proto3 JSON of the contract's messages, through their descriptors.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::ser::{Formatter, Serializer};

use crate::FILE_DESCRIPTOR_SET;

static POOL: LazyLock<Result<DescriptorPool, NoContract>> = LazyLock::new(|| read(FILE_DESCRIPTOR_SET));

/// Reads descriptors. Without a service they would be read, and every check of a call would then let it pass.
fn read(descriptors: &[u8]) -> Result<DescriptorPool, NoContract> {
    let pool = DescriptorPool::decode(descriptors).map_err(|error| NoContract(error.to_string()))?;
    if pool.services().len() == 0 {
        return Err(NoContract("they have no service".to_owned()));
    }
    Ok(pool)
}

/// The descriptors of the contract cannot be read. The cause is always a defect of the build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the descriptors of the contract cannot be read: {0}")]
pub struct NoContract(String);

/// Why a message cannot be written as JSON. The cause is always a defect of the build, never the message.
#[derive(Debug)]
pub struct JsonError(String);

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the message cannot be written as JSON: {}", self.0)
    }
}

impl std::error::Error for JsonError {}

/// The descriptors of the whole contract.
///
/// # Errors
/// If the build is broken.
pub fn pool() -> Result<DescriptorPool, NoContract> {
    POOL.clone()
}

/// `message`, which is of the type `name` (e.g. `causeway.region.v1.Import`), as indented proto3 JSON with every field,
/// including those that have their default.
///
/// # Errors
/// If the contract has no message of that name, or the bytes are not one.
pub fn to_json(message: &impl Message, name: &str) -> Result<String, JsonError> {
    let mut buffer = Vec::new();
    serialize(message, name, &mut Serializer::pretty(&mut buffer))?;
    String::from_utf8(buffer).map_err(|error| JsonError(error.to_string()))
}

/// Like [`to_json`], in one line.
///
/// # Errors
/// If the contract has no message of that name, or the bytes are not one.
pub fn to_json_line(message: &impl Message, name: &str) -> Result<String, JsonError> {
    let mut buffer = Vec::new();
    serialize(message, name, &mut Serializer::new(&mut buffer))?;
    String::from_utf8(buffer).map_err(|error| JsonError(error.to_string()))
}

fn serialize(
    message: &impl Message,
    name: &str,
    serializer: &mut Serializer<&mut Vec<u8>, impl Formatter>,
) -> Result<(), JsonError> {
    let pool = pool().map_err(|error| JsonError(error.to_string()))?;
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| JsonError(format!("no message {name}")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| JsonError(error.to_string()))?;
    dynamic
        .serialize_with_options(serializer, &SerializeOptions::new().skip_default_fields(false))
        .map_err(|error| JsonError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::region::v1::{Import, ImportState};

    #[test]
    fn a_contract_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
        super::pool().expect("the contract can be read");
        for broken in [b"".as_slice(), b"no descriptors"] {
            let error = super::read(broken).expect_err("it is broken").to_string();
            assert!(error.starts_with("the descriptors of the contract cannot be read"), "{error}");
        }
    }

    #[test]
    fn an_import_is_proto3_json() {
        let import = Import {
            import_id: "3b1f".to_owned(),
            state: ImportState::Writing.into(),
            organization_count: 7,
            create_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Import::default()
        };
        let json = super::to_json(&import, "causeway.region.v1.Import").expect("it is in the contract");
        let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(value["importId"], "3b1f");
        assert_eq!(value["state"], "IMPORT_STATE_WRITING");
        assert_eq!(value["organizationCount"], "7");
        assert_eq!(value["createTime"], "1970-01-01T00:00:00Z");
        assert!(value["models"].as_array().expect("defaults are written").is_empty());
    }
}
