//! TLS: the settings of servers and clients, the records of connections, and the texts of failures.
//!
//! Nothing in here holds a socket, a connection or Python. All cryptography and every rule of TLS is rustls's.
//! The errors of wrong settings come from the call that makes a context, and name the file, the line or the value.
//!
//! * `certificates`: PEM files and bytes as chains, keys and roots
//! * `names`: the certificate for the name that a client asks for
//! * `chooser`: certificates that are found while a client waits
//! * `settings`: what both sides set: versions, ALPN
//! * `key_log`: the file for the secrets of sessions
//! * `server`, `client`: the two contexts
//! * `verify`: the checks of a server's certificate that are not rustls's own
//! * `stream`: the records of one connection: a machine without a socket
//! * `outgoing`: the ciphertext that it has made for the socket
//! * `failure`: failures on their way up
//! * `text`: the errors of handshakes and records in plain English

pub mod certificates;
pub mod chooser;
pub mod client;
mod failure;
pub mod key_log;
mod names;
mod outgoing;
pub mod server;
pub mod settings;
pub mod stream;
pub mod text;
mod verify;

pub use failure::{Failure, FailureKind};

#[cfg(test)]
mod tests;
