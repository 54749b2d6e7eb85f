//! The addresses that a user writes: `host:port`, `:port`, `*:port`, `[v6]:port`, `[v6%zone]:port`, `unix:/path`,
//! `unix:@name`.
//!
//! This module only parses; it never looks up a host name. `:port` stands for every IPv4 address, `[::]:port` for
//! every IPv6 address, and `*:port` for both. A zone is the name or the number of a network interface (RFC 4007
//! section 11). `unix:@name` is a name in Linux's abstract namespace (unix(7)). A [`Target`] of a connect may also be
//! a host name.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use socket2::SockAddr;

use crate::error::Error;

/// A Unix address has room for 108 bytes; one of them is the zero that ends a path or begins an abstract name
/// (unix(7)).
const UNIX_NAME_MAX: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Inet(Inet),
    /// A Unix socket.
    Unix(UnixName),
}

/// An IP address and port to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inet {
    /// One address, or every address of one version of IP.
    One(SocketAddr),
    /// Every address of both versions of IP, with this port.
    Every(u16),
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixName {
    /// A path in the file system.
    Path(PathBuf),
    /// A name in the abstract namespace.
    Abstract(String),
}

impl Address {
    /// Parses an address as a user writes it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: String| {
            Error::argument(format!(
                "address {text:?} {why}; expected \"127.0.0.1:8080\", \":8080\", \"*:8080\", \"[::1]:8080\" or \
                 \"unix:/path\""
            ))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return UnixName::parse(path).map(Self::Unix).map_err(refuse);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(refuse("has no port".into()));
        };
        let port = parse_port(port).map_err(refuse)?;
        if host == "*" {
            return Ok(Self::Inet(Inet::Every(port)));
        }
        let (ip, zone) = parse_host(host).map_err(refuse)?;
        let mut address = SocketAddr::new(ip, port);
        if let (SocketAddr::V6(v6), Some(zone)) = (&mut address, zone) {
            let unknown = Error::io(format!("address {text:?}: no network interface {zone:?}"));
            v6.set_scope_id(zone_index(zone).map_err(unknown)?);
        }
        Ok(Self::Inet(Inet::One(address)))
    }

    /// The address in the form that the system calls take.
    pub fn to_system(&self) -> io::Result<SockAddr> {
        match self {
            Self::Inet(inet) => Ok(inet.to_socket_address().into()),
            Self::Unix(name) => name.to_system(),
        }
    }
}

impl Inet {
    /// The address to bind; for every address that of IPv6.
    pub fn to_socket_address(self) -> SocketAddr {
        match self {
            Self::One(address) => address,
            Self::Every(port) => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }

    /// The same address with another port.
    pub fn with_port(self, port: u16) -> Self {
        match self {
            Self::One(mut address) => {
                address.set_port(port);
                Self::One(address)
            }
            Self::Every(_) => Self::Every(port),
        }
    }
}

impl UnixName {
    /// The address in the form that the system calls take.
    pub fn to_system(&self) -> io::Result<SockAddr> {
        match self {
            Self::Path(path) => SockAddr::unix(path),
            Self::Abstract(name) => SockAddr::unix(format!("\0{name}")),
        }
    }

    fn parse(path: &str) -> Result<Self, String> {
        let (name, is_abstract) = match path.strip_prefix('@') {
            Some(name) => (name, true),
            None => (path, false),
        };
        if name.is_empty() || name.contains('\0') {
            return Err("has no usable path after unix:".into());
        }
        if name.len() > UNIX_NAME_MAX {
            return Err(format!("has a path of {} bytes, the limit is {UNIX_NAME_MAX}", name.len()));
        }
        Ok(if is_abstract { Self::Abstract(name.into()) } else { Self::Path(path.into()) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(inet) => inet.fmt(out),
            Self::Unix(UnixName::Path(path)) => write!(out, "unix:{}", path.display()),
            Self::Unix(UnixName::Abstract(name)) => write!(out, "unix:@{name}"),
        }
    }
}

impl fmt::Display for Inet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => out.write_str(&inet_text(address)),
            Self::Every(port) => write!(out, "*:{port}"),
        }
    }
}

/// The target of a connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(Address),
    /// A host name to look up.
    Host {
        /// Its name.
        name: String,
        /// The port on that host.
        port: u16,
    },
}

impl Target {
    /// The name or the IP address of the host; `None` for a Unix socket.
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Host { name, .. } => Some(name.clone()),
            Self::Address(Address::Inet(address)) => Some(address.to_socket_address().ip().to_string()),
            Self::Address(Address::Unix(_)) => None,
        }
    }

    /// Parses a target as a user writes it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            let forms = "\"example.com:80\", \"127.0.0.1:80\", \"[::1]:80\" or \"unix:/path\"";
            Error::argument(format!("address {text:?} {why}; expected {forms}"))
        };
        let host = text.rsplit_once(':').filter(|_| !text.starts_with("unix:"));
        let target = match host {
            Some((name, port)) if is_host_name(name) => {
                Self::Host { name: name.into(), port: parse_port(port).map_err(|why| refuse(&why))? }
            }
            _ => Self::Address(Address::parse(text)?),
        };
        match &target {
            Self::Host { port: 0, .. } => Err(refuse("has the port 0, which nobody can listen on")),
            Self::Address(Address::Inet(inet)) if inet.to_socket_address().port() == 0 => {
                Err(refuse("has the port 0, which nobody can listen on"))
            }
            Self::Address(Address::Inet(inet)) if inet.to_socket_address().ip().is_unspecified() => {
                Err(refuse("names no host to connect to"))
            }
            _ => Ok(target),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(out),
            Self::Host { name, port } => write!(out, "{name}:{port}"),
        }
    }
}

/// Whether `text` is to be looked up. An address is not, nor is text that cannot be a host name. A name consists of
/// labels of letters, digits, hyphens and underscores, and the last label is not a number (RFC 1123 section 2.1).
/// Names in other scripts are left to the resolver to judge.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !last_is_number
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("has the port {text:?}, which is no number"));
    }
    text.parse().map_err(|_| format!("has the port {text}, the limit is {}", u16::MAX))
}

/// The host of an address, and the zone that it names.
fn parse_host(text: &str) -> Result<(IpAddr, Option<&str>), String> {
    if text.is_empty() {
        return Ok((Ipv4Addr::UNSPECIFIED.into(), None));
    }
    if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (ip, zone) = split_zone(v6);
        let ip = ip.parse::<Ipv6Addr>().map_err(|_| format!("has no IPv6 address in {text}"))?;
        return Ok((ip.into(), zone));
    }
    text.parse::<Ipv4Addr>().map(|ip| (ip.into(), None)).map_err(|_| {
        let hint = if text.contains(':') { "IPv6 addresses need brackets" } else { "host names are not looked up" };
        format!("has the host {text:?}, which is no IPv4 address ({hint})")
    })
}

// ---- zones ------------------------------------------------------------------------------------------------------------

fn split_zone(text: &str) -> (&str, Option<&str>) {
    text.split_once('%').map_or((text, None), |(ip, zone)| (ip, Some(zone)))
}

/// The index of the network interface that a zone names. A number is taken as the index itself.
pub fn zone_index(zone: &str) -> io::Result<u32> {
    let name = CString::new(zone).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the name is a C string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => {
            let unknown = io::Error::last_os_error();
            zone.parse().ok().filter(|index| *index > 0).ok_or(unknown)
        }
        index => Ok(index),
    }
}

/// The name of the interface with this index, or the number if there is none.
fn zone_text(index: u32) -> String {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the length that the call requires.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let name = (!found.is_null()).then(|| CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()).flatten();
    name.map_or_else(|| index.to_string(), str::to_owned)
}

/// Reads an IP address that may have a zone, without a port: `fe80::1%eth0`. The second value is the index of its
/// interface, or 0. `None` if the text is no IP address.
pub fn parse_ip(text: &str) -> Option<io::Result<(IpAddr, u32)>> {
    match split_zone(text) {
        (ip, None) => ip.parse().ok().map(|ip| Ok((ip, 0))),
        (ip, Some(zone)) => {
            let ip = ip.parse::<Ipv6Addr>().ok()?;
            Some(zone_index(zone).map(|index| (ip.into(), index)))
        }
    }
}

/// An IP address without a port, with the interface `index` as its zone unless that is 0.
pub fn ip_text(ip: IpAddr, index: u32) -> String {
    if index == 0 { ip.to_string() } else { format!("{ip}%{}", zone_text(index)) }
}

/// An IP address and port as a user writes them.
pub fn inet_text(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) => format!("[{}]:{}", ip_text((*v6.ip()).into(), v6.scope_id()), v6.port()),
        SocketAddr::V4(v4) => v4.to_string(),
    }
}

/// The address of a socket as a user writes it.
pub fn text_of(address: &SockAddr) -> String {
    match (address.as_socket(), address.as_pathname(), address.as_abstract_namespace()) {
        (Some(inet), ..) => inet_text(&inet),
        (_, Some(path), _) => format!("unix:{}", path.display()),
        (.., Some(name)) => format!("unix:@{}", String::from_utf8_lossy(name)),
        _ => "?".into(),
    }
}

// ---- sockets for both versions of IP ----------------------------------------------------------------------------------

/// An IPv4 address that a socket for both versions of IP gives in the form of IPv6 (RFC 4291 section 2.5.5.2), as an
/// IPv4 address.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(address, |v4| (v4, v6.port()).into()),
        SocketAddr::V4(_) => address,
    }
}

/// The address in the form that an IPv6 socket takes.
pub fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            (":0", "0.0.0.0:0"),
            ("*:80", "*:80"),
            ("[fe80::1%lo]:80", "[fe80::1%lo]:80"),
            ("[fe80::1%1]:80", "[fe80::1%lo]:80"),
            ("[fe80::1%4294967295]:80", "[fe80::1%4294967295]:80"),
            ("[::]:65535", "[::]:65535"),
            ("[::1]:1", "[::1]:1"),
            ("unix:/tmp/a:b", "unix:/tmp/a:b"),
            ("unix:@name", "unix:@name"),
        ] {
            assert_eq!(Address::parse(text).expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, why) in [
            ("", "has no port"),
            ("8080", "has no port"),
            ("127.0.0.1:", "is no number"),
            ("127.0.0.1:+1", "is no number"),
            (":70000", "the port 70000, the limit is 65535"),
            ("example.com:80", "host names are not looked up"),
            ("::1:80", "need brackets"),
            ("[::1:80", "need brackets"),
            ("[127.0.0.1]:80", "no IPv6 address"),
            ("[127.0.0.1%lo]:80", "no IPv6 address"),
            ("127.0.0.1%lo:80", "no IPv4 address"),
            ("[*]:80", "no IPv6 address"),
            ("**:80", "no IPv4 address"),
            ("unix:", "no usable path"),
            (long.as_str(), "has a path of 108 bytes, the limit is 107"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.starts_with("address \""), "{error}");
        }
    }

    #[test]
    fn a_zone_without_an_interface_is_an_error_that_names_it() {
        for (text, zone) in [("[fe80::1%no-such]:80", "no-such"), ("[fe80::1%]:80", ""), ("[fe80::1%0]:80", "0")] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("no network interface {zone:?}")) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn an_ip_address_with_a_zone_is_read_as_it_is_written() {
        for text in ["127.0.0.1", "::1", "fe80::1%lo", "fe80::1%4294967295"] {
            let (ip, index) = parse_ip(text).expect(text).expect(text);
            assert_eq!(ip_text(ip, index), text);
        }
        assert!(parse_ip("127.0.0.1%lo").is_none() && parse_ip("x").is_none());
        assert!(parse_ip("fe80::1%no-such").is_some_and(|found| found.is_err()));
    }

    #[test]
    fn an_ipv4_address_on_an_ipv6_socket_is_shown_as_ipv4() {
        let address = |text: &str| text.parse::<SocketAddr>().expect(text);
        for (ours, theirs) in [("192.0.2.1:80", "[::ffff:192.0.2.1]:80"), ("[2001:db8::1]:80", "[2001:db8::1]:80")] {
            assert_eq!(mapped(address(ours)), address(theirs));
            assert_eq!(unmapped(address(theirs)), address(ours));
            assert_eq!(unmapped(address(ours)), address(ours));
        }
    }

    #[test]
    fn a_target_is_an_address_or_a_host_name() {
        for text in ["127.0.0.1:80", "[::1]:80", "[fe80::1%lo]:80", "unix:/tmp/a", "unix:@name"] {
            assert!(
                matches!(Target::parse(text).expect(text), Target::Address(address) if address.to_string() == text)
            );
        }
        for text in ["localhost:80", "a-b.example.com:443", "example.com.:1", "_srv.x:1", "1a:1", "bücher.example:80"]
        {
            assert!(matches!(Target::parse(text).expect(text), Target::Host { .. }), "{text}");
            assert_eq!(Target::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_said() {
        for (text, why) in [
            ("localhost", "has no port"),
            ("localhost:", "is no number"),
            ("localhost:70000", "the limit is 65535"),
            ("localhost:0", "has the port 0"),
            ("127.0.0.1:0", "has the port 0"),
            (":80", "names no host"),
            ("[::]:80", "names no host"),
            ("*:80", "names no host"),
            ("a..b:80", "no IPv4 address"),
            ("256.1.1.1:80", "no IPv4 address"),
            ("a b:80", "no IPv4 address"),
            ("::1:80", "need brackets"),
        ] {
            let error = Target::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.starts_with("address \""), "{error}");
        }
    }

    #[test]
    fn a_name_has_labels_of_63_and_253_characters_in_all() {
        let is_host = |name: &str| matches!(Target::parse(&format!("{name}:80")), Ok(Target::Host { .. }));
        let label = |len: usize| "x".repeat(len);
        assert!(is_host(&label(63)) && !is_host(&label(64)));
        let of_len = |len: usize| format!("{0}.{0}.{0}.{1}", label(63), label(len - 3 * 64));
        assert!(is_host(&of_len(253)) && !is_host(&of_len(254)));
        for name in ["a.b.1", "1", "a b", "a/b", ".", "a..b", "256.1.1.1"] {
            assert!(!is_host(name), "{name}");
        }
    }

    #[test]
    fn a_unix_name_has_at_most_107_bytes_and_no_zero_byte() {
        for prefix in ["unix:", "unix:@"] {
            let parse = |len: usize| Address::parse(&format!("{prefix}{}", "x".repeat(len)));
            let longest = parse(107).expect("a name of 107 bytes");
            assert!(longest.to_system().is_ok() && parse(108).is_err(), "{prefix}");
        }
        for text in ["unix:@", "unix:a\0b", "unix:@a\0b"] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_unix_name_is_a_path_or_an_abstract_name_for_the_system_too() {
        let system = |text: &str| match Address::parse(text).expect(text) {
            Address::Unix(name) => name.to_system().expect(text),
            Address::Inet(_) => panic!("{text} is a Unix name"),
        };
        assert_eq!(system("unix:/tmp/a").as_pathname(), Some(std::path::Path::new("/tmp/a")));
        assert_eq!(system("unix:@name").as_abstract_namespace(), Some(&b"name"[..]));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()).expect("canonical"), address);
            }
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(&target.to_string()).expect("canonical"), target);
            }
        }
    }
}
