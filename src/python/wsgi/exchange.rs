//! The answer to one request, as the thread gives it: its head, its pieces, and the wait for a slow peer.
//!
//! Everything is copied and posted to the poller in parts of at most [`PART`] bytes. So the poller holds no Python
//! object, and needs no interpreter to drop one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::body::Body;
use super::line::Line;
use crate::data::{FileRange, Payload};
use crate::protocols::http::{Answer, Facts, Head, Part, Piece, Then, Wish};
use crate::python::running::attach::detached;
use crate::python::values::exceptions::ConnectionClosed;
use crate::system::clock::http_date;

/// The most bytes of one part, and the bytes of waiting output at which a thread waits. Less if `max_output` is small.
const PART: usize = 64 * 1024;

/// Up to this size a whole answer is one part.
const WHOLE: usize = 256 * 1024;

/// A request for a thread.
pub struct Job {
    pub head: Box<[u8]>,
    pub facts: Facts,
    pub exchange: Arc<Exchange>,
}

/// One request and its answer.
pub struct Exchange {
    pub line: Arc<Line>,
    pub body: Option<Arc<Body>>,
    is_head: bool,
    progress: Mutex<Progress>,
}

struct Progress {
    answer: Answer,
    /// The head that `start_response` gave, until it is sent.
    head: Option<Head>,
}

impl Exchange {
    pub fn new(line: Arc<Line>, answer: Answer, body: Option<Arc<Body>>, is_head: bool) -> Self {
        Self { line, body, is_head, progress: Mutex::new(Progress { answer, head: None }) }
    }

    /// Whether the head is sent.
    pub fn is_begun(&self) -> bool {
        !self.progress().answer.is_due()
    }

    /// Whether `start_response` was called.
    pub fn has_head(&self) -> bool {
        self.progress().head.is_some()
    }

    /// The length that the head gives, while it is not sent.
    pub fn length(&self) -> Option<u64> {
        self.progress().head.as_ref().and_then(Head::length)
    }

    /// Keeps a head until the first bytes of the body.
    pub fn set_head(&self, head: Head) {
        self.progress().head = Some(head);
    }

    /// Gives the whole answer.
    pub fn respond(&self, py: Python<'_>, body: &[u8]) -> PyResult<()> {
        if body.len() > WHOLE.min(self.line.remote.max_output()) {
            let length = body.len() as u64;
            if let Some(head) = &mut self.progress().head
                && head.length().is_none()
            {
                head.set_length(length);
            }
            self.write(py, body)?;
            return self.end();
        }
        let mut progress = self.progress();
        let head = progress.head.take().ok_or_else(no_head)?;
        let mut ready = progress.answer.whole(head, body.len(), &http_date())?;
        progress.answer.give(&ready)?;
        drop(progress);
        if ready.has_body {
            ready.head.extend_from_slice(body);
        }
        self.post(vec![Payload::Copied(ready.head)], ready.then)
    }

    /// Gives a whole answer, with a part of a file as its body.
    pub fn respond_file(&self, file: FileRange) -> PyResult<()> {
        let mut progress = self.progress();
        let head = progress.head.take().ok_or_else(no_head)?;
        let ready = progress.answer.whole(head, file.remaining as usize, &http_date())?;
        progress.answer.give(&ready)?;
        drop(progress);
        let mut parts = vec![Payload::Copied(ready.head)];
        if ready.has_body {
            parts.push(Payload::File(file));
        }
        self.post(parts, ready.then)
    }

    /// Sends the head if that is due, and a piece of the body. Waits while the peer takes nothing.
    pub fn write(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if let Some(length) = self.length().filter(|length| *length < data.len() as u64 && !self.is_head) {
            // Before the head is sent, so that the peer gets 500.
            let text = format!("{} bytes are more than content-length {length}", data.len());
            return Err(PyValueError::new_err(text));
        }
        let mut first = self.begin()?;
        let most = self.most();
        for piece in data.chunks(most) {
            let form = self.progress().answer.piece(piece.len())?;
            let (mut bytes, then) = first.take().unwrap_or((Vec::new(), Then::More));
            match form {
                Piece::Counted => {}
                Piece::Plain => bytes.extend_from_slice(piece),
                Piece::Chunk(size) => {
                    [size.as_bytes(), piece, b"\r\n"].iter().for_each(|part| bytes.extend_from_slice(part))
                }
            }
            if !bytes.is_empty() {
                self.wait_for_room(py, most)?;
                self.post(vec![Payload::Copied(bytes)], then)?;
            }
        }
        match first {
            Some((head, then)) => self.post(vec![Payload::Copied(head)], then),
            None => Ok(()),
        }
    }

    /// The head, if it was not sent, and the step after it.
    fn begin(&self) -> PyResult<Option<(Vec<u8>, Then)>> {
        let mut progress = self.progress();
        if !progress.answer.is_due() {
            return Ok(None);
        }
        let head = progress.head.take().ok_or_else(no_head)?;
        let ready = progress.answer.beginning(head, &http_date())?;
        progress.answer.give(&ready)?;
        Ok(Some((ready.head, ready.then)))
    }

    /// Ends an answer that was begun.
    pub fn end(&self) -> PyResult<()> {
        let (last, then) = self.progress().answer.end()?;
        self.post(vec![Payload::Copied(last.to_vec())], then)
    }

    /// Gives up: a peer without an answer gets 500; a peer with a part of it sees that the rest is missing.
    pub fn fail(&self) {
        let given_up = self.progress().answer.abandon(&http_date());
        if let Some((last, then)) = given_up {
            // Fails only if the connection has ended.
            let _ = self.post(vec![Payload::Copied(last)], then);
        }
    }

    /// Whether the answer is complete.
    pub fn is_given(&self) -> bool {
        self.progress().answer.is_given()
    }

    /// Asks for the body, if the peer waits for `100 Continue`.
    pub fn ask_for_body(&self) {
        let mut progress = self.progress();
        if progress.answer.ask_for_body() {
            let number = progress.answer.number();
            drop(progress);
            self.line.wish(Wish::Body(number));
        }
    }

    /// Nobody reads the rest of the body.
    pub fn discard_body(&self) {
        if self.body.as_ref().is_some_and(|body| body.discard()) {
            self.line.wish(Wish::More);
        }
    }

    /// The bytes of a part. A part may wait, another may be on its way to the poller, and a third with a head is posted:
    /// together they stay below `max_output`.
    fn most(&self) -> usize {
        (self.line.remote.max_output() / 4).clamp(1, PART)
    }

    fn wait_for_room(&self, py: Python<'_>, most: usize) -> PyResult<()> {
        if self.line.remote.waiting_output() > most {
            detached(py, || self.line.wait_for_room());
            if self.line.is_gone() || self.line.remote.is_closed() {
                return Err(gone());
            }
        }
        Ok(())
    }

    fn post(&self, parts: Vec<Payload>, then: Then) -> PyResult<()> {
        let number = self.progress().answer.number();
        let len = parts.iter().map(Payload::len).sum();
        self.line.remote.post(len, Box::new(Part { number, parts, then })).map_err(|_| gone())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A panic while the lock is held cannot leave the value half changed.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exchange {
    /// A request that no thread called the application with gets 500.
    fn drop(&mut self) {
        self.fail();
    }
}

fn no_head() -> PyErr {
    PyRuntimeError::new_err("the application gave a body before it called start_response()")
}

/// The error of a peer that went away.
pub fn gone() -> PyErr {
    ConnectionClosed::new_err("the client has gone away [GOEV102]")
}
