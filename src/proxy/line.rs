//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::header::{Command, Header, Malformed, Place, Version};

/// Each header of version 1 begins with this.
pub const START: &[u8] = b"PROXY ";
/// The most bytes of a line, CR LF included.
const LONGEST: usize = 107;

/// Reads a line and its length; `None` if its end has not come yet.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let line = &bytes[..bytes.len().min(LONGEST)];
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    match end.map(|end| &line[end..]) {
        None | Some(b"\r") if bytes.len() < LONGEST => Ok(None),
        None | Some(b"\r") => Malformed::new(format!("a line of more than {LONGEST} bytes")),
        Some([b'\r', b'\n', ..]) => {
            let length = line.len().min(end.unwrap_or_default() + 2);
            let ends = ends(&line[START.len()..length - 2])?;
            let header = Header { version: Version::One, command: Command::Proxy, ends, fields: Vec::new() };
            Ok(Some((header, length)))
        }
        Some(_) => Malformed::new("a line that does not end with CR LF"),
    }
}

/// The ends of the connection, from the line without its start and its end.
fn ends(text: &[u8]) -> Result<Option<(Place, Place)>, Malformed> {
    let mut words = text.split(|byte| *byte == b' ');
    match words.next() {
        Some(b"UNKNOWN") => Ok(None),
        Some(b"TCP4") => places::<Ipv4Addr>(&words.collect::<Vec<_>>()).map(Some),
        Some(b"TCP6") => places::<Ipv6Addr>(&words.collect::<Vec<_>>()).map(Some),
        other => {
            let name = other.unwrap_or_default();
            Malformed::new(format!("the protocol \"{}\", which is not TCP4, TCP6 or UNKNOWN", name.escape_ascii()))
        }
    }
}

fn places<Ip: FromStr + Into<IpAddr>>(words: &[&[u8]]) -> Result<(Place, Place), Malformed> {
    let [source, destination, source_port, destination_port] = words else {
        return Malformed::new(format!("{} words behind the protocol, not 4", words.len()));
    };
    let place = |ip, port| Ok(Place::inet(address::<Ip>(ip)?, number(port)?));
    Ok((place(source, source_port)?, place(destination, destination_port)?))
}

fn address<Ip: FromStr + Into<IpAddr>>(word: &[u8]) -> Result<IpAddr, Malformed> {
    let ip = str::from_utf8(word).ok().and_then(|text| text.parse::<Ip>().ok());
    ip.map_or_else(|| Malformed::new(format!("the address \"{}\"", word.escape_ascii())), |ip| Ok(ip.into()))
}

/// A port without a sign and without leading zeros.
fn number(word: &[u8]) -> Result<u16, Malformed> {
    let is_plain = word == b"0" || (word.iter().all(u8::is_ascii_digit) && !word.starts_with(b"0"));
    let text = str::from_utf8(word).ok().filter(|_| is_plain);
    let port = text.and_then(|text| text.parse().ok());
    port.map_or_else(|| Malformed::new(format!("the port \"{}\"", word.escape_ascii())), Ok)
}

/// Writes a line. The ends are of one family.
pub fn write(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (text(source.ip()), text(destination.ip()));
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// An address as the protocol has it: IPv6 in hexadecimal numbers only.
fn text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let [.., high, low] = v6.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        ip => ip.to_string(),
    }
}
