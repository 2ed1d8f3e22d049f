//! Who may call what.

mod matrix;
mod own;
mod reflected;
