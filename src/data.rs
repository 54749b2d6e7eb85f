//! Bytes to send: where they lie, and which object owns them.
//!
//! Pure values that every layer passes on. Nothing here sends.

use std::os::fd::OwnedFd;

use crate::error::Foreign;

/// Bytes that belong to the layer above, held by reference until they are sent.
pub trait Held: Send {
    /// The bytes. Address and content stay the same for the life of the value.
    fn bytes(&self) -> &[u8];
}

/// A part of a file on its way to the peer.
pub struct FileRange {
    /// The file to read from.
    pub file: OwnedFd,
    /// Offset of the first unsent byte.
    pub offset: u64,
    /// Number of unsent bytes.
    pub remaining: u64,
}

/// A note of a protocol among its output, which needs no dispatch.
pub trait Note: Send {
    /// All output before it was sent. Called without the interpreter as a rule, and amid the sending: it must not wait.
    fn sent(self: Box<Self>);
}

/// Bytes to send, as a caller on the poller's thread passes them.
pub enum Data<'a> {
    /// Bytes to copy.
    Bytes(&'a [u8]),
    /// Bytes that were copied before.
    Own(Vec<u8>),
    /// Bytes to send without a copy.
    Held(Box<dyn Held>),
    /// A part of a file.
    File(FileRange),
    /// No bytes, but a mark of a protocol: the dispatch gets it when all output before it was sent. It may be dropped
    /// anywhere, and is if the output is.
    Mark(Foreign),
    /// No bytes, but a note that hears when all output before it was sent. It is dropped if the output is.
    Note(Box<dyn Note>),
}

impl Data<'_> {
    /// The number of bytes, those of a file included.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Own(bytes) => bytes.len() as u64,
            Self::Held(held) => held.bytes().len() as u64,
            Self::File(range) => range.remaining,
            Self::Mark(_) | Self::Note(_) => 0,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Payload> for Data<'_> {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Copied(bytes) => Self::Own(bytes),
            Payload::Held(held) => Self::Held(held),
            Payload::File(range) => Self::File(range),
        }
    }
}

/// Bytes to send: copied already, held by reference, or in a file.
pub enum Payload {
    /// A copy that the payload owns.
    Copied(Vec<u8>),
    /// Bytes of the layer above.
    Held(Box<dyn Held>),
    /// A part of a file.
    File(FileRange),
}

impl Payload {
    /// The number of bytes in memory; a part of a file takes none.
    pub fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Held(held) => held.bytes().len(),
            Self::File(_) => 0,
        }
    }

    /// The number of bytes in a file.
    pub fn in_file(&self) -> u64 {
        if let Self::File(range) = self { range.remaining } else { 0 }
    }

    /// Whether there are no bytes in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
