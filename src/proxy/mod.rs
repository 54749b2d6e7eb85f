//! The PROXY protocol: the header by which a proxy names its client, and the proxies that are trusted.
//!
//! Pure values: no socket, no clock. The rules are those of HAProxy's text, "The PROXY protocol, versions 1 & 2". Callers
//! give [`parse`] all bytes that came so far; it takes none that follow the header.
//!
//! No crate does this: `ppp` 2.3.0 calls a line that is cut before its last port wrong, drops the fields of a header
//! without addresses, and needs a second `thiserror`; `proxy-header` 0.1.3 has none of that. Both take `+80` for a port, and
//! neither checks CRC32C.
//!
//! * `header`: a header as a value
//! * `line`, `binary`: versions 1 and 2
//! * `fields`: the fields behind the addresses (TLVs)
//! * `checksum`: CRC32C
//! * `trusted`: the peers that may send a header
//! * `refusal`: the reasons for which a peer is refused

mod binary;
mod checksum;
mod fields;
mod header;
mod line;
mod refusal;
#[cfg(test)]
mod tests;
mod trusted;

use std::net::{IpAddr, SocketAddr};

pub use binary::MOST;
pub use fields::{ClientTls, kind};
pub use header::{Command, Header, Malformed, Place, Proxied, Version};
pub use refusal::Refusal;
pub use trusted::Trusted;

/// Reads a header and its length. `None` if more bytes have to come; all of them belong to the header then.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if may_begin_with(bytes, binary::SIGNATURE) {
        return binary::parse(bytes);
    }
    if may_begin_with(bytes, line::START) {
        return line::parse(bytes);
    }
    Malformed::new(format!("no PROXY header, but \"{}\"", bytes[..bytes.len().min(16)].escape_ascii()))
}

fn may_begin_with(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes[..common] == start[..common]
}

/// The header to send on an outgoing connection.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Its version.
    pub version: Version,
    /// The ends that it names.
    pub ends: Named,
}

/// The ends that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Those of the connection itself.
    Own,
    /// Source and destination of another connection; `None` for a Unix socket.
    Given(Option<(SocketAddr, SocketAddr)>),
}

impl Announcement {
    /// The bytes to send. `own` are the ends of the connection; `None` for a Unix socket.
    pub fn bytes(&self, own: impl FnOnce() -> Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
        let ends = match self.ends {
            Named::Own => own(),
            Named::Given(ends) => ends,
        };
        let ends = ends.map(|(source, destination)| of_one_family(source, destination));
        match self.version {
            Version::One => line::write(ends),
            Version::Two => binary::write(ends),
        }
    }
}

/// A header has one family: of two, IPv4 is written as IPv6.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (mapped(source), mapped(destination))
    }
}
