//! WebSockets on a poller: messages are handed out, pings answered, and the last word is said before the end.

use super::{Data, State, list_if_ready, open};
use crate::connection::Connection;
use crate::error::{Error, Reason};
use crate::random;
use crate::slots::Token;
use crate::websocket::{Farewell, Item, Opcode, frame};

/// What became of an item.
enum Taken<R> {
    Shown(R),
    Ping(Vec<u8>),
}

impl State {
    /// Takes the next message that is the handler's, or the peer's last word, behind which the connection is closed.
    pub(super) fn take_item<R>(&mut self, token: Token, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let mut show = Some(show);
        loop {
            let connection = open(&mut self.sources, token)?;
            let mut farewell = None;
            let taken = connection.take_item(&mut self.arena, |item| match item {
                Item::Ping(payload) => Some(Taken::Ping(payload.to_vec())),
                item => {
                    if let Item::Close { code, .. } = item {
                        // RFC 6455 section 5.5.1: the same code goes back.
                        farewell = Some(code.map(Farewell::new));
                    }
                    Some(Taken::Shown(show.take()?(item)))
                }
            })?;
            list_if_ready(connection, &mut self.ready, token);
            match taken? {
                Taken::Ping(payload) => self.write_control(token, Opcode::Pong, &payload),
                Taken::Shown(shown) => {
                    if let Some(farewell) = farewell {
                        self.part(token, farewell);
                        self.close(token);
                    }
                    return Some(shown);
                }
            }
        }
    }

    /// Closes with a last word, unless one was said.
    pub(super) fn close_with(&mut self, token: Token, farewell: Farewell) {
        self.part(token, Some(farewell));
        self.close(token);
    }

    /// Decides what the last word will be.
    pub(super) fn part(&mut self, token: Token, farewell: Option<Farewell>) {
        if let Some(socket) = open(&mut self.sources, token).and_then(Connection::websocket) {
            socket.farewell = farewell;
        }
    }

    /// Says the last word of a WebSocket that is about to be closed.
    pub(super) fn say_last_word(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        let eof = connection.eof;
        let Some(socket) = connection.websocket() else { return };
        // Who ended without a last word does not wait for one.
        if socket.has_parted || (eof && !socket.messages.is_closed()) {
            return;
        }
        socket.has_parted = true;
        let payload = socket.farewell.as_mut().map(Farewell::cut).unwrap_or_default();
        self.write_control(token, Opcode::Close, &payload);
    }

    fn write_control(&mut self, token: Token, opcode: Opcode, payload: &[u8]) {
        let Some(socket) = open(&mut self.sources, token).and_then(Connection::websocket) else { return };
        let settings = socket.messages.settings().clone();
        let mut bytes = Vec::new();
        match settings.client.then(random::four).transpose() {
            Ok(key) => frame(opcode, payload, &settings, key, &mut bytes),
            Err(_) => return self.end(token, Reason::Aborted),
        }
        // Fails only when the end is near anyway.
        let _: Result<(), Error> = self.write(token, Data::Bytes(&bytes));
    }
}
