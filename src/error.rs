//! Errors as values: an [`Error`] of a call, and the [`Reason`] for which a connection ended.
//!
//! These are pure values below everything else: this module names no protocol, no socket and no Python.
//! `src/python/values/errors.rs` converts them to Python exceptions.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// An error that a call returns. It is as large as a pointer: each layer of a call hands on the result, which is an error once
/// in a million times.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// The kinds of errors.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// An argument is out of its range; the text names the argument, the value and the limit.
    #[error("{0}")]
    Argument(String),
    /// A system call failed; the text says what was tried, and on which object.
    #[error("{context}: {source}")]
    Io {
        /// The operation that failed, and its object.
        context: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// A host name has no address, or the lookup could not be made; the code is one of getaddrinfo(3).
    #[error("{text}")]
    Lookup {
        /// `EAI_NONAME` and the like.
        code: i32,
        /// The name and the cause.
        text: String,
    },
    /// A datagram was larger than `max_size` and was dropped.
    #[error("a datagram of {size} bytes from {from} was dropped: the limit is max_size={limit}")]
    Truncated {
        /// The sender's address.
        from: SocketAddr,
        /// Its length, bytes.
        size: usize,
        /// `max_size`, bytes.
        limit: usize,
    },
    /// The connection has ended or is being closed.
    #[error("the connection is closed")]
    Closed,
    /// A group has sent more bytes than its pollers have taken out of their mailboxes.
    #[error("not taken yet: the {limit} bytes that may be on their way to each of {pollers} pollers")]
    Congested {
        /// The number of pollers that did not get the message.
        pollers: usize,
        /// The most bytes that may be in the mailbox of one poller.
        limit: usize,
    },
    /// The reactor is in a state that does not allow the call.
    #[error("{0}")]
    State(String),
    /// The method was called on a thread other than the poller's.
    #[error("{0} may be called only on the thread of its poller; use call_soon() from elsewhere")]
    WrongThread(&'static str),
    /// A poller did not end within the time of a stop.
    #[error("{0}")]
    StopTimeout(String),
}

impl From<ErrorKind> for Error {
    #[cold]
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl Error {
    /// The kind, to look at.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Whether the connection has ended or is being closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.kind(), ErrorKind::Closed)
    }

    /// The kind with its parts.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// See [`ErrorKind::Argument`].
    pub fn argument(text: String) -> Self {
        ErrorKind::Argument(text).into()
    }

    /// See [`ErrorKind::Closed`].
    pub fn closed() -> Self {
        ErrorKind::Closed.into()
    }

    /// See [`ErrorKind::State`].
    pub fn state(text: String) -> Self {
        ErrorKind::State(text).into()
    }

    /// See [`ErrorKind::WrongThread`].
    pub fn wrong_thread(method: &'static str) -> Self {
        ErrorKind::WrongThread(method).into()
    }

    /// See [`ErrorKind::StopTimeout`].
    pub fn stop_timeout(text: String) -> Self {
        ErrorKind::StopTimeout(text).into()
    }

    /// The error of a call that comes after the stop of the reactor.
    pub fn stopped() -> Self {
        Self::state("the reactor has stopped and takes nothing more [GOEV104]".into())
    }

    /// Makes a converter that adds `context`, the operation that was tried, to a system error.
    pub fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| ErrorKind::Io { context, source }.into()
    }
}

/// Returns an argument error unless `least <= value <= most`.
pub fn within(name: &str, value: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::argument(format!("{name} must be from {least} to {most}, not {value}")))
}

/// A value of the layer above, Python or Rust handlers, that the core carries without looking at it.
pub type Foreign = Box<dyn Any + Send>;

/// The reason for which a connection ended.
pub enum Reason {
    /// Closed in order by either side.
    Orderly,
    /// A system call on its socket failed.
    Io(io::Error),
    /// `abort()`, or the deadline of a stop.
    Aborted,
    /// There was no memory for its input.
    NoMemory,
    /// The handler consumed nothing although `max_input` bytes were waiting.
    InputOverflow {
        /// `max_input`, bytes.
        limit: usize,
    },
    /// The output queue grew beyond `max_output`.
    OutputOverflow {
        /// `max_output`, bytes.
        limit: usize,
    },
    /// The exception that a callback raised.
    Raised(Foreign),
    /// The error that the handler gave when it closed the connection.
    Given(Foreign),
    /// The error of a framing of the layer above: the peer broke its rules.
    Unframed(Foreign),
    /// A time limit of the connection was exceeded.
    Expired(Expired),
    /// The peer broke a rule of the connection's protocol.
    Protocol(Violation),
}

/// A rule of a protocol that the peer broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Violation {
    /// The protocol, by its name in lower case.
    pub protocol: &'static str,
    /// The kind of the rule.
    pub kind: ViolationKind,
    /// The rule, and how the input breaks it.
    pub text: String,
}

/// The kinds of protocol rules. Each is an exception class in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// The input is not a valid message of a framing.
    Framing,
    /// The input is not allowed by the specification of the protocol.
    Protocol,
    /// A message is longer than its limit.
    TooLong,
    /// No rule was broken: there was no memory for a message.
    NoMemory,
}

/// A fault of TLS: of a handshake, a certificate or the records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsFailure {
    /// The kind of the fault.
    pub kind: TlsFailureKind,
    /// The alert of it, sent or received, by its name in RFC 8446 section 6; `None` if there is none.
    pub alert: Option<&'static str>,
    /// The fault, and what it is about.
    pub text: String,
}

/// The kinds of faults of TLS. Each is an exception class in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailureKind {
    /// The peer broke a rule, refused, or has nothing in common with us.
    Protocol,
    /// A certificate was refused, by us or by the peer.
    Certificate,
    /// The stream ended without its last alert, close_notify: it may have been cut.
    Truncated,
}

impl Reason {
    /// Whether the handler gets this reason even if sending the last output failed.
    pub(crate) fn goes_first(&self) -> bool {
        matches!(self, Self::Raised(_) | Self::Given(_) | Self::Unframed(_) | Self::Expired(_) | Self::NoMemory)
    }

    /// The value of the layer above that this reason carries; only that layer may drop it.
    pub(crate) fn into_foreign(self) -> Option<Foreign> {
        match self {
            Self::Raised(value) | Self::Given(value) | Self::Unframed(value) => Some(value),
            _ => None,
        }
    }

    /// Whether the peer gets a FIN after the last bytes, instead of a reset.
    pub fn is_in_order(&self) -> bool {
        match self {
            Self::Orderly | Self::Raised(_) | Self::Given(_) | Self::Unframed(_) | Self::Protocol(_) => true,
            // A peer that takes no output would not see the FIN either.
            Self::Expired(expired) => !matches!(expired, Expired::Write(_) | Expired::TakesTooSlowly { .. }),
            Self::Io(_) | Self::Aborted | Self::NoMemory | Self::InputOverflow { .. } | Self::OutputOverflow { .. } => {
                false
            }
        }
    }
}

/// The time limit that a connection exceeded.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Expired {
    /// `idle_timeout`
    #[error("no byte moved either way for idle_timeout={} seconds", .0.as_secs_f64())]
    Idle(Duration),
    /// `receive_timeout`
    #[error("the peer sent nothing for receive_timeout={} seconds", .0.as_secs_f64())]
    Receive(Duration),
    /// `first_byte_timeout`
    #[error("the peer sent nothing for first_byte_timeout={} seconds", .0.as_secs_f64())]
    FirstByte(Duration),
    /// `write_timeout`
    #[error("the peer took none of the waiting output for write_timeout={} seconds", .0.as_secs_f64())]
    Write(Duration),
    /// `ping_timeout`
    #[error("the peer sent nothing for ping_timeout={} seconds after a ping", .0.as_secs_f64())]
    Ping(Duration),
    /// `lifetime`
    #[error("the connection was open for lifetime={} seconds", .0.as_secs_f64())]
    Lifetime(Duration),
    /// `min_rate`
    #[error("the peer sent {bytes} bytes in {} seconds; min_rate is {rate} bytes a second", .window.as_secs_f64())]
    TooSlow {
        /// Bytes that arrived within the window.
        bytes: u64,
        /// The required rate, bytes a second.
        rate: f64,
        /// The length of the window.
        window: Duration,
    },
    /// `min_write_rate`
    #[error("the peer took {bytes} bytes of the waiting output in {} seconds; min_write_rate is {rate} bytes a second",
        .window.as_secs_f64())]
    TakesTooSlowly {
        /// Bytes that the peer took within the window.
        bytes: u64,
        /// The required rate, bytes a second.
        rate: f64,
        /// The length of the window.
        window: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_as_large_as_a_pointer() {
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }
}
