//! The WebSocket protocol (RFC 6455) behind the handshake, for both sides, with permessage-deflate (RFC 7692).
//!
//! Pure: no sockets, no clock, no Python, and no chance: whoever writes as a client brings the mask keys.
//! A message that comes in one frame and is not compressed is never copied; it is shown where it lies in the input.

mod deflate;
mod frame;
mod messages;
mod utf8;

use std::sync::Arc;

pub use deflate::Deflate;
pub use frame::{Head, Opcode};
pub use messages::Messages;

/// Smaller messages are sent as they are: two packets of that size cost the same, and a deflater costs microseconds.
const WORTH_DEFLATING: usize = 256;

/// The most bytes of the words in a close frame.
pub const MOST_REASON: usize = frame::CONTROL_MOST - 2;

/// "The purpose for which the connection was established has been fulfilled."
const NORMAL: u16 = 1000;
/// "An endpoint is going away, such as a server going down."
pub(crate) const GOING_AWAY: u16 = 1001;
/// "A message that violates its policy."
pub(crate) const POLICY_VIOLATION: u16 = 1008;
/// "An unexpected condition that prevented it from fulfilling the request."
pub(crate) const INTERNAL_ERROR: u16 = 1011;

/// How one WebSocket is spoken, as the handshake agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// We mask what we send and the peer must not; else the other way round.
    pub client: bool,
    /// The most bytes of a message from the peer, inflated.
    pub max_message: usize,
    /// permessage-deflate without context takeover, if both sides want it.
    pub deflate: Option<Deflate>,
}

/// What the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A message of text.
    Text(&'a str),
    /// A message of bytes.
    Binary(&'a [u8]),
    /// Wants a pong with the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping, or sent unasked.
    Pong(&'a [u8]),
    /// The last thing that the peer says.
    Close {
        /// Why, if it says so.
        code: Option<u16>,
        /// Why in words, perhaps none.
        reason: &'a str,
    },
}

/// Why what came is no WebSocket message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A bit is set that no extension gave a meaning for this frame.
    #[error("a frame with reserved bits that mean nothing here")]
    ReservedBits,
    /// A kind of frame that does not exist.
    #[error("a frame of the reserved opcode {0}")]
    ReservedOpcode(u8),
    /// From a client.
    #[error("a frame without a mask: a client must mask")]
    Unmasked,
    /// From a server.
    #[error("a frame with a mask: a server must not mask")]
    Masked,
    /// A control frame is to be whole.
    #[error("a control frame in fragments")]
    ControlInFragments,
    /// A control frame is to be short.
    #[error("a control frame of more than 125 bytes")]
    ControlTooLong,
    /// More than any message.
    #[error("a frame of 2**63 bytes or more")]
    LengthWithTopBit,
    /// A length with leading zeros.
    #[error("a length of {0} bytes that is not written in as few bytes as possible")]
    LengthNotMinimal(u64),
    /// The next fragment of no message.
    #[error("a fragment that continues no message")]
    NothingToContinue,
    /// A message began before the last fragment of another.
    #[error("a message within the fragments of another")]
    MessageWithinMessage,
    /// A close code has two bytes.
    #[error("a close frame with 1 byte of a close code, which has 2")]
    HalfCloseCode,
    /// A close code that must not be sent.
    #[error("a close frame with the close code {0}, which must not be sent")]
    CloseCode(u16),
    /// The words of a close frame.
    #[error("a close frame whose reason is not UTF-8")]
    ReasonNotUtf8,
    /// A message of text.
    #[error("a text message that is not UTF-8")]
    TextNotUtf8,
    /// Not what a deflater writes.
    #[error("a compressed message that cannot be decompressed")]
    Deflate,
    /// The frames of a message say that it will be larger than it may be.
    #[error("a message of at least {size} bytes: max_message is {limit}")]
    TooLong {
        /// What came, and what the last head promised.
        size: u64,
        /// `max_message`. What is compressed may be longer by what a deflater adds when it finds nothing to gain.
        limit: usize,
    },
    /// A compressed message would be larger than it may be.
    #[error("a compressed message of more than max_message={limit} bytes")]
    InflatesTooFar {
        /// `max_message`.
        limit: usize,
    },
}

impl Violation {
    /// The close code that tells the peer.
    pub fn code(&self) -> u16 {
        match self {
            Self::TooLong { .. } | Self::InflatesTooFar { .. } => 1009,
            Self::TextNotUtf8 | Self::ReasonNotUtf8 | Self::Deflate => 1007,
            _ => 1002,
        }
    }
}

/// The last word: why, as a code and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// RFC 6455 section 7.4.
    pub code: u16,
    /// As much of it as fits is sent.
    pub reason: String,
}

impl Farewell {
    /// Without words.
    pub fn new(code: u16) -> Self {
        Self { code, reason: String::new() }
    }

    /// With the words of an error.
    pub(crate) fn because(code: u16, reason: impl std::fmt::Display) -> Option<Self> {
        Some(Self { code, reason: reason.to_string() })
    }

    /// What a close frame carries of it, which is all that is left of it then.
    pub(crate) fn cut(&mut self) -> Vec<u8> {
        let mut end = self.reason.len().min(MOST_REASON);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        self.reason.truncate(end);
        close_payload(self.code, &self.reason)
    }
}

/// One connection: what comes, and what is said last.
pub(crate) struct WebSocket {
    pub messages: Messages,
    /// What will be said last, or was, with 1000 for no reason in particular; none where the peer gave none.
    pub farewell: Option<Farewell>,
    /// It was said.
    pub has_parted: bool,
}

impl WebSocket {
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { messages: Messages::new(settings), farewell: Some(Farewell::new(NORMAL)), has_parted: false }
    }

    /// What was said last.
    pub fn said(&mut self) -> Option<Farewell> {
        self.farewell.take_if(|_| self.has_parted)
    }
}

/// Appends one whole frame. A message of text or bytes is compressed if that was agreed and makes it smaller.
///
/// A client must give a `mask_key` that nobody can foretell, a server none.
pub fn frame(kind: Opcode, payload: &[u8], settings: &Settings, mask_key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(head(kind, payload.len(), mask_key).bytes());
    let mut body = out.len();
    let deflate = settings.deflate.filter(|_| !kind.is_control() && payload.len() >= WORTH_DEFLATING);
    if deflate.is_some_and(|deflate| deflate.deflate(payload, out)) {
        // Being smaller, it has no longer a head.
        let head = Head::new(kind, true, out.len() - body, mask_key);
        let end = start + head.bytes().len();
        out[start..end].copy_from_slice(head.bytes());
        out.drain(end..body);
        body = end;
    } else {
        out.truncate(body);
        out.extend_from_slice(payload);
    }
    if let Some(mut key) = mask_key {
        frame::mask(&mut out[body..], &mut key);
    }
}

/// What comes before a payload of `len` bytes that is not compressed. With a `mask_key` the payload is to be masked.
pub fn head(kind: Opcode, len: usize, mask_key: Option<[u8; 4]>) -> Head {
    Head::new(kind, false, len, mask_key)
}

/// The payload of a close frame, whose `reason` must have 123 bytes at most.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Whether a close frame may carry `code`: those in the registry, but for what is never sent, and 3000 to 4999.
pub fn is_sendable_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code and the words in the payload of a close frame.
fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(Violation::HalfCloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable_code(code) {
        return Err(Violation::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::ReasonNotUtf8)?;
    Ok((Some(code), reason))
}
