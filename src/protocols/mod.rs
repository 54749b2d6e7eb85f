//! The protocols, and the two traits that join a protocol to its connection.
//!
//! A protocol is a state machine. It looks at the input, hands out the parts that it found, and writes by a [`Wire`].
//! It knows no socket, no poller, no Python and no clock. The rule to know: no method of a wire calls the protocol
//! back. A close that a protocol asks for happens after the protocol's method has returned.
//!
//! A new protocol is one file or folder here, and a line below. The rest of the core names only the traits of this
//! file.

pub mod framing;
pub mod http;
pub mod websocket;

#[cfg(test)]
pub(crate) mod fake;

use std::any::Any;
use std::time::Duration;

use crate::data::{Data, Held};
use crate::error::{Error, Reason, Violation};

/// A protocol: the rules by which one connection cuts its input into parts, and by which it ends.
///
/// The first five methods run for each read or each message. The others run at the ends of a connection; most have
/// defaults that suit a protocol without state.
pub trait Protocol: Any + Send {
    /// Looks for the next part in all the unread input. Returns the number of bytes at the front that are no longer
    /// needed.
    ///
    /// Does nothing while a part that was found has not been taken.
    fn look(&mut self, input: &mut [u8]) -> usize;

    /// Whether there is a part to hand out, or a violation to report.
    fn has_news(&self) -> bool;

    /// The number of bytes that the input lacks for the next whole part; 0 if that is not known.
    fn missing(&self, input: &[u8]) -> usize {
        let _ = input;
        0
    }

    /// The most bytes of unread input that the protocol needs at once.
    fn longest(&self) -> usize;

    /// The name of the handler's callback, as the watchdog reports it.
    fn callback(&self) -> &'static &'static str;

    /// The input is discarded and no more comes: drops the part that was found.
    fn forget(&mut self);

    /// The rule that the peer broke, once every part before it was taken.
    fn violation(&self) -> Option<Violation> {
        None
    }

    /// Whether the handler may also read the input as bytes.
    fn allows_bytes(&self) -> bool {
        false
    }

    /// The handler consumed bytes that the protocol may have looked at: starts the search again.
    fn look_again(&mut self, input: &mut [u8]) {
        let _ = input;
    }

    /// Whether `on_eof` has to wait, because `input` bytes remain that cannot be handed to the handler yet.
    fn holds_eof(&self, input: usize) -> bool {
        let _ = input;
        false
    }

    /// Whether the peer waits for an answer. If so, its silence violates no time limit.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// Whether a part that was handed out has no answer yet, or is not whole.
    fn is_busy(&self) -> bool {
        self.is_waited_for()
    }

    /// The part that the peer has begun to send, and how long it may take. Asked when the connection has had its turn.
    fn unfinished(&self) -> Option<Unfinished> {
        None
    }

    /// The peer took too long for the part that [`Self::unfinished`] returns.
    fn took_too_long(&mut self, wire: &mut dyn Wire) {
        let _ = wire;
    }

    /// Whether the connection ends as soon as every answer that is due has been given.
    fn is_ending(&self) -> bool {
        false
    }

    /// The reason that the protocol keeps for that end. The connection takes it if it ends earlier.
    fn take_reason(&mut self) -> Option<Reason> {
        None
    }

    /// The connection is about to close: the last chance to write. May be called more than once.
    fn closing(&mut self, why: Closing<'_>, wire: &mut dyn Wire) {
        let _ = (why, wire);
    }

    /// Bytes of output that the protocol keeps for their turn; they count toward `max_output`.
    fn kept(&self) -> usize {
        0
    }

    /// No more output will be sent: drops the output that waits for its turn. `release` gets the parts that belong to
    /// the layer above.
    fn drop_output(&mut self, release: &mut dyn FnMut(Box<dyn Held>)) {
        let _ = release;
    }

    /// The handler asks for a finish: closes now, or when every answer that is due has been given.
    fn finish(&mut self, wire: &mut dyn Wire) {
        wire.close();
    }

    /// Whether the peer may have begun to send what it expects an answer to. If so, a stop with a drain leaves the
    /// connection open for a while, and [`Wire::is_stopping`] holds meanwhile: the protocol ends with the next answer.
    fn drains(&self) -> bool {
        false
    }

    /// Takes a value that another thread posted for this protocol ([`crate::shared::remote::Remote::post`]). Returns
    /// a value that is not for this protocol, because the caller knows where its owner can drop it.
    fn receive(&mut self, post: Box<dyn Any + Send>, wire: &mut dyn Wire) -> Option<Box<dyn Any + Send>> {
        let _ = wire;
        Some(post)
    }

    /// Whether [`Self::deliver`] hands the parts out, in the read phase, and no handler is called.
    fn delivers(&self) -> bool {
        false
    }

    /// Hands out the parts that are due, to a place of its own that is no handler.
    fn deliver(&mut self, wire: &mut dyn Wire) {
        let _ = wire;
    }

    /// The output has fallen to the low-water mark. Called for each protocol, before the handler.
    fn drained(&mut self) {}

    /// Whether another handler may take over the connection now, and whether it continues with this protocol.
    fn may_hand_over(&self) -> Result<Succession, Error> {
        Ok(Succession::Bytes)
    }
}

/// A part that a peer has begun to send and not finished, and the time that it may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unfinished {
    /// A number that no other part of the connection has.
    pub id: u64,
    /// The time for the part.
    pub time: Duration,
    /// So many of its bytes give the part a second more; `None`: the time is fixed.
    pub bytes_per_second: Option<f64>,
}

/// The protocol of a connection after a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// None: the new handler starts with bytes, or with its own protocol.
    Bytes,
    /// The old protocol, possibly in the middle of a message.
    Same,
}

/// The reason for which a connection is about to close.
#[derive(Clone, Copy)]
pub enum Closing<'a> {
    /// The handler closed it, or the peer ended its stream.
    Asked,
    /// The reactor stops.
    Stopping,
    /// An error ends the connection.
    Failed(&'a Reason),
}

/// The connection as its protocol sees it: unread input, output, and the ways to end.
///
/// All writes during one call of a protocol count as a single write. A write always fits if the output queue is
/// empty. Otherwise a write beyond `max_output` makes the connection fail with an overflow.
pub trait Wire {
    /// The unread input; the protocol may change it in place.
    fn input(&mut self) -> &mut [u8];

    /// Removes the first `count` bytes from the unread input.
    fn consume(&mut self, count: usize);

    /// Whether the peer has shut down its write side.
    fn has_eof(&self) -> bool;

    /// Queues output. Returns [`Error::closed`] after the write side was shut down, and after [`Wire::close`] and the
    /// other ends.
    fn write(&mut self, data: Data<'_>) -> Result<(), Error>;

    /// As [`Wire::write`], for output that the protocol kept although it alone exceeds `max_output`; it causes no overflow.
    fn write_exempt(&mut self, data: Data<'_>) -> Result<(), Error>;

    /// Takes bytes that will not be sent, to drop them where their owner can be dropped.
    fn release(&mut self, held: Box<dyn Held>);

    /// The bytes of output that wait in the queue, and those that other threads have posted.
    fn queued(&self) -> usize;

    /// The most bytes of output that may wait, those that the protocol keeps included.
    fn max_output(&self) -> usize;

    /// The bytes of waiting output above which nothing further should be asked of the handler.
    fn high_water(&self) -> usize;

    /// Whether the reactor stops.
    fn is_stopping(&self) -> bool;

    /// The time at which the running callback began, for [`Wire::count_answer`]; 0 unless times are measured.
    fn began(&self) -> u64;

    /// Counts an answer that is whole. `class` is the first digit of its status; `since` is the time of its request by
    /// [`Wire::began`], and 0 stands for none.
    fn count_answer(&mut self, class: u8, since: u64);

    /// The date of an HTTP answer (IMF-fixdate, RFC 9110 section 5.6.7).
    fn date(&self) -> [u8; 29];

    /// Four unpredictable bytes, for example for the mask of a WebSocket client.
    fn random(&mut self) -> Result<[u8; 4], Error>;

    /// Closes in order: sends the output, then a FIN.
    fn close(&mut self);

    /// Closes in order because of an error; `on_close` gets the reason.
    fn fail(&mut self, reason: Reason);

    /// Sends the output, then resets: the peer must not take the part that it got for the whole.
    fn cut(&mut self);

    /// Resets at once, and drops the output.
    fn abort(&mut self);

    /// Fails the connection because the waiting output exceeds `max_output`.
    fn overflow(&mut self);
}

#[cfg(test)]
mod tests {
    use super::fake::{Ended, FakeWire};
    use super::*;

    /// A protocol that has only the methods which every protocol needs.
    struct Least;

    impl Protocol for Least {
        fn look(&mut self, _: &mut [u8]) -> usize {
            0
        }
        fn has_news(&self) -> bool {
            false
        }
        fn longest(&self) -> usize {
            0
        }
        fn callback(&self) -> &'static &'static str {
            &"on_news"
        }
        fn forget(&mut self) {}
    }

    #[test]
    fn a_protocol_without_more_waits_for_nothing_and_ends_at_once() {
        let (mut least, mut wire) = (Least, FakeWire::default());
        assert_eq!((least.missing(b"input"), least.holds_eof(5), least.allows_bytes()), (0, false, false));
        assert_eq!((least.is_waited_for(), least.is_ending()), (false, false));
        assert!(least.violation().is_none() && least.take_reason().is_none());
        assert!(matches!(least.may_hand_over(), Ok(Succession::Bytes)));
        assert!(!least.delivers());
        least.deliver(&mut wire);
        least.drained();
        assert!(least.receive(Box::new(7), &mut wire).is_some_and(|post| post.is::<i32>()));
        least.closing(Closing::Asked, &mut wire);
        assert_eq!(wire.ended, None);
        least.finish(&mut wire);
        assert_eq!(wire.ended, Some(Ended::Closed));
    }
}
