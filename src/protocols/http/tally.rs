//! The status and the size of an answer while it is written, for handlers and access logs that ask for them.
//!
//! The machine has a tally only if somebody wants one. It reads the status from the bytes of the answer, because an
//! answer comes from many places: the handler, another thread, a refusal, the end of a connection.

use super::access::{Access, Counts, Site};
use crate::data::Data;

/// An answer that was written whole. The machine marks the output with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The number of the request.
    pub number: u64,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer as it was sent: status line, fields, body with its framing. Interim answers do not count.
    pub bytes: u64,
}

/// The answer whose turn it is.
#[derive(Default)]
pub(super) struct Tally {
    counts: Counts,
    /// Whether the handler wants marks.
    is_observed: bool,
    /// The requests for an access log.
    access: Option<Access>,
}

impl Tally {
    /// Has the end of each answer marked by an [`Answered`].
    pub fn observe(&mut self) {
        self.is_observed = true;
    }

    /// Has each request recorded with its answer.
    pub fn record(&mut self, site: Site) {
        self.access = Some(Access::new(site));
    }

    /// Notes a request that is handed out or refused.
    pub fn begin(&mut self, number: u64, head: &[u8]) {
        if let Some(access) = &mut self.access {
            access.begin(number, head);
        }
    }

    /// Counts a part of the answer. The first part begins with the status line.
    pub fn note(&mut self, part: &Data<'_>) {
        if self.counts.bytes == 0 {
            let begin = bytes_of(part);
            self.counts.status = status_of(begin);
            if let Some(access) = &mut self.access {
                self.counts.head = access.note_head(begin);
            }
        }
        self.counts.bytes += part.len();
    }

    /// The answer is whole: returns its marks, and begins the counts of the next one.
    pub fn take(&mut self, number: u64) -> impl Iterator<Item = Data<'static>> {
        let counts = std::mem::take(&mut self.counts);
        let Counts { status, bytes, .. } = counts;
        let note = self.access.as_mut().and_then(|access| access.end(number, counts));
        let mark = self.is_observed.then(|| Data::Mark(Box::new(Answered { number, status, bytes })));
        note.map(Data::Note).into_iter().chain(mark)
    }

    /// The answer ends here, and is not whole.
    pub fn cut(&mut self, number: u64) {
        let counts = std::mem::take(&mut self.counts);
        if let Some(access) = &mut self.access {
            drop(access.end(number, counts));
        }
    }
}

impl Drop for Tally {
    /// The connection has ended amid an answer.
    fn drop(&mut self) {
        if let Some(access) = &mut self.access {
            access.abandon(self.counts);
        }
    }
}

fn bytes_of<'a>(part: &'a Data<'_>) -> &'a [u8] {
    match part {
        Data::Bytes(bytes) => bytes,
        Data::Own(bytes) => bytes.as_slice(),
        Data::Held(held) => held.bytes(),
        Data::File(_) | Data::Mark(_) | Data::Note(_) => b"",
    }
}

/// The first digit of the status of an answer, by its first part. 0 for an interim answer, since the answer itself follows.
pub(super) fn class_of(part: &Data<'_>) -> u8 {
    match bytes_of(part).get(9..12) {
        Some([b'1', rest @ ..]) if rest != b"01" => 0,
        Some([digit @ b'1'..=b'5', ..]) => digit - b'0',
        _ => 0,
    }
}

/// The status in a status line (RFC 9112 section 4): three digits behind `HTTP/1.1 `.
fn status_of(line: &[u8]) -> u16 {
    let digits = line.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
