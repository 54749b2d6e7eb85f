//! Finds the messages in the input of one connection, one after the other.
//!
//! It stores only offsets into the input, so the input may move between calls. It copies only fragments of a message,
//! and the content of a compressed message. The copy is freed with the message: an idle connection owns no memory
//! here.

use std::sync::Arc;

use super::close::parse_close;
use super::deflate::{inflate, most_compressed};
use super::frame::{CONTROL_MOST, LONGEST_HEAD, Opcode, Start, mask};
use super::settings::Settings;
use super::utf8::Utf8;
use super::violation::Violation;

/// One thing that the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A message of text.
    Text(&'a str),
    /// A message of bytes.
    Binary(&'a [u8]),
    /// A ping, which asks for a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong, the answer to a ping or sent unasked.
    Pong(&'a [u8]),
    /// A close frame, the last frame of the peer.
    Close {
        /// The code, if the frame has one.
        code: Option<u16>,
        /// The reason text; may be empty.
        reason: &'a str,
    },
}

/// The kind of the message to which a frame belongs.
#[derive(Clone, Copy)]
struct Message {
    opcode: Opcode,
    compressed: bool,
}

impl Message {
    /// Whether it is text that can be checked as it arrives.
    fn is_plain_text(self) -> bool {
        self.opcode == Opcode::Text && !self.compressed
    }
}

/// A frame after its head was taken out of the input. Its payload begins at the front of the input.
#[derive(Clone, Copy)]
struct Frame {
    message: Message,
    key: [u8; 4],
    /// Bytes of payload that are still to be taken out of the input.
    len: usize,
    /// The number of them that were unmasked and checked in place.
    seen: usize,
    /// Whether it belongs to a message of several frames. Such a payload moves out of the input as it arrives.
    fragment: bool,
    /// Whether it is the last frame of its message.
    fin: bool,
}

enum State {
    /// A head is at the front of the input.
    Head,
    /// The rest of this payload is at the front of the input.
    Payload(Frame),
    /// An item was found: this number of bytes at the front of the input.
    InInput(Opcode, usize),
    /// A message was found, in the store.
    InStore(Opcode),
    /// The peer broke a rule; nothing more can be found.
    Failed(Violation),
    /// A close frame was taken; further input is ignored.
    Closed,
}

/// Finds the messages of one connection, one after the other.
pub struct Messages {
    settings: Arc<Settings>,
    state: State,
    /// The message between its first fragment and its last.
    begun: Option<Message>,
    utf8: Utf8,
    /// The fragments of the message, or an inflated message.
    store: Vec<u8>,
}

impl Messages {
    /// Makes the state of a connection before its first frame.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, state: State::Head, begun: None, utf8: Utf8::default(), store: Vec::new() }
    }

    /// The settings that the handshake agreed on.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Uses other limits from the next frame on.
    pub fn go_on_with(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// Looks at all the input up to the end of the first item, and removes the masks in place.
    ///
    /// Returns the number of bytes at the front that are no longer needed: the caller drops them, and leaves the
    /// others unchanged. Does nothing while an item that was found was not taken. After the last item all input
    /// counts as no longer needed.
    #[inline]
    pub fn look(&mut self, input: &mut [u8]) -> usize {
        let mut done = 0;
        loop {
            let step = match self.state {
                State::Head => self.look_at_head(&input[done..]),
                State::Payload(frame) => self.look_at_payload(frame, &mut input[done..]),
                State::InInput(..) | State::InStore(_) => return done,
                State::Failed(_) | State::Closed => return input.len(),
            };
            match step {
                Ok(Some(bytes)) => done += bytes,
                Ok(None) => return done,
                Err(violation) => self.fail(violation),
            }
        }
    }

    /// Reads the next head and returns its length; `None` if it is not complete.
    #[inline]
    fn look_at_head(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let Some(start) = Start::read(input, &self.settings)? else { return Ok(None) };
        let is_control = start.opcode.is_some_and(Opcode::is_control);
        let message = match (start.opcode, self.begun) {
            (Some(opcode), begun) if is_control || begun.is_none() => Message { opcode, compressed: start.compressed },
            (None, Some(begun)) => begun,
            (Some(_), _) => return Err(Violation::MessageWithinMessage),
            (None, None) => return Err(Violation::NothingToContinue),
        };
        let fragment = !is_control && (!start.fin || self.begun.is_some());
        let len = if is_control { start.len as usize } else { self.within_limit(message, start.len)? };
        if fragment {
            self.begun = Some(message);
        }
        self.state = State::Payload(Frame { message, key: start.key, len, seen: 0, fragment, fin: start.fin });
        Ok(Some(start.width))
    }

    /// Returns `len` if `message` may grow by so many bytes.
    fn within_limit(&self, message: Message, len: u64) -> Result<usize, Violation> {
        let limit = self.settings.max_message;
        let most = if message.compressed { most_compressed(limit) } else { limit };
        // The store holds bytes only while fragments arrive.
        let size = len.saturating_add(self.store.len() as u64);
        if size > most as u64 { Err(Violation::TooLong { size, limit }) } else { Ok(len as usize) }
    }

    /// Returns the number of bytes to move out of the input; `None` if more input is needed.
    #[inline]
    fn look_at_payload(&mut self, mut frame: Frame, input: &mut [u8]) -> Result<Option<usize>, Violation> {
        let there = frame.len.min(input.len());
        let piece = &mut input[frame.seen..there];
        mask(piece, &mut frame.key);
        if frame.message.is_plain_text() {
            self.utf8.feed(piece)?;
        }
        if frame.fragment {
            return self.move_fragment(frame, piece);
        }
        frame.seen = there;
        if frame.seen < frame.len {
            self.state = State::Payload(frame);
            return Ok(None);
        }
        self.end_in_input(frame.message, &input[..there])
    }

    /// Completes a message in the input; `payload` is its whole payload.
    #[inline]
    fn end_in_input(&mut self, message: Message, payload: &[u8]) -> Result<Option<usize>, Violation> {
        if message.compressed {
            self.store = self.inflated(message, payload)?;
            self.state = State::InStore(message.opcode);
            return Ok(Some(payload.len()));
        }
        match message.opcode {
            Opcode::Text => self.utf8.end()?,
            Opcode::Close => _ = parse_close(payload)?,
            Opcode::Binary | Opcode::Ping | Opcode::Pong => {}
        }
        self.state = State::InInput(message.opcode, payload.len());
        Ok(Some(0))
    }

    fn move_fragment(&mut self, mut frame: Frame, piece: &[u8]) -> Result<Option<usize>, Violation> {
        self.store.try_reserve(piece.len()).map_err(|_| Violation::NoMemory)?;
        self.store.extend_from_slice(piece);
        frame.len -= piece.len();
        if frame.len > 0 {
            self.state = State::Payload(frame);
            return Ok((!piece.is_empty()).then_some(piece.len()));
        }
        self.state = State::Head;
        if frame.fin {
            self.begun = None;
            if frame.message.compressed {
                let payload = std::mem::take(&mut self.store);
                self.store = self.inflated(frame.message, &payload)?;
            } else if frame.message.opcode == Opcode::Text {
                self.utf8.end()?;
            }
            self.state = State::InStore(frame.message.opcode);
        }
        Ok(Some(piece.len()))
    }

    fn inflated(&mut self, message: Message, payload: &[u8]) -> Result<Vec<u8>, Violation> {
        let text = message.opcode == Opcode::Text;
        let out = inflate(payload, self.settings.max_message, text.then_some(&mut self.utf8))?;
        self.utf8.end()?;
        Ok(out)
    }

    #[cold]
    fn fail(&mut self, violation: Violation) {
        self.store = Vec::new();
        self.state = State::Failed(violation);
    }

    /// The input was discarded: starts again with a head.
    pub fn forget(&mut self) {
        *self = Self::new(self.settings.clone());
    }

    /// The number of bytes that the input lacks of a message that waits in it.
    pub fn missing(&self, input: usize) -> usize {
        match self.state {
            State::Payload(Frame { fragment: false, len, .. }) => len.saturating_sub(input),
            _ => 0,
        }
    }

    /// Whether there is an item to hand out, or a violation to report.
    #[inline]
    pub fn has_news(&self) -> bool {
        matches!(self.state, State::InInput(..) | State::InStore(_) | State::Failed(_))
    }

    /// Hands the item to `show`, if one was found. `input` begins where [`Messages::look`] left it.
    ///
    /// Also returns the number of bytes at its front that the caller must drop before the next look.
    #[inline]
    pub fn take<R>(&mut self, input: &[u8], show: impl FnOnce(Item<'_>) -> R) -> Option<(R, usize)> {
        let (opcode, stored, len) = match self.state {
            State::InInput(opcode, len) => (opcode, Vec::new(), len),
            State::InStore(opcode) => (opcode, std::mem::take(&mut self.store), 0),
            _ => return None,
        };
        let payload = if len == 0 { &stored } else { input.get(..len)? };
        self.state = if opcode == Opcode::Close { State::Closed } else { State::Head };
        // The text was valid before, but the caller may have changed the input since.
        let item = match opcode {
            Opcode::Text => simdutf8::basic::from_utf8(payload).map(Item::Text).map_err(|_| Violation::TextNotUtf8),
            Opcode::Binary => Ok(Item::Binary(payload)),
            Opcode::Ping => Ok(Item::Ping(payload)),
            Opcode::Pong => Ok(Item::Pong(payload)),
            Opcode::Close => parse_close(payload).map(|(code, reason)| Item::Close { code, reason }),
        };
        match item {
            Ok(item) => Some((show(item), len)),
            Err(violation) => {
                self.fail(violation);
                None
            }
        }
    }

    /// Whether the peer's close frame was taken.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The rule that the peer broke, if any.
    pub fn violation(&self) -> Option<&Violation> {
        if let State::Failed(violation) = &self.state { Some(violation) } else { None }
    }

    /// The most bytes of input that may have to wait: a message in one frame, and a head.
    pub fn longest(&self) -> usize {
        let limit = self.settings.max_message;
        let most = if self.settings.deflate.is_some() { most_compressed(limit) } else { limit };
        // A frame that began under another limit is read to its end.
        let begun = if let State::Payload(frame) = self.state { frame.len } else { 0 };
        most.max(CONTROL_MOST).max(begun).saturating_add(LONGEST_HEAD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Deflate, close_payload, frame, head};
    use super::*;

    const MAX: usize = 1000;
    const KEY: [u8; 4] = [0x55, 0, 0xfe, 0x1d];

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Owned {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>, String),
    }

    impl From<Item<'_>> for Owned {
        fn from(item: Item<'_>) -> Self {
            match item {
                Item::Text(text) => Owned::Text(text.into()),
                Item::Binary(bytes) => Owned::Binary(bytes.into()),
                Item::Ping(bytes) => Owned::Ping(bytes.into()),
                Item::Pong(bytes) => Owned::Pong(bytes.into()),
                Item::Close { code, reason } => Owned::Close(code, reason.into()),
            }
        }
    }

    /// The settings of the reading side.
    fn settings(client: bool, deflate: bool) -> Settings {
        Settings { client, max_message: MAX, deflate: deflate.then(|| Deflate::new(15).expect("it is valid")) }
    }

    type Outcome = (Vec<Owned>, Option<Violation>);

    /// The items of a stream that arrives in the given pieces, each time at another place in memory.
    fn cut(settings: &Settings, pieces: &[&[u8]]) -> Outcome {
        let (mut messages, mut input, mut items) = (Messages::new(Arc::new(settings.clone())), Vec::new(), Vec::new());
        for piece in pieces {
            input = [&input, *piece].concat();
            loop {
                let done = messages.look(&mut input);
                input.drain(..done);
                assert_eq!(messages.look(&mut input.clone()), 0, "once more means nothing, but at the end");
                let Some((item, bytes)) = messages.take(&input, |item| Owned::from(item)) else { break };
                input.drain(..bytes);
                items.push(item);
                let idle = messages.begun.is_none();
                assert!(!idle || messages.store.capacity() == 0, "a message that was taken is gone");
            }
            assert!(input.len() < messages.longest(), "what waits is bounded");
        }
        assert_eq!(messages.has_news(), messages.violation().is_some());
        (items, messages.violation().cloned())
    }

    fn once(stream: &[u8]) -> Outcome {
        cut(&settings(false, false), &[stream])
    }

    /// A frame as in the RFC's figure, with the mask of a client.
    fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = head(Opcode::Text, payload.len(), Some(KEY)).bytes().to_vec();
        out[0] = first;
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        out
    }

    /// One message as a peer sends it.
    #[derive(Clone, Debug)]
    struct Sent {
        message: Owned,
        /// The places where its payload is cut into fragments, and whether a ping comes before each fragment but the
        /// first.
        cuts: Vec<(usize, bool)>,
        compressed: bool,
    }

    impl Sent {
        /// Appends the frames to `stream`, and the items that they hold to `items`.
        fn write(&self, reader: &Settings, stream: &mut Vec<u8>, items: &mut Vec<Owned>) {
            let key = (!reader.client).then_some(KEY);
            let writer = Settings { client: !reader.client, ..reader.clone() };
            let (opcode, payload) = match &self.message {
                Owned::Text(text) => (Opcode::Text, text.as_bytes()),
                Owned::Binary(bytes) => (Opcode::Binary, &bytes[..]),
                Owned::Ping(bytes) => {
                    frame(Opcode::Ping, bytes, &writer, key, stream);
                    return items.push(self.message.clone());
                }
                Owned::Pong(bytes) => {
                    frame(Opcode::Pong, bytes, &writer, key, stream);
                    return items.push(self.message.clone());
                }
                Owned::Close(..) => return,
            };
            let mut deflated = Vec::new();
            let deflate = reader.deflate.filter(|_| self.compressed);
            let compressed = deflate.is_some_and(|deflate| deflate.deflate(payload, &mut deflated));
            let payload = if compressed { &deflated } else { payload };
            let mut ends: Vec<usize> = self.cuts.iter().map(|(at, _)| at % (payload.len() + 1)).collect();
            ends.sort_unstable();
            let mut from = 0;
            for (index, end) in ends.iter().copied().chain([payload.len()]).enumerate() {
                if index > 0 && self.cuts[index - 1].1 {
                    frame(Opcode::Ping, b"?", &writer, key, stream);
                    items.push(Owned::Ping(b"?".to_vec()));
                }
                let start = stream.len();
                frame(opcode, &payload[from..end], &Settings { deflate: None, ..writer.clone() }, key, stream);
                let fin = if index == ends.len() { 0x80 } else { 0 };
                let rsv1 = if compressed && index == 0 { 0x40 } else { 0 };
                stream[start] = fin | rsv1 | if index == 0 { opcode as u8 } else { 0 };
                from = end;
            }
            items.push(self.message.clone());
        }
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let control = || prop::collection::vec(any::<u8>(), 0..126);
        let message = prop_oneof![
            4 => "[a-c€😀]{0,60}".prop_map(Owned::Text),
            4 => prop::collection::vec(0..3_u8, 0..200).prop_map(Owned::Binary),
            1 => (0..=MAX).prop_map(|len| Owned::Binary(vec![b'x'; len])),
            1 => control().prop_map(Owned::Ping),
            1 => control().prop_map(Owned::Pong),
        ];
        let cuts = prop::collection::vec((any::<usize>(), any::<bool>()), 0..4);
        (message, cuts, any::<bool>()).prop_map(|(message, cuts, compressed)| Sent { message, cuts, compressed })
    }

    /// The frames of some messages and of a close, and the items that they hold.
    fn written(sent: &[Sent], reader: &Settings) -> (Vec<u8>, Vec<Owned>) {
        let (mut stream, mut items) = (Vec::new(), Vec::new());
        sent.iter().for_each(|sent| sent.write(reader, &mut stream, &mut items));
        let key = (!reader.client).then_some(KEY);
        frame(Opcode::Close, &close_payload(1000, "bye"), reader, key, &mut stream);
        items.push(Owned::Close(Some(1000), "bye".into()));
        stream.extend_from_slice(b"what comes now is not looked at");
        (stream, items)
    }

    proptest! {
        // Fewer cases, because each case cuts its stream at every place.
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

        #[test]
        fn what_is_sent_comes_out_whole_wherever_the_stream_is_cut(
            sent in prop::collection::vec(sent(), 0..5), client: bool, deflate: bool,
        ) {
            let reader = settings(client, deflate);
            let (stream, items) = written(&sent, &reader);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(cut(&reader, &bytes), (items.clone(), None));
            for at in 0..=stream.len() {
                let (left, right) = stream.split_at(at);
                prop_assert_eq!(cut(&reader, &[left, right]), (items.clone(), None));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_mean_the_same_at_once_and_byte_by_byte(
            frames in prop::collection::vec(
                (prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x00, 0x80, 0xc1, 0x41, 0x88, 0x89, 0x0a, 0xf3]),
                 prop_oneof![prop::collection::vec(any::<u8>(), 0..10), "[a€]{0,10}".prop_map(String::into_bytes)]),
                0..6,
            ),
            garbage in prop::collection::vec(any::<u8>(), 0..20), deflate: bool,
        ) {
            let mut stream: Vec<u8> = frames.iter().flat_map(|(first, payload)| raw(*first, payload)).collect();
            stream.extend(garbage);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            let reader = settings(false, deflate);
            prop_assert_eq!(cut(&reader, &bytes), cut(&reader, &[&stream]));
        }

        #[test]
        fn what_frame_writes_is_read_back(
            message in prop::collection::vec(0..3_u8, 0..MAX), client: bool, bits in 9..16_u8,
        ) {
            let (mut stream, mut writer) = (Vec::new(), settings(client, false));
            writer.deflate = Deflate::new(bits);
            frame(Opcode::Binary, &message, &writer, client.then_some(KEY), &mut stream);
            prop_assert!(stream.len() < message.len() || message.len() < 256);
            prop_assert_eq!(cut(&settings(!client, true), &[&stream]), (vec![Owned::Binary(message)], None));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let too_long = |size| Violation::TooLong { size, limit: MAX };
        let with_len = |len: &[u8]| [&[0x82][..], len, &[0; 4]].concat();
        let after_message = |frame: Vec<u8>| [raw(0x82, b"hi"), frame].concat();
        let refused: &[(&str, Vec<u8>, Violation, u16)] = &[
            ("RSV1 without an extension", raw(0xc1, b""), Violation::ReservedBits, 1002),
            ("RSV2", raw(0xa1, b""), Violation::ReservedBits, 1002),
            ("RSV3", raw(0x91, b""), Violation::ReservedBits, 1002),
            ("an opcode for data", raw(0x83, b""), Violation::ReservedOpcode(3), 1002),
            ("an opcode for data", raw(0x87, b""), Violation::ReservedOpcode(7), 1002),
            ("an opcode for control", raw(0x8b, b""), Violation::ReservedOpcode(11), 1002),
            ("an opcode for control", raw(0x8f, b""), Violation::ReservedOpcode(15), 1002),
            ("no mask", b"\x81\x01a".to_vec(), Violation::Unmasked, 1002),
            ("a ping in fragments", raw(0x09, b""), Violation::ControlInFragments, 1002),
            ("a long ping", raw(0x89, &[0; 126]), Violation::ControlTooLong, 1002),
            ("a long close", raw(0x88, &[0; 126]), Violation::ControlTooLong, 1002),
            ("125 in two bytes", with_len(b"\xfe\0\x7d"), Violation::LengthNotMinimal(125), 1002),
            ("65535 in eight", with_len(b"\xff\0\0\0\0\0\0\xff\xff"), Violation::LengthNotMinimal(65535), 1002),
            ("2**63", with_len(b"\xff\x80\0\0\0\0\0\0\0"), Violation::LengthWithTopBit, 1002),
            ("the longest", with_len(b"\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), too_long(u64::MAX >> 1), 1009),
            ("one byte too long", with_len(b"\xfe\x03\xe9"), too_long(1001), 1009),
            ("too long together", [raw(2, &[0; 600]), raw(0x80, &[0; 401])].concat(), too_long(1001), 1009),
            ("nothing to continue", raw(0x80, b"a"), Violation::NothingToContinue, 1002),
            ("nothing to continue anymore", after_message(raw(0, b"")), Violation::NothingToContinue, 1002),
            ("a message in a message", [raw(1, b"a"), raw(0x81, b"b")].concat(), Violation::MessageWithinMessage, 1002),
            ("half a close code", raw(0x88, b"\x03"), Violation::HalfCloseCode, 1002),
            ("a reason", raw(0x88, b"\x03\xe8\xff"), Violation::ReasonNotUtf8, 1007),
            ("a surrogate", raw(0x81, b"\xed\xa0\x80"), Violation::TextNotUtf8, 1007),
            ("half a character", raw(0x81, b"a\xe2\x82"), Violation::TextNotUtf8, 1007),
            ("half a character", [raw(1, b"\xe2"), raw(0x80, b"")].concat(), Violation::TextNotUtf8, 1007),
        ];
        for (what, stream, violation, code) in refused {
            let (items, refusal) = once(&after_message(stream.clone()));
            assert!(!items.is_empty() && items.iter().all(|item| *item == Owned::Binary(b"hi".to_vec())), "{what}");
            assert_eq!(refusal.as_ref(), Some(violation), "{what}");
            assert_eq!(violation.code(), *code, "{what}");
        }
        let masked = cut(&settings(true, false), &[&raw(0x81, b"")]);
        assert_eq!(masked, (vec![], Some(Violation::Masked)));
    }

    #[test]
    fn only_the_first_frame_of_a_message_may_be_marked_as_compressed() {
        let refused = |stream: &[u8]| cut(&settings(false, true), &[stream]);
        let reserved = (vec![], Some(Violation::ReservedBits));
        assert_eq!(refused(&raw(0xc9, b"")), reserved);
        assert_eq!(refused(&raw(0xc8, b"")), reserved);
        assert_eq!(refused(&[raw(0x41, b"\0"), raw(0xc0, b"")].concat()), reserved);
        assert_eq!(refused(&[raw(0x41, b"\0"), raw(0x80, b"")].concat()), (vec![Owned::Text(String::new())], None));
        assert_eq!(refused(&raw(0xc1, b"\x06")), (vec![], Some(Violation::Deflate)));
        assert_eq!(Violation::Deflate.code(), 1007);
    }

    #[test]
    fn close_codes_are_those_of_the_registry() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            let closed = vec![Owned::Close(Some(code), "so €".into())];
            assert_eq!(once(&raw(0x88, &close_payload(code, "so €"))), (closed, None));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(once(&raw(0x88, &close_payload(code, ""))), (vec![], Some(Violation::CloseCode(code))));
        }
        assert_eq!(once(&raw(0x88, b"")), (vec![Owned::Close(None, String::new())], None));
    }

    #[test]
    fn text_fails_at_the_byte_that_makes_it_invalid() {
        let text = "κόσμε".as_bytes();
        let bad = [text, b"\xf4\x90\x80\x80edited"].concat();
        let whole = raw(0x81, &bad);
        let fragments = [raw(1, text), raw(0, b"\xf4"), raw(0x80, b"\x90\x80\x80edited")].concat();
        for (stream, rest) in [(whole, 8), (fragments, 8)] {
            let end = stream.len() - rest;
            let cut_at = |end: usize| cut(&settings(false, false), &stream[..end].chunks(1).collect::<Vec<_>>()).1;
            assert_eq!(cut_at(end - 1), None);
            assert_eq!(cut_at(end), Some(Violation::TextNotUtf8));
        }
    }

    #[test]
    fn a_message_may_be_as_long_as_it_may_be_and_no_longer() {
        let longest = vec![7; MAX];
        let fits = (vec![Owned::Binary(longest.clone())], None);
        assert_eq!(once(&raw(0x82, &longest)), fits);
        assert_eq!(once(&[raw(2, &longest), raw(0x80, b"")].concat()), fits);
        let (mut stream, reader) = (Vec::new(), settings(false, true));
        let bomb = |len: usize, stream: &mut Vec<u8>| frame(Opcode::Binary, &vec![7; len], &reader, Some(KEY), stream);
        bomb(MAX, &mut stream);
        assert_eq!(cut(&reader, &[&stream]), fits);
        stream.clear();
        bomb(MAX + 1, &mut stream);
        assert_eq!(cut(&reader, &[&stream]), (vec![], Some(Violation::InflatesTooFar { limit: MAX })));
        assert_eq!(Violation::InflatesTooFar { limit: MAX }.code(), 1009);
        // The head alone is enough: no byte of the payload has to arrive.
        let head = head(Opcode::Binary, MAX + 1, Some(KEY));
        assert_eq!(once(head.bytes()).1, Some(Violation::TooLong { size: 1001, limit: MAX }));
    }

    #[test]
    fn of_compressed_messages_only_text_has_to_be_utf8() {
        let (mut stream, reader) = (Vec::new(), settings(false, true));
        frame(Opcode::Binary, &[0xff; 300], &reader, Some(KEY), &mut stream);
        assert_eq!(cut(&reader, &[&stream]), (vec![Owned::Binary(vec![0xff; 300])], None));
        stream[0] ^= 3;
        assert_eq!(cut(&reader, &[&stream]), (vec![], Some(Violation::TextNotUtf8)));
    }

    #[test]
    fn a_message_in_one_frame_stays_where_it_is() {
        let mut input = [raw(0x82, b"first"), raw(0x81, b"second")].concat();
        let mut messages = Messages::new(Arc::new(settings(false, false)));
        let at = messages.look(&mut input);
        let shown = messages.take(&input[at..], |item| match item {
            Item::Binary(bytes) => bytes.as_ptr(),
            _ => std::ptr::null(),
        });
        assert_eq!(shown, Some((input[at..].as_ptr(), 5)));
        assert_eq!(messages.take(&input, |_| ()), None, "it was taken");
        assert!(!messages.has_news());
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Messages>() <= 88, "{}", size_of::<Messages>());
    }
}
