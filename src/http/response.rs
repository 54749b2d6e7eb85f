//! The head of an answer (RFC 9112 section 4, RFC 9110 sections 6.6.1, 8.6 and 15).

use std::io::Write;

use super::{Refusal, Version, alphanumeric_and};

/// Why an answer cannot be sent so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// How the peer knows where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// There is none.
    Empty,
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A head that is being written.
pub struct Head {
    bytes: Vec<u8>,
    status: u16,
    length: Option<u64>,
    has_date: bool,
    has_upgrade: bool,
    /// Fields ask for the connection to end, or to go on.
    closes: bool,
    keeps: bool,
}

impl Head {
    /// The status line, into an empty `buffer`.
    pub fn new(mut buffer: Vec<u8>, status: u16) -> Self {
        buffer.clear();
        match status {
            200 => buffer.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            // Writing to memory does not fail.
            _ => drop(write!(buffer, "HTTP/1.1 {status} {}\r\n", reason(status))),
        }
        Self { bytes: buffer, status, length: None, has_date: false, has_upgrade: false, closes: false, keeps: false }
    }

    /// One field. An error if it is malformed, or one that only the server can know.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unfit> {
        if name.is_empty() || !name.iter().all(|byte| TOKEN[usize::from(*byte)]) {
            return Err(Unfit(format!("a field name must be a token, not {:?}", latin1(name))));
        }
        // Without a branch for each byte: they are fine as a rule.
        let is_control = |byte: u8| ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f);
        if value.iter().fold(false, |found, byte| found | is_control(*byte)) {
            return Err(Unfit(format!("a control character in the field {}: {:?}", latin1(name), latin1(value))));
        }
        match name.len() {
            4 => self.has_date |= name.eq_ignore_ascii_case(b"date"),
            7 => self.has_upgrade |= name.eq_ignore_ascii_case(b"upgrade"),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.closes |= option.eq_ignore_ascii_case(b"close");
                    self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.note_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                return Err(Unfit("transfer-encoding is the server's to choose".into()));
            }
            _ => {}
        }
        for part in [name, b": ", value, b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }

    /// It is written at the end, once.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Unfit> {
        let digits = std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        let unfit = || Unfit(format!("content-length must be a number, once, not '{}'", value.escape_ascii()));
        match (length, self.length) {
            (Some(length), None) => self.length = Some(length),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    /// The length that was given.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether a field says that the connection ends behind the answer.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether a field names another protocol.
    pub fn has_upgrade(&self) -> bool {
        self.has_upgrade
    }

    /// Whether another protocol follows.
    pub fn is_switch(&self) -> bool {
        self.status == 101
    }

    /// Whether it is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the answer may have a body, apart from that to `HEAD`.
    pub fn may_have_body(&self) -> bool {
        self.status >= 200 && !matches!(self.status, 204 | 205 | 304)
    }

    /// The rest, and the empty line. Returns also whether the connection ends behind the answer.
    pub fn finish(mut self, framed: Framed, date: &[u8], peer: Version, keep_alive: bool) -> (Vec<u8>, bool) {
        // RFC 9110 sections 8.6 and 15.3.6: none in 1xx and 204; in 304 only what a 200 would have had; 0 in 205.
        let length = match framed {
            Framed::Empty if self.status == 304 => self.length,
            Framed::Empty if self.status == 205 => Some(0),
            Framed::Length(length) => Some(length),
            _ => None,
        };
        if let Some(length) = length {
            for part in [&b"Content-Length: "[..], itoa::Buffer::new().format(length).as_bytes(), b"\r\n"] {
                self.bytes.extend_from_slice(part);
            }
        }
        if framed == Framed::Chunked {
            self.bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if !self.has_date && self.status >= 200 {
            for part in [b"Date: ", date, b"\r\n"] {
                self.bytes.extend_from_slice(part);
            }
        }
        let closes = self.closes || !keep_alive || framed == Framed::UntilClose;
        let field: &[u8] = match peer {
            _ if self.status < 200 => b"",
            _ if closes && !self.closes => b"Connection: close\r\n",
            Version::Http10 if !closes && !self.keeps => b"Connection: keep-alive\r\n",
            _ => b"",
        };
        self.bytes.extend_from_slice(field);
        self.bytes.extend_from_slice(b"\r\n");
        (self.bytes, closes)
    }
}

/// A whole answer to what is no request, behind which the connection ends.
pub fn error_answer(refusal: Refusal, date: &[u8]) -> Vec<u8> {
    let body = format!("{refusal}\n");
    let mut head = Head::new(Vec::new(), refusal.status);
    // Nothing in it is anybody else's, so it is well formed.
    let _ = head.field(b"Content-Type", b"text/plain; charset=utf-8");
    let (mut bytes, _) = head.finish(Framed::Length(body.len() as u64), date, Version::Http11, false);
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// `tchar` (RFC 9110 section 5.6.2)
static TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// The reason phrase, for people (RFC 9110 section 15 and the registry of status codes).
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
