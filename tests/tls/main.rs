//! TLS: who is let in, what a refused caller gets to read, and certificates that change while services run.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is test code, the helpers too")]

mod access;
mod certs;
mod cluster;
mod handshake;
mod health;
mod identities;
mod limits;
mod plain;
mod readme;
mod refusals;
mod renegotiation;
mod rotation;
mod secrets;
mod start;
mod support;
