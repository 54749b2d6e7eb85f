//! The rules of RFC 6455 and RFC 7692 that a peer can break, each with its close code.

use crate::error::{Violation as Broken, ViolationKind};

/// The rule that a peer broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A bit is set to which no extension gave a meaning for this frame.
    #[error("a frame with reserved bits that mean nothing here")]
    ReservedBits,
    /// The opcode does not exist.
    #[error("a frame of the reserved opcode {0}")]
    ReservedOpcode(u8),
    /// A client sent an unmasked frame.
    #[error("a frame without a mask: a client must mask")]
    Unmasked,
    /// A server sent a masked frame.
    #[error("a frame with a mask: a server must not mask")]
    Masked,
    /// A control frame came in fragments.
    #[error("a control frame in fragments")]
    ControlInFragments,
    /// A control frame is longer than 125 bytes.
    #[error("a control frame of more than 125 bytes")]
    ControlTooLong,
    /// The top bit of a 64-bit length is set.
    #[error("a frame of 2**63 bytes or more")]
    LengthWithTopBit,
    /// The length does not have the shortest form.
    #[error("a length of {0} bytes that is not written in as few bytes as possible")]
    LengthNotMinimal(u64),
    /// A continuation came without a message.
    #[error("a fragment that continues no message")]
    NothingToContinue,
    /// A message began before the last fragment of another.
    #[error("a message within the fragments of another")]
    MessageWithinMessage,
    /// The payload of a close frame is a single byte.
    #[error("a close frame with 1 byte of a close code, which has 2")]
    HalfCloseCode,
    /// The close code must not be sent.
    #[error("a close frame with the close code {0}, which must not be sent")]
    CloseCode(u16),
    /// The reason text of a close frame is not UTF-8.
    #[error("a close frame whose reason is not UTF-8")]
    ReasonNotUtf8,
    /// The text of a message is not UTF-8.
    #[error("a text message that is not UTF-8")]
    TextNotUtf8,
    /// The payload is no valid DEFLATE data.
    #[error("a compressed message that cannot be decompressed")]
    Deflate,
    /// By the lengths of its frames the message is longer than `max_message`.
    #[error("a message of at least {size} bytes: max_message is {limit}")]
    TooLong {
        /// Bytes that arrived, and the length in the last head.
        size: u64,
        /// `max_message`. A compressed message may be longer by the bytes that a deflater adds when it finds nothing
        /// to gain.
        limit: usize,
    },
    /// There is no memory for a message.
    #[error("no memory for a message")]
    NoMemory,
    /// A compressed message inflates to more than `max_message`.
    #[error("a compressed message of more than max_message={limit} bytes")]
    InflatesTooFar {
        /// `max_message`.
        limit: usize,
    },
}

impl From<&Violation> for Broken {
    fn from(violation: &Violation) -> Self {
        let kind = match violation {
            Violation::NoMemory => ViolationKind::NoMemory,
            _ => ViolationKind::Protocol,
        };
        Self { protocol: "websocket", kind, text: violation.to_string() }
    }
}

impl Violation {
    /// The close code that tells the peer.
    pub fn code(&self) -> u16 {
        match self {
            Self::TooLong { .. } | Self::InflatesTooFar { .. } => 1009,
            Self::NoMemory => 1011,
            Self::TextNotUtf8 | Self::ReasonNotUtf8 | Self::Deflate => 1007,
            _ => 1002,
        }
    }
}
