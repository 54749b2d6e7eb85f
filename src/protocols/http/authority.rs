//! The host and the port that a `Host` field or a target names (RFC 3986 section 3.2, RFC 9110 section 7.2).
//!
//! Pure checks of form; no name is looked up. A zone of an IPv6 address means something on its own host only, and is
//! refused (RFC 6874 section 4).

use std::net::Ipv6Addr;

use super::characters::{alphanumeric_and, are_all_in, behind_digits};

/// `unreserved` and `sub-delims` (RFC 3986 section 2).
static NAME: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+,;=");

/// Whether `value` is a host, possibly with a port; both may be empty, but there is no port without a host.
#[inline]
pub(super) fn is_authority(value: &[u8]) -> bool {
    // Most hosts are a plain name, and many have no port.
    are_all_in(&NAME, value) || parts(value).is_some()
}

/// Whether `value` is a host with a port that a connection can be made to, as `CONNECT` needs it (RFC 9110 section
/// 9.3.6).
pub(super) fn is_host_and_port(value: &[u8]) -> bool {
    let port = parts(value).and_then(|(host, port)| port.filter(|_| !host.is_empty()));
    port.is_some_and(|port| std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok()))
}

/// The host and the port; `None` if one of them is malformed.
#[inline(never)]
fn parts(value: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (host, rest) = match value {
        [b'[', inside @ ..] => {
            let end = memchr::memchr(b']', inside)?;
            is_literal(&inside[..end]).then_some(value.split_at(end + 2))?
        }
        _ => {
            let (host, rest) = value.split_at(memchr::memchr(b':', value).unwrap_or(value.len()));
            is_name(host).then_some((host, rest))?
        }
    };
    match rest {
        [] => Some((host, None)),
        // RFC 9110 section 4.2.1: a URI whose host is empty is invalid.
        [b':', port @ ..] if !host.is_empty() && port.iter().all(u8::is_ascii_digit) => Some((host, Some(port))),
        _ => None,
    }
}

/// `reg-name`, of which every IPv4 address is one.
fn is_name(host: &[u8]) -> bool {
    are_all_in(&NAME, host) || is_escaped_name(host)
}

/// As [`is_name`], for the rare name with a percent sign: two hexadecimal digits follow each.
#[cold]
fn is_escaped_name(host: &[u8]) -> bool {
    let mut parts = host.split(|byte| *byte == b'%');
    let is_plain = |part: &[u8]| are_all_in(&NAME, part);
    parts.next().is_some_and(is_plain) && parts.all(|part| behind_digits(part).is_some_and(is_plain))
}

/// The part of an `IP-literal` within its brackets.
fn is_literal(inside: &[u8]) -> bool {
    match inside {
        [b'v' | b'V', future @ ..] => is_future(future),
        _ => std::str::from_utf8(inside).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()),
    }
}

/// `IPvFuture` without its `v`.
fn is_future(future: &[u8]) -> bool {
    let Some(dot) = memchr::memchr(b'.', future) else { return false };
    let (version, address) = (&future[..dot], &future[dot + 1..]);
    let is_of_address = |byte: &u8| *byte == b':' || NAME[usize::from(*byte)];
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address.iter().all(is_of_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_of_the_forms_of_rfc_3986() {
        for host in [
            "",
            "a",
            "a.b",
            "a.b.",
            "1.2.3.4",
            "999.1",
            "a_b~c!$&'()*+,;=",
            "%41%7a%E9",
            "a%2Fb",
            "[::]",
            "[::1]",
            "[1:2:3:4:5:6:7:8]",
            "[1:2:3:4:5:6:7::]",
            "[fe80::aBcD]",
            "[::ffff:1.2.3.4]",
            "[v1.a:b]",
            "[VfF.~]",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
            let with_port = format!("{host}:80");
            assert_eq!(is_authority(with_port.as_bytes()), !host.is_empty(), "{with_port}");
            assert_eq!(is_authority(format!("{host}:").as_bytes()), !host.is_empty(), "{host}");
        }
    }

    #[test]
    fn anything_else_is_no_host() {
        for host in [
            "a%zz",
            "a%4",
            "%",
            "a%",
            "%%41",
            "a%4g",
            "[:::::]",
            "[:]",
            "[]",
            "[",
            "[::1",
            "::1",
            "[::1]a",
            "[::1]80",
            "[1:2:3:4:5:6:7]",
            "[1:2:3:4:5:6:7:8:9]",
            "[1::2::3]",
            "[12345::]",
            "[::1.2.3]",
            "[::1.2.3.256]",
            "[::1.2.3.4:5]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[v.a]",
            "[v1.]",
            "[v1]",
            "[vg.a]",
            "[v1.a/b]",
            "[v1.%41]",
            "[g::]",
            "[ ::1]",
            "a b",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "a<b",
            "a:b",
            "a:1:2",
            "a:-1",
            "a:+1",
            "a: 1",
            "a]",
            "é",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_tunnel_needs_a_host_and_a_port() {
        for whole in ["a:1", "[::1]:65535", "%41:0"] {
            assert!(is_host_and_port(whole.as_bytes()), "{whole}");
        }
        for partial in ["", "a", "a:", ":1", "a:65536", "[::1]", "a%zz:1", "[:::::]:1"] {
            assert!(!is_host_and_port(partial.as_bytes()), "{partial}");
        }
    }
}
