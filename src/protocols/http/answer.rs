//! The rules of one answer: the parts that may be given, their framing, and the step after each.
//!
//! Pure, and independent of the connection: a handler may give the parts of an answer from any thread. The rules (RFC
//! 9110 section 15, RFC 9112 section 6):
//!
//! * An answer is `Due`, then `Given` at once, or `Begun` and given piece by piece.
//! * An answer to `HEAD`, and one with status 1xx, 204, 205 or 304, has no body on the wire. Its pieces are counted
//!   all the same.
//! * A body of unknown length goes out in chunks; to an HTTP/1.0 peer it ends with the connection.
//! * 101, and 2xx to `CONNECT`, hand the stream to another protocol.
//! * An answer that is cut short must not look whole.

use super::answers::Then;
use super::head::{Facts, Version};
use super::refusal::Refusal;
use super::response::{Framed, Head, Unfit, error_answer};
use crate::error::Error;

/// The progress of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Due,
    /// The head is out; the body comes piece by piece.
    Begun {
        framed: Framed,
        /// Bytes that the body still lacks, if the head gave a length.
        left: u64,
        closes: bool,
    },
    Given,
}

/// The error of a part that may not be given now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The answer was given or begun before.
    #[error("the request was answered before")]
    Answered,
    /// A piece came before a head.
    #[error("no answer was begun, or it has ended: start() begins one")]
    NotBegun,
    /// The piece exceeds the length that the head gave.
    #[error("{bytes} bytes are more than the {left} left of content-length {length}")]
    TooMuch {
        /// Bytes of the piece.
        bytes: u64,
        /// Bytes that may follow.
        left: u64,
        /// The length that the head gave.
        length: u64,
    },
    /// The body is shorter than the length that the head gave.
    #[error("{left} bytes of content-length {length} are missing")]
    TooLittle {
        /// Bytes that are missing.
        left: u64,
        /// The length that the head gave.
        length: u64,
    },
}

/// The form of a piece of a body on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Not sent: the answer has no body on the wire.
    Counted,
    /// Sent unchanged.
    Plain,
    /// Sent as a chunk: this line comes before it, and CR LF after it.
    Chunk(String),
}

/// A head that is ready to be sent.
pub struct Ready {
    /// The bytes of the head.
    pub head: Vec<u8>,
    /// Whether the body follows on the wire.
    pub has_body: bool,
    /// The step after this part.
    pub then: Then,
    stage: Stage,
}

/// The answer to one request.
pub struct Answer {
    number: u64,
    version: Version,
    keep_alive: bool,
    is_head: bool,
    is_connect: bool,
    may_switch: bool,
    expects_continue: bool,
    /// Whether the body of the request has arrived, or the peer was asked for it.
    is_asked: bool,
    stage: Stage,
}

impl Answer {
    /// Makes the answer that is due to the request with this number and these facts.
    pub fn new(number: u64, facts: Facts, has_body: bool) -> Self {
        let Facts { version, keep_alive, is_head, is_connect, may_switch, expects_continue, .. } = facts;
        let (is_asked, stage) = (has_body, Stage::Due);
        Self { number, version, keep_alive, is_head, is_connect, may_switch, expects_continue, is_asked, stage }
    }

    /// The number of the request.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether no part of the answer was given.
    pub fn is_due(&self) -> bool {
        self.stage == Stage::Due
    }

    /// Notes that the answer was given by other means.
    pub fn settle(&mut self) {
        self.stage = Stage::Given;
    }

    /// Whether the answer is complete.
    pub fn is_given(&self) -> bool {
        self.stage == Stage::Given
    }

    /// Notes that the peer is asked for the body, if it waits for `100 Continue` and no answer was begun. Returns
    /// true only the first time.
    pub fn ask_for_body(&mut self) -> bool {
        let asks = self.expects_continue && self.is_due() && !self.is_asked;
        self.is_asked |= asks;
        asks
    }

    /// Whether the connection stays open after the answer. A peer that expects `100 Continue` and got none may send
    /// the body or not (RFC 9110 section 10.1.1), so the connection cannot continue.
    fn keeps_alive(&self) -> bool {
        self.keep_alive && (!self.expects_continue || self.is_asked)
    }

    fn switches(&self, head: &Head) -> bool {
        head.is_switch() || (self.is_connect && head.is_success())
    }

    /// RFC 9110 sections 7.8 and 15.2.2
    fn check_switch(&self, head: &Head) -> Result<(), Unfit> {
        let wrong = if !self.may_switch {
            "the request has no Upgrade, or is of HTTP/1.0"
        } else if !head.has_upgrade() {
            "the fields must have an Upgrade, which names the other protocol"
        } else {
            return Ok(());
        };
        Err(Unfit(format!("101 cannot be answered: {wrong}")))
    }

    /// Makes a whole answer with a body of `body` bytes. The state changes only in [`Self::give`].
    #[inline(always)]
    pub fn whole(&self, head: Head, body: usize, date: &[u8; 29]) -> Result<Ready, Unfit> {
        let switches = self.switches(&head);
        if head.is_switch() {
            self.check_switch(&head)?;
        }
        let framed = match head.length() {
            _ if switches || !head.may_have_body() => Framed::Empty,
            // The length of the answer that a GET would have got.
            Some(length) if self.is_head && body == 0 => Framed::Length(length),
            Some(length) if length != body as u64 => {
                return Err(Unfit(format!("content-length is {length}, but the body has {body} bytes")));
            }
            _ => Framed::Length(body as u64),
        };
        let keep_alive = switches || self.keeps_alive();
        let (head, closes) = head.finish(framed, date, self.version, keep_alive);
        let then = match (switches, closes) {
            (true, _) => Then::Switch,
            (false, true) => Then::Close,
            (false, false) => Then::Next,
        };
        let has_body = !self.is_head && framed != Framed::Empty;
        Ok(Ready { head, has_body, then, stage: Stage::Given })
    }

    /// Makes the head of an answer with a body that follows piece by piece. The state changes only in [`Self::give`].
    pub fn beginning(&self, head: Head, date: &[u8; 29]) -> Result<Ready, Unfit> {
        if self.switches(&head) {
            return Err(Unfit("another protocol follows, and no body: respond() answers so".into()));
        }
        let framed = match head.length() {
            _ if !head.may_have_body() => Framed::Empty,
            Some(length) => Framed::Length(length),
            None if self.version == Version::Http11 => Framed::Chunked,
            None => Framed::UntilClose,
        };
        let left = if let Framed::Length(length) = framed { length } else { 0 };
        let (head, closes) = head.finish(framed, date, self.version, self.keeps_alive());
        let has_body = !self.is_head && framed != Framed::Empty;
        let framed = if has_body { framed } else { Framed::Empty };
        let then = match framed {
            Framed::UntilClose => Then::MoreUntilClose,
            _ if closes => Then::MoreOfLast,
            _ => Then::More,
        };
        Ok(Ready { head, has_body, then, stage: Stage::Begun { framed, left, closes } })
    }

    /// Notes that a head is sent.
    pub fn give(&mut self, ready: &Ready) -> Result<(), NotNow> {
        if self.stage != Stage::Due {
            return Err(NotNow::Answered);
        }
        self.stage = ready.stage;
        Ok(())
    }

    /// Counts a piece of the body that is about to be sent.
    pub fn piece(&mut self, bytes: usize) -> Result<Piece, NotNow> {
        let bytes = bytes as u64;
        match &mut self.stage {
            Stage::Begun { framed: Framed::Length(length), left, .. } if *left < bytes => {
                Err(NotNow::TooMuch { bytes, left: *left, length: *length })
            }
            Stage::Begun { framed, left, .. } => {
                *left = left.saturating_sub(bytes);
                Ok(match framed {
                    Framed::Empty => Piece::Counted,
                    // An empty chunk would end the body.
                    _ if bytes == 0 => Piece::Counted,
                    Framed::Length(_) | Framed::UntilClose => Piece::Plain,
                    Framed::Chunked => Piece::Chunk(format!("{bytes:x}\r\n")),
                })
            }
            Stage::Due | Stage::Given => Err(NotNow::NotBegun),
        }
    }

    /// Notes that the body is complete. Returns the bytes that end it, and the next step.
    pub fn end(&mut self) -> Result<(&'static [u8], Then), NotNow> {
        let Stage::Begun { framed, left, closes } = self.stage else { return Err(NotNow::NotBegun) };
        if let Framed::Length(length) = framed
            && left > 0
        {
            return Err(NotNow::TooLittle { left, length });
        }
        self.stage = Stage::Given;
        let last: &[u8] = if framed == Framed::Chunked { b"0\r\n\r\n" } else { b"" };
        Ok((last, if closes { Then::Close } else { Then::Next }))
    }

    /// Notes that the handler gives no more parts. Returns the bytes that tell the peer, and the next step; `None` if
    /// the answer is complete.
    pub fn abandon(&mut self, date: &[u8; 29]) -> Option<(Vec<u8>, Then)> {
        match std::mem::replace(&mut self.stage, Stage::Given) {
            Stage::Given => None,
            Stage::Due => Some((error_answer(Refusal::no_answer(), date, self.is_head), Then::Close)),
            // For such a peer only the end of the connection would mark the body as whole.
            Stage::Begun { framed: Framed::UntilClose, .. } => Some((Vec::new(), Then::Cut)),
            Stage::Begun { .. } => Some((Vec::new(), Then::Break)),
        }
    }
}

impl From<NotNow> for Error {
    fn from(error: NotNow) -> Self {
        match error {
            NotNow::Answered | NotNow::NotBegun => Self::state(error.to_string()),
            NotNow::TooMuch { .. } | NotNow::TooLittle { .. } => Self::argument(error.to_string()),
        }
    }
}
