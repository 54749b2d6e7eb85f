//! The reasons for which a socket is closed before it has a handler: its peer is not trusted, or sent no header.

use std::time::Duration;

use super::header::Malformed;

/// The reason of a refusal.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The peer is none of the proxies that may send a header.
    #[error("proxy_from does not name it")]
    Untrusted,
    /// No whole header came in time.
    #[error("no whole PROXY header came within handshake_timeout={} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection ended before the header was whole.
    #[error("the connection ended before its PROXY header was whole{}", .0.as_ref().map_or_else(String::new, |error| format!(": {error}")))]
    Cut(Option<std::io::Error>),
    /// The peer sent something else.
    #[error("it sent {0}")]
    Malformed(#[from] Malformed),
}

impl Refusal {
    /// The number of reasons.
    pub const COUNT: usize = 4;
    /// Their names, in order.
    pub const NAMES: [&'static str; Self::COUNT] = ["untrusted", "timeout", "cut", "malformed"];

    /// The number of this reason.
    pub fn number(&self) -> usize {
        match self {
            Self::Untrusted => 0,
            Self::Timeout(_) => 1,
            Self::Cut(_) => 2,
            Self::Malformed(_) => 3,
        }
    }
}
