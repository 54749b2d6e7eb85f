//! Conversions of values: user arguments, options, exceptions. This module uses no other part of `python`.

pub mod arguments;
pub mod errors;
pub mod options;
