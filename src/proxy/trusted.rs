//! The peers that may send a header: addresses, networks, and peers of Unix sockets.

use std::net::IpAddr;

use crate::error::Error;

/// The entry that stands for all peers of Unix sockets.
const UNIX: &str = "unix:";

/// The trusted peers of an acceptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    networks: Vec<Network>,
    unix: bool,
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    /// The number of those bits.
    prefix: u32,
}

impl Trusted {
    /// Parses the entries of the option `proxy_from`.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut trusted = Self::default();
        for entry in entries {
            if entry == UNIX {
                trusted.unix = true;
                continue;
            }
            let network = Network::parse(entry);
            trusted.networks.push(network.map_err(|why| Error::argument(format!("proxy_from: {entry:?} {why}")))?);
        }
        if trusted == Self::default() {
            let text = "proxy_from must name at least one proxy: an empty list would refuse every peer";
            return Err(Error::argument(text.into()));
        }
        Ok(trusted)
    }

    /// Whether a peer may send a header; a peer without an address has a Unix socket.
    pub fn holds(&self, peer: Option<IpAddr>) -> bool {
        peer.map_or(self.unix, |peer| self.networks.iter().any(|network| network.holds(peer)))
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let Ok(first) = ip.parse::<IpAddr>() else {
            let hint = match ip {
                ip if ip.starts_with(UNIX) => "; \"unix:\" alone stands for the peers of Unix sockets",
                ip if ip.contains('%') => "; zones are not told apart",
                ip if ip.starts_with('[') => "; write it without brackets and port",
                _ => "; host names are not looked up",
            };
            return Err(format!("is no IP address and no network{hint}"));
        };
        if let IpAddr::V4(v4) = first.to_canonical()
            && first.is_ipv6()
        {
            return Err(format!("is never a peer's address: IPv4 peers have IPv4 addresses, here {v4}"));
        }
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) => {
                let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
                number
                    .filter(|number| *number <= bits)
                    .ok_or_else(|| format!("has the prefix {text:?}; it must be a number from 0 to {bits}"))?
            }
        };
        let network = Self { first, prefix };
        match network.start(first) {
            start if start == first => Ok(network),
            start => Err(format!("has bits behind its prefix; that network is \"{start}/{prefix}\"")),
        }
    }

    fn holds(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.start(ip) == self.first
    }

    /// An address with zeros behind the prefix.
    fn start(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(entries: &[&str]) -> Result<Trusted, String> {
        Trusted::parse(entries.iter().copied()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let all = [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "127.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
        ];
        for (network, inside, outside) in all {
            let trusted = trusted(&[network]).expect(network);
            let holds = |ip: &str| trusted.holds(Some(ip.parse().expect(ip)));
            assert!(holds(inside) && !holds(outside) && !trusted.holds(None), "{network}");
        }
        let both = trusted(&["::1", "10.0.0.0/8", "unix:"]).expect("three entries");
        assert!(both.holds(None) && both.holds(Some([10, 0, 0, 1].into())));
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let all = [
            ("", "host names"),
            ("example.com", "host names"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/", "prefix \"\""),
            ("10.0.0.0/+8", "prefix \"+8\""),
            ("10.0.0.0/-1", "prefix \"-1\""),
            ("10.0.0.0/255.0.0.0", "prefix"),
            ("10.0.0.1/8", "\"10.0.0.0/8\""),
            ("::1/129", "from 0 to 128"),
            ("2001:db8::1/32", "\"2001:db8::/32\""),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fe80::1%eth0", "zones"),
            ("[::1]", "brackets"),
            ("127.0.0.1:80", "host names"),
            ("unix:/run/x", "alone"),
            ("10.0.0", "host names"),
            (" 10.0.0.1", "host names"),
        ];
        for (entry, hint) in all {
            let error = trusted(&["127.0.0.1", entry]).expect_err(entry);
            assert!(error.contains(&format!("{entry:?}")) && error.contains(hint), "{error}");
        }
        assert!(trusted(&[]).expect_err("empty").contains("at least one"));
    }
}
