//! The contract of Causeway: what passes between a caller, a region and control, and nothing else.
//!
//! The messages and services are generated from the `.proto` files next to the source of this crate; their
//! comments are the API reference. Some things are written manually, because both services need them: the
//! table from [`relocation::v1::ErrorReason`] to gRPC codes ([`failure`]), who may call what ([`access`]),
//! proto3 JSON ([`json`]), times ([`time`]), limits that both sides keep ([`limits`]), what is true of all
//! calls ([`calls`]), and how a request stream shows that it is complete ([`whole`]).

pub mod access;
pub mod calls;
pub mod codec;
#[cfg(test)]
mod comments;
pub mod era;
pub mod failure;
pub mod finding;
mod import_state;
pub mod json;
pub mod limits;
pub mod organization_status;
pub mod page;
pub mod place;
pub mod throttle;
pub mod time;
pub mod version;
pub mod whole;

/// `causeway.access.v1`: who may make a call.
mod access_v1 {
    tonic::include_proto!("causeway.access.v1");
}

/// `causeway.control.v1`: the API of a control service.
pub mod control {
    #[expect(missing_docs, clippy::allow_attributes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("causeway.control.v1");
    }
}

/// `causeway.region.v1`: the API of a region service.
pub mod region {
    #[expect(missing_docs, clippy::allow_attributes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("causeway.region.v1");
    }
}

/// `causeway.relocation.v1`: what both APIs share.
pub mod relocation {
    /// Messages, error reasons, and the services that both have: `VersionService` and `AuditService`.
    #[expect(clippy::allow_attributes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("causeway.relocation.v1");
    }
}

/// The encoded descriptors of the whole contract, with comments, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/causeway.bin"));
