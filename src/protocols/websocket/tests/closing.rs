//! The close handshake: at most one close frame goes out, with the code of the first end, and nothing after it.
//!
//! The rules are those in the head of `machine.rs`. [`Rules`] states them again in the shortest form. The tests play
//! the machine through every order of up to four steps and compare both.

use super::*;
use crate::protocols::Succession;

/// A step of one side. The number is the place of the step, so that no two close frames are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    // Steps of the peer.
    Message,
    Ping,
    Close,
    CloseWithoutCode,
    /// A close frame, and the end of the stream after it.
    CloseAndEnd,
    CloseWithoutCodeAndEnd,
    BadClose,
    Unmasked,
    NoText,
    TooLong,
    /// A frame that breaks a rule, and the end of the stream after it.
    NoTextAndEnd,
    End,
    // Steps of our side.
    SayClose,
    /// Closes twice before the connection is closed.
    SayCloseTwice,
    /// Closes from another thread.
    PostClose,
    PlainClose,
    Finish,
    Raise,
    Expire,
    Stop,
}

const STEPS: [Step; 20] = [
    Step::Message,
    Step::Ping,
    Step::Close,
    Step::CloseWithoutCode,
    Step::CloseAndEnd,
    Step::CloseWithoutCodeAndEnd,
    Step::BadClose,
    Step::Unmasked,
    Step::NoText,
    Step::TooLong,
    Step::NoTextAndEnd,
    Step::End,
    Step::SayClose,
    Step::SayCloseTwice,
    Step::PostClose,
    Step::PlainClose,
    Step::Finish,
    Step::Raise,
    Step::Expire,
    Step::Stop,
];

const NO_TEXT: &str = "a text message that is not UTF-8";

fn our_word(at: usize) -> Farewell {
    Farewell { code: 4000 + at as u16, reason: format!("ours {at}") }
}

fn word_of_peer(at: usize) -> Farewell {
    Farewell::new(3000 + at as u16)
}

fn because(code: u16, reason: &str) -> Option<Farewell> {
    Some(Farewell { code, reason: reason.into() })
}

/// The rules: the right output, and the close frame that was sent.
#[derive(Default)]
struct Rules {
    has_eof: bool,
    is_closed: bool,
    sent: Vec<Sent>,
    said: Option<Farewell>,
}

impl Rules {
    fn step(&mut self, at: usize, step: Step, client: bool) {
        if self.is_closed {
            return;
        }
        let is_of_peer = (step as usize) < Step::SayClose as usize;
        if is_of_peer && self.has_eof {
            // Nothing comes after the end of a stream.
            return;
        }
        let mask = if client {
            "a frame with a mask: a server must not mask"
        } else {
            "a frame without a mask: a client must mask"
        };
        match step {
            Step::Message => self.sent.push((TEXT, b"message".to_vec())),
            Step::Ping => self.sent.push((PONG, vec![at as u8])),
            Step::End => self.has_eof = true,
            // The peer's close frame came before the end of its stream.
            Step::Close | Step::CloseAndEnd => self.close(Some(word_of_peer(at))),
            Step::CloseWithoutCode | Step::CloseWithoutCodeAndEnd => self.close(None),
            Step::BadClose => {
                self.close(because(1002, "a close frame with the close code 1005, which must not be sent"));
            }
            Step::Unmasked => self.close(because(1002, mask)),
            Step::NoText => self.close(because(1007, NO_TEXT)),
            Step::TooLong => self.close(because(1009, "a message of at least 70001 bytes: max_message is 70000")),
            Step::NoTextAndEnd => {
                self.has_eof = true;
                self.close(None);
            }
            Step::SayClose | Step::SayCloseTwice | Step::PostClose => self.close(Some(our_word(at))),
            Step::PlainClose => self.close(because(1000, "")),
            Step::Finish | Step::Stop => self.close(because(1001, "")),
            Step::Raise => self.close(because(1011, "")),
            Step::Expire => self.close(because(1008, EXPIRED)),
        }
    }

    fn close(&mut self, farewell: Option<Farewell>) {
        self.is_closed = true;
        if !self.has_eof {
            let payload = farewell.as_ref().map(|word| close_payload(word.code, &word.reason)).unwrap_or_default();
            self.sent.push((CLOSE, payload));
            self.said = farewell;
        }
    }
}

impl Socket {
    fn step(&mut self, at: usize, step: Step) {
        let (key, other) = (self.key(), if self.key().is_some() { None } else { Some(KEY) });
        let long = [&[BINARY, if key.is_some() { 0xff } else { 0x7f }][..], &70_001_u64.to_be_bytes()].concat();
        let code = word_of_peer(at).code.to_be_bytes();
        match step {
            Step::Message => self.receive_of_peer(&raw(TEXT, b"message", key), false),
            Step::Ping => self.receive_of_peer(&raw(PING, &[at as u8], key), false),
            Step::Close => self.receive_of_peer(&raw(CLOSE, &[&code[..], b"why"].concat(), key), false),
            Step::CloseWithoutCode => self.receive_of_peer(&raw(CLOSE, b"", key), false),
            Step::CloseAndEnd => self.receive_of_peer(&raw(CLOSE, &code, key), true),
            Step::CloseWithoutCodeAndEnd => self.receive_of_peer(&raw(CLOSE, b"", key), true),
            Step::BadClose => self.receive_of_peer(&raw(CLOSE, &1005_u16.to_be_bytes(), key), false),
            Step::Unmasked => self.receive_of_peer(&raw(TEXT, b"x", other), false),
            Step::NoText => self.receive_of_peer(&raw(TEXT, b"\xff", key), false),
            Step::NoTextAndEnd => self.receive_of_peer(&raw(TEXT, b"\xff", key), true),
            Step::TooLong => self.receive_of_peer(&[&long, &key.unwrap_or_default()[..]].concat(), false),
            Step::End => self.receive_of_peer(b"", true),
            Step::SayClose => self.say(our_word(at)),
            Step::SayCloseTwice => {
                self.socket.close(our_word(at), &mut self.wire);
                self.say(our_word(at + 500));
            }
            Step::PostClose => {
                let refused = self.socket.receive(Box::new(our_word(at)), &mut self.wire);
                assert!(refused.is_none(), "a last word is taken");
                self.close_by(Closing::Asked);
            }
            Step::PlainClose => self.close_by(Closing::Asked),
            Step::Finish => {
                self.socket.finish(&mut self.wire);
                self.settle();
            }
            Step::Raise => self.close_by(Closing::Failed(&raised())),
            Step::Expire => self.close_by(Closing::Failed(&expired())),
            Step::Stop => self.close_by(Closing::Stopping),
        }
    }

    /// Receives input, possibly together with the end of the stream. A closed connection discards it.
    fn receive_of_peer(&mut self, bytes: &[u8], ends: bool) {
        if self.is_closed || self.wire.has_eof {
            return;
        }
        self.wire.has_eof = ends;
        self.receive(bytes);
    }

    fn say(&mut self, farewell: Farewell) {
        self.socket.close(farewell, &mut self.wire);
        self.settle();
    }
}

fn assert_by_the_rules(steps: &[Step], client: bool) {
    let (mut socket, mut rules) = (Socket::new(client, false), Rules::default());
    for (at, step) in steps.iter().enumerate() {
        socket.step(at, *step);
        rules.step(at, *step, client);
        assert_eq!(socket.is_closed, rules.is_closed, "{steps:?} up to {step:?}, as client: {client}");
    }
    let sent = socket.sent();
    assert_eq!(sent, rules.sent, "{steps:?}, as client: {client}");
    let closes = sent.iter().position(|(first, _)| *first == CLOSE);
    assert!(closes.is_none_or(|at| at + 1 == sent.len()), "{steps:?}: nothing follows a close frame");
    assert_eq!(socket.socket.said(), rules.said, "{steps:?}, as client: {client}");
}

#[test]
fn each_end_says_its_code_once_and_nothing_behind_it_in_every_order_of_three_steps() {
    for client in [false, true] {
        for first in STEPS {
            assert_by_the_rules(&[first], client);
            for (second, third) in STEPS.into_iter().flat_map(|second| STEPS.map(|third| (second, third))) {
                assert_by_the_rules(&[first, second, third], client);
            }
        }
    }
}

/// The first step does not end the connection. After an end no step changes anything, as the orders of three steps
/// show.
#[test]
fn each_end_says_its_code_once_and_nothing_behind_it_in_every_order_of_four_steps() {
    for (first, client) in
        [Step::Message, Step::Ping, Step::End].into_iter().flat_map(|step| [(step, false), (step, true)])
    {
        for (second, third) in STEPS.into_iter().flat_map(|second| STEPS.map(|third| (second, third))) {
            for fourth in STEPS {
                assert_by_the_rules(&[first, second, third, fourth], client);
            }
        }
    }
}

#[test]
fn the_words_of_a_close_frame_are_cut_at_a_character_so_that_they_fit() {
    let cases =
        [("x".repeat(200), "x".repeat(123)), ("é".repeat(100), "é".repeat(61)), ("€".repeat(41), "€".repeat(41))];
    for (reason, said) in cases {
        let mut socket = Socket::new(false, false);
        socket.say(Farewell { code: 4000, reason });
        assert_eq!(socket.sent(), [(CLOSE, close_payload(4000, &said))]);
        assert_eq!(socket.socket.said(), because(4000, &said));
    }
}

#[test]
fn a_last_word_that_was_posted_counts_for_the_close_that_follows_only() {
    let mut socket = Socket::new(false, false);
    let refused = socket.socket.receive(Box::new(our_word(1)), &mut socket.wire);
    assert!(refused.is_none() && socket.wire.ended.is_none(), "it closes nothing");
    socket.receive_frame(CLOSE, &close_payload(3000, ""));
    assert_eq!(socket.sent(), [(CLOSE, close_payload(3000, ""))], "the peer was first");
    let refused = socket.socket.receive(Box::new(our_word(2)), &mut socket.wire);
    assert!(refused.is_none());
    assert_eq!(socket.socket.said(), because(3000, ""));
}

#[test]
fn a_value_that_is_no_last_word_comes_back() {
    let mut socket = Socket::new(false, false);
    let back = socket.socket.receive(Box::new("foreign"), &mut socket.wire);
    assert_eq!(back.and_then(|value| value.downcast::<&str>().ok()).as_deref(), Some(&"foreign"));
    socket.close_by(Closing::Asked);
    assert_eq!(socket.sent(), [(CLOSE, close_payload(1000, ""))]);
}

#[test]
fn another_reason_says_that_all_is_well_and_the_reason_is_not_told() {
    // A violation of another protocol: no frame of the peer was wrong.
    let foreign = crate::error::Violation {
        protocol: "other",
        kind: crate::error::ViolationKind::Protocol,
        text: "secret".into(),
    };
    for reason in [Reason::Orderly, Reason::Protocol(foreign)] {
        let mut socket = Socket::new(false, false);
        socket.close_by(Closing::Failed(&reason));
        assert_eq!(socket.sent(), [(CLOSE, close_payload(1000, ""))]);
    }
}

#[test]
fn a_websocket_may_be_handed_over_wherever_its_stream_is() {
    let mut socket = Socket::new(false, false);
    for byte in raw(TEXT, b"cut", Some(KEY)) {
        assert!(matches!(socket.socket.may_hand_over(), Ok(Succession::Same)));
        socket.receive(&[byte]);
    }
    assert_eq!(socket.seen, [Saw::Text("cut".into())]);
    assert!(!socket.socket.is_ending() && !socket.socket.is_waited_for() && !socket.socket.holds_eof(1));
}
