//! What tests of a multi-region Causeway stand on: real servers on free ports and temporary directories, which go
//! when the test does. A library of its own, so that others may test against Causeway with it too.

pub mod account;
pub mod cluster;
pub mod export;
pub mod invariants;
pub mod picture;
pub mod postgres;
