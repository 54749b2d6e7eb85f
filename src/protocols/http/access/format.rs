//! The pieces of a line, and the lines of records.

use super::date::Dates;
use super::fields::{Field, Known, NAMES, named, value_of};
use super::record::Record;
use super::text::{Value, quote};
use crate::recorder::{Render, Time};

/// The Common Log Format.
const COMMON: &str = r#"{peer} - {user} [{time}] "{request}" {status} {body_bytes}"#;
/// The Combined Log Format, as Apache and nginx write it.
const COMBINED: &str = r#"{peer} - {user} [{time}] "{request}" {status} {body_bytes} "{referer}" "{user_agent}""#;
/// The values of an object of JSON; each has its name as the key.
const JSON: [(&str, Known); 20] = [
    ("time", Known::TimeIso),
    ("peer", Known::Peer),
    ("port", Known::Port),
    ("user", Known::User),
    ("method", Known::Method),
    ("target", Known::Target),
    ("version", Known::Version),
    ("status", Known::Status),
    ("body_bytes", Known::BodyBytes),
    ("bytes_sent", Known::BytesSent),
    ("whole", Known::Whole),
    ("seconds", Known::Seconds),
    ("host", Known::Host),
    ("referer", Known::Referer),
    ("user_agent", Known::UserAgent),
    ("request_id", Known::RequestId),
    ("tls", Known::Tls),
    ("worker", Known::Worker),
    ("pid", Known::Pid),
    ("poller", Known::Poller),
];

/// A text that is no format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No value has this name.
    #[error("has no value {{{name}}}; there are {all}, request.NAME and response.NAME for fields")]
    Name {
        /// The name.
        name: String,
        /// All names.
        all: String,
    },
    /// A brace has no partner.
    #[error("has a brace without a partner; {{{{ and }}}} stand for braces themselves")]
    Brace,
    /// A line feed, for example.
    #[error("has a control character, and a line must be one line")]
    Control,
    /// Nothing but text.
    #[error("must be 'common', 'combined', 'json', or a text with values in braces like '{{peer}} {{status}}'")]
    NoValue,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The pieces of a line of text; `None` for JSON.
    pieces: Option<Vec<Piece>>,
}

impl Format {
    /// The format of a name, or of a text with values in braces.
    pub fn parse(text: &str) -> Result<Self, Unknown> {
        let pieces = match text {
            "json" => None,
            "common" => Some(pieces_of(COMMON)?),
            "combined" => Some(pieces_of(COMBINED)?),
            _ => Some(pieces_of(text)?),
        };
        Ok(Self { pieces })
    }

    /// The answer of [`crate::recorder::Recorder::needs`] for this format.
    pub fn needs(&self) -> u8 {
        let Some(pieces) = &self.pieces else {
            return JSON.iter().fold(0, |needs, (_, known)| needs | Field::Known(*known).needs());
        };
        pieces
            .iter()
            .fold(0, |needs, piece| if let Piece::Field(field) = piece { needs | field.needs() } else { needs })
    }
}

fn pieces_of(text: &str) -> Result<Vec<Piece>, Unknown> {
    if text.contains(char::is_control) {
        return Err(Unknown::Control);
    }
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let (brace, behind) = rest[at..].split_at(1);
        rest = match behind.strip_prefix(brace) {
            Some(doubled) => {
                plain.push_str(brace);
                doubled
            }
            None => {
                let (name, behind) = behind.split_once('}').filter(|_| brace == "{").ok_or(Unknown::Brace)?;
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Field(Field::parse(name).ok_or_else(|| unknown(name))?));
                behind
            }
        };
    }
    plain.push_str(rest);
    pieces.push(Piece::Text(plain));
    if pieces.len() == 1 { Err(Unknown::NoValue) } else { Ok(pieces) }
}

fn unknown(name: &str) -> Unknown {
    let all: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
    Unknown::Name { name: name.into(), all: all.join(", ") }
}

/// Makes the lines of one process.
pub struct Lines {
    format: Format,
    worker: Option<u32>,
    pid: u32,
    dates: Dates,
}

impl Lines {
    /// `worker` is the number of the worker, `pid` the number of its process.
    pub fn new(format: Format, worker: Option<u32>, pid: u32) -> Self {
        Self { format, worker, pid, dates: Dates::default() }
    }
}

impl Render for Lines {
    fn render(&mut self, record: &[u8], time: Time, out: &mut Vec<u8>) {
        let Some(record) = Record::read(record) else { return };
        let mut clock = Clock { dates: &mut self.dates, time, worker: self.worker, pid: self.pid };
        match &self.format.pieces {
            None => clock.write_json(&record, out),
            Some(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => clock.value(field, &record).write(out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

/// The values that a record does not have by itself.
struct Clock<'c> {
    dates: &'c mut Dates,
    time: Time,
    worker: Option<u32>,
    pid: u32,
}

impl Clock<'_> {
    fn value<'a>(&mut self, field: &'a Field, record: &Record<'a>) -> Value<'a> {
        match field {
            Field::OfRequest(name) => Value::Bytes(named(record.head, name)),
            Field::OfAnswer(name) => Value::Bytes(named(record.answer, name)),
            Field::Known(known) => self.known(*known, record),
        }
    }

    fn known<'a>(&mut self, known: Known, record: &Record<'a>) -> Value<'a> {
        match known {
            Known::Time => Value::Ours(self.dates.common(record.ended, self.time)),
            Known::TimeIso => Value::Ours(self.dates.iso(record.ended, self.time)),
            Known::TimeUnix => Value::Seconds(self.time.zero.saturating_add(record.ended)),
            Known::Worker => self.worker.map_or(Value::Missing, |worker| Value::Number(worker.into())),
            Known::Pid => Value::Number(self.pid.into()),
            _ => value_of(known, record).unwrap_or(Value::Missing),
        }
    }

    fn write_json(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let mut before = b'{';
        for (name, known) in JSON {
            out.push(before);
            before = b',';
            quote(name.as_bytes(), out);
            out.push(b':');
            self.known(known, record).write_json(out);
        }
        out.push(b'}');
    }
}
