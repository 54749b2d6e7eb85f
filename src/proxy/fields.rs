//! The fields behind the addresses of version 2: type, length and value.

use super::header::{Header, Malformed};

/// The types of fields that have a meaning here.
pub mod kind {
    #![allow(missing_docs, reason = "they are those of HAProxy's text")]
    pub const ALPN: u8 = 0x01;
    pub const AUTHORITY: u8 = 0x02;
    pub const CRC32C: u8 = 0x03;
    pub const UNIQUE_ID: u8 = 0x05;
    pub const TLS: u8 = 0x20;
    pub const NAMESPACE: u8 = 0x30;
}

/// The fields inside of the one about TLS.
mod tls {
    pub const VERSION: u8 = 0x21;
    pub const COMMON_NAME: u8 = 0x22;
    pub const CIPHER: u8 = 0x23;
    pub const SIGNATURE_ALGORITHM: u8 = 0x24;
    pub const KEY_ALGORITHM: u8 = 0x25;

    pub const USED: u8 = 0x01;
    pub const CERTIFICATE_NOW: u8 = 0x02;
    pub const CERTIFICATE_BEFORE: u8 = 0x04;
}

/// The bytes before a value.
pub const START: usize = 3;

/// Reads fields to the end of the bytes.
pub fn parse(bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, Malformed> {
    let each = split(bytes).map(|field| field.map(|(kind, value)| (kind, value.to_vec())));
    each.collect::<Option<_>>().map_or_else(|| Malformed::new("a field that is cut"), Ok)
}

/// The fields in `bytes`; `None` for one that is cut.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    std::iter::from_fn(move || {
        let [kind, high, low, behind @ ..] = bytes else {
            return (!std::mem::take(&mut bytes).is_empty()).then_some(None);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let field = behind.split_at_checked(length).map(|(value, rest)| ((*kind, value), rest));
        bytes = field.map_or(&[], |(_, rest)| rest);
        Some(field.map(|(field, _)| field))
    })
}

impl Header {
    /// The TLS between the client and the proxy, if there is any.
    pub fn tls(&self) -> Option<ClientTls<'_>> {
        ClientTls::parse(self.field(kind::TLS)?).filter(ClientTls::is_used)
    }
}

/// The TLS between a client and its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTls<'a> {
    flags: u8,
    is_verified: bool,
    /// The version, such as `TLSv1.3`.
    pub version: Option<&'a [u8]>,
    /// The common name of the client's certificate.
    pub common_name: Option<&'a [u8]>,
    /// The cipher suite.
    pub cipher: Option<&'a [u8]>,
    /// The algorithm that signed the proxy's certificate.
    pub signature_algorithm: Option<&'a [u8]>,
    /// The algorithm of the proxy's key.
    pub key_algorithm: Option<&'a [u8]>,
}

impl<'a> ClientTls<'a> {
    /// Reads the value of a field; `None` if it is cut.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (start, rest) = value.split_at_checked(5)?;
        let (flags, is_verified) = (start[0], start[1..] == [0; 4]);
        let fields: Vec<_> = split(rest).collect::<Option<_>>()?;
        let field = |kind: u8| fields.iter().find(|(each, _)| *each == kind).map(|(_, value)| *value);
        Some(Self {
            flags,
            is_verified,
            version: field(tls::VERSION),
            common_name: field(tls::COMMON_NAME),
            cipher: field(tls::CIPHER),
            signature_algorithm: field(tls::SIGNATURE_ALGORITHM),
            key_algorithm: field(tls::KEY_ALGORITHM),
        })
    }

    /// Whether the client speaks TLS at all.
    pub fn is_used(&self) -> bool {
        self.flags & tls::USED != 0
    }

    /// Whether the client showed a certificate, on this connection or when its session began.
    pub fn has_certificate(&self) -> bool {
        self.flags & (tls::CERTIFICATE_NOW | tls::CERTIFICATE_BEFORE) != 0
    }

    /// Whether the proxy accepted the certificate. HAProxy says the same without any, so both are asked.
    pub fn is_verified(&self) -> bool {
        self.has_certificate() && self.is_verified
    }
}
