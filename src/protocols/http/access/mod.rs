//! An access log: each request, with the answer that it got.
//!
//! A connection copies the parts that a line needs into a [`Record`], once the answer was sent or never will be. It makes
//! no text. A [`Lines`] makes the line of a record, elsewhere and later. Every request that was handed out or refused gets
//! exactly one record, however the connection ends.
//!
//! | file | holds |
//! |---|---|
//! | `record` | [`Record`]: a request and its answer as bytes |
//! | `format` | [`Format`]: the pieces of a line |
//! | `fields` | the values that a line may have, by their names |
//! | `text` | values as text that no peer can break out of, and as JSON |
//! | `date` | the time of day, in the forms of logs |

mod date;
mod fields;
mod format;
mod record;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;

use fields::{ANSWER_FIELDS, REQUEST_FIELDS};
pub use format::{Format, Lines, Unknown};
pub(super) use record::Counts;
use record::Record;

use crate::data::Note;
use crate::recorder::Recorder;

/// The status of a request that got no answer, because the connection ended before; nginx's number.
const NO_ANSWER: u16 = 499;
/// Answers from this status on are recorded whether or not the sample has them.
const FAILURES: u16 = 500;

/// The facts that all requests of a connection share, and the place of their records.
pub struct Site {
    recorder: Arc<dyn Recorder>,
    about: Vec<u8>,
}

impl Site {
    /// `peer` is an address without its port; `tls` the version of TLS; `poller` the number of the poller.
    pub fn new(recorder: Arc<dyn Recorder>, peer: Option<(&str, u16)>, tls: Option<&str>, poller: usize) -> Self {
        let (peer, port) = peer.map_or(("unix:", String::new()), |(peer, port)| (peer, port.to_string()));
        let about = record::about(peer, &port, tls.unwrap_or(""), poller);
        Self { recorder, about }
    }

    fn needs(&self, part: u8) -> bool {
        self.recorder.needs() & part != 0
    }
}

/// The requests of one connection that have no whole answer yet.
pub(super) struct Access {
    site: Arc<Site>,
    due: VecDeque<Box<Entry>>,
    /// The head of the answer that is being sent, if a line needs it.
    answer: Vec<u8>,
}

impl Access {
    pub fn new(site: Site) -> Self {
        Self { site: Arc::new(site), due: VecDeque::new(), answer: Vec::new() }
    }

    /// A request is handed out or refused; `head` is its head, as far as it came.
    pub fn begin(&mut self, number: u64, head: &[u8]) {
        let needed = if self.site.needs(REQUEST_FIELDS) { head } else { first_line(head) };
        let (site, began) = (self.site.clone(), self.site.recorder.now());
        let counts = Counts { status: NO_ANSWER, ..Counts::default() };
        let head = needed.to_vec();
        self.due.push_back(Box::new(Entry { site, number, began, counts, is_whole: false, head, answer: Vec::new() }));
    }

    /// The answer begins with these bytes. Returns how many of them are its head.
    pub fn note_head(&mut self, begin: &[u8]) -> u64 {
        let head = head_of(begin);
        if self.site.needs(ANSWER_FIELDS) {
            self.answer = head.to_vec();
        }
        head.len() as u64
    }

    /// The answer to this request ends. If the note hears that it was sent, the answer is whole.
    pub fn end(&mut self, number: u64, counts: Counts) -> Option<Box<dyn Note>> {
        self.due.front().filter(|entry| entry.number == number)?;
        let mut entry = self.due.pop_front()?;
        (entry.counts, entry.answer) = (counts, std::mem::take(&mut self.answer));
        Some(entry)
    }

    /// The connection has ended. `counts` has the bytes of the oldest answer, if it was begun.
    pub fn abandon(&mut self, counts: Counts) {
        if counts.bytes > 0
            && let Some(entry) = self.due.front_mut()
        {
            (entry.counts, entry.answer) = (counts, std::mem::take(&mut self.answer));
        }
        self.due.clear();
    }
}

/// One request and its answer. Its drop makes the record.
struct Entry {
    site: Arc<Site>,
    number: u64,
    began: u64,
    counts: Counts,
    is_whole: bool,
    head: Vec<u8>,
    answer: Vec<u8>,
}

impl Note for Entry {
    fn sent(mut self: Box<Self>) {
        self.is_whole = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Self { site, began, counts, is_whole, head, answer, .. } = self;
        if counts.status < FAILURES && !site.recorder.draws() {
            return;
        }
        let (began, ended, counts, is_whole) = (*began, site.recorder.now(), *counts, *is_whole);
        let record = Record { began, ended, counts, is_whole, about: &site.about, head, answer };
        record.put(&*site.recorder);
    }
}

/// The request line: to the end of the head if no line ends.
fn first_line(head: &[u8]) -> &[u8] {
    &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())]
}

/// The head at the front of an answer, with its empty line.
fn head_of(begin: &[u8]) -> &[u8] {
    let is_end = |at: &usize| begin[..*at].ends_with(b"\r\n\r");
    &begin[..memchr::memchr_iter(b'\n', begin).find(is_end).map_or(begin.len(), |at| at + 1)]
}

#[cfg(test)]
mod tests;
