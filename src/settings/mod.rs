//! The settings of servers, and of commands that call one. Options override environment variables, these override the file, and the file overrides
//! the defaults.
//!
//! Each setting is defined once, as a clap argument: its name, variable, default, help and parser serve the command
//! line, the keys of the file, what is printed, and docs/configuration.md. A value of the file becomes the default of
//! its argument, so that everything that overrides a default in clap also overrides the file.

mod argument;
pub(crate) mod client;
pub(crate) mod effective;
mod file;
mod nearest;
pub(crate) mod units;

#[cfg(test)]
pub(crate) use argument::{CLIENT, keys_of};
pub(crate) use argument::{FileArgs, SERVERS, innermost, is_setting, option_of_file, words};
pub(crate) use file::File;
