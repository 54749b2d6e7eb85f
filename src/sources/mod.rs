//! The sources that a poller watches beside connections: connect attempts, datagram sockets, descriptors of event
//! handlers.

pub mod connector;
pub mod datagram;
pub mod descriptor;
