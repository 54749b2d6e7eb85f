//! The addresses that a user writes: `host:port`, `:port`, `[v6]:port`, `unix:/path`, `unix:@name`.
//!
//! This module only parses; it never looks up a host name. `:port` stands for every IPv4 address, `[::]:port` for
//! every IPv6 address. `unix:@name` is a name in Linux's abstract namespace (unix(7)). A [`Target`] of a connect may
//! also be a host name.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use socket2::SockAddr;

use crate::error::Error;

/// A Unix address has room for 108 bytes; one of them is the terminating zero (unix(7)).
const UNIX_PATH_MAX: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(UnixName),
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
            Error::Argument(format!(
                "address {text:?} {why}; expected \"127.0.0.1:8080\", \":8080\", \"[::1]:8080\" or \"unix:/path\""
            ))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return UnixName::parse(path).map(Self::Unix).map_err(refuse);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(refuse("has no port".into()));
        };
        let port = parse_port(port).map_err(refuse)?;
        let ip = parse_host(host).map_err(refuse)?;
        Ok(Self::Inet(SocketAddr::new(ip, port)))
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
        if path.len() > UNIX_PATH_MAX {
            return Err(format!("has a path of {} bytes, the limit is {UNIX_PATH_MAX}", path.len()));
        }
        Ok(if is_abstract { Self::Abstract(name.into()) } else { Self::Path(path.into()) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(out),
            Self::Unix(UnixName::Path(path)) => write!(out, "unix:{}", path.display()),
            Self::Unix(UnixName::Abstract(name)) => write!(out, "unix:@{name}"),
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
    /// Parses a target as a user writes it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            let forms = "\"example.com:80\", \"127.0.0.1:80\", \"[::1]:80\" or \"unix:/path\"";
            Error::Argument(format!("address {text:?} {why}; expected {forms}"))
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
            Self::Address(Address::Inet(address)) if address.port() == 0 => {
                Err(refuse("has the port 0, which nobody can listen on"))
            }
            Self::Address(Address::Inet(address)) if address.ip().is_unspecified() => {
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

fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().map(Into::into).map_err(|_| format!("has no IPv6 address in {text}"));
    }
    text.parse::<Ipv4Addr>().map(Into::into).map_err(|_| {
        let hint = if text.contains(':') { "IPv6 addresses need brackets" } else { "host names are not looked up" };
        format!("has the host {text:?}, which is no IPv4 address ({hint})")
    })
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
            ("unix:", "no usable path"),
            (long.as_str(), "has a path of 108 bytes, the limit is 107"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.starts_with("address \""), "{error}");
        }
    }

    #[test]
    fn a_target_is_an_address_or_a_host_name() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/tmp/a", "unix:@name"] {
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
        let parse = |len: usize| Address::parse(&format!("unix:{}", "x".repeat(len)));
        assert!(parse(107).is_ok() && parse(108).is_err());
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
