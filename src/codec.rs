//! What cuts the input of a connection into what its handler is called with: a framing of messages, or a protocol.
//!
//! Pure: no sockets, no clock, no Python. Looks while the poller reads, so that a handler is called when there is something
//! for it, and not before.

use std::sync::Arc;

use crate::framing::{Frames, Framing};
use crate::http::{Http, Limits};
use crate::websocket::{Settings, WebSocket};

/// What a connection speaks, other than bytes.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Messages, one behind the other.
    Framing(Arc<Framing>),
    /// HTTP/1.1, as a server.
    Http {
        /// What a request may take.
        limits: Arc<Limits>,
        /// Bodies are handed out in pieces.
        streams: bool,
    },
    /// A WebSocket, behind its handshake.
    WebSocket(Arc<Settings>),
}

/// How far it has come on one connection. What is asked for at each step stays out of line: most connections have none, and
/// the steps are to be as short for them as if there were none at all.
pub(crate) enum Codec {
    Frames(Box<Frames>),
    Http(Box<Http>),
    WebSocket(Box<WebSocket>),
}

impl Codec {
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Framing(framing) => Self::Frames(Box::new(Frames::new(framing))),
            Protocol::Http { limits, streams } => Self::Http(Box::new(Http::new(limits, streams))),
            Protocol::WebSocket(settings) => Self::WebSocket(Box::new(WebSocket::new(settings))),
        }
    }

    /// Looks for what comes next in all the input there is; returns how many bytes at its front are done with.
    pub fn look(&mut self, input: &mut [u8]) -> usize {
        match self {
            Self::Frames(frames) => {
                frames.look(input);
                0
            }
            Self::Http(http) => http.look(input),
            Self::WebSocket(socket) => socket.messages.look(input),
        }
    }

    /// The input is gone, and no more will come: there is nothing to tell.
    pub fn forget(&mut self) {
        match self {
            Self::Frames(frames) => frames.look_again(&[]),
            Self::Http(http) => http.requests.forget(),
            Self::WebSocket(socket) => socket.messages.forget(),
        }
    }

    /// How much the input that waits lacks of being whole, if that is known; else nothing.
    #[inline(never)]
    pub fn missing(&self, input: &[u8]) -> usize {
        match self {
            Self::Frames(frames) => frames.missing(input),
            Self::Http(http) => http.requests.missing(input.len()),
            Self::WebSocket(socket) => socket.messages.missing(input.len()),
        }
    }

    /// Whether there is something to tell.
    #[inline(never)]
    pub fn has_news(&self) -> bool {
        match self {
            Self::Frames(frames) => frames.has_news(),
            Self::Http(http) => http.has_news(),
            Self::WebSocket(socket) => socket.messages.has_news(),
        }
    }

    /// The most input that is needed at a time.
    #[inline(never)]
    pub fn longest(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.longest(),
            Self::Http(http) => http.requests.longest(),
            Self::WebSocket(socket) => socket.messages.longest(),
        }
    }
}
