//! The generated types of Rookery's wire protocol, `rookery.v1`.
//!
//! The protocol is public: `rookery/v1/*.proto` documents it field by field, and an actor written
//! in another language is a legitimate actor. In this workspace the types appear only in the
//! network rooms; everything else works on the domain types of `rookery_common`.

/// Version 1 of the protocol.
pub mod v1 {
    #![allow(missing_docs, reason = "the .proto files carry the documentation")]
    #![allow(clippy::all, clippy::pedantic, reason = "generated code")]
    #![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
    #![allow(unreachable_pub, unused_qualifications, reason = "generated code")]
    tonic::include_proto!("rookery.v1");
}

/// The version of the protocol that this build speaks; `Join` compares it.
pub const PROTOCOL_VERSION: u32 = 1;
