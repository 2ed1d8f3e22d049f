//! The tables of the models in a database: existing ones are compared with the catalog, missing ones are created from
//! it. Existing tables may be the product's own, of another version than the catalog knows. They are never altered.

mod compare;
mod create;

pub use compare::differences;
pub use create::create_missing_tables;
