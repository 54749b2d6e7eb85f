//! The status and the size of an answer while it is written, for handlers that keep an access log.
//!
//! The machine has a tally only if the handler wants one. It reads the status from the bytes of the answer, because an
//! answer comes from many places: the handler, another thread, a refusal, the end of a connection.

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
    status: u16,
    bytes: u64,
}

impl Tally {
    /// Counts a part of the answer. The first part begins with the status line.
    pub fn note(&mut self, part: &Data<'_>) {
        if self.bytes == 0 {
            self.status = status_of(bytes_of(part));
        }
        self.bytes += part.len();
    }

    /// The answer is whole: returns its counts, and begins those of the next one.
    pub fn take(&mut self, number: u64) -> Answered {
        let Self { status, bytes } = std::mem::take(self);
        Answered { number, status, bytes }
    }
}

fn bytes_of<'a>(part: &'a Data<'_>) -> &'a [u8] {
    match part {
        Data::Bytes(bytes) => bytes,
        Data::Own(bytes) => bytes.as_slice(),
        Data::Held(held) => held.bytes(),
        Data::File(_) | Data::Mark(_) => b"",
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
