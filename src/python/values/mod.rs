//! Conversions of values: user arguments, objects, options, exceptions. This module uses no other part of `python`.

pub mod arguments;
pub mod errors;
pub mod exceptions;
pub mod files;
pub mod objects;
pub mod options;
pub mod proxy;
pub mod remembered;
