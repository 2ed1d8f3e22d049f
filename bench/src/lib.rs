//! Measures Causeway, and makes exports of any size to measure it with. Not part of what is shipped.

pub mod generate;
