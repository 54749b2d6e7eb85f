//! The values that a line may have, by their names.

use super::record::Record;
use super::text::{Value, from_base64};
use crate::protocols::http::characters::{TOKEN, are_all_in};

/// A bit of [`crate::recorder::Recorder::needs`]: the fields of the request, not only its line.
pub(super) const REQUEST_FIELDS: u8 = 1;
/// A bit of [`crate::recorder::Recorder::needs`]: the fields of the answer.
pub(super) const ANSWER_FIELDS: u8 = 2;

/// A value of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Known(Known),
    /// The field of the request with this name.
    OfRequest(String),
    /// The field of the answer with this name.
    OfAnswer(String),
}

/// Makes the enum of the values that have a name of their own, and the list of their names.
macro_rules! known {
    ($($name:literal $field:ident),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Known { $($field),* }

        /// The names, in the order of the documentation.
        pub(super) const NAMES: &[(&str, Known)] = &[$(($name, Known::$field)),*];
    };
}

known! {
    "time" Time, "time_iso" TimeIso, "time_unix" TimeUnix,
    "peer" Peer, "port" Port, "user" User,
    "request" Request, "method" Method, "target" Target, "path" Path, "query" Query, "version" Version,
    "status" Status, "body_bytes" BodyBytes, "bytes_sent" BytesSent, "whole" Whole,
    "seconds" Seconds, "milliseconds" Milliseconds, "microseconds" Microseconds,
    "host" Host, "referer" Referer, "user_agent" UserAgent, "request_id" RequestId,
    "tls" Tls, "poller" Poller, "worker" Worker, "pid" Pid,
}

impl Field {
    /// The value with this name; `None` if there is no such value.
    pub fn parse(name: &str) -> Option<Self> {
        let of =
            |prefix| name.strip_prefix(prefix).filter(|name| !name.is_empty() && are_all_in(&TOKEN, name.as_bytes()));
        match (of("request."), of("response.")) {
            (Some(name), _) => Some(Self::OfRequest(name.to_ascii_lowercase())),
            (_, Some(name)) => Some(Self::OfAnswer(name.to_ascii_lowercase())),
            _ => NAMES.iter().find(|(known, _)| *known == name).map(|(_, known)| Self::Known(*known)),
        }
    }

    /// The parts of a record that the value needs.
    pub fn needs(&self) -> u8 {
        match self {
            Self::OfRequest(_) => REQUEST_FIELDS,
            Self::OfAnswer(_) => ANSWER_FIELDS,
            Self::Known(known) => match known {
                Known::User | Known::Host | Known::Referer | Known::UserAgent | Known::RequestId => REQUEST_FIELDS,
                _ => 0,
            },
        }
    }
}

/// The value of a name that needs nothing but the record; `None` for the others.
pub(super) fn value_of<'a>(known: Known, record: &Record<'a>) -> Option<Value<'a>> {
    let [peer, port, tls, poller] = record.facts();
    let took = record.ended.saturating_sub(record.began);
    Some(match known {
        Known::Peer => Value::Bytes(peer),
        Known::Port => number(port),
        Known::Tls => Value::Bytes(tls),
        Known::Poller => number(poller),
        Known::User => user(record.head),
        Known::Request => Value::Bytes(line(record.head)),
        Known::Method => Value::Word(words(record.head).0),
        Known::Target => Value::Word(words(record.head).1),
        Known::Path => Value::Word(split_target(record.head).0),
        Known::Query => Value::Word(split_target(record.head).1),
        Known::Version => Value::Word(words(record.head).2),
        Known::Status => Value::Number(record.counts.status.into()),
        Known::BodyBytes => Value::Number(record.counts.bytes.saturating_sub(record.counts.head)),
        Known::BytesSent => Value::Number(record.counts.bytes),
        Known::Whole => Value::Bool(record.is_whole),
        Known::Seconds => Value::Seconds(took),
        Known::Milliseconds => Value::Number(took / 1_000_000),
        Known::Microseconds => Value::Number(took / 1_000),
        Known::Host => Value::Word(named(record.head, "host")),
        Known::Referer => Value::Bytes(named(record.head, "referer")),
        Known::UserAgent => Value::Bytes(named(record.head, "user-agent")),
        Known::RequestId => Value::Word(named(record.head, "x-request-id")),
        Known::Time | Known::TimeIso | Known::TimeUnix | Known::Worker | Known::Pid => return None,
    })
}

fn number(digits: &[u8]) -> Value<'_> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map_or(Value::Missing, Value::Number)
}

/// The first line, without its end. Empty lines may come before it (RFC 9112 section 2.2).
fn line(head: &[u8]) -> &[u8] {
    let head = head.trim_ascii_start();
    let line = &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())];
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Method, target and version.
fn words(head: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut words = line(head).splitn(3, |byte| *byte == b' ');
    let mut next = || words.next().unwrap_or_default();
    (next(), next(), next())
}

/// Path and query.
fn split_target(head: &[u8]) -> (&[u8], &[u8]) {
    let target = words(head).1;
    match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

/// The first field of this name; empty if there is none.
pub(super) fn named<'a>(head: &'a [u8], name: &str) -> &'a [u8] {
    let mut rest = head;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest = &rest[at + 1..];
        let field = rest.split_at_checked(name.len()).filter(|(start, _)| start.eq_ignore_ascii_case(name.as_bytes()));
        if let Some((_, [b':', value @ ..])) = field {
            return value[..memchr::memchr(b'\n', value).unwrap_or(value.len())].trim_ascii();
        }
    }
    b""
}

/// The name of the user, by the Basic scheme (RFC 7617); goev does not check it.
fn user(head: &[u8]) -> Value<'static> {
    let value = named(head, "authorization");
    let Some((scheme, coded)) = value.split_at_checked(6) else { return Value::Missing };
    let plain = from_base64(coded.trim_ascii()).filter(|_| scheme.eq_ignore_ascii_case(b"basic "));
    match plain.as_deref().and_then(|plain| plain.split(|byte| *byte == b':').next()) {
        Some(name) => Value::Made(name.to_vec()),
        None => Value::Missing,
    }
}
