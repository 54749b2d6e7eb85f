//! One WebSocket: hands out messages, answers pings, and sends a close frame before the end.
//!
//! The rules of the close handshake (RFC 6455 sections 5.5.1 and 7.1):
//!
//! * Each side sends one close frame, and nothing after it.
//! * A close frame of the peer is answered with the same code, then the connection is closed.
//! * Our own close frame tells the reason: 1000 unless another code was given; 1001 when the reactor stops; 1002, 1007
//!   or 1009 for a broken rule; 1008 for a limit; 1011 for an exception of the handler.
//! * A peer that ended its stream without a close frame gets none.
//! * We do not wait for the peer's close frame: our side of the stream ends after ours, and further input is discarded.

use std::any::Any;
use std::sync::Arc;

use super::close::{MOST_REASON, close_payload};
use super::frame::Opcode;
use super::messages::{Item, Messages};
use super::settings::Settings;
use super::write::frame;
use crate::data::Data;
use crate::error::{Error, Reason, Violation};
use crate::protocols::{Closing, Protocol, Succession, Wire};

/// "The purpose for which the connection was established has been fulfilled."
const NORMAL: u16 = 1000;
/// "An endpoint is going away, such as a server going down."
const GOING_AWAY: u16 = 1001;
/// "A message that violates its policy."
const POLICY_VIOLATION: u16 = 1008;
/// "An unexpected condition that prevented it from fulfilling the request."
const INTERNAL_ERROR: u16 = 1011;

/// The content of our close frame: a code and a reason text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The code, of RFC 6455 section 7.4.
    pub code: u16,
    /// The reason text; only as much as fits is sent.
    pub reason: String,
}

impl Farewell {
    /// A close frame without a reason text.
    pub fn new(code: u16) -> Self {
        Self { code, reason: String::new() }
    }

    /// A close frame with the text of an error.
    fn because(code: u16, reason: impl std::fmt::Display) -> Self {
        Self { code, reason: reason.to_string() }
    }

    /// Shortens the reason text until it fits into a close frame, and returns the payload of the frame.
    fn cut(&mut self) -> Vec<u8> {
        let mut end = self.reason.len().min(MOST_REASON);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        self.reason.truncate(end);
        close_payload(self.code, &self.reason)
    }
}

/// One WebSocket connection: the messages that arrive, and the close frame that goes out last.
pub struct WebSocket {
    messages: Messages,
    /// Our close frame; `None` if the peer's close frame gave no code.
    farewell: Option<Farewell>,
    /// Whether the connection is to be closed; the first call decides about the close frame.
    is_parting: bool,
    /// Whether our close frame was sent.
    has_parted: bool,
}

/// The step that an item of the peer requires.
enum Taken<R> {
    Shown(R),
    Pong(Vec<u8>),
    /// The peer's close frame was handed out; with the code of our answer to it.
    Closed(R, Option<u16>),
}

impl WebSocket {
    /// Makes a connection right after the handshake.
    pub fn new(settings: Arc<Settings>) -> Self {
        let farewell = Some(Farewell::new(NORMAL));
        Self { messages: Messages::new(settings), farewell, is_parting: false, has_parted: false }
    }

    /// Uses other limits from the next frame on: those of a handler that takes over.
    pub fn go_on_with(&mut self, settings: Arc<Settings>) {
        self.messages.go_on_with(settings);
    }

    /// Hands out the next message, a pong, or the peer's close frame, after which the connection is closed. Pings are
    /// answered here.
    pub fn take<R>(&mut self, wire: &mut dyn Wire, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let mut show = Some(show);
        loop {
            let (taken, done) = self.messages.take(wire.input(), |item| match item {
                Item::Ping(payload) => Some(Taken::Pong(payload.to_vec())),
                // The same code goes back.
                Item::Close { code, .. } => Some(Taken::Closed(show.take()?(item), code)),
                item => Some(Taken::Shown(show.take()?(item))),
            })?;
            wire.consume(done);
            let done = self.messages.look(wire.input());
            wire.consume(done);
            match taken? {
                Taken::Pong(payload) => self.write_control(Opcode::Pong, &payload, wire),
                Taken::Shown(shown) => return Some(shown),
                Taken::Closed(shown, code) => {
                    self.part(code.map(Farewell::new), wire);
                    return Some(shown);
                }
            }
        }
    }

    /// Closes with this close frame, unless the connection is already being closed with another one.
    pub fn close(&mut self, farewell: Farewell, wire: &mut dyn Wire) {
        self.part(Some(farewell), wire);
    }

    fn part(&mut self, farewell: Option<Farewell>, wire: &mut dyn Wire) {
        if !self.is_parting {
            self.farewell = farewell;
        }
        self.is_parting = true;
        wire.close();
    }

    /// Our close frame, if it was sent.
    pub fn said(self) -> Option<Farewell> {
        self.farewell.filter(|_| self.has_parted)
    }

    fn write_control(&mut self, opcode: Opcode, payload: &[u8], wire: &mut dyn Wire) {
        let settings = self.messages.settings().clone();
        let mut bytes = Vec::new();
        match settings.client.then(|| wire.random()).transpose() {
            Ok(key) => frame(opcode, payload, &settings, key, &mut bytes),
            // A client must not send without random bytes (section 10.3).
            Err(_) => return wire.abort(),
        }
        // Fails only if the connection is about to end.
        let _ = wire.write(Data::Own(bytes));
    }
}

impl Protocol for WebSocket {
    fn look(&mut self, input: &mut [u8]) -> usize {
        self.messages.look(input)
    }

    fn has_news(&self) -> bool {
        self.messages.has_news()
    }

    fn missing(&self, input: &[u8]) -> usize {
        self.messages.missing(input.len())
    }

    fn longest(&self) -> usize {
        self.messages.longest()
    }

    fn callback(&self) -> &'static &'static str {
        &"on_message"
    }

    fn forget(&mut self) {
        self.messages.forget();
    }

    fn violation(&self) -> Option<Violation> {
        self.messages.violation().map(Violation::from)
    }

    fn closing(&mut self, why: Closing<'_>, wire: &mut dyn Wire) {
        // A peer that ended its stream without a close frame does not wait for one.
        if self.has_parted || (wire.has_eof() && !self.messages.is_closed()) {
            return;
        }
        match (why, self.messages.violation()) {
            (Closing::Asked, _) => {}
            (Closing::Stopping, _) => self.farewell = Some(Farewell::new(GOING_AWAY)),
            (Closing::Failed(Reason::Protocol(_)), Some(violation)) => {
                self.farewell = Some(Farewell::because(violation.code(), violation));
            }
            (Closing::Failed(Reason::Expired(limit)), _) => {
                self.farewell = Some(Farewell::because(POLICY_VIOLATION, limit));
            }
            (Closing::Failed(Reason::Raised(_)), _) => self.farewell = Some(Farewell::new(INTERNAL_ERROR)),
            (Closing::Failed(_), _) => {}
        }
        (self.is_parting, self.has_parted) = (true, true);
        let payload = self.farewell.as_mut().map(Farewell::cut).unwrap_or_default();
        self.write_control(Opcode::Close, &payload, wire);
    }

    fn finish(&mut self, wire: &mut dyn Wire) {
        self.close(Farewell::new(GOING_AWAY), wire);
    }

    /// Takes the [`Farewell`] of the close that follows.
    fn receive(&mut self, post: Box<dyn Any + Send>, _wire: &mut dyn Wire) -> Option<Box<dyn Any + Send>> {
        match post.downcast::<Farewell>() {
            Ok(farewell) if !self.is_parting => self.farewell = Some(*farewell),
            Ok(_) => {}
            Err(other) => return Some(other),
        }
        None
    }

    fn may_hand_over(&self) -> Result<Succession, Error> {
        Ok(Succession::Same)
    }
}
