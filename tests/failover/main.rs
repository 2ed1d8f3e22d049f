//! The database moves to another server while services use it. See `docs/high-availability.md`.

#![expect(clippy::expect_used, reason = "a behaviour that is not there ends its test")]

mod pair;
mod replica;
mod services;
mod several_hosts;
