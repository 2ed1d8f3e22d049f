//! Checks that each call of the contract defines who may make it. The build script of the `proto` crate runs this, and a test
//! of that crate checks it.

use std::error::Error;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor, Value};

/// The option of a call that defines who may make it.
const ACCESS: &str = "causeway.access.v1.access";
/// The fields of the rule that are paths of fields of the request, and the kind that each must have.
const PATHS: [(&str, Kind); 3] =
    [("own_region", Kind::String), ("own_organization", Kind::Int64), ("own_import", Kind::String)];

/// Fails if a call has no rule, or a rule that no caller can meet.
pub(crate) fn check_access(pool: &DescriptorPool) -> Result<(), Box<dyn Error>> {
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
        let parent = message.take().ok_or_else(|| wrong("goes on after a field that is not a message"))?;
        let field = parent.get_field_by_name(name).ok_or_else(|| wrong("is not a field of the request"))?;
        if field.is_list() || field.is_map() {
            return Err(wrong("goes through a list"));
        }
        message = field.kind().as_message().cloned();
        found = Some(field.kind());
    }
    if found.as_ref() == Some(kind) { Ok(()) } else { Err(wrong("has another type")) }
}
