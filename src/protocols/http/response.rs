//! The head of an answer (RFC 9112 section 4, RFC 9110 sections 6.6.1, 8.6 and 15).

use std::io::Write;

use super::characters::{TOKEN, are_all_in};
use super::head::Version;
use super::list::members;
use super::refusal::{Refusal, reason};
use crate::error::Error;

const CLOSE: &[u8] = b"Connection: close\r\n";
const KEEP_ALIVE: &[u8] = b"Connection: keep-alive\r\n";

/// Fields that may not be trailers.
const OF_HEADS: [&[u8]; 5] = [b"content-length", b"transfer-encoding", b"connection", b"trailer", b"content-encoding"];

/// The reason why an answer cannot be sent in this form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// How the peer determines the end of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// There is no body.
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
    /// Whether a field asks to end the connection after the answer, or to keep it.
    closes: bool,
    keeps: bool,
}

impl Head {
    /// Writes the status line into `buffer`, which is cleared first.
    pub fn new(mut buffer: Vec<u8>, status: u16) -> Self {
        buffer.clear();
        match status {
            200 => buffer.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            // Writing to memory cannot fail.
            _ => drop(write!(buffer, "HTTP/1.1 {status} {}\r\n", reason(status))),
        }
        Self { bytes: buffer, status, length: None, has_date: false, has_upgrade: false, closes: false, keeps: false }
    }

    /// As [`Self::new`], with a reason phrase of the handler's own.
    pub fn with_reason(mut buffer: Vec<u8>, status: u16, reason: &[u8]) -> Result<Self, Unfit> {
        // RFC 9112 section 4
        if reason.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(Unfit(format!("a control character in the reason phrase '{}'", reason.escape_ascii())));
        }
        buffer.clear();
        // Writing to memory cannot fail.
        let _ = write!(buffer, "HTTP/1.1 {status} ");
        buffer.extend_from_slice(reason);
        buffer.extend_from_slice(b"\r\n");
        let (has_date, has_upgrade, closes, keeps) = (false, false, false, false);
        Ok(Self { bytes: buffer, status, length: None, has_date, has_upgrade, closes, keeps })
    }

    /// Writes one field. Returns an error if it is malformed, or if only the server may set it.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unfit> {
        check(name, value)?;
        match name.len() {
            4 => self.has_date |= name.eq_ignore_ascii_case(b"date"),
            7 => self.has_upgrade |= name.eq_ignore_ascii_case(b"upgrade"),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in members(value) {
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

    /// Stores the length; `finish` writes it once.
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

    /// A copy in `buffer`, which is cleared first.
    pub fn copied_into(&self, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        Self { bytes: buffer, ..*self }
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of the head up to now.
    #[allow(clippy::len_without_is_empty, reason = "a head has a status line at least")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Sets the length, which no field has given.
    pub fn set_length(&mut self, length: u64) {
        self.length = Some(length);
    }

    /// The length that a field gave.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether a field says that the connection ends after the answer.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether a field names another protocol.
    pub fn has_upgrade(&self) -> bool {
        self.has_upgrade
    }

    /// Whether the answer switches to another protocol (status 101).
    pub fn is_switch(&self) -> bool {
        self.status == 101
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether an answer of this status may have a body; an answer to `HEAD` never has one.
    pub fn may_have_body(&self) -> bool {
        self.status >= 200 && !matches!(self.status, 204 | 205 | 304)
    }

    /// Writes the remaining fields and the empty line. Also returns whether the connection ends after the answer.
    pub fn finish(mut self, framed: Framed, date: &[u8; 29], peer: Version, keep_alive: bool) -> (Vec<u8>, bool) {
        // RFC 9110 sections 8.6 and 15.3.6: no length in 1xx and 204; in 304 only the length of a 200; 0 in 205.
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
            for part in [&b"Date: "[..], date, b"\r\n"] {
                self.bytes.extend_from_slice(part);
            }
        }
        let closes = self.closes || !keep_alive || framed == Framed::UntilClose;
        let field: &[u8] = match peer {
            _ if self.status < 200 => b"",
            _ if closes && !self.closes => CLOSE,
            Version::Http10 if !closes && !self.keeps => KEEP_ALIVE,
            _ => b"",
        };
        self.bytes.extend_from_slice(field);
        self.bytes.extend_from_slice(b"\r\n");
        (self.bytes, closes)
    }
}

/// Refuses a field that would break a head.
#[inline(always)]
fn check(name: &[u8], value: &[u8]) -> Result<(), Unfit> {
    if name.is_empty() || !are_all_in(&TOKEN, name) {
        return Err(Unfit(format!("a field name must be a token, not {:?}", latin1(name))));
    }
    // No branch for each byte, because nearly all values are fine.
    let is_control = |byte: u8| ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f);
    if value.iter().fold(false, |found, byte| found | is_control(*byte)) {
        return Err(Unfit(format!("a control character in the field {}: {:?}", latin1(name), latin1(value))));
    }
    Ok(())
}

/// Adds a line to the trailers of a body in chunks. Returns an error if it is malformed, or if it would have a meaning
/// for the framing (RFC 9110 section 6.5.1).
pub fn add_trailer(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Unfit> {
    check(name, value)?;
    if OF_HEADS.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        return Err(Unfit(format!("{} belongs into the head of an answer, not into its trailers", latin1(name))));
    }
    for part in [name, b": ", value, b"\r\n"] {
        lines.extend_from_slice(part);
    }
    Ok(())
}

/// A whole answer that reports an error; the connection ends after it. With `is_head` it answers a `HEAD`, and has no
/// body.
pub fn error_answer(refusal: Refusal, date: &[u8; 29], is_head: bool) -> Vec<u8> {
    let body = format!("{refusal}\n");
    let mut head = Head::new(Vec::new(), refusal.status);
    // Cannot fail: nothing in the field comes from outside.
    let _ = head.field(b"Content-Type", b"text/plain; charset=utf-8");
    let (mut bytes, _) = head.finish(Framed::Length(body.len() as u64), date, Version::Http11, false);
    if !is_head {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

/// Adds `Connection: close` to the head at the front of the first part of an answer, because no answer follows (RFC
/// 9112 section 9.6). `None` if the part has no whole head, or the head is one of an interim answer.
pub(super) fn closing(part: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memmem::find(part, b"\r\n\r\n")? + 2;
    if part.get(b"HTTP/1.1 ".len()) == Some(&b'1') {
        return None;
    }
    let mut closing = Vec::with_capacity(part.len() + CLOSE.len());
    for line in part[..end].split_inclusive(|byte| *byte == b'\n').filter(|line| !line.eq_ignore_ascii_case(KEEP_ALIVE))
    {
        closing.extend_from_slice(line);
    }
    closing.extend_from_slice(CLOSE);
    closing.extend_from_slice(&part[end..]);
    Some(closing)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        Self::argument(unfit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: [u8; 29] = *b"Sun, 06 Nov 1994 08:49:37 GMT";

    /// The head of an answer with these fields, and whether the connection ends after it.
    fn finished(fields: &[(&str, &str)], peer: Version) -> (String, bool) {
        let mut head = Head::new(Vec::new(), 200);
        for (name, value) in fields {
            head.field(name.as_bytes(), value.as_bytes()).expect("it is well formed");
        }
        let (bytes, closes) = head.finish(Framed::Length(2), &DATE, peer, true);
        (String::from_utf8(bytes).expect("it is text"), closes)
    }

    #[test]
    fn a_field_that_would_break_the_head_is_refused() {
        let mut head = Head::new(Vec::new(), 200);
        for name in ["", "a b", "a:", "a\r", "\u{e4}"] {
            assert!(head.field(name.as_bytes(), b"x").is_err(), "{name:?}");
        }
        let text = |unfit: Result<(), Unfit>| unfit.map_err(|unfit| unfit.0);
        assert_eq!(text(head.field(b"a b", b"")), Err("a field name must be a token, not \"a b\"".into()));
        assert_eq!(text(head.field(b"a", b"\n\xe4")), Err("a control character in the field a: \"\\n\u{e4}\"".into()));
        for byte in 0..=255_u8 {
            let is_control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
            for value in [vec![byte], vec![byte, byte], vec![byte, b'x']] {
                assert_eq!(head.field(b"a", &value).is_err(), is_control, "{value:?}");
            }
        }
    }

    #[test]
    fn the_server_chooses_the_framing_of_a_body() {
        let mut head = Head::new(Vec::new(), 200);
        assert!(head.field(b"Transfer-Encoding", b"chunked").is_err());
        assert!(head.field(b"Content-Length", b"x").is_err());
        assert_eq!(head.length(), None);
        assert!(head.field(b"Content-Length", b"2").is_ok());
        assert_eq!(head.length(), Some(2));
        assert!(head.field(b"Content-Length", b"2").is_err(), "once");
        // Other names of the same lengths.
        assert!(head.field(b"X-Forwarded-Proto", b"chunked").is_ok());
        assert!(head.field(b"Accept-Charset", b"x").is_ok());
    }

    #[test]
    fn fields_of_the_server_are_added_unless_they_are_given() {
        let date = format!("Date: {}\r\n", str::from_utf8(&DATE).expect("it is text"));
        let plain = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{date}");
        assert_eq!(finished(&[], Version::Http11), (format!("{plain}\r\n"), false));
        assert_eq!(finished(&[], Version::Http10), (format!("{plain}Connection: keep-alive\r\n\r\n"), false));
        for (field, peer, closes) in [
            (("Date", "now"), Version::Http11, false),
            (("Connection", "x, Keep-Alive"), Version::Http10, false),
            (("Connection", "Close,x"), Version::Http11, true),
        ] {
            let rest = if field.0 == "Date" { "" } else { &date };
            let expected = format!("HTTP/1.1 200 OK\r\n{}: {}\r\nContent-Length: 2\r\n{rest}\r\n", field.0, field.1);
            assert_eq!(finished(&[field], peer), (expected, closes));
            // A field of another name changes nothing.
            let other = finished(&[field, ("From", "x"), ("X-Fifty", "x"), ("Keep-Alive", "close")], peer);
            assert_eq!((other.0.matches(field.1).count(), other.1), (1, closes));
        }
    }

    #[test]
    fn an_interim_answer_has_only_its_own_fields() {
        let (bytes, closes) = Head::new(Vec::new(), 103).finish(Framed::Empty, &DATE, Version::Http11, false);
        assert_eq!((&bytes[..], closes), (&b"HTTP/1.1 103 \r\n\r\n"[..], true));
    }

    #[test]
    fn a_head_tells_of_the_fields_that_change_the_connection() {
        let state = |fields: &[(&str, &str)]| {
            let mut head = Head::new(Vec::new(), 101);
            fields.iter().for_each(|(name, value)| head.field(name.as_bytes(), value.as_bytes()).expect("it is fine"));
            (head.has_upgrade(), head.closes())
        };
        assert_eq!(state(&[("Trailer", "close"), ("Connection", "upgrade")]), (false, false));
        assert_eq!(state(&[("Upgrade", "x"), ("Trailer", "x")]), (true, false));
        assert_eq!(state(&[("Connection", "close"), ("Connection", "x")]), (false, true));
    }
}
