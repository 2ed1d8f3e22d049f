//! The comments of the contract, for tests that compare code with them.

use prost_reflect::{EnumValueDescriptor, FileDescriptor, MethodDescriptor};

fn at(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref().expect("comments are kept");
    let location = info.location.iter().find(|location| location.path == path).expect("it is in the file");
    let words: Vec<&str> = location.leading_comments().split_whitespace().collect();
    words.join(" ")
}

/// The comment of a value of an enum, in one line.
pub(crate) fn of_value(value: &EnumValueDescriptor) -> String {
    at(&value.parent_enum().parent_file(), value.path())
}

/// The comment of a call, in one line.
pub(crate) fn of_call(call: &MethodDescriptor) -> String {
    at(&call.parent_service().parent_file(), call.path())
}

/// The comment of a service or an enum, or of a call, a field or a value of an enum, by its full name.
pub(crate) fn of(name: &str) -> Option<String> {
    let pool = crate::json::pool().expect("the contract can be read");
    if let Some(service) = pool.get_service_by_name(name) {
        return Some(at(&service.parent_file(), service.path()));
    }
    if let Some(values) = pool.get_enum_by_name(name) {
        return Some(at(&values.parent_file(), values.path()));
    }
    let (parent, last) = name.rsplit_once('.')?;
    if let Some(service) = pool.get_service_by_name(parent) {
        return service.methods().find(|call| call.name() == last).map(|call| of_call(&call));
    }
    if let Some(values) = pool.get_enum_by_name(parent) {
        return values.get_value_by_name(last).map(|value| of_value(&value));
    }
    let message = pool.get_message_by_name(parent)?;
    let field = message.get_field_by_name(last)?;
    Some(at(&message.parent_file(), field.path()))
}
