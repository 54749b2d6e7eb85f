//! goev: network servers and clients as plain handler objects on a mio reactor.
//!
//! The crate has three floors: bytes below, protocols beside them, faces above. The core is a complete reactor
//! without Python. [`handlers`] is its face for Rust programs; `python` (a feature, on by default) is the face for
//! Python. Each line of this list uses only the lines below it:
//!
//! * `python`, [`handlers`]: the dispatches, which call handler objects
//! * [`reactor`]: pollers as threads
//! * [`poller`]: one loop: wait → read → dispatch → flush
//! * `sources`, `connection`: all that a poller watches
//! * [`protocols`]: framings, HTTP, WebSocket; the rest of the core names only their two traits
//! * [`shared`]: objects that any thread may hold
//! * [`tls`] (a feature, on by default): the contexts of TLS
//! * [`journal`]: a file of lines that pollers write to without waiting
//! * [`system`]: the system calls
//! * [`proxy`]: headers of the PROXY protocol; pure values
//! * [`timer`], [`options`], [`slots`], [`data`], [`recorder`], [`error`], `capacity`: values, with no sockets, no clock, no Python

mod capacity;
pub mod connection;
pub mod data;
pub mod error;
pub mod handlers;
pub mod journal;
pub mod options;
pub mod poller;
pub mod protocols;
pub mod proxy;
pub mod reactor;
pub mod recorder;
pub mod shared;
pub mod slots;
pub mod sources;
pub mod system;
pub mod timer;
#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "python")]
#[allow(missing_docs, reason = "its public items are Python's, documented there")]
mod python;

/// The native module `goev._core`.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
fn _core(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    python::fill(module)
}
