//! The failures of TLS on their way up: inside an [`io::Error`] of a transport, and by kinds for the counters.

use std::io;
use std::time::Duration;

use crate::error::{TlsFailure, TlsFailureKind};
use crate::tls::text;

/// The reason for which the TLS of a connection failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The stream ended without the peer's word that it is complete (close_notify, RFC 8446 section 6.1).
    Truncated,
    /// The handshake took too long.
    Timeout(Duration),
    /// A handshake or a record failed.
    Rustls(rustls::Error),
}

impl Failure {
    /// The failure of TLS that an error of a transport is, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Its kind, its alert and its text.
    pub fn describe(&self) -> TlsFailure {
        match self {
            Self::Truncated => text::truncated(),
            Self::Rustls(error) => text::failure(error),
            Self::Timeout(limit) => {
                let text = format!("the handshake did not end within handshake_timeout={} s", limit.as_secs_f64());
                TlsFailure { kind: TlsFailureKind::Protocol, alert: None, text }
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe().text)
    }
}

impl std::error::Error for Failure {}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::Rustls(error)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}

/// The kinds of failed handshakes, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The peer went away.
    Cut,
    /// The handshake took too long.
    Timeout,
    /// The certificate of the peer is missing or wrong, or ours is to the peer.
    Certificate,
    /// Both sides have nothing in common: version, cipher suite, protocol of the application.
    Incompatible,
    /// The bytes are no TLS, or break its rules, or the peer refused by an alert.
    Protocol,
}

impl FailureKind {
    /// The number of kinds.
    pub const COUNT: usize = 5;
    /// The names, in order.
    pub const NAMES: [&'static str; Self::COUNT] = ["cut", "timeout", "certificate", "incompatible", "protocol"];

    /// The kind of an error of a transport.
    pub fn of(error: &io::Error) -> Self {
        match Failure::of(error) {
            None | Some(Failure::Truncated) => Self::Cut,
            Some(Failure::Timeout(_)) => Self::Timeout,
            Some(Failure::Rustls(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol)) => {
                Self::Incompatible
            }
            Some(failure) => match failure.describe().kind {
                TlsFailureKind::Certificate => Self::Certificate,
                TlsFailureKind::Protocol | TlsFailureKind::Truncated => Self::Protocol,
            },
        }
    }
}
