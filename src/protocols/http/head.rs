//! The head of a request: the meaning of its lines for the message (RFC 9112 sections 3 and 6).
//!
//! `httparse` checks tokens and lines. This module checks everything about which two readers of one stream could
//! disagree.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use super::authority::{is_authority, is_host_and_port};
use super::characters::{TOKEN, alphanumeric_and, are_all_in, behind_digits};
use super::limits::{Limits, MOST_HEADERS};
use super::list::members;
use super::refusal::Refusal;

/// The visible characters of ASCII without `#`, which ends a target, and `%`, which begins an escape.
static UNESCAPED: [bool; 256] = alphanumeric_and(b"!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~");

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The rule that determines the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Bytes, at most `max_body`.
    Length(u32),
    Chunked,
}

/// The facts that a head states, apart from its fields. Small, because they are copied with each request; the limits
/// keep every length below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    method: u32,
    target: u32,
    /// The version of the peer.
    pub version: Version,
    /// Whether the connection stays open after the answer.
    pub keep_alive: bool,
    /// `HEAD`: the answer has no body.
    pub is_head: bool,
    /// `CONNECT`: a tunnel may follow the head.
    pub is_connect: bool,
    /// Whether another protocol may follow the head: `CONNECT`, or an `Upgrade`.
    pub may_switch: bool,
    /// The peer waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub(super) body: Body,
}

impl Facts {
    /// Length of the method, which begins the head, bytes.
    pub fn method(&self) -> usize {
        self.method as usize
    }

    /// End of the target; the target begins after the method and a space.
    pub fn target(&self) -> usize {
        self.target as usize
    }

    /// Whether the request has a body.
    pub fn has_body(&self) -> bool {
        self.body != Body::Length(0)
    }

    /// Whether the next request may be looked at before this one is answered.
    pub(super) fn is_followed(&self) -> bool {
        self.keep_alive && !self.may_switch
    }
}

/// The facts that the fields state, collected while they are read.
#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<usize>,
    codings: Codings,
    close: bool,
    keep_alive: bool,
    upgrade: (bool, bool),
    expects_continue: bool,
}

/// The end of the head at the front of the input. Its first `searched` bytes were looked at before without success.
///
/// A line must end with CR and LF. If one reader accepts a bare LF as an end and another does not, an attacker can
/// smuggle a request past one of them.
pub(super) fn end_of(input: &[u8], searched: usize, limits: &Limits) -> Result<Option<usize>, Refusal> {
    if searched == 0 && input.first().is_some_and(|byte| *byte != b'\r' && !byte.is_ascii_graphic()) {
        // Such bytes are not even a method, and a line may never come: for example a TLS handshake.
        return Err(Refusal::bad("a malformed request line"));
    }
    let line = &input[..input.len().min(limits.max_line + 2)];
    if line.len() < input.len() && memchr::memchr(b'\n', line).is_none() {
        return Err(Refusal::new(414, "a request line of more than max_line bytes"));
    }
    let within = &input[..input.len().min(limits.max_head)];
    let (before, new) = within.split_at(searched.min(within.len()));
    let mut lines = memchr::memchr_iter(b'\n', before).count();
    for at in memchr::memchr_iter(b'\n', new).map(|at| searched + at) {
        lines += 1;
        if at == 0 || input[at - 1] != b'\r' {
            return Err(Refusal::bad("a line that ends with LF alone"));
        }
        if at >= 3 && input[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
        if lines > limits.max_headers + 1 {
            return Err(Refusal::new(431, "more fields than max_headers"));
        }
    }
    if within.len() < input.len() {
        return Err(Refusal::new(431, "a head of more than max_head bytes"));
    }
    Ok(None)
}

/// The transfer codings of all fields that name some (RFC 9112 section 6.1).
#[derive(Default)]
struct Codings {
    count: usize,
    chunked: usize,
    ends_chunked: bool,
    malformed: bool,
}

impl Codings {
    fn note(&mut self, value: &[u8]) {
        for coding in members(value) {
            self.count += 1;
            self.ends_chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked += usize::from(self.ends_chunked);
            // An unknown coding may have parameters; only the form of its name is checked.
            let name = coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
            self.malformed |= name.is_empty() || !are_all_in(&TOKEN, name);
        }
    }

    /// Checks that the only coding is `chunked`, the one that goev knows. Returns `None` if there are no codings.
    fn are_chunked(&self) -> Option<Result<(), Refusal>> {
        Some(match (self.count, self.chunked) {
            (0, _) => return None,
            _ if self.malformed => Err(Refusal::bad("a malformed transfer coding")),
            (1, 1) => Ok(()),
            (_, chunked) if chunked > 1 || (chunked == 1 && !self.ends_chunked) => {
                Err(Refusal::bad("chunked is not the last transfer coding"))
            }
            _ => Err(Refusal::new(501, "an unknown transfer coding")),
        })
    }
}

/// Reads a head and its end in the common case: the head is whole and well formed. In every other case [`end_of`] and
/// [`parse`] find the part that is missing or wrong.
pub(super) fn read(input: &[u8], limits: &Limits) -> Option<(usize, Facts)> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(input, &mut space[..limits.max_headers]);
    let Ok(Status::Complete(end)) = parsed else { return None };
    // `httparse` also accepts a bare LF as the end of a line.
    let mut starts = request.headers.iter().map(|header| header.name.as_ptr().addr() - input.as_ptr().addr());
    let ends_well = |start: usize| input[..start].ends_with(b"\r\n");
    if end > limits.max_head || !input[..end].ends_with(b"\r\n\r\n") || !starts.all(ends_well) {
        return None;
    }
    let facts = facts_of(&request, limits).ok()?;
    let is_first = request.method.is_some_and(|method| method.as_ptr() == input.as_ptr());
    let line = facts.target() + " HTTP/1.1".len();
    (is_first && line <= limits.max_line).then_some((end, facts))
}

/// Reads a whole head: it begins with the request line and ends with an empty line.
pub(super) fn parse(head: &[u8], limits: &Limits) -> Result<Facts, Refusal> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut space[..limits.max_headers]) {
        Ok(Status::Complete(end)) if end == head.len() => facts_of(&request, limits),
        // Happens only if a line ends at another place than the scan found.
        Ok(_) => Err(Refusal::bad("a malformed head")),
        Err(httparse::Error::Version) => parse_other_version(head, limits),
        Err(error) => Err(refusal(error)),
    }
}

fn facts_of(request: &Request<'_, '_>, limits: &Limits) -> Result<Facts, Refusal> {
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::bad("a malformed request line"));
    };
    let mut fields = Fields::default();
    for header in &*request.headers {
        fields.note(header)?;
    }
    check_target(method, target)?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    fields.facts(method, target, version, limits)
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::bad("a malformed field name"),
        httparse::Error::HeaderValue => Refusal::bad("a control character in a field"),
        httparse::Error::TooManyHeaders => Refusal::new(431, "more fields than max_headers"),
        _ => Refusal::bad("a malformed request line"),
    }
}

/// Reads a head with a version that `httparse` does not know: a later minor version is treated as 1.1 (RFC 9110
/// section 2.5).
fn parse_other_version(head: &[u8], limits: &Limits) -> Result<Facts, Refusal> {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    let mut parts = head[..end].split(|byte| *byte == b' ').skip(2);
    match (parts.next(), parts.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']), None) => {
            let mut known = head.to_vec();
            known[end - 1] = b'1';
            parse(&known, limits)
        }
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::new(505, "only HTTP/1 is spoken"))
        }
        _ => Err(Refusal::bad("a malformed request line")),
    }
}

/// Checks that the form of the target fits the method (RFC 9112 section 3.2).
fn check_target(method: &str, target: &str) -> Result<(), Refusal> {
    let is_clean = are_all_in(&UNESCAPED, target.as_bytes()) || is_escaped(target);
    let fits = match target.as_bytes() {
        _ if method == "CONNECT" => is_host_and_port(target.as_bytes()),
        b"*" => method == "OPTIONS",
        [b'/', ..] => true,
        _ => is_absolute(target),
    };
    if is_clean && fits { Ok(()) } else { Err(Refusal::bad("a malformed target")) }
}

/// Whether two hexadecimal digits follow each percent sign (RFC 3986 section 2.1), and nothing else is wrong.
#[inline(never)]
fn is_escaped(target: &str) -> bool {
    let mut parts = target.as_bytes().split(|byte| *byte == b'%');
    let is_clean = |part: &[u8]| are_all_in(&UNESCAPED, part);
    parts.next().is_some_and(is_clean) && parts.all(|part| behind_digits(part).is_some_and(is_clean))
}

fn is_absolute(target: &str) -> bool {
    target.split_once("://").is_some_and(|(scheme, rest)| {
        let is_scheme = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        is_scheme && !authority.is_empty() && is_authority(authority.as_bytes())
    })
}

impl Fields {
    fn note(&mut self, header: &Header<'_>) -> Result<(), Refusal> {
        let Header { name, value } = *header;
        // The length distinguishes most names before their letters are compared.
        match name.len() {
            4 if is(name, b"host") => self.note_host(value),
            6 if is(name, b"expect") => self.note_expect(value),
            7 if is(name, b"upgrade") => {
                self.upgrade.1 = true;
                Ok(())
            }
            10 if is(name, b"connection") => {
                self.note_connection(value);
                Ok(())
            }
            14 if is(name, b"content-length") => self.note_length(value),
            17 if is(name, b"transfer-encoding") => {
                self.codings.note(value);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.hosts += 1;
        if is_authority(value) { Ok(()) } else { Err(Refusal::bad("a malformed Host")) }
    }

    fn note_expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // RFC 9110 section 10.1.1; empty members are ignored (section 5.6.1.2).
        for expectation in members(value).filter(|member| !member.is_empty()) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::new(417, "an unknown Expect"));
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in members(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade.0 |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Accepts exactly one number once: RFC 9112 section 6.3 allows no other repair that is safe.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = (!value.is_empty() && value.iter().all(u8::is_ascii_digit)).then_some(value);
        let Some(digits) = digits else { return Err(Refusal::bad("a malformed Content-Length")) };
        let push = |length: usize, digit: &u8| length.checked_mul(10)?.checked_add(usize::from(digit - b'0'));
        let length = digits.iter().try_fold(0, push);
        match self.length.replace(length.unwrap_or(usize::MAX)) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("more than one Content-Length")),
        }
    }

    fn facts(self, method: &str, target: &str, version: Version, limits: &Limits) -> Result<Facts, Refusal> {
        if self.hosts > 1 || (self.hosts == 0 && version == Version::Http11) {
            return Err(Refusal::bad("exactly one Host is required"));
        }
        let body = match (self.codings.are_chunked(), self.length) {
            (Some(_), Some(_)) => return Err(Refusal::bad("both Transfer-Encoding and Content-Length")),
            // RFC 9112 section 6.1: the framing of such a message is faulty.
            (Some(_), None) if version == Version::Http10 => {
                return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
            }
            (Some(known), None) => known.map(|()| Body::Chunked)?,
            (None, Some(length)) if length > limits.max_body => {
                return Err(Refusal::new(413, "a body of more than max_body bytes"));
            }
            (None, length) => Body::Length(length.unwrap_or(0) as u32),
        };
        let has_body = body != Body::Length(0);
        let is_connect = method == "CONNECT";
        Ok(Facts {
            method: method.len() as u32,
            target: (method.len() + 1 + target.len()) as u32,
            version,
            keep_alive: !self.close && (version == Version::Http11 || self.keep_alive),
            is_head: method == "HEAD",
            // RFC 9110 section 7.8: an Upgrade in HTTP/1.0 must be ignored.
            is_connect,
            may_switch: is_connect || (self.upgrade == (true, true) && version == Version::Http11),
            // RFC 9110 section 10.1.1: an Expect in HTTP/1.0 must be ignored.
            expects_continue: self.expects_continue && has_body && version == Version::Http11,
            body,
        })
    }
}

/// Whether a field has this name, in whatever case.
#[inline(always)]
fn is<const N: usize>(name: &str, wanted: &[u8; N]) -> bool {
    // The bit makes a letter lower-case, and makes no other character of a token a letter or a hyphen.
    let differ =
        |name: &[u8; N]| name.iter().zip(wanted).fold(0, |bits, (byte, wanted)| bits | ((byte | 0x20) ^ wanted));
    <&[u8; N]>::try_from(name.as_bytes()).is_ok_and(|name| differ(name) == 0)
}

/// The fields of a head that was read before: names and values, trimmed.
pub struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The lines after the first one.
    pub fn of(head: &'a [u8]) -> Self {
        let first = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
        Self(&head[first..])
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        // The empty line at the end has no colon.
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    }
}
