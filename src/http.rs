//! HTTP/1.1 of one server connection (RFC 9110, RFC 9112): requests out of a stream, answers in the order of the requests.
//!
//! Pure: no sockets, no clock, no Python. What is doubtful is refused, never repaired: a proxy before us may have read it
//! differently (RFC 9112 section 11.2).

mod answers;
mod chunks;
mod head;
mod requests;
mod response;

use std::sync::Arc;

pub use answers::Then;
pub(crate) use answers::{Answers, Place};
pub use head::{Facts, Lines, Version};
pub use requests::Event;
pub(crate) use requests::Requests;
pub use response::{Framed, Head, Unfit, error_answer};

use crate::error::{Error, Reason};
use crate::options::within;

/// The largest limit of bytes.
const MOST: usize = 1 << 30;

/// How much a request may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the request line; 414 above.
    pub max_line: usize,
    /// Fields of a head, and of a trailer; 431 above.
    pub max_headers: usize,
    /// Bytes of a head, and of a trailer; 431 above.
    pub max_head: usize,
    /// Bytes of a body; 413 above.
    pub max_body: usize,
    /// Requests without an answer, at which no further one is looked at.
    pub max_pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_line: 8192, max_headers: 100, max_head: 32 * 1024, max_body: 1024 * 1024, max_pending: 32 }
    }
}

impl Limits {
    /// An error names the limit that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        within("max_head", self.max_head, 64, 1024 * 1024)?;
        within("max_line", self.max_line, 16, self.max_head)?;
        within("max_headers", self.max_headers, 1, head::MOST_HEADERS)?;
        within("max_body", self.max_body, 0, MOST)?;
        within("max_pending", self.max_pending, 1, 10_000)?;
        Ok(())
    }
}

/// A set of bytes: letters, digits, and others.
const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < set.len() {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        set[others[at] as usize] = true;
        at += 1;
    }
    set
}

/// Why a request is refused, and with which status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {}: {text}", response::reason(*.status))]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What is wrong.
    pub text: &'static str,
}

impl Refusal {
    const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text }
    }

    const fn bad(text: &'static str) -> Self {
        Self::new(400, text)
    }

    /// Whoever should answer did not.
    pub const fn no_answer() -> Self {
        Self::new(500, "the server gave no answer")
    }
}

/// One connection: the requests that come, and the answers that are due.
pub(crate) struct Http {
    pub requests: Requests,
    pub answers: Answers,
    /// Why the connection ends when the answers are given.
    pub reason: Option<Reason>,
}

impl Http {
    /// With `streams` a request is handed out as soon as its head is there, and its body in pieces.
    pub fn new(limits: Arc<Limits>, streams: bool) -> Self {
        Self { requests: Requests::new(limits, streams), answers: Answers::default(), reason: None }
    }

    /// Looks for what comes next in all the input there is; returns how many bytes at its front are done with.
    pub fn look(&mut self, input: &[u8]) -> usize {
        self.requests.look(input, self.answers.due())
    }

    /// Hands out what was found, with the number of its request. Returns also how much of the input is done with.
    pub fn take<R>(&mut self, input: &[u8], show: impl FnOnce(u64, Event<'_>) -> R) -> Option<(R, usize)> {
        let answers = &mut self.answers;
        self.requests.take(input, |event| {
            let number = if matches!(event, Event::Request { .. }) { answers.expect() } else { answers.last() };
            show(number, event)
        })
    }

    /// Whether there is something to hand out.
    pub fn has_news(&self) -> bool {
        self.requests.has_news(self.answers.due())
    }

    /// Whether something came that will be handed out when answers are given.
    pub fn waits_for_answers(&self) -> bool {
        self.requests.waits_for_answers(self.answers.due())
    }

    /// Whether the peer has said all it has to say for now, and waits for an answer.
    pub fn is_waited_for(&self) -> bool {
        self.answers.due() > 0 && !self.requests.is_amid_body()
    }

    /// Whether the connection ends when the answers that are due are given.
    pub fn is_ending(&self) -> bool {
        self.answers.finishing || self.reason.is_some()
    }
}
