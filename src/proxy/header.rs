//! A header as a value, for both versions.

use std::net::{IpAddr, SocketAddr};

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    One,
    /// Binary.
    Two,
}

/// The connection that a header is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The proxy's own, for example to check whether the server is alive.
    Local,
    /// That of a client.
    Proxy,
}

/// One end of a client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address of TCP or UDP.
    Inet(SocketAddr),
    /// The name of a Unix socket as unix(7) has it: an abstract one begins with a zero byte, and one without a name is
    /// empty.
    Unix(Vec<u8>),
}

impl Place {
    /// An address; an IPv4 address that is written as one of IPv6 becomes IPv4.
    pub(super) fn inet(ip: IpAddr, port: u16) -> Self {
        Self::Inet(SocketAddr::new(ip.to_canonical(), port))
    }
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its version.
    pub version: Version,
    /// The connection that it is about.
    pub command: Command,
    /// The source and the destination of the client's connection, if the header names them.
    pub ends: Option<(Place, Place)>,
    /// The fields behind the addresses, in their order: types and values.
    pub fields: Vec<(u8, Vec<u8>)>,
}

impl Header {
    /// The value of the first field of this type.
    pub fn field(&self, kind: u8) -> Option<&[u8]> {
        self.fields.iter().find(|(each, _)| *each == kind).map(|(_, value)| value.as_slice())
    }
}

/// The client of a connection that a proxy made.
#[derive(Debug)]
pub struct Proxied {
    /// The header that the proxy sent.
    pub header: Header,
    /// The address of the proxy; `None` for a Unix socket.
    pub proxy: Option<SocketAddr>,
}

impl Proxied {
    /// The address of the client, or of the proxy if the header names no client; `None` for a Unix socket.
    pub fn client(&self) -> Option<SocketAddr> {
        match &self.header.ends {
            Some((Place::Inet(source), _)) => Some(*source),
            Some((Place::Unix(_), _)) => None,
            None => self.proxy,
        }
    }
}

/// The bytes are no header; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    pub(super) fn new<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self(text.into()))
    }
}
