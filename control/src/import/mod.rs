//! Writes models of the control silo for the imports of regions ([`write`](self::write)), and reverts them
//! ([`revert`]).

pub(crate) mod fitted;
mod own_rows;
pub mod planned;
pub mod revert;
mod searches;
pub mod write;
