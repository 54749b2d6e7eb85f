//! The HTTP of one connection, driven by a handler and a peer in memory.
//!
//! [`Server`] treats the machine as a poller does: it looks at new input and calls the handler while there is news.
//! It calls `closing` after an end was asked for. The clock stands still.
//!
//! | file | holds |
//! |---|---|
//! | `rows` | requests, malformed and well formed, and the outcome of each |
//! | `heads` | the limits of a head, and the refusals of malformed ones |
//! | `cuts` | the outcome of a stream does not depend on where it is cut |
//! | `order` | answers go out in the order of the requests, each framed by the rules |
//! | `ends` | refusals, failures, and the ends of a connection |
//! | `states` | the questions that a connection asks, in each state |
//! | `sent` | answers that are files, and the marks behind answers |
//! | `counted` | answers as they are counted |

mod counted;
mod cuts;
mod ends;
mod heads;
mod order;
mod rows;
mod sent;
mod states;

use std::sync::Arc;

use super::{Answer, Event, Facts, Head, Http, Limits, Lines, Part, Version};
use crate::data::{Data, Held, Payload};
use crate::error::{Error, ErrorKind, Reason};
use crate::protocols::fake::{DATE, Ended, FakeWire};
use crate::protocols::{Closing, Protocol};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// The date field of an answer, with the time of [`FakeWire`].
const DATED: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

/// The answer to a request that the handler did not answer, with its fields in their order.
const NO_ANSWER: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 53\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n\
    500 Internal Server Error: the server gave no answer\n";

/// A part that the handler was shown, with the number of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saw {
    Request(u64, Seen),
    Body(u64, Vec<u8>),
    End(u64),
}

/// A request as the handler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// Method, target, version, and whether the connection stays open.
    line: String,
    /// The fields as `name: value`, in the order in which they came.
    fields: Vec<String>,
    body: Option<Vec<u8>>,
}

impl Seen {
    fn new(head: &[u8], facts: Facts, body: Option<&[u8]>) -> Self {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        let version = if facts.version == Version::Http10 { "1.0" } else { "1.1" };
        let goes_on = if facts.keep_alive { "goes on" } else { "ends" };
        let fields = Lines::of(head).map(|(name, value)| format!("{}: {}", text(name), text(value)));
        Self {
            line: format!("{} {version} {goes_on}", text(&head[..facts.target()])),
            fields: fields.collect(),
            body: body.map(<[u8]>::to_vec),
        }
    }
}

/// One call by which a handler gives a part of an answer. Fields are written as `Name: value`.
#[derive(Clone, Copy, Debug)]
enum Step {
    Respond(u16, &'static [&'static str], &'static str),
    Start(u16, &'static [&'static str]),
    Write(&'static str),
    End,
    Abandon,
}
use Step::{Abandon, End, Respond, Start, Write};

/// The answer that most tests give.
const FINE: Step = Respond(200, &[], "fine");
const FINE_ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nfine";

/// Bytes that the handler lends.
struct Lent(Vec<u8>);

impl Held for Lent {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One connection, its handler, and a record of all results.
struct Server {
    http: Http,
    wire: FakeWire,
    /// All parts that the handler was shown; pieces of one body are put together.
    seen: Vec<Saw>,
    /// The answers by the numbers of their requests.
    answers: Vec<Answer>,
    /// Whether the handler asks for each body for which the peer waits.
    asks: bool,
    /// Whether `closing` was called.
    is_closed: bool,
    /// Whether `closing` may ask for a reset behind the output.
    may_cut: bool,
}

impl Server {
    fn new(streams: bool) -> Self {
        Self::with(Limits::default(), streams)
    }

    fn with(limits: Limits, streams: bool) -> Self {
        let http = Http::new(Arc::new(limits), streams);
        let (seen, answers) = (Vec::new(), Vec::new());
        Self { http, wire: FakeWire::default(), seen, answers, asks: false, is_closed: false, may_cut: false }
    }

    /// Makes a handler that keeps the answers to these requests; all of them were handed out.
    fn keeping(streams: bool, requests: &[&str]) -> Self {
        let mut server = Self::new(streams);
        server.receive(requests.concat());
        assert_eq!(server.answers.len(), requests.len(), "all of them are handed out");
        server
    }

    fn is_open(&self) -> bool {
        self.wire.ended.is_none()
    }

    /// Receives new input; the handler takes every part that it may take.
    fn receive(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.receive(&mut self.http, bytes.as_ref());
        self.serve();
    }

    /// The peer shuts down its write side.
    fn end_input(&mut self) {
        self.wire.has_eof = true;
    }

    fn serve(&mut self) {
        while self.is_open() && self.http.has_news() {
            self.call();
        }
    }

    /// Runs one callback. Returns the number of the request that was handed out.
    fn call(&mut self) -> Option<u64> {
        let Self { http, wire, answers, .. } = self;
        let taken = http.take(wire, |number, event| match event {
            Event::Request { head, facts, body } => {
                answers.push(Answer::new(number, facts, body.is_some()));
                Saw::Request(number, Seen::new(head, facts, body))
            }
            Event::Body(piece) => Saw::Body(number, piece.to_vec()),
            Event::End => Saw::End(number),
        });
        self.settle();
        let saw = taken?;
        let requested = if let Saw::Request(number, _) = saw { Some(number) } else { None };
        if self.asks && requested.is_some_and(|number| self.answers[number as usize].ask_for_body()) {
            self.http.continue_body(self.answers.len() as u64 - 1, &mut self.wire);
        }
        match (self.seen.last_mut(), saw) {
            (Some(Saw::Body(before, body)), Saw::Body(number, piece)) if *before == number => body.extend(piece),
            (_, saw) => self.seen.push(saw),
        }
        requested
    }

    /// Closes as a poller does: after the method that asked for the end has returned.
    fn settle(&mut self) {
        if self.is_closed {
            return;
        }
        let reason = match &self.wire.ended {
            None | Some(Ended::Aborted | Ended::Overflown) => return,
            Some(Ended::Closed) => None,
            Some(Ended::Failed(text)) if text == "raised" => Some(Reason::Raised(Box::new(()))),
            Some(Ended::Failed(_) | Ended::Cut) => Some(Reason::Aborted),
        };
        self.is_closed = true;
        self.close_by(reason.as_ref().map_or(Closing::Asked, Closing::Failed));
    }

    /// Calls `closing`.
    fn close_by(&mut self, why: Closing<'_>) {
        let ended = self.wire.ended.take();
        self.http.closing(why, &mut self.wire);
        let asked = self.wire.ended.take();
        assert!(asked.is_none() || self.may_cut, "the end was asked for before");
        self.wire.ended = asked.or(ended);
    }

    fn fail_by_exception(&mut self) {
        self.close_by(Closing::Failed(&Reason::Raised(Box::new(()))));
    }

    /// The handler gives a part of an answer on the poller's thread.
    fn give(&mut self, number: usize, step: Step) -> Result<(), Error> {
        let Self { http, wire, answers, .. } = self;
        let answer = &mut answers[number];
        let given = match step {
            Respond(status, fields, body) => {
                http.respond(answer, head(number, status, fields), &text(number, body), wire)
            }
            Start(status, fields) => http.start(answer, head(number, status, fields), wire),
            Write(data) => http.write(answer, &text(number, data), wire),
            End => http.end(answer, wire),
            Abandon => http.abandon(answer, wire),
        };
        self.settle();
        given
    }

    /// The handler gives a part of an answer on another thread, which posts it.
    fn post(&mut self, number: usize, step: Step) -> Result<(), Error> {
        let answer = &mut self.answers[number];
        let lend = |data: &'static str| Payload::Held(Box::new(Lent(text(number, data))));
        let (parts, then) = match step {
            Respond(status, fields, body) => {
                let ready = answer.whole(head(number, status, fields), body.len(), &DATE)?;
                answer.give(&ready)?;
                let body = if ready.has_body { body } else { "" };
                (vec![Payload::Copied(ready.head), lend(body)], ready.then)
            }
            Start(status, fields) => {
                let ready = answer.beginning(head(number, status, fields), &DATE)?;
                answer.give(&ready)?;
                (vec![Payload::Copied(ready.head)], ready.then)
            }
            Write(data) => match answer.piece(data.len())? {
                super::Piece::Counted => return Ok(()),
                super::Piece::Plain => (vec![lend(data)], super::Then::More),
                super::Piece::Chunk(size) => {
                    (vec![Payload::Copied(size.into_bytes()), lend(data), lend("\r\n")], super::Then::More)
                }
            },
            End => {
                let (last, then) = answer.end()?;
                (vec![Payload::Copied(last.to_vec())], then)
            }
            Abandon => match answer.abandon(&DATE) {
                Some((last, then)) => (vec![Payload::Copied(last)], then),
                None => return Ok(()),
            },
        };
        let part = Part { number: answer.number(), parts, then };
        assert!(self.http.receive(Box::new(part), &mut self.wire).is_none(), "a part is taken");
        self.settle();
        Ok(())
    }

    /// Gives a whole answer, which must be accepted.
    fn answer(&mut self, number: usize, step: Step) {
        let given = self.give(number, step);
        assert!(given.is_ok(), "{step:?} of {number}: {given:?}");
    }

    /// The output since the last call, as text.
    fn sent(&mut self) -> String {
        String::from_utf8(self.wire.sent()).expect("the answers of the tests are text")
    }

    /// The targets of the requests that were handed out.
    fn targets(&self) -> Vec<String> {
        let target = |saw: &Saw| match saw {
            Saw::Request(_, seen) => seen.line.split(' ').nth(1).map(str::to_owned),
            Saw::Body(..) | Saw::End(_) => None,
        };
        self.seen.iter().filter_map(target).collect()
    }
}

/// Replaces each `#` in an answer by the number of the request, so that no two answers are the same.
fn text(number: usize, template: &str) -> Vec<u8> {
    template.replace('#', &number.to_string()).into_bytes()
}

fn head(number: usize, status: u16, fields: &[&str]) -> Head {
    let mut head = Head::new(Vec::new(), status);
    for field in fields {
        let (name, value) = field.split_once(": ").expect("a field is a name and a value");
        head.field(name.as_bytes(), &text(number, value)).expect("it is well formed");
    }
    head
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn failed(text: &str) -> Option<Ended> {
    Some(Ended::Failed(text.into()))
}

/// Gives a part of an answer past the rules of a single answer.
fn give_raw(server: &mut Server, number: u64, bytes: &[u8], then: super::Then) -> Result<(), Error> {
    let given = server.http.answer(number, [Data::Bytes(bytes)], then, &mut server.wire);
    server.settle();
    given
}

/// Every order of `count` numbers.
fn order_of(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for number in 0..count {
        let longer = |order: &Vec<usize>| -> Vec<Vec<usize>> {
            (0..=number).map(|at| [&order[..at], &[number], &order[at..]].concat()).collect()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders
}
