//! Framings: where the next message lies in a stream, and the bytes written around a message.
//!
//! Pure: no sockets, no clock, no Python. A connection stores only the position where the search continues; a message
//! that was found stays in the input.

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::{Protocol, Wire};
use crate::error::{Error, Violation, ViolationKind, within};

/// The largest `max_size`, bytes.
pub const MOST: usize = 1 << 30;

/// The most bytes of a 64-bit number as a varint (the Base 128 Varints of Protocol Buffers).
const LONGEST_VARINT: usize = 10;

/// The reason why bytes are no message, or why a message cannot be framed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The message is longer than `max_size`.
    #[error("a message of {size} bytes: max_size is {limit}")]
    TooLong {
        /// Its length.
        size: u64,
        /// `max_size`.
        limit: usize,
    },
    /// No delimiter within the bytes that a message may have.
    #[error("no delimiter within max_size={limit} bytes")]
    Endless {
        /// `max_size`.
        limit: usize,
    },
    /// A length that includes itself is smaller than its own width.
    #[error("a length of {length} bytes does not include the {width} bytes of itself")]
    Short {
        /// The length that the peer sent.
        length: u64,
        /// Width of the length, bytes.
        width: usize,
    },
    /// The varint is not a 64-bit number.
    #[error("a length in more than 64 bits")]
    Varint,
    /// The message to send would be read as something else.
    #[error("{0}")]
    Unfit(String),
}

/// The encoding of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A number of 1, 2, 4 or 8 bytes.
    Fixed {
        /// Bytes.
        width: usize,
        /// Least significant byte first.
        little: bool,
        /// The length counts its own bytes.
        includes_itself: bool,
    },
    /// Seven bits a byte, the least significant first (Protocol Buffers).
    Varint,
}

#[derive(Debug)]
enum Kind {
    Prefixed(Length),
    Delimited(Box<Finder<'static>>),
    Fixed,
}

/// A way to frame messages.
#[derive(Debug)]
pub struct Framing {
    kind: Kind,
    max_size: usize,
}

/// The position of a message at the front of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The message without its head and its delimiter.
    pub message: Range<usize>,
    /// Offset of the next frame.
    pub end: usize,
}

/// The bytes that are written before a message.
#[derive(Default)]
pub struct Head {
    bytes: [u8; LONGEST_VARINT],
    len: usize,
}

impl Head {
    /// A head of the first `len` of eight bytes.
    fn of(bytes: [u8; 8], len: usize) -> Self {
        let mut head = Self { len, ..Self::default() };
        head.bytes[..8].copy_from_slice(&bytes);
        head
    }

    fn varint(mut value: u64) -> Self {
        let mut head = Self::default();
        loop {
            let more = value > 0x7f;
            head.bytes[head.len] = (value & 0x7f) as u8 | u8::from(more) << 7;
            head.len += 1;
            if !more {
                return head;
            }
            value >>= 7;
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Framing {
    /// A framing with the length before each message.
    pub fn prefixed(length: Length, max_size: usize) -> Result<Self, Error> {
        if let Length::Fixed { width, .. } = length
            && ![1, 2, 4, 8].contains(&width)
        {
            return Err(Error::argument(format!("size must be 1, 2, 4, 8 or 'varint', not {width}")));
        }
        Self::new(Kind::Prefixed(length), max_size)
    }

    /// A framing with a delimiter after each message; the delimiter is no part of the message.
    pub fn delimited(delimiter: &[u8], max_size: usize) -> Result<Self, Error> {
        if delimiter.is_empty() {
            return Err(Error::argument("delimiter must not be empty".into()));
        }
        within("the length of delimiter", delimiter.len(), 1, 1024)?;
        Self::new(Kind::Delimited(Box::new(Finder::new(delimiter).into_owned())), max_size)
    }

    /// A framing of messages with one fixed size.
    pub fn fixed(size: usize) -> Result<Self, Error> {
        within("size", size, 1, MOST)?;
        Self::new(Kind::Fixed, size)
    }

    fn new(kind: Kind, max_size: usize) -> Result<Self, Error> {
        within("max_size", max_size, 1, MOST)?;
        Ok(Self { kind, max_size })
    }

    /// The most bytes that one frame may take.
    pub fn longest(&self) -> usize {
        match &self.kind {
            Kind::Prefixed(Length::Fixed { width, .. }) => width + self.max_size,
            Kind::Prefixed(Length::Varint) => LONGEST_VARINT + self.max_size,
            Kind::Delimited(delimiter) => self.max_size + delimiter.needle().len(),
            Kind::Fixed => self.max_size,
        }
    }

    /// The first frame of `input`; its first `looked` bytes were searched before without success.
    #[inline(always)]
    fn first(&self, input: &[u8], looked: usize) -> Result<Option<Frame>, FramingError> {
        let (width, size) = match &self.kind {
            Kind::Delimited(delimiter) => return self.first_delimited(delimiter, input, looked),
            Kind::Fixed => (0, self.max_size as u64),
            Kind::Prefixed(length) => match length_of(*length, input)? {
                Some(head) => head,
                None => return Ok(None),
            },
        };
        if size > self.max_size as u64 {
            return Err(FramingError::TooLong { size, limit: self.max_size });
        }
        let end = width + size as usize;
        Ok((input.len() >= end).then_some(Frame { message: width..end, end }))
    }

    /// The end of the first frame, if it is known before the frame is complete.
    fn end_of_first(&self, input: &[u8]) -> Option<usize> {
        match &self.kind {
            Kind::Fixed => Some(self.max_size),
            Kind::Prefixed(length) => {
                let (width, size) = length_of(*length, input).ok()??;
                usize::try_from(size).ok().filter(|size| *size <= self.max_size).map(|size| width + size)
            }
            Kind::Delimited(_) => None,
        }
    }

    fn first_delimited(
        &self,
        delimiter: &Finder<'_>,
        input: &[u8],
        looked: usize,
    ) -> Result<Option<Frame>, FramingError> {
        let width = delimiter.needle().len();
        // A delimiter may have begun in the part that was searched.
        let from = (looked + 1).saturating_sub(width);
        let within = &input[..input.len().min(self.longest())];
        match delimiter.find(&within[from..]) {
            Some(at) => Ok(Some(Frame { message: 0..from + at, end: from + at + width })),
            None if within.len() == self.longest() => Err(FramingError::Endless { limit: self.max_size }),
            None => Ok(None),
        }
    }

    /// Appends `message` to `out`, with its head and its delimiter.
    #[inline(always)]
    pub fn append(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
        let (head, tail) = self.wrap(message)?;
        out.reserve(head.bytes.len() + message.len() + tail.len());
        let end = out.len() + head.len;
        // A copy of a constant size compiles to one or two stores.
        out.extend_from_slice(&head.bytes);
        out.truncate(end);
        out.extend_from_slice(message);
        if !tail.is_empty() {
            out.extend_from_slice(tail);
        }
        Ok(())
    }

    /// The bytes before and after `message` in the stream.
    #[inline(always)]
    pub fn wrap(&self, message: &[u8]) -> Result<(Head, &[u8]), FramingError> {
        let size = message.len();
        if size > self.max_size {
            return Err(FramingError::TooLong { size: size as u64, limit: self.max_size });
        }
        match &self.kind {
            Kind::Prefixed(length) => match head_of(*length, size as u64) {
                Some(head) => Ok((head, &[])),
                None => Err(self.unfit(size)),
            },
            Kind::Delimited(delimiter) if ends_early(delimiter, message) => Err(self.unfit(size)),
            Kind::Delimited(delimiter) => Ok((Head::default(), delimiter.needle())),
            Kind::Fixed if size < self.max_size => Err(self.unfit(size)),
            Kind::Fixed => Ok((Head::default(), &[])),
        }
    }

    /// The error of a message of this size that the peer would read as something else.
    #[cold]
    fn unfit(&self, size: usize) -> FramingError {
        FramingError::Unfit(match &self.kind {
            Kind::Prefixed(Length::Fixed { width, .. }) => {
                format!("a message of {size} bytes: its length does not fit into {width} bytes")
            }
            Kind::Delimited(delimiter) => {
                format!("the message would end at the delimiter b'{}' in it", delimiter.needle().escape_ascii())
            }
            // A varint has room for any length.
            Kind::Fixed | Kind::Prefixed(Length::Varint) => {
                format!("a message must have exactly {} bytes, not {size}", self.max_size)
            }
        })
    }
}

/// The width of the length at the beginning of `input`, and the number of bytes that follow it.
#[inline(always)]
fn length_of(length: Length, input: &[u8]) -> Result<Option<(usize, u64)>, FramingError> {
    match length {
        Length::Varint => varint_of(input),
        Length::Fixed { width, little, includes_itself } => {
            let Some(bytes) = input.get(..width) else { return Ok(None) };
            let value = number_in(bytes, input.first_chunk(), little);
            if !includes_itself {
                return Ok(Some((width, value)));
            }
            let rest = value.checked_sub(width as u64).ok_or(FramingError::Short { length: value, width })?;
            Ok(Some((width, rest)))
        }
    }
}

/// The number in `bytes`, 1 to 8 bytes long. `chunk` is the eight bytes that begin with them, if the input holds so
/// many.
#[inline]
fn number_in(bytes: &[u8], chunk: Option<&[u8; 8]>, little: bool) -> u64 {
    let unused = 64 - 8 * bytes.len();
    match chunk {
        Some(chunk) if little => u64::from_le_bytes(*chunk) << unused >> unused,
        Some(chunk) => u64::from_be_bytes(*chunk) >> unused,
        None => {
            let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            if little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) }
        }
    }
}

fn varint_of(input: &[u8]) -> Result<Option<(usize, u64)>, FramingError> {
    let mut value = 0;
    for (index, byte) in input.iter().take(LONGEST_VARINT).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == LONGEST_VARINT - 1 && *byte > 1 {
            return Err(FramingError::Varint);
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((index + 1, value)));
        }
    }
    Ok(None)
}

/// The head of a message of that size; `None` if its length has no room there.
#[inline(always)]
fn head_of(length: Length, size: u64) -> Option<Head> {
    let Length::Fixed { width, little, includes_itself } = length else { return Some(Head::varint(size)) };
    let value = size + if includes_itself { width as u64 } else { 0 };
    let unused = 64 - 8 * width;
    let aligned = value << unused;
    let bytes = if little { value.to_le_bytes() } else { aligned.to_be_bytes() };
    (aligned >> unused == value).then(|| Head::of(bytes, width))
}

/// Whether the peer would find the delimiter before the end of `message`: it lies in the message, or begins in it.
#[inline(never)]
fn ends_early(delimiter: &Finder<'_>, message: &[u8]) -> bool {
    let needle = delimiter.needle();
    let seam = message.len().saturating_sub(needle.len() - 1);
    let begins_in_it = || delimiter.find(&[&message[seam..], needle].concat()) != Some(message.len() - seam);
    delimiter.find(message).is_some() || (needle.len() > 1 && begins_in_it())
}

impl From<&FramingError> for Violation {
    fn from(error: &FramingError) -> Self {
        let kind = match error {
            FramingError::TooLong { .. } | FramingError::Endless { .. } => ViolationKind::TooLong,
            FramingError::Short { .. } | FramingError::Varint | FramingError::Unfit(_) => ViolationKind::Framing,
        };
        Self { protocol: "framing", kind, text: error.to_string() }
    }
}

/// Finds the messages of one connection, one after the other.
pub struct Frames {
    framing: Arc<Framing>,
    next: Option<Frame>,
    looked: usize,
    error: Option<FramingError>,
}

impl Frames {
    /// Makes the state of a connection before its first byte.
    pub fn new(framing: Arc<Framing>) -> Self {
        Self { framing, next: None, looked: 0, error: None }
    }

    /// Hands the next message to `show`, if a whole one is there, and removes it from the input.
    #[inline]
    pub fn take<R>(&mut self, wire: &mut dyn Wire, show: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (mut show, mut value) = (Some(show), None);
        self.take_each(wire, |message| {
            value = show.take().map(|show| show(message));
            false
        });
        value
    }

    /// Hands the messages that are there to `show`, one after the other, until it returns `false`, and removes them from
    /// the input.
    #[inline]
    pub fn take_each(&mut self, wire: &mut dyn Wire, mut show: impl FnMut(&[u8]) -> bool) {
        let (input, mut at, mut goes_on) = (&*wire.input(), 0, true);
        while goes_on && let Some(frame) = self.next.take() {
            let (taken, rest) = input[at..].split_at(frame.end);
            goes_on = show(&taken[frame.message]);
            self.looked = 0;
            self.find(rest);
            at += frame.end;
        }
        wire.consume(at);
    }

    /// Searches all the input for the next message.
    #[inline(always)]
    fn find(&mut self, input: &[u8]) {
        if self.next.is_some() || self.error.is_some() {
            return;
        }
        match self.framing.first(input, self.looked) {
            Ok(Some(frame)) => self.next = Some(frame),
            Ok(None) => self.looked = input.len(),
            Err(error) => self.error = Some(error),
        }
    }

    /// The error after which no message can follow, once every message before it was taken.
    pub fn error(&self) -> Option<&FramingError> {
        self.error.as_ref().filter(|_| self.next.is_none())
    }
}

impl Protocol for Frames {
    fn look(&mut self, input: &mut [u8]) -> usize {
        self.find(input);
        0
    }

    fn has_news(&self) -> bool {
        self.next.is_some() || self.error.is_some()
    }

    /// Known as soon as the length of the next message has arrived.
    fn missing(&self, input: &[u8]) -> usize {
        let is_open = self.next.is_none() && self.error.is_none();
        if is_open { self.framing.end_of_first(input).map_or(0, |end| end.saturating_sub(input.len())) } else { 0 }
    }

    fn longest(&self) -> usize {
        self.framing.longest()
    }

    fn callback(&self) -> &'static &'static str {
        &"on_message"
    }

    fn forget(&mut self) {
        self.look_again(&mut []);
    }

    fn violation(&self) -> Option<Violation> {
        self.error().map(Violation::from)
    }

    fn allows_bytes(&self) -> bool {
        true
    }

    /// The handler consumed bytes, so all stored positions are wrong.
    fn look_again(&mut self, input: &mut [u8]) {
        (self.next, self.looked, self.error) = (None, 0, None);
        self.find(input);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fake::FakeWire;
    use super::*;

    const MAX: usize = 40;

    fn fixed_length(width: usize, little: bool, includes_itself: bool) -> Length {
        Length::Fixed { width, little, includes_itself }
    }

    fn framings() -> impl Strategy<Value = Framing> {
        let widths = prop::sample::select(vec![1, 2, 4, 8]);
        prop_oneof![
            (widths, any::<bool>(), any::<bool>())
                .prop_map(|(width, little, itself)| Framing::prefixed(fixed_length(width, little, itself), MAX)),
            Just(()).prop_map(|()| Framing::prefixed(Length::Varint, MAX)),
            prop::collection::vec(0..3_u8, 1..4).prop_map(|delimiter| Framing::delimited(&delimiter, MAX)),
            (1..MAX).prop_map(Framing::fixed),
        ]
        .prop_map(|framing| framing.expect("it is valid"))
    }

    /// The messages of a stream that arrives in the given pieces. Those of a piece are taken in groups of `most`.
    fn cut_in_groups(framing: &Arc<Framing>, pieces: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
        let (mut frames, mut wire, mut messages) = (Frames::new(framing.clone()), FakeWire::default(), Vec::new());
        for piece in pieces {
            wire.receive(&mut frames, piece);
            let mut before = usize::MAX;
            while before != messages.len() {
                before = messages.len();
                frames.take_each(&mut wire, |message| {
                    messages.push(message.to_vec());
                    messages.len() < before + most
                });
                assert!(messages.len() <= before + most);
            }
        }
        messages
    }

    /// The messages of a stream that arrives in the given pieces.
    fn cut(framing: &Arc<Framing>, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<FramingError>) {
        let (mut frames, mut wire, mut messages) = (Frames::new(framing.clone()), FakeWire::default(), Vec::new());
        for piece in pieces {
            wire.receive(&mut frames, piece);
            while let Some(message) = frames.take(&mut wire, <[u8]>::to_vec) {
                messages.push(message);
            }
        }
        assert!(frames.error().is_some() || wire.unread.len() < framing.longest(), "input that waits is bounded");
        (messages, frames.error().cloned())
    }

    fn framed(framing: &Framing, messages: &[Vec<u8>]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut stream, mut fit) = (Vec::new(), Vec::new());
        for message in messages {
            let at = stream.len();
            if framing.append(message, &mut stream).is_ok() {
                let (head, tail) = framing.wrap(message).expect("it fits");
                assert_eq!(&stream[at..], [head.bytes(), message, tail].concat());
                fit.push(message.clone());
            }
        }
        (stream, fit)
    }

    proptest! {
        #[test]
        fn what_is_framed_comes_out_whole_wherever_the_stream_is_cut_in_two(
            framing in framings(), messages in prop::collection::vec(prop::collection::vec(0..4_u8, 0..MAX + 2), 0..6),
        ) {
            let framing = Arc::new(framing);
            let (stream, fit) = framed(&framing, &messages);
            for at in 0..=stream.len() {
                let (left, right) = stream.split_at(at);
                prop_assert_eq!(cut(&framing, &[left, right]), (fit.clone(), None));
            }
        }

        #[test]
        fn any_bytes_mean_the_same_at_once_and_byte_by_byte(
            framing in framings(), stream in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200),
        ) {
            let framing = Arc::new(framing);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(cut(&framing, &bytes), cut(&framing, &[&stream]));
        }

        #[test]
        fn messages_that_are_taken_in_groups_are_those_that_are_taken_one_by_one(
            framing in framings(), stream in prop::collection::vec(0..4_u8, 0..200), at in 0..200_usize, most in 1..5_usize,
        ) {
            let framing = Arc::new(framing);
            let (left, right) = stream.split_at(at.min(stream.len()));
            prop_assert_eq!(cut_in_groups(&framing, &[left, right], most), cut(&framing, &[left, right]).0);
        }

        #[test]
        fn a_varint_of_any_number_is_read_back(value: u64) {
            let head = Head::varint(value);
            prop_assert_eq!(varint_of(head.bytes()), Ok(Some((head.bytes().len(), value))));
        }
    }

    fn only(framing: Result<Framing, Error>, stream: &[u8]) -> (Vec<Vec<u8>>, Option<FramingError>) {
        cut(&Arc::new(framing.expect("it is valid")), &[stream])
    }

    #[test]
    fn messages_before_a_bad_one_are_delivered() {
        let four = || Framing::prefixed(fixed_length(4, false, false), MAX);
        let too_long = FramingError::TooLong { size: 41, limit: 40 };
        assert_eq!(only(four(), b"\0\0\0\x02hi\0\0\0\x29"), (vec![b"hi".to_vec()], Some(too_long)));
        let largest = FramingError::TooLong { size: u64::MAX, limit: 40 };
        let eight = Framing::prefixed(fixed_length(8, false, false), MAX);
        assert_eq!(only(eight, &[0xff; 8]), (vec![], Some(largest)));
        let itself = Framing::prefixed(fixed_length(2, true, true), MAX);
        assert_eq!(only(itself, b"\x01\0"), (vec![], Some(FramingError::Short { length: 1, width: 2 })));
        assert_eq!(only(Framing::prefixed(Length::Varint, MAX), &[0xff; 10]), (vec![], Some(FramingError::Varint)));
    }

    #[test]
    fn a_delimiter_may_come_right_at_the_limit_and_no_later() {
        let lines = || Framing::delimited(b"\r\n", 3);
        assert_eq!(only(lines(), b"abc\r\n"), (vec![b"abc".to_vec()], None));
        assert_eq!(only(lines(), b"abcd\r\n"), (vec![], Some(FramingError::Endless { limit: 3 })));
        assert_eq!(only(lines(), b"abc\r"), (vec![], None));
    }

    #[test]
    fn a_message_up_to_the_limit_is_framed_and_the_missing_rest_of_it_is_known() {
        let endless = |_: &Framing| 0;
        let known = |framing: &Framing| framing.longest() - 4;
        type Case<'a> = (Result<Framing, Error>, &'a [u8], &'a [u8], fn(&Framing) -> usize);
        let cases: [Case<'_>; 7] = [
            (Framing::prefixed(fixed_length(1, false, false), 4), b"abcd", b"\x04abcd", known),
            (Framing::prefixed(fixed_length(2, false, true), 4), b"abcd", b"\0\x06abcd", known),
            (
                Framing::prefixed(fixed_length(4, true, false), 99),
                &[b'x'; 99],
                &[b"\x63\0\0\0", &[b'x'; 99][..]].concat(),
                known,
            ),
            (Framing::prefixed(Length::Varint, 127), &[b'x'; 127], &[&[127], &[b'x'; 127][..]].concat(), |_| 124),
            (Framing::prefixed(Length::Varint, 200), &[b'x'; 128], &[&[128, 1], &[b'x'; 128][..]].concat(), |_| 126),
            (Framing::delimited(b"\r\n", 4), b"abcd", b"abcd\r\n", endless),
            (Framing::fixed(4), b"abcd", b"abcd", known),
        ];
        for (framing, message, bytes, missing) in cases {
            let (framing, mut out) = (framing.expect("it is valid"), b"before".to_vec());
            assert_eq!(framing.append(message, &mut out), Ok(()));
            assert_eq!(out, [b"before", bytes].concat());
            let lacks = missing(&framing);
            assert_eq!(Frames::new(Arc::new(framing)).missing(&bytes[..4]), lacks, "{bytes:?}");
        }
    }

    #[test]
    fn no_rest_is_missing_of_a_message_that_is_too_long_or_has_no_length_yet() {
        let missing = |input: &[u8]| {
            let framing = Framing::prefixed(fixed_length(2, false, false), 4).expect("it is valid");
            Frames::new(Arc::new(framing)).missing(input)
        };
        assert_eq!([&b""[..], b"\0", b"\0\x04", b"\0\x04abc", b"\0\x05"].map(missing), [0, 0, 4, 1, 0]);
    }

    #[test]
    fn a_connection_may_read_bytes_between_messages_or_lose_its_input() {
        let mut frames = Frames::new(Arc::new(Framing::fixed(2).expect("it is valid")));
        assert_eq!((*frames.callback(), frames.longest(), frames.allows_bytes()), ("on_message", 2, true));
        let mut wire = FakeWire::default();
        wire.receive(&mut frames, b"abcd");
        wire.unread.remove(0);
        frames.look_again(&mut wire.unread);
        assert_eq!(frames.take(&mut wire, <[u8]>::to_vec).as_deref(), Some(&b"bc"[..]));
        wire.receive(&mut frames, b"e");
        assert!(frames.has_news() && frames.violation().is_none());
        frames.forget();
        assert!(!frames.has_news());
    }

    #[test]
    fn a_peer_that_announces_too_much_breaks_a_rule() {
        let mut frames = Frames::new(Arc::new(Framing::prefixed(Length::Varint, 4).expect("it is valid")));
        frames.look(&mut [5]);
        let violation = frames.violation().map(|violation| (violation.protocol, violation.kind, violation.text));
        let text = "a message of 5 bytes: max_size is 4";
        assert_eq!(violation, Some(("framing", ViolationKind::TooLong, text.into())));
    }

    #[test]
    fn the_longest_frame_is_a_message_with_its_length_or_its_delimiter() {
        let longest = |framing: Result<Framing, Error>| framing.expect("it is valid").longest();
        assert_eq!(longest(Framing::prefixed(fixed_length(8, true, true), 100)), 108);
        assert_eq!(longest(Framing::prefixed(Length::Varint, 100)), 110);
        assert_eq!(longest(Framing::delimited(b"ab", 100)), 102);
        assert_eq!(longest(Framing::fixed(100)), 100);
    }

    #[test]
    fn a_message_that_would_be_taken_for_another_is_refused() {
        let refused = |framing: Result<Framing, Error>, message: &[u8]| {
            framing.expect("it is valid").wrap(message).err().map(|error| error.to_string())
        };
        let delimiter = refused(Framing::delimited(b"aa", MAX), b"a");
        assert_eq!(delimiter.as_deref(), Some("the message would end at the delimiter b'aa' in it"));
        let wide = refused(Framing::prefixed(fixed_length(1, false, false), 300), &[0; 256]);
        assert_eq!(wide.as_deref(), Some("a message of 256 bytes: its length does not fit into 1 bytes"));
        assert_eq!(refused(Framing::fixed(4), b"abc").as_deref(), Some("a message must have exactly 4 bytes, not 3"));
        assert_eq!(refused(Framing::fixed(4), b"abcde").as_deref(), Some("a message of 5 bytes: max_size is 4"));
    }
}
