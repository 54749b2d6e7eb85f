//! A wire for tests of protocols: input and output in memory, a fixed date, and a record of the end that was asked
//! for.

use super::{Protocol, Wire};
use crate::data::{Data, Held};
use crate::error::{Error, Foreign, Reason};

/// The end that a protocol asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Closed,
    /// With the text of the reason.
    Failed(String),
    Cut,
    Aborted,
    Overflown,
}

pub(crate) struct FakeWire {
    pub unread: Vec<u8>,
    pub output: Vec<u8>,
    pub has_eof: bool,
    /// Bytes of output that count as unsent.
    pub queued: usize,
    pub max_output: usize,
    pub high_water: usize,
    pub is_stopping: bool,
    /// The time at which the running callback began.
    pub began: u64,
    /// The answers that were counted: the class of each, and the time of its request.
    pub answers: Vec<(u8, u64)>,
    pub ended: Option<Ended>,
    /// Marks in the output, each with the number of bytes before it.
    pub marks: Vec<(usize, Foreign)>,
    /// The bytes that `random` returns; `None` makes `random` fail.
    pub random: Option<[u8; 4]>,
    /// Number of values that the protocol gave back unsent.
    pub released: usize,
}

/// The date of the example in RFC 9110 section 5.6.7, 06 Nov 1994.
pub(crate) const DATE: [u8; 29] = *b"Sun, 06 Nov 1994 08:49:37 GMT";

impl Default for FakeWire {
    fn default() -> Self {
        let (unread, output) = (Vec::new(), Vec::new());
        let random = Some([1, 2, 3, 4]);
        Self {
            unread,
            output,
            has_eof: false,
            queued: 0,
            max_output: usize::MAX,
            high_water: usize::MAX,
            is_stopping: false,
            began: 0,
            answers: Vec::new(),
            ended: None,
            marks: Vec::new(),
            random,
            released: 0,
        }
    }
}

impl FakeWire {
    /// Appends new input, and has the protocol look at all input, as a connection does.
    pub fn receive(&mut self, protocol: &mut impl Protocol, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let done = protocol.look(&mut self.unread);
        self.consume(done);
    }

    /// Takes the output so far.
    pub fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }
}

impl Wire for FakeWire {
    fn input(&mut self) -> &mut [u8] {
        &mut self.unread
    }

    fn consume(&mut self, count: usize) {
        // Moves the input to a new place in memory each time, so that a stored pointer would find other bytes.
        self.unread = self.unread[count..].to_vec();
    }

    fn has_eof(&self) -> bool {
        self.has_eof
    }

    fn write(&mut self, data: Data<'_>) -> Result<(), Error> {
        if self.ended.is_some() {
            self.released += 1;
            return Err(Error::closed());
        }
        match data {
            Data::Bytes(bytes) => self.output.extend_from_slice(bytes),
            Data::Own(bytes) => self.output.extend(bytes),
            Data::Held(held) => self.output.extend_from_slice(held.bytes()),
            // The bytes themselves are the transport's.
            Data::File(range) => self.output.extend_from_slice(
                format!("<{} bytes of a file from {} on>", range.remaining, range.offset).as_bytes(),
            ),
            Data::Mark(mark) => self.marks.push((self.output.len(), mark)),
            // Bytes that this wire takes count as sent.
            Data::Note(note) => note.sent(),
        }
        Ok(())
    }

    fn write_exempt(&mut self, data: Data<'_>) -> Result<(), Error> {
        self.write(data)
    }

    fn release(&mut self, _held: Box<dyn Held>) {
        self.released += 1;
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn max_output(&self) -> usize {
        self.max_output
    }

    fn high_water(&self) -> usize {
        self.high_water
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    fn began(&self) -> u64 {
        self.began
    }

    fn count_answer(&mut self, class: u8, since: u64) {
        self.answers.push((class, since));
    }

    fn date(&self) -> [u8; 29] {
        DATE
    }

    fn random(&mut self) -> Result<[u8; 4], Error> {
        self.random.ok_or_else(|| Error::state("there are no random bytes".into()))
    }

    fn close(&mut self) {
        self.end(Ended::Closed);
    }

    fn fail(&mut self, reason: Reason) {
        self.end(Ended::Failed(match reason {
            Reason::Protocol(violation) => violation.text,
            Reason::Raised(_) => "raised".into(),
            Reason::Aborted => "aborted".into(),
            Reason::NoMemory => "no memory".into(),
            Reason::Expired(expired) => expired.to_string(),
            _ => "another reason".into(),
        }));
    }

    fn cut(&mut self) {
        self.end(Ended::Cut);
    }

    fn abort(&mut self) {
        self.end(Ended::Aborted);
    }

    fn overflow(&mut self) {
        self.end(Ended::Overflown);
    }
}
