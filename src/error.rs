//! What can go wrong, as values: errors of a call, and the reason why a connection ended.
//!
//! Pure. The Python exceptions are made from these in `src/python/errors.rs`.

use std::any::Any;
use std::io;
use std::net::SocketAddr;

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
}
