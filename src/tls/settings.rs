//! The settings that servers and clients have in common.

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use crate::error::Error;

/// The longest name of a protocol, bytes (RFC 7301 section 3.1).
pub const LONGEST_ALPN: usize = 255;

/// The most bytes of all names of protocols, each with its length (RFC 7301 section 3.1).
const LONGEST_ALPN_LIST: usize = 65_535;

/// The cryptography of every context: that of aws-lc.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| aws_lc_rs::default_provider().into());
    &PROVIDER
}

/// The oldest version of TLS that a context speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinimumVersion {
    /// TLS 1.2 (RFC 5246)
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    Tls13,
}

impl MinimumVersion {
    /// The version by its name, `TLSv1.2` or `TLSv1.3`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "TLSv1.2" => Ok(Self::Tls12),
            "TLSv1.3" => Ok(Self::Tls13),
            _ => {
                let why = match text {
                    "TLSv1" | "TLSv1.0" | "TLSv1.1" | "SSLv2" | "SSLv3" => ", because older ones are broken (RFC 8996)",
                    _ => "",
                };
                let text = format!("minimum_version must be \"TLSv1.2\" or \"TLSv1.3\", not {text:?}{why}");
                Err(Error::argument(text))
            }
        }
    }

    /// The name of the version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }

    /// The versions from this one on.
    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Tls12 => &FROM_12,
            Self::Tls13 => &FROM_12[..1],
        }
    }
}

/// Returns an error unless each name of a protocol has a length that can be sent.
pub(super) fn check_alpn(alpn: &[Vec<u8>]) -> Result<(), Error> {
    for name in alpn {
        if name.is_empty() || name.len() > LONGEST_ALPN {
            let start = name[..name.len().min(20)].escape_ascii();
            let text = format!("alpn names must have 1 to {LONGEST_ALPN} bytes, not {} (\"{start}\")", name.len());
            return Err(Error::argument(text));
        }
    }
    let bytes: usize = alpn.iter().map(|name| 1 + name.len()).sum();
    if bytes > LONGEST_ALPN_LIST {
        let text = format!("alpn must have at most {LONGEST_ALPN_LIST} bytes with its lengths, not {bytes}");
        return Err(Error::argument(text));
    }
    Ok(())
}
