//! One WebSocket, driven by a handler and a peer in memory.
//!
//! [`Socket`] treats the machine as a poller does: it looks at new input and calls the handler while there is news.
//! It ends the connection for a violation, and calls `closing` after an end was asked for. The handler sends back
//! each message. The tests build and parse the peer's frames by hand, so that no mistake of the machine hides
//! another.
//!
//! | file | holds |
//! |---|---|
//! | `frames` | frames of every kind, cut at every byte |
//! | `closing` | the close handshake, in every order of the steps of both sides |

mod closing;
mod frames;

use std::sync::Arc;
use std::time::Duration;

use super::{Deflate, Farewell, Item, Opcode, Settings, WebSocket, frame};
use crate::data::Data;
use crate::error::{Expired, Reason};
use crate::protocols::fake::{Ended, FakeWire};
use crate::protocols::{Closing, Protocol, Wire};

/// The mask of a peer that is a client.
const KEY: [u8; 4] = [0x55, 0, 0xfe, 0x1d];

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The most bytes of a message, unless a test sets another limit.
const MAX: usize = 70_000;

/// An item that the handler was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saw {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// One frame of our side: its first byte and its payload.
type Sent = (u8, Vec<u8>);

/// One connection, its handler, and a record of all results.
struct Socket {
    socket: WebSocket,
    wire: FakeWire,
    settings: Arc<Settings>,
    seen: Vec<Saw>,
    /// Whether `closing` was called, or the connection was aborted.
    is_closed: bool,
}

impl Socket {
    /// Makes our side, a `client` or a server.
    fn new(client: bool, deflate: bool) -> Self {
        let deflate = deflate.then(|| Deflate::new(15).expect("it is valid"));
        Self::with(Settings { client, max_message: MAX, deflate })
    }

    fn with(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let socket = WebSocket::new(settings.clone());
        Self { socket, wire: FakeWire::default(), settings, seen: Vec::new(), is_closed: false }
    }

    /// The mask key of the peer's frames, if the peer is a client.
    fn key(&self) -> Option<[u8; 4]> {
        (!self.settings.client).then_some(KEY)
    }

    /// Receives a frame of the peer.
    fn receive_frame(&mut self, first: u8, payload: &[u8]) {
        self.receive(&raw(first, payload, self.key()));
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.wire.receive(&mut self.socket, bytes);
        self.serve();
    }

    fn serve(&mut self) {
        while !self.is_closed && self.socket.has_news() {
            self.call();
            if let Some(violation) = self.socket.violation() {
                self.close_by(Closing::Failed(&Reason::Protocol(violation)));
            }
        }
    }

    /// Runs one callback of the handler, which sends back each message.
    fn call(&mut self) {
        let Some(saw) = self.socket.take(&mut self.wire, |item| match item {
            Item::Text(text) => Saw::Text(text.into()),
            Item::Binary(bytes) => Saw::Binary(bytes.into()),
            Item::Pong(bytes) => Saw::Pong(bytes.into()),
            Item::Close { code, reason } => Saw::Close(code, reason.into()),
            Item::Ping(_) => panic!("a ping is answered, not shown"),
        }) else {
            return self.settle();
        };
        match &saw {
            Saw::Text(text) => self.send(Opcode::Text, text.as_bytes()),
            Saw::Binary(bytes) => self.send(Opcode::Binary, bytes),
            Saw::Pong(_) | Saw::Close(..) => {}
        }
        self.seen.push(saw);
        self.settle();
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let (mut bytes, plain) = (Vec::new(), Settings { deflate: None, ..(*self.settings).clone() });
        frame(opcode, payload, &plain, plain.client.then_some(KEY), &mut bytes);
        self.wire.write(Data::Own(bytes)).expect("it is open");
    }

    /// Closes as a poller does: after the method that asked for the end has returned.
    fn settle(&mut self) {
        match self.wire.ended {
            Some(Ended::Closed) if !self.is_closed => self.close_by(Closing::Asked),
            Some(_) => self.is_closed = true,
            None => {}
        }
    }

    /// Closes the connection and calls `closing`.
    fn close_by(&mut self, why: Closing<'_>) {
        self.is_closed = true;
        let ended = self.wire.ended.take();
        self.socket.closing(why, &mut self.wire);
        assert!(matches!(self.wire.ended, None | Some(Ended::Aborted)), "the end was asked for before");
        self.wire.ended = self.wire.ended.take().or(ended).or(Some(Ended::Closed));
    }

    /// The frames since the last call.
    fn sent(&mut self) -> Vec<Sent> {
        let bytes = self.wire.sent();
        frames_of(&bytes, self.settings.client).into_iter().map(|(first, payload, _)| (first, payload)).collect()
    }
}

/// A frame as the RFC draws it (section 5.2).
fn raw(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = match payload.len() {
        len @ 0..=125 => vec![first, mask_bit | len as u8],
        len @ 126..=65_535 => [&[first, mask_bit | 126][..], &(len as u16).to_be_bytes()].concat(),
        len => [&[first, mask_bit | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    bytes.extend(key.unwrap_or_default().iter().take(if key.is_some() { 4 } else { 0 }));
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key.unwrap_or_default()[at % 4]));
    bytes
}

/// Parses whole frames: first byte, payload and mask of each. Panics if a frame breaks the rules of its sender.
fn frames_of(mut bytes: &[u8], from_client: bool) -> Vec<(u8, Vec<u8>, [u8; 4])> {
    let mut frames = Vec::new();
    let take = |count: usize, bytes: &mut &[u8]| {
        let (taken, rest) = bytes.split_at_checked(count).expect("a frame is whole");
        *bytes = rest;
        taken.to_vec()
    };
    while !bytes.is_empty() {
        let head = take(2, &mut bytes);
        assert_eq!(head[1] & 0x80 != 0, from_client, "a client masks, and a server does not");
        let wide = [0, 2, 8][usize::from(head[1] & 0x7f).saturating_sub(125)];
        let number = take(wide, &mut bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let len = if wide == 0 { usize::from(head[1] & 0x7f) } else { number };
        assert!(wide == 0 || (wide == 2 && len > 125) || len > 65_535, "a length is as short as it can be");
        assert!(head[0] < 0x88 || len < 126, "a control frame is short");
        let key: [u8; 4] = take(if from_client { 4 } else { 0 }, &mut bytes).try_into().unwrap_or_default();
        let masked = take(len, &mut bytes);
        let payload = masked.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        frames.push((head[0], payload, key));
    }
    frames
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

fn expired() -> Reason {
    Reason::Expired(Expired::Idle(Duration::from_millis(1500)))
}

const EXPIRED: &str = "no byte moved either way for idle_timeout=1.5 seconds";

fn raised() -> Reason {
    Reason::Raised(Box::new(()))
}
