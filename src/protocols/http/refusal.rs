//! Refused requests: the status of the answer, and the rule that the request breaks.

use crate::error::{Violation, ViolationKind};

/// A refused request: the broken rule, and the status of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {}: {text}", reason(*.status))]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// The rule that the request breaks.
    pub text: &'static str,
}

impl Refusal {
    pub(super) const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text }
    }

    pub(super) const fn bad(text: &'static str) -> Self {
        Self::new(400, text)
    }

    /// There is no memory for a body.
    pub(super) const fn no_memory() -> Self {
        Self::new(503, "no memory for the body")
    }

    /// The error answer for a request that the handler did not answer.
    pub const fn no_answer() -> Self {
        Self::new(500, "the server gave no answer")
    }
}

impl From<Refusal> for Violation {
    fn from(refusal: Refusal) -> Self {
        let kind = if refusal == Refusal::no_memory() { ViolationKind::NoMemory } else { ViolationKind::Protocol };
        Self { protocol: "http", kind, text: refusal.to_string() }
    }
}

/// The reason phrase for human readers (RFC 9110 section 15 and the registry of status codes).
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_status_has_a_reason_phrase() {
        let described = (100..=599).filter(|status| !reason(*status).is_empty());
        let expected = [100..=101, 200..=206, 300..=304, 307..=308, 400..=417, 421..=426, 428..=429];
        let singles = [431, 451, 500, 501, 502, 503, 504, 505, 507, 511];
        assert_eq!(described.collect::<Vec<_>>(), expected.into_iter().flatten().chain(singles).collect::<Vec<_>>());
    }
}
