//! goev: network servers and clients as plain handler objects on a mio reactor.
//!
//! The core is a complete reactor without Python; [`handlers`] is its face for Rust programs, `python` (a feature, on
//! by default) the one for Python. Layers, each using only those named after or beside it:
//!
//! * `python`, [`handlers`]: call handler objects
//! * [`reactor`]: pollers as threads
//! * [`poller`]: one loop: wait → read → dispatch → flush
//! * [`dispatch`]: the seam, what a poller asks to be called
//! * [`acceptor`], [`connector`], `connection`, [`datagram`], `descriptor`: what a poller watches; [`remote`]: what other threads may do to it
//! * [`group`]: connections that get the same messages
//! * [`watchdog`], `mailbox`, `resolver`, `random`, `clock`, `heap`, `signal`, `socket`, `steering`, [`fork`], [`options`], [`address`], [`counters`]
//! * [`buffer`], [`codec`], [`framing`], [`http`], [`websocket`], [`timer`], `guards`, `admission`, [`slots`], [`error`]: pure, with no sockets, no clock, no Python

pub mod acceptor;
pub mod address;
mod admission;
pub mod buffer;
mod clock;
pub mod codec;
mod connection;
pub mod connector;
pub mod counters;
pub mod datagram;
pub mod descriptor;
pub mod dispatch;
pub mod error;
pub mod fork;
pub mod framing;
pub mod group;
mod guards;
pub mod handlers;
mod heap;
pub mod http;
mod mailbox;
pub mod options;
pub mod poller;
mod random;
pub mod reactor;
pub mod remote;
mod resolver;
pub mod signal;
pub mod slots;
mod socket;
mod steering;
pub mod timer;
pub mod watchdog;
pub mod websocket;

#[cfg(feature = "python")]
#[allow(missing_docs, reason = "its public items are Python's, documented there")]
mod python;

/// The native module `goev._core`.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
fn _core(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    python::fill(module)
}
