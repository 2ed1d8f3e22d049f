//! The tables of the models in a database: held against the catalog where they are, made from it where they are not.
//! Tables that are there may be the product's own, of another version than the catalog knows; they are never altered.

mod compare;
mod create;

pub use compare::differences;
pub use create::create_missing_tables;
