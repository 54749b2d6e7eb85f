//! The sources that a poller watches beside connections: connect attempts, datagram sockets, descriptors of event
//! handlers, guests of a loop around it, and accepted sockets before their connections.

pub(crate) mod arrival;
pub mod connector;
pub mod datagram;
pub mod descriptor;
pub mod guest;
#[cfg(feature = "tls")]
pub(crate) mod handshake;
