//! Version 2: binary, with fields behind the addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum;
use super::fields::{self, ClientTls, kind};
use super::header::{Command, Header, Malformed, Place, Version};

/// Each header of version 2 begins with this.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes before the addresses: signature, version and command, family and transport, length.
const START: usize = 16;
/// The most bytes of addresses and fields.
const MOST_BEHIND: usize = 4096;
/// The most bytes of a header.
pub const MOST: usize = START + MOST_BEHIND;

/// The room for a path of a Unix socket (unix(7)).
const PATH: usize = 108;

/// The family of the addresses.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Unspecified,
    V4,
    V6,
    Unix,
}

impl Family {
    fn of(byte: u8) -> Option<Self> {
        [Self::Unspecified, Self::V4, Self::V6, Self::Unix].get(usize::from(byte >> 4)).copied()
    }

    /// The bytes of both addresses.
    fn room(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 2 * (4 + 2),
            Self::V6 => 2 * (16 + 2),
            Self::Unix => 2 * PATH,
        }
    }
}

/// Reads a header and its length; `None` if it is not whole. A wrong start is told at once.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let command = match bytes.get(SIGNATURE.len()) {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(other) => {
            return Malformed::new(format!("version and command {other:#04x}, which are neither 0x20 nor 0x21"));
        }
    };
    let [family, high, low] = match bytes.get(SIGNATURE.len() + 1..START) {
        Some(rest) => [rest[0], rest[1], rest[2]],
        None => return Ok(None),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_BEHIND {
        return Malformed::new(format!("a length of {length} bytes, the limit is {MOST_BEHIND}"));
    }
    let is_local = command == Command::Local;
    let (known, transport) = (Family::of(family), family & 0x0f);
    // The family of a proxy's own connection has no meaning.
    let Some(known) = known.filter(|_| transport <= 2).or(is_local.then_some(Family::Unspecified)) else {
        return Malformed::new(format!("family and transport {family:#04x}, which are unknown"));
    };
    let Some(header) = bytes.get(..START + length) else { return Ok(None) };
    let block = &header[START..];
    let (addresses, rest) = match block.split_at_checked(known.room()) {
        Some(parts) => parts,
        None if is_local => (block, &[][..]),
        None => return Malformed::new(format!("{length} bytes of addresses, not {}", known.room())),
    };
    let ends = if is_local || transport == 0 { None } else { ends(known, addresses) };
    // Without addresses a proxy may put anything behind the length.
    let is_free = is_local || known == Family::Unspecified;
    let fields = fields::parse(rest).or_else(|wrong| if is_free { Ok(Vec::new()) } else { Err(wrong) })?;
    let parsed = Header { version: Version::Two, command, ends, fields };
    check(&parsed, header, START + addresses.len())?;
    Ok(Some((parsed, header.len())))
}

/// Checks the fields that have rules of their own. `at` is the place of the first field.
fn check(parsed: &Header, header: &[u8], mut at: usize) -> Result<(), Malformed> {
    for (kind, value) in &parsed.fields {
        let value_at = at + fields::START;
        at = value_at + value.len();
        match *kind {
            kind::CRC32C if !checksum::is_right(header, value_at..at) => {
                return Malformed::new("a header that its CRC32C does not fit");
            }
            kind::TLS if ClientTls::parse(value).is_none() => return Malformed::new("a field about TLS that is cut"),
            _ => {}
        }
    }
    Ok(())
}

fn ends(family: Family, addresses: &[u8]) -> Option<(Place, Place)> {
    let half = addresses.len() / 2;
    match family {
        Family::Unspecified => None,
        Family::Unix => Some((Place::Unix(name(&addresses[..half])), Place::Unix(name(&addresses[half..])))),
        Family::V4 | Family::V6 => {
            let (ips, ports) = addresses.split_at(addresses.len() - 4);
            let (source, destination) = ips.split_at(ips.len() / 2);
            let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
            Some((Place::inet(ip(source)?, port(0)), Place::inet(ip(destination)?, port(2))))
        }
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()))
}

/// The name of a Unix socket without the zeros that fill its room.
fn name(bytes: &[u8]) -> Vec<u8> {
    let is_abstract = bytes.first() == Some(&0);
    let end = match bytes.iter().position(|byte| *byte == 0).filter(|_| !is_abstract) {
        Some(end) => end,
        None => bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
    };
    bytes[..end].to_vec()
}

/// Writes a header. The ends are of one family.
pub fn write(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some((source, destination)) = ends else {
        header.extend([0x20, 0x00, 0, 0]);
        return header;
    };
    let (family, room) = if source.is_ipv4() { (0x11, Family::V4.room()) } else { (0x21, Family::V6.room()) };
    header.extend([0x21, family, 0, room as u8]);
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}
