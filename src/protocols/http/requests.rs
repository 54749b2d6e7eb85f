//! Finds the requests in the input of one connection, one after the other.
//!
//! It locates only the next part to hand out, and some of the pipelined requests without a body that follow it. A
//! part that was found stays in the input, except for chunked bodies that are handed out whole. After a refusal, or a
//! request that ends the connection, it looks at no further input.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunks::{Chunks, Next as Chunk};
use super::head::{self, Body, Facts};
use super::limits::Limits;
use super::refusal::Refusal;

/// Number of pipelined requests to look ahead. The poller does this while it reads, detached from the interpreter, so
/// handlers lose no time by it.
const MOST_AHEAD: usize = 32;

/// Number of empty lines that may come before a request (RFC 9112 section 2.2). More would be a way to stay without
/// asking.
const MOST_EMPTY_LINES: u8 = 4;

/// A part of a request that the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Head,
    Body,
}

/// A part that is handed out.
pub enum Event<'a> {
    /// A request.
    Request {
        /// The head, from its method to its empty line.
        head: &'a [u8],
        /// The facts that the head states.
        facts: Facts,
        /// The whole body; `None` if bodies are streamed.
        body: Option<&'a [u8]>,
    },
    /// A piece of the body of the last request.
    Body(&'a [u8]),
    /// That body is complete.
    End,
}

/// The part that was found at the front of the input.
#[derive(Clone, Copy)]
enum Found {
    Whole {
        head: usize,
        body: usize,
        facts: Facts,
    },
    /// A request with its head and body already taken out of the input, as they came.
    Gathered(Facts),
    Piece(usize),
    End,
    /// The peer waits for `100 Continue`, and the body is wanted.
    Continue,
}

/// The position in the stream.
#[derive(Clone, Copy)]
enum State {
    /// In a head; this number of bytes was searched for its end.
    Head(usize),
    /// The body is awaited whole, in the input after its head.
    Awaiting {
        head: usize,
        body: usize,
        facts: Facts,
    },
    /// The chunks of a body are put together.
    Gathering(Facts, Chunks),
    /// This number of body bytes is still to be handed out in pieces.
    Streaming(usize),
    StreamingChunks(Chunks),
    /// The next request may not be looked at before all answers are given.
    Held,
    Over,
}

pub(crate) struct Requests {
    limits: Arc<Limits>,
    streams: bool,
    /// Whether a request without a body is handed out whole nevertheless.
    keeps_empty: bool,
    state: State,
    /// The state after the body that is being streamed.
    then: State,
    found: Option<Found>,
    /// The heads of requests without a body that follow the request that was found.
    ahead: VecDeque<(usize, Facts)>,
    refusal: Option<Refusal>,
    /// Whether the peer waits for `100 Continue`.
    continues: bool,
    /// Number of empty lines since the last request.
    empty_lines: u8,
    /// A head, and its body as far as the chunks came.
    gathered: Option<Box<(Vec<u8>, Vec<u8>)>>,
}

impl Requests {
    pub fn new(limits: Arc<Limits>, streams: bool) -> Self {
        let (state, then) = (State::Head(0), State::Over);
        Self {
            limits,
            streams,
            keeps_empty: false,
            state,
            then,
            found: None,
            ahead: VecDeque::new(),
            refusal: None,
            continues: false,
            empty_lines: 0,
            gathered: None,
        }
    }

    pub fn keep_empty_whole(&mut self) {
        self.keeps_empty = true;
    }

    /// Whether the body of a request is handed out in pieces.
    #[inline]
    fn splits(&self, facts: Facts) -> bool {
        self.streams && !(self.keeps_empty && facts.body == Body::Length(0))
    }

    /// The most input that is needed at once.
    pub fn longest(&self) -> usize {
        let body = if self.streams { 0 } else { self.limits.max_body };
        // One byte more, to detect that a limit is exceeded.
        self.limits.max_head.max(2 * super::chunks::MOST_SIZE_LINE) + body + 1
    }

    /// The number of bytes that the input lacks of a body that is awaited whole.
    pub fn missing(&self, input: usize) -> usize {
        match self.state {
            State::Awaiting { head, body, .. } => (head + body).saturating_sub(input),
            _ => 0,
        }
    }

    /// Whether there is a part to hand out while `due` answers are due, or a refusal.
    pub fn has_news(&self, due: usize) -> bool {
        match &self.found {
            Some(Found::Continue) => due == 0,
            // Its `100 Continue` must come after the earlier answers.
            Some(Found::Whole { facts, .. }) if self.streams && facts.expects_continue => due == 0,
            Some(Found::Whole { .. } | Found::Gathered(_)) => due < self.limits.max_pending,
            Some(Found::Piece(_) | Found::End) => true,
            None => self.refusal.is_some(),
        }
    }

    /// Whether a part was found that was not handed out.
    pub fn has_found(&self) -> bool {
        self.found.is_some()
    }

    /// Whether it has to wait for an answer, while `due` answers are due.
    pub fn waits_for_answers(&self, due: usize) -> bool {
        matches!(self.state, State::Held) || (self.found.is_some() && !self.has_news(due))
    }

    /// The refusal after which nothing more is handed out; returned once.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// The part that the peer has begun to send and not finished. `None` also while the peer waits for us.
    #[inline]
    pub fn unfinished(&self) -> Option<Sent> {
        let sent = match self.state {
            State::Head(0) | State::Streaming(0) | State::Held | State::Over => return None,
            State::Head(_) => Sent::Head,
            State::Awaiting { .. } | State::Gathering(..) => Sent::Body,
            // The handler has not asked for the body yet.
            State::Streaming(_) | State::StreamingChunks(_) if self.continues => return None,
            State::Streaming(_) | State::StreamingChunks(_) => Sent::Body,
        };
        (self.found.is_none() && self.refusal.is_none()).then_some(sent)
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Notes that the peer was asked for the body.
    pub fn note_asked(&mut self) {
        self.continues = false;
    }

    /// Whether the request at the front of the input, which was not handed out, is a `HEAD`.
    pub fn is_head(&self, input: &[u8]) -> bool {
        match self.state {
            State::Head(_) => input.starts_with(b"HEAD "),
            State::Awaiting { facts, .. } | State::Gathering(facts, _) => facts.is_head,
            State::Streaming(_) | State::StreamingChunks(_) | State::Held | State::Over => false,
        }
    }

    /// The head that a refusal is about, as far as it came; `input` begins with it, unless it was taken out.
    pub fn refused<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match (&self.state, &self.gathered) {
            (State::Awaiting { head, .. }, _) => &input[..*head],
            (_, Some(gathered)) => &gathered.0,
            _ => &input[..input.len().min(self.limits.max_head)],
        }
    }

    /// Whether a request was handed out before its body has arrived whole.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Streaming(_) | State::StreamingChunks(_))
    }

    /// Whether bytes of such a body are still to come or to be handed out.
    pub fn is_amid_body(&self) -> bool {
        self.is_in_body() && !matches!(self.state, State::Streaming(0))
    }

    /// Whether a part of the current request was taken out. If so, nothing else can begin at this place of the
    /// stream.
    pub fn is_amid_request(&self) -> bool {
        self.is_amid_body() || self.gathered.is_some()
    }

    /// Whether `100 Continue` is due now.
    pub fn take_continue(&mut self) -> bool {
        self.found.take_if(|found| matches!(found, Found::Continue)).is_some()
    }

    /// Stops: no further input is looked at.
    pub fn give_up(&mut self) {
        (self.state, self.then, self.found, self.gathered) = (State::Over, State::Over, None, None);
        self.ahead = VecDeque::new();
    }

    /// As [`Self::give_up`], and a refusal is dropped.
    pub fn forget(&mut self) {
        self.give_up();
        self.refusal = None;
    }

    /// Looks at no further request; a body that has begun is completed.
    pub fn end(&mut self) {
        if self.is_in_body() {
            self.then = State::Over;
        } else {
            self.forget();
        }
    }

    /// Looks for the next part; returns the number of bytes at the front of the input that are no longer needed.
    pub fn look(&mut self, input: &[u8], due: usize) -> usize {
        if self.finds_without_input() {
            return 0;
        }
        let mut done = 0;
        while self.found.is_none() && self.refusal.is_none() {
            match self.step(&input[done..], due) {
                Ok(Some(used)) => done += used,
                Ok(None) => break,
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
        self.look_ahead(&input[done..]);
        done
    }

    /// Looks at the requests after the one that was found, as long as they have the common form.
    fn look_ahead(&mut self, input: &[u8]) {
        let Some(Found::Whole { head, body, facts }) = self.found else { return };
        let (mut at, mut last) = (head + body, facts);
        while !self.streams && last.is_followed() && self.ahead.len() < MOST_AHEAD {
            let read = head::read(&input[at..], &self.limits).filter(|(_, facts)| facts.body == Body::Length(0));
            let Some((head, facts)) = read else { return };
            self.ahead.push_back((head, facts));
            (at, last) = (at + head, facts);
        }
    }

    /// Whether something was found, perhaps ahead of its turn: then [`Self::look`] needs no input.
    #[inline]
    pub fn finds_without_input(&mut self) -> bool {
        self.found.is_some() || self.found_ahead()
    }

    fn found_ahead(&mut self) -> bool {
        let Some((head, facts)) = self.ahead.pop_front() else { return false };
        self.found = Some(Found::Whole { head, body: 0, facts });
        if self.ahead.is_empty() {
            // Frees the memory, because an idle connection should own none.
            self.ahead = VecDeque::new();
        }
        true
    }

    /// Makes one step; returns the number of bytes that are no longer needed, or `None` if it needs more input.
    fn step(&mut self, input: &[u8], due: usize) -> Result<Option<usize>, Refusal> {
        match self.state {
            // RFC 9112 section 2.2: empty lines before a request are skipped.
            State::Head(0) if input.starts_with(b"\r\n") => self.skip_empty_line(),
            State::Head(0) if input == b"\r" => Ok(None),
            // No new bytes came. This is the common case: each answer asks whether a request waits after its own.
            State::Head(searched) if searched == input.len() => Ok(None),
            State::Head(searched) => self.look_for_head(input, searched),
            State::Awaiting { head, body, facts } if input.len() >= head + body => {
                Ok(self.find(Found::Whole { head, body, facts }, 0))
            }
            State::Awaiting { .. } => Ok(self.ask_for_body()),
            State::Gathering(facts, chunks) => self.gather(input, facts, chunks),
            State::Streaming(0) => Ok(self.find(Found::End, 0)),
            State::Streaming(_) if input.is_empty() => Ok(None),
            State::Streaming(left) => Ok(self.find(Found::Piece(left.min(input.len())), 0)),
            State::StreamingChunks(chunks) => self.stream_chunk(input, chunks),
            State::Held if due == 0 => {
                self.state = State::Head(0);
                Ok(Some(0))
            }
            State::Held | State::Over => Ok(None),
        }
    }

    /// Stores the part at the front of the input, after `used` bytes.
    fn find(&mut self, found: Found, used: usize) -> Option<usize> {
        self.found = Some(found);
        Some(used)
    }

    fn skip_empty_line(&mut self) -> Result<Option<usize>, Refusal> {
        self.empty_lines += 1;
        if self.empty_lines > MOST_EMPTY_LINES {
            return Err(Refusal::bad("too many empty lines before a request"));
        }
        Ok(Some(2))
    }

    fn ask_for_body(&mut self) -> Option<usize> {
        if std::mem::take(&mut self.continues) { self.find(Found::Continue, 0) } else { None }
    }

    fn look_for_head(&mut self, input: &[u8], searched: usize) -> Result<Option<usize>, Refusal> {
        let plain = if searched == 0 { head::read(input, &self.limits) } else { None };
        let (end, facts) = match plain {
            Some(plain) => plain,
            None => match head::end_of(input, searched, &self.limits)? {
                Some(end) => (end, head::parse(&input[..end], &self.limits)?),
                None => {
                    self.state = State::Head(input.len());
                    return Ok(None);
                }
            },
        };
        (self.continues, self.empty_lines) = (facts.expects_continue, 0);
        match facts.body {
            _ if self.splits(facts) => return Ok(self.find(Found::Whole { head: end, body: 0, facts }, 0)),
            Body::Length(body) => {
                let (head, body) = (end, body as usize);
                self.state = State::Awaiting { head, body, facts };
                if input.len() >= head + body {
                    // Most requests arrive whole.
                    return Ok(self.find(Found::Whole { head, body, facts }, 0));
                }
            }
            Body::Chunked => {
                self.gathered = Some(Box::new((input[..end].to_vec(), Vec::new())));
                self.state = State::Gathering(facts, Chunks::new());
                return Ok(Some(end));
            }
        }
        Ok(Some(0))
    }

    fn gather(&mut self, input: &[u8], facts: Facts, mut chunks: Chunks) -> Result<Option<usize>, Refusal> {
        let next = chunks.next(input, &self.limits)?;
        self.state = State::Gathering(facts, chunks);
        Ok(match next {
            Chunk::Data { skip, len } => {
                if let Some(gathered) = &mut self.gathered {
                    gathered.1.try_reserve(len).map_err(|_| Refusal::no_memory())?;
                    gathered.1.extend_from_slice(&input[skip..skip + len]);
                }
                Some(skip + len)
            }
            Chunk::End { skip } => self.find(Found::Gathered(facts), skip),
            Chunk::More { skip: 0 } => self.ask_for_body(),
            Chunk::More { skip } => Some(skip),
        })
    }

    fn stream_chunk(&mut self, input: &[u8], mut chunks: Chunks) -> Result<Option<usize>, Refusal> {
        let next = chunks.next(input, &self.limits)?;
        self.state = State::StreamingChunks(chunks);
        Ok(match next {
            Chunk::Data { skip, len } => self.find(Found::Piece(len), skip),
            Chunk::End { skip } => {
                self.state = State::Streaming(0);
                Some(skip)
            }
            Chunk::More { skip } => (skip > 0).then_some(skip),
        })
    }

    /// Hands out the part that was found; `input` begins where `look` left it. Also returns the number of bytes that
    /// are no longer needed.
    pub fn take<R>(&mut self, input: &[u8], show: impl FnOnce(Event<'_>) -> R) -> Option<(R, usize)> {
        Some(match self.found.take()? {
            Found::Whole { head, body, facts } => {
                self.go_on_after(facts);
                let (head, rest) = input.split_at(head);
                let whole = (!self.splits(facts)).then_some(&rest[..body]);
                (show(Event::Request { head, facts, body: whole }), head.len() + body)
            }
            Found::Gathered(facts) => {
                self.go_on_after(facts);
                let gathered = self.gathered.take().unwrap_or_default();
                (show(Event::Request { head: &gathered.0, facts, body: Some(&gathered.1) }), 0)
            }
            Found::Piece(len) => {
                if let State::Streaming(left) = &mut self.state {
                    *left -= len;
                }
                (show(Event::Body(&input[..len])), len)
            }
            Found::End => {
                self.state = self.then;
                (show(Event::End), 0)
            }
            Found::Continue => return None,
        })
    }

    fn go_on_after(&mut self, facts: Facts) {
        let next = match facts {
            _ if facts.is_followed() => State::Head(0),
            Facts { keep_alive: false, .. } => State::Over,
            _ => State::Held,
        };
        self.state = match facts.body {
            _ if !self.splits(facts) => next,
            Body::Length(length) => State::Streaming(length as usize),
            Body::Chunked => State::StreamingChunks(Chunks::new()),
        };
        self.then = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Saw {
        Request(Vec<u8>, Option<Vec<u8>>),
        Body(Vec<u8>),
        End,
        Refused(u16),
    }

    fn limits() -> Arc<Limits> {
        Arc::new(Limits {
            max_line: 64,
            max_headers: 4,
            max_head: 200,
            max_body: 40,
            max_pending: 1000,
            ..Limits::default()
        })
    }

    /// The parts found in a stream that arrives in the given pieces; pieces of one body are put together.
    fn cut(streams: bool, pieces: &[&[u8]]) -> Vec<Saw> {
        let (mut requests, mut input, mut seen) = (Requests::new(limits(), streams), Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            let done = requests.look(&input, 0);
            input.drain(..done);
            while requests.has_news(0) {
                if requests.take_continue() {
                    let done = requests.look(&input, 0);
                    input.drain(..done);
                    continue;
                }
                let Some((saw, done)) = requests.take(&input, saw) else { break };
                match (seen.last_mut(), saw) {
                    (Some(Saw::Body(body)), Saw::Body(more)) => body.extend(more),
                    (_, saw) => seen.push(saw),
                }
                input.drain(..done);
                let done = requests.look(&input, 0);
                input.drain(..done);
            }
            if let Some(refusal) = requests.take_refusal() {
                seen.push(Saw::Refused(refusal.status));
                requests.give_up();
            }
            let is_over = matches!(requests.state, State::Over);
            assert!(is_over || input.len() < requests.longest(), "input that waits is bounded");
        }
        seen
    }

    fn saw(event: Event<'_>) -> Saw {
        match event {
            Event::Request { head, body, .. } => Saw::Request(head.to_vec(), body.map(<[u8]>::to_vec)),
            Event::Body(piece) => Saw::Body(piece.to_vec()),
            Event::End => Saw::End,
        }
    }

    fn chunked(body: &[u8], at: usize) -> Vec<u8> {
        let (left, right) = body.split_at(at.min(body.len()));
        let mut bytes = Vec::new();
        for part in [left, right].into_iter().filter(|part| !part.is_empty()) {
            bytes.extend(format!("{:X};x=y\r\n", part.len()).as_bytes());
            bytes.extend([part, b"\r\n"].concat());
        }
        bytes.extend(b"0\r\nTrailer: 1\r\n\r\n");
        bytes
    }

    /// A request as it is sent, and its body.
    fn request() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let body = prop::collection::vec(any::<u8>(), 0..40);
        (body, 0..40_usize, 0..4_u8).prop_map(|(body, at, kind)| match kind {
            0 => (b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Vec::new()),
            1 => (b"\r\nHEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(), Vec::new()),
            2 => {
                let head = format!(
                    "PUT /x HTTP/1.1\r\nHost:x\r\nExpect: 100-continue\r\nContent-Length:{}\r\n\r\n",
                    body.len()
                );
                ([head.as_bytes(), &body].concat(), body)
            }
            _ => {
                let head = b"POST * HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n".to_vec();
                let head = String::from_utf8_lossy(&head).replace("POST *", "POST /").into_bytes();
                ([head, chunked(&body, at)].concat(), body)
            }
        })
    }

    fn bodies(seen: &[Saw]) -> Vec<Vec<u8>> {
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        for saw in seen {
            match saw {
                Saw::Request(_, body) => bodies.push(body.clone().unwrap_or_default()),
                Saw::Body(piece) => bodies.last_mut().expect("a request before").extend(piece),
                Saw::End | Saw::Refused(_) => {}
            }
        }
        bodies
    }

    #[test]
    fn requests_that_follow_are_found_ahead_of_their_turn() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let input = get.repeat(MOST_AHEAD + 5);
        let mut requests = Requests::new(Arc::default(), false);
        assert_eq!((requests.look(input.as_bytes(), 0), requests.ahead.len()), (0, MOST_AHEAD));
        for left in (0..MOST_AHEAD).rev() {
            let (seen, done) = requests.take(input.as_bytes(), saw).expect("a request was found");
            assert_eq!((seen, done), (Saw::Request(get.into(), Some(vec![])), get.len()));
            assert!(requests.finds_without_input());
            assert_eq!(requests.ahead.len(), left);
        }
    }

    proptest! {
        #[test]
        fn requests_come_whole_wherever_the_stream_is_cut_in_two(
            requests in prop::collection::vec(request(), 1..4), streams: bool,
        ) {
            let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let expected: Vec<Vec<u8>> = requests.into_iter().map(|(_, body)| body).collect();
            let whole = cut(streams, &[&stream]);
            prop_assert_eq!(bodies(&whole), expected);
            for at in 0..=stream.len() {
                let (left, right) = stream.split_at(at);
                prop_assert_eq!(cut(streams, &[left, right]), whole.clone());
            }
        }

        #[test]
        fn any_bytes_mean_the_same_at_once_and_byte_by_byte(
            mut stream in request().prop_map(|(bytes, _)| bytes), streams: bool,
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"\r\n :;,0".to_vec())]), 0..4),
            more in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            stream.extend(more);
            for (index, byte) in changes {
                let at = index.index(stream.len());
                stream[at] = byte;
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(cut(streams, &bytes), cut(streams, &[&stream]));
        }
    }
}
