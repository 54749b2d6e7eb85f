//! The steps of an answer, as applications take them: they make its head by themselves.

use std::fs::File;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;

use super::{BUFFER, Request, Slice};
use crate::protocols::http::{Framed, Head, Http, Version};
use crate::python::tables::with_poller_of;
use crate::python::values::files::Part as FilePart;
use crate::system::clock::http_date;

impl Request {
    /// Has the peer that expects `100 Continue` wait until [`Self::want_body`].
    pub fn defer_body(&self) {
        self.is_deferred.store(true, Ordering::Relaxed);
    }

    /// The body is wanted: asks the peer for it, if it waits for that.
    pub fn want_body(&self, py: Python<'_>) {
        if self.facts.expects_continue && self.answer(py).ask_for_body() {
            with_poller_of(&self.remote, |poller, _| {
                poller.with::<Http, _>(self.remote.token(), |http, wire| http.continue_body(self.number, wire));
            });
        }
    }

    /// Begins an answer with this head.
    pub fn begin(&self, py: Python<'_>, head: Head) -> PyResult<()> {
        let mut answer = self.answer(py);
        let ready = answer.beginning(head, &http_date())?;
        self.check_open()?;
        answer.give(&ready)?;
        self.send_and_keep(ready.head, ready.then)
    }

    /// Ends an answer that was begun. The trailers, whole lines, go behind a body in chunks; another has no place for them.
    pub fn end_with(slf: &Bound<'_, Self>, trailers: &[u8]) -> PyResult<()> {
        let this = slf.get();
        this.check_open()?;
        let mut answer = this.answer(slf.py());
        let (last, then) = answer.end()?;
        Self::note_given(slf);
        let (size, end) = last.split_at(last.len().saturating_sub(b"\r\n".len()));
        let trailers = if last.is_empty() { b"" } else { trailers };
        Ok(this.send([size, trailers, end].map(Slice::Bytes), then)?)
    }

    /// Sends an interim answer, if this is the next answer and was not begun. Another has no place for it, nor has a peer
    /// of HTTP/1.0 (RFC 9110 section 15.2).
    pub fn send_interim(&self, head: Head) -> PyResult<()> {
        self.check_open()?;
        if self.facts.version == Version::Http11 {
            let (bytes, _) = head.finish(Framed::Empty, &http_date(), Version::Http11, true);
            with_poller_of(&self.remote, |poller, _| {
                poller.with::<Http, _>(self.remote.token(), |http, wire| http.interim(self.number, &bytes, wire));
            });
        }
        Ok(())
    }

    /// Answers with this head, and with the part of a file as the body.
    pub fn respond_with_part(
        slf: &Bound<'_, Self>,
        head: Head,
        file: File,
        (offset, count): (u64, u64),
    ) -> PyResult<()> {
        let this = slf.get();
        let ready = this.answer(slf.py()).whole(head, count as usize, &http_date())?;
        // Read before the answer is given, so that an error leaves the request unanswered.
        let body = if ready.has_body { Some(FilePart::new(file, offset, count)?) } else { None };
        this.check_open()?;
        let mut answer = this.answer(slf.py());
        answer.give(&ready)?;
        Self::note_given(slf);
        let head = Slice::Bytes(&ready.head);
        Ok(match body {
            None => this.send([head], ready.then),
            Some(FilePart::Read(bytes)) => this.send([head, Slice::Bytes(&bytes)], ready.then),
            Some(FilePart::Unread(range)) => this.send([head, Slice::File(range)], ready.then),
        }?)
    }
}

/// A head in the memory of this thread.
pub fn new_head(status: u16) -> Head {
    Head::new(BUFFER.take(), status)
}
