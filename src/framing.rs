//! How messages lie in a stream: where the next one is, and what is written around one.
//!
//! Pure: no sockets, no clock, no Python. Nothing is kept but where to go on looking; what was found stays in the input.

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem::Finder;

use crate::error::Error;
use crate::options::within;

/// The largest `max_size`, bytes.
pub const MOST: usize = 1 << 30;

/// A 64-bit number takes so many bytes at most (the Base 128 Varints of Protocol Buffers).
const LONGEST_VARINT: usize = 10;

/// Why bytes are no message, or a message cannot be framed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// It is larger than it may be.
    #[error("a message of {size} bytes: max_size is {limit}")]
    TooLong {
        /// Its length.
        size: u64,
        /// `max_size`.
        limit: usize,
    },
    /// No end of it within what it may take.
    #[error("no delimiter within max_size={limit} bytes")]
    Endless {
        /// `max_size`.
        limit: usize,
    },
    /// A length that is to include itself, and cannot.
    #[error("a length of {length} bytes does not include the {width} bytes of itself")]
    Short {
        /// What the peer said.
        length: u64,
        /// Bytes of a length.
        width: usize,
    },
    /// A varint that is no 64-bit number.
    #[error("a length in more than 64 bits")]
    Varint,
    /// What was given to be sent would be taken for something else.
    #[error("{0}")]
    Unfit(String),
}

/// How a length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In so many bytes: 1, 2, 4 or 8.
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

/// One way to frame messages.
#[derive(Debug)]
pub struct Framing {
    kind: Kind,
    max_size: usize,
}

/// Where a message lies at the beginning of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The message itself.
    pub message: Range<usize>,
    /// Where the next frame begins.
    pub end: usize,
}

/// What is written before a message.
#[derive(Default)]
pub struct Head {
    bytes: [u8; LONGEST_VARINT],
    len: usize,
}

impl Head {
    /// The first `len` of eight bytes.
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
    /// Each message behind its length.
    pub fn prefixed(length: Length, max_size: usize) -> Result<Self, Error> {
        if let Length::Fixed { width, .. } = length
            && ![1, 2, 4, 8].contains(&width)
        {
            return Err(Error::Argument(format!("size must be 1, 2, 4, 8 or 'varint', not {width}")));
        }
        Self::new(Kind::Prefixed(length), max_size)
    }

    /// Each message before a delimiter, which is no part of it.
    pub fn delimited(delimiter: &[u8], max_size: usize) -> Result<Self, Error> {
        if delimiter.is_empty() {
            return Err(Error::Argument("delimiter must not be empty".into()));
        }
        within("the length of delimiter", delimiter.len(), 1, 1024)?;
        Self::new(Kind::Delimited(Box::new(Finder::new(delimiter).into_owned())), max_size)
    }

    /// Messages of one size.
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

    /// The first frame of `input`, of which `looked` bytes were searched before in vain.
    fn first(&self, input: &[u8], looked: usize) -> Result<Option<Frame>, FramingError> {
        let (width, size) = match &self.kind {
            Kind::Delimited(delimiter) => return self.first_delimited(delimiter, input, looked),
            Kind::Fixed => (0, self.max_size as u64),
            Kind::Prefixed(length) => match length_of(*length, input)? {
                Some(head) => head,
                None => return Ok(None),
            },
        };
        let too_long = || FramingError::TooLong { size, limit: self.max_size };
        let message = usize::try_from(size).ok().filter(|size| *size <= self.max_size).ok_or_else(too_long)?;
        let end = width + message;
        Ok((input.len() >= end).then_some(Frame { message: width..end, end }))
    }

    /// Where the first frame will end, if that is known before it does.
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
        // A delimiter may have begun in what was searched.
        let from = (looked + 1).saturating_sub(width);
        let within = &input[..input.len().min(self.longest())];
        match delimiter.find(&within[from..]) {
            Some(at) => Ok(Some(Frame { message: 0..from + at, end: from + at + width })),
            None if within.len() == self.longest() => Err(FramingError::Endless { limit: self.max_size }),
            None => Ok(None),
        }
    }

    /// Appends `message` to `out` with what comes before and behind it in the stream.
    pub fn append(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
        let (head, tail) = self.wrap(message)?;
        out.reserve(head.bytes.len() + message.len() + tail.len());
        let end = out.len() + head.len;
        // A copy of a known size is a store or two.
        out.extend_from_slice(&head.bytes);
        out.truncate(end);
        out.extend_from_slice(message);
        if !tail.is_empty() {
            out.extend_from_slice(tail);
        }
        Ok(())
    }

    /// What comes before and behind `message` in the stream.
    pub fn wrap(&self, message: &[u8]) -> Result<(Head, &[u8]), FramingError> {
        let size = message.len();
        if size > self.max_size {
            return Err(FramingError::TooLong { size: size as u64, limit: self.max_size });
        }
        match &self.kind {
            Kind::Prefixed(length) => Ok((head_of(*length, size as u64)?, &[])),
            Kind::Delimited(delimiter) if ends_early(delimiter, message) => {
                let needle = delimiter.needle().escape_ascii();
                Err(FramingError::Unfit(format!("the message would end at the delimiter b'{needle}' in it")))
            }
            Kind::Delimited(delimiter) => Ok((Head::default(), delimiter.needle())),
            Kind::Fixed if size < self.max_size => {
                Err(FramingError::Unfit(format!("a message must have exactly {} bytes, not {size}", self.max_size)))
            }
            Kind::Fixed => Ok((Head::default(), &[])),
        }
    }
}

/// Bytes of the length at the beginning of `input`, and how much follows them.
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

/// The number in 1 to 8 bytes, which begin `chunk`, if there is so much.
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

fn head_of(length: Length, size: u64) -> Result<Head, FramingError> {
    let Length::Fixed { width, little, includes_itself } = length else { return Ok(Head::varint(size)) };
    let value = size + if includes_itself { width as u64 } else { 0 };
    if width < 8 && value >> (8 * width) > 0 {
        let text = format!("a message of {size} bytes: its length does not fit into {width} bytes");
        return Err(FramingError::Unfit(text));
    }
    let bytes = if little { value.to_le_bytes() } else { (value << (64 - 8 * width)).to_be_bytes() };
    Ok(Head::of(bytes, width))
}

/// Whether the delimiter behind `message` would not be the first one: there is one in it, or one begins in it.
fn ends_early(delimiter: &Finder<'_>, message: &[u8]) -> bool {
    let needle = delimiter.needle();
    let seam = message.len().saturating_sub(needle.len() - 1);
    let behind = [&message[seam..], needle].concat();
    delimiter.find(message).is_some() || delimiter.find(&behind) != Some(message.len() - seam)
}

/// Finds the messages of one connection, one after the other.
pub(crate) struct Frames {
    framing: Arc<Framing>,
    next: Option<Frame>,
    looked: usize,
    error: Option<FramingError>,
}

impl Frames {
    pub fn new(framing: Arc<Framing>) -> Self {
        Self { framing, next: None, looked: 0, error: None }
    }

    /// Looks for the next message in all the input there is.
    pub fn look(&mut self, input: &[u8]) {
        if self.next.is_some() || self.error.is_some() {
            return;
        }
        match self.framing.first(input, self.looked) {
            Ok(Some(frame)) => self.next = Some(frame),
            Ok(None) => self.looked = input.len(),
            Err(error) => self.error = Some(error),
        }
    }

    /// How much the input lacks of the next message, if its length is there.
    pub fn missing(&self, input: &[u8]) -> usize {
        let known = self.next.is_none() && self.error.is_none();
        if known { self.framing.end_of_first(input).map_or(0, |end| end.saturating_sub(input.len())) } else { 0 }
    }

    /// Someone took bytes from the input: everything is elsewhere now.
    pub fn look_again(&mut self, input: &[u8]) {
        (self.next, self.looked, self.error) = (None, 0, None);
        self.look(input);
    }

    /// The next message, which the caller takes out of the input before it looks again.
    pub fn take(&mut self) -> Option<Frame> {
        self.looked = 0;
        self.next.take()
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        self.next.is_some() || self.error.is_some()
    }

    /// Why no message can follow those that were taken.
    pub fn error(&self) -> Option<&FramingError> {
        self.error.as_ref().filter(|_| self.next.is_none())
    }

    /// The most input that is needed.
    pub fn longest(&self) -> usize {
        self.framing.longest()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// What comes out of a stream that arrives in the given pieces.
    fn cut(framing: &Arc<Framing>, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<FramingError>) {
        let (mut frames, mut input, mut messages) = (Frames::new(framing.clone()), Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            frames.look(&input);
            while let Some(frame) = frames.take() {
                messages.push(input[frame.message].to_vec());
                input.drain(..frame.end);
                frames.look(&input);
            }
        }
        assert!(frames.error().is_some() || input.len() < framing.longest(), "what waits is bounded");
        (messages, frames.error().cloned())
    }

    fn framed(framing: &Framing, messages: &[Vec<u8>]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut stream, mut fit) = (Vec::new(), Vec::new());
        for message in messages {
            if let Ok((head, tail)) = framing.wrap(message) {
                stream.extend([head.bytes(), message, tail].concat());
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
