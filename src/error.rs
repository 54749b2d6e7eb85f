//! What can go wrong, as values: errors of a call, and the reason why a connection ended.
//!
//! Pure. The Python exceptions are made from these in `src/python/errors.rs`.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::framing::FramingError;
use crate::http::Refusal;
use crate::websocket::Violation;

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument is out of its range; the text names argument, value and limit.
    #[error("{0}")]
    Argument(String),
    /// The operating system refused; the text says what was tried on what.
    #[error("{context}: {source}")]
    Io {
        /// What was tried, and on what.
        context: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A host name has no address, or nobody could be asked; the code is one of getaddrinfo(3).
    #[error("{text}")]
    Lookup {
        /// `EAI_NONAME` and the like.
        code: i32,
        /// Which name, and why.
        text: String,
    },
    /// A datagram did not fit.
    #[error("a datagram of {size} bytes from {from} was dropped: the limit is max_size={limit}")]
    Truncated {
        /// Who sent it.
        from: SocketAddr,
        /// Its length, bytes.
        size: usize,
        /// `max_size`, bytes.
        limit: usize,
    },
    /// The connection has ended, or is being closed.
    #[error("the connection is closed")]
    Closed,
    /// A group has sent more than pollers have taken.
    #[error("not taken yet: the {limit} bytes that may be on their way to each of {pollers} pollers")]
    Congested {
        /// How many did not get the message.
        pollers: usize,
        /// Bytes.
        limit: usize,
    },
    /// The reactor is in a state that does not allow the call.
    #[error("{0}")]
    State(String),
    /// Only the poller's own thread may do this.
    #[error("{0} may be called only on the thread of its poller; use call_soon() from elsewhere")]
    WrongThread(&'static str),
    /// A poller did not end in time.
    #[error("{0}")]
    StopTimeout(String),
}

impl Error {
    /// The reactor takes nothing more.
    pub fn stopped() -> Self {
        Self::State("the reactor has stopped and takes nothing more".into())
    }

    /// Adds to a system error what was tried.
    pub fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }
}

/// A value of the language above that travels through the core untouched.
pub type Foreign = Box<dyn Any + Send>;

/// Why a connection ended.
pub enum Reason {
    /// Closed in order by either side.
    Orderly,
    /// A system call on its socket failed.
    Io(io::Error),
    /// `abort()`, or the deadline of a stop.
    Aborted,
    /// The handler consumed nothing although all the input that may wait was waiting.
    InputOverflow {
        /// `max_input`, bytes.
        limit: usize,
    },
    /// More output was queued than may wait.
    OutputOverflow {
        /// `max_output`, bytes.
        limit: usize,
    },
    /// What a callback raised.
    Raised(Foreign),
    /// A limit in time was overstepped.
    Expired(Expired),
    /// What came is no message.
    Framing(FramingError),
    /// What came is no request.
    Http(Refusal),
    /// What came is no message of a WebSocket.
    WebSocket(Violation),
}

impl Reason {
    /// Whether the handler is told this whatever befell the last output.
    pub(crate) fn goes_first(&self) -> bool {
        matches!(self, Self::Raised(_) | Self::Expired(_))
    }

    /// Whether the peer gets the end of the stream behind what was sent, instead of a reset.
    pub fn is_in_order(&self) -> bool {
        match self {
            Self::Orderly | Self::Raised(_) | Self::Framing(_) | Self::Http(_) | Self::WebSocket(_) => true,
            // The peer takes nothing: it would not see the end either.
            Self::Expired(expired) => !matches!(expired, Expired::Write(_)),
            Self::Io(_) | Self::Aborted | Self::InputOverflow { .. } | Self::OutputOverflow { .. } => false,
        }
    }
}

/// Which limit in time a connection overstepped.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Expired {
    /// `idle_timeout`
    #[error("no byte moved either way for idle_timeout={} seconds", .0.as_secs_f64())]
    Idle(Duration),
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
        /// What came in the window.
        bytes: u64,
        /// Bytes a second.
        rate: f64,
        /// Its length.
        window: Duration,
    },
}
