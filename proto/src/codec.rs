//! Reads and writes messages as prost does, but checks a request before decoding it.
//!
//! A request of 4 MiB may contain two million empty entries, which take 30 times as much memory once decoded; and a
//! text may contain a zero character, which PostgreSQL cannot store. The codec finds both in the encoded bytes of every
//! request of the contract, so that no call has to check for them. Each call checks its own limits itself.

use std::{collections::HashMap, marker::PhantomData, sync::LazyLock};

use prost::{Message, Name, bytes::Buf as _};
use prost_reflect::{Kind, MessageDescriptor};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{failure::Failure, json::NoContract, limits::MAX_ENTRIES, relocation::v1::ErrorReason};

/// The codec of the generated clients and services.
#[derive(Debug, Clone)]
pub struct ContractCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ContractCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ContractCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(requests().map(|requests| requests.get(&U::full_name())), PhantomData)
    }
}

/// Encodes messages, without any check.
#[derive(Debug)]
pub struct Writer<T>(PhantomData<T>);

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Decodes messages. It has the descriptor of a message that is a request, and checks those first.
#[derive(Debug)]
pub struct Reader<U>(Result<Option<&'static MessageDescriptor>, NoContract>, PhantomData<U>);

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let descriptor = self.0.clone().map_err(|error| Status::internal(error.to_string()))?;
        if let Some(descriptor) = descriptor {
            check(descriptor, &bytes)?;
        }
        match U::decode(bytes) {
            Ok(message) => Ok(Some(message)),
            Err(error) if descriptor.is_some() => {
                Err(Failure::new(ErrorReason::InvalidArgument, error.to_string()).into())
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

/// The request messages of the contract's methods, by full name.
static REQUESTS: LazyLock<Result<HashMap<String, MessageDescriptor>, NoContract>> = LazyLock::new(|| {
    let pool = crate::json::pool()?;
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    Ok(methods.map(|method| (method.input().full_name().to_owned(), method.input())).collect())
});

fn requests() -> Result<&'static HashMap<String, MessageDescriptor>, NoContract> {
    REQUESTS.as_ref().map_err(NoContract::clone)
}

/// What is said of bytes that are not a message. Groups are an old part of the encoding that the contract has nowhere.
const NOT_READABLE: &str =
    "the bytes of the message are not well formed, or have a group, which no message of the contract has";

/// Refuses a request that has too many entries, a zero character in a text, or bytes that are not a message.
fn check(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<(), Failure> {
    let mut entries = 0;
    // The decoder might take what this cannot read, and nothing of it would be checked.
    let not_readable = || Err(Failure::new(ErrorReason::InvalidArgument, NOT_READABLE));
    check_message(descriptor, bytes, "", &mut entries).unwrap_or_else(not_readable)
}

/// Checks a message and the messages in it, and counts their entries in `entries`. `None` if its bytes are not well
/// formed or have a group.
fn check_message(
    descriptor: &MessageDescriptor,
    mut bytes: &[u8],
    path: &str,
    entries: &mut usize,
) -> Option<Result<(), Failure>> {
    while !bytes.is_empty() {
        let tag = u32::try_from(varint(&mut bytes)?).ok()?;
        let number = tag >> 3;
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                None
            }
            1 => {
                bytes = bytes.get(8..)?;
                None
            }
            5 => {
                bytes = bytes.get(4..)?;
                None
            }
            // Not the groups (3 and 4) either, which the decoder would skip with all that is in them.
            2 => Some(usize::try_from(varint(&mut bytes)?).ok()?),
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(length.unwrap_or(0))?;
        bytes = rest;
        let Some(field) = descriptor.get_field(number) else { continue };
        let name = || match path {
            "" => field.name().to_owned(),
            path => format!("{path}.{}", field.name()),
        };
        if field.is_list() {
            *entries += match field.kind() {
                Kind::String | Kind::Bytes | Kind::Message(_) => 1,
                // Packed numbers: each ends with a byte below 0x80.
                _ if length.is_some() => value.iter().filter(|byte| **byte < 0x80).count(),
                _ => 1,
            };
            if *entries > MAX_ENTRIES {
                let most = format!("one message has at most {MAX_ENTRIES} entries, and this one has more");
                return Some(Err(Failure::invalid_field(&name(), most)));
            }
        }
        match field.kind() {
            Kind::String if value.contains(&0) => {
                let field = name();
                return Some(Err(Failure::invalid_field(&field, "must not hold a zero character")));
            }
            Kind::Message(inner) if length.is_some() => {
                if let Err(refused) = check_message(&inner, value, &name(), entries)? {
                    return Some(Err(refused));
                }
            }
            _ => {}
        }
    }
    Some(Ok(()))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if *byte < 0x80 {
            *bytes = bytes.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
fn known() -> &'static HashMap<String, MessageDescriptor> {
    requests().expect("the contract can be read")
}

/// Checks the encoded bytes of a message. For tests.
#[cfg(test)]
fn checked<M: Message + Name>(message: &M) -> Result<(), Failure> {
    check(known().get(&M::full_name()).expect("it is a request"), &message.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{
        control::v1::{
            BulkCreateOrganizationSlugReservationsRequest, CheckSlugsRequest, FindRowsRequest, HeldIds,
            IdRange, ListHeldOrganizationsRequest, OrganizationSlugRequest, OrganizationSlugRequestBatch,
            RegisterRegionRequest, ReleaseOrganizationsRequest,
            bulk_create_organization_slug_reservations_request::Part,
        },
        region::v1::{
            ImportHeader, ImportOrganizationsRequest, OrganizationFilter, import_organizations_request,
        },
    };

    fn refused(outcome: Result<(), Failure>) -> String {
        let status = Status::from(outcome.expect_err("it is refused"));
        let details = status.get_details_bad_request().expect("a field is named");
        details.field_violations[0].field.clone()
    }

    fn batch(requests: Vec<OrganizationSlugRequest>) -> BulkCreateOrganizationSlugReservationsRequest {
        let batch = OrganizationSlugRequestBatch { requests };
        BulkCreateOrganizationSlugReservationsRequest { part: Some(Part::Batch(batch)) }
    }

    #[test]
    fn a_region_may_say_as_many_ranges_of_each_model_as_the_contract_allows() {
        let range = IdRange { first_id: 1, last_id: 1 };
        let held = |model: &str| HeldIds {
            model: model.to_owned(),
            ranges: vec![range; crate::limits::MAX_ID_RANGES],
            exact: true,
        };
        let held_ids = ["sentry.organization", "sentry.project", "sentry.team"].map(held).to_vec();
        let request = RegisterRegionRequest { held_ids, ..RegisterRegionRequest::default() };
        checked(&request).expect("it is taken");
    }

    #[test]
    fn as_many_entries_are_decoded_as_any_call_takes_and_no_more() {
        let slugs = |count| CheckSlugsRequest { slugs: vec![String::new(); count], ..Default::default() };
        let asked = |count| CheckSlugsRequest {
            organizations: vec![Default::default(); count],
            ..Default::default()
        };
        let ids = |count| ReleaseOrganizationsRequest {
            region: "us".to_owned(),
            organization_ids: (0..count).map(|id| id << 40).collect(),
        };
        let held =
            |count| ListHeldOrganizationsRequest { organization_ids: vec![0; count], ..Default::default() };
        let values = |count| FindRowsRequest { values: vec!["x".to_owned(); count], ..Default::default() };
        for most in [
            checked(&slugs(MAX_ENTRIES)),
            checked(&asked(MAX_ENTRIES)),
            checked(&ids(10_000)),
            checked(&held(MAX_ENTRIES)),
            checked(&values(MAX_ENTRIES)),
            checked(&batch(vec![Default::default(); MAX_ENTRIES])),
        ] {
            most.expect("they are as many as may be");
        }
        for (more, field) in [
            (checked(&slugs(MAX_ENTRIES + 1)), "slugs"),
            (checked(&asked(MAX_ENTRIES + 1)), "organizations"),
            (checked(&ids(10_001)), "organization_ids"),
            (checked(&held(MAX_ENTRIES + 1)), "organization_ids"),
            (checked(&values(MAX_ENTRIES + 1)), "values"),
            (checked(&batch(vec![Default::default(); MAX_ENTRIES + 1])), "batch.requests"),
        ] {
            assert_eq!(refused(more), field);
        }
        let both = CheckSlugsRequest { slugs: slugs(5_000).slugs, ..asked(5_001) };
        assert_eq!(refused(checked(&both)), "organizations");
    }

    #[test]
    fn a_zero_character_is_found_in_any_text() {
        let text = |text: &str| text.to_owned();
        let organization = |slug: &str, name: &str| {
            batch(vec![OrganizationSlugRequest { slug: text(slug), name: text(name), ..Default::default() }])
        };
        checked(&organization("acme", "Acme\u{1}")).expect("other characters are not its matter");
        assert_eq!(refused(checked(&organization("ac\0me", ""))), "batch.requests.slug");
        assert_eq!(refused(checked(&organization("acme", "\0"))), "batch.requests.name");
        let upload = |part| ImportOrganizationsRequest { part: Some(part) };
        let filter = OrganizationFilter { slugs: vec![text("a"), text("b\0")] };
        let header = ImportHeader { filter: Some(filter), ..Default::default() };
        let header = upload(import_organizations_request::Part::Header(header));
        assert_eq!(refused(checked(&header)), "header.filter.slugs");
        // Bytes are not text.
        let data = upload(import_organizations_request::Part::Data(vec![0; 8]));
        checked(&data).expect("a file may hold anything");
    }

    #[test]
    fn what_is_not_well_formed_is_refused_also_before_what_is() {
        let descriptor = known().get("causeway.control.v1.CheckSlugsRequest").expect("it is one");
        let refused: [&[u8]; 8] = [
            &[0x0a],
            &[0x0a, 0x05, b'x'],
            &[0x0b],
            // A group that ends, of a field that the contract does not know: the decoder skips it.
            &[0xa3, 0x06, 0xa4, 0x06],
            // A tag of more than 32 bits, and a wire type that there is not.
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0x00],
            &[0x0e],
            &[0xff; 12],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ];
        let rest = CheckSlugsRequest { slugs: vec!["a\0".to_owned()], ..Default::default() }.encode_to_vec();
        for bytes in refused {
            for bytes in [bytes.to_vec(), [bytes, &rest].concat()] {
                let status = Status::from(check(descriptor, &bytes).expect_err("it is refused"));
                assert_eq!(status.code(), tonic::Code::InvalidArgument, "{bytes:?}");
            }
        }
        let taken: [&[u8]; 2] = [
            b"",
            // Fields that the contract does not know.
            &[
                0xf8, 0x07, 0x01, 0xfa, 0x07, 0x01, 0x00, 0xf9, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0x07, 0,
                0, 0, 0,
            ],
        ];
        for bytes in taken {
            assert!(check(descriptor, bytes).is_ok(), "{bytes:?}");
        }
    }

    /// Whatever the decoder takes has been read by the check: it finds the text with a zero character at every place.
    #[test]
    fn nothing_hides_a_text_from_the_check() {
        let descriptor = known().get("causeway.control.v1.CheckSlugsRequest").expect("it is one");
        let text = CheckSlugsRequest { slugs: vec!["a\0".to_owned()], ..Default::default() }.encode_to_vec();
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [&[first, second][..], &text].concat();
                if CheckSlugsRequest::decode(&*bytes)
                    .is_ok_and(|it| it.slugs.iter().any(|it| it.contains('\0')))
                {
                    assert!(check(descriptor, &bytes).is_err(), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn every_call_of_the_contract_has_its_request_checked() {
        assert!(known().len() > 25, "{}", known().len());
        for name in known().keys() {
            assert!(name.ends_with("Request"), "{name}");
        }
    }
}
