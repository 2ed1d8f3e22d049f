//! The models of the control silo: written for imports of regions ([`write`](self::write)), and taken back ([`revert`]).

pub mod revert;
pub mod write;
