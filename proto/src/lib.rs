//! The contract of Causeway: what passes between a caller, a region and control, and nothing else.
//!
//! The messages and services are generated from the `.proto` files beside this crate; their comments are
//! the API reference. Some things are written by hand, because both services need them alike: the table from
//! [`relocation::v1::ErrorReason`] to gRPC codes ([`failure`]), proto3 JSON ([`json`]), times ([`time`]), calls to
//! several services that answer alike ([`endpoints`]), limits that both sides keep ([`limits`]), and how a request stream says that it is whole ([`whole`]).

pub mod codec;
#[cfg(test)]
mod comments;
pub mod endpoints;
pub mod failure;
pub mod finding;
pub mod json;
pub mod limits;
pub mod organization_status;
pub mod page;
pub mod time;
pub mod version;
pub mod whole;

/// `causeway.control.v1`: what a control service answers.
pub mod control {
    #[expect(missing_docs, clippy::allow_attributes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("causeway.control.v1");
    }
}

/// `causeway.region.v1`: what a region service answers.
pub mod region {
    #[expect(missing_docs, clippy::allow_attributes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("causeway.region.v1");
    }
}

/// `causeway.relocation.v1`: what both speak of.
pub mod relocation {
    /// Messages, reasons, and the service that both services have.
    #[expect(clippy::allow_attributes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("causeway.relocation.v1");
    }
}

/// The encoded descriptors of the whole contract, with comments, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/causeway.bin"));
