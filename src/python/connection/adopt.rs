//! `Reactor.adopt`: connected sockets of the user become connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use socket2::Socket;

use super::Connection;
use super::claim::Claim;
use crate::error::Error;
use crate::options::{ConnectionOptions, ConnectorOptions};
use crate::poller::Poller;
use crate::python::tables::{Caller, PyTask, Tables, Task, with_poller};
use crate::python::values::arguments::own_socket;
use crate::python::values::options::{set_option, take_keywords};
use crate::shared::handle::PollerHandle;
use crate::shared::remote::Peer;
use crate::system::socket::take_connected;

/// The number of the next socket, by which pollers take turns.
pub fn next_turn() -> usize {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    TURN.fetch_add(1, Ordering::Relaxed)
}

/// Makes `handler` the handler of a connected socket, on this poller; see the method of the same name.
pub fn adopt(
    poller: &Arc<PollerHandle>,
    handler: &Bound<'_, Connection>,
    sock: &Bound<'_, PyAny>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let py = handler.py();
    let mut options = ConnectorOptions::default();
    take_keywords("adopt", keywords, |name, value| {
        set_option(&mut options.socket, &mut options.connection, name, value)
    })?;
    options.validate()?;
    let socket = own_socket("sock", sock, "adopt")?;
    let peer = Peer::of(&take_connected(&socket, &options.socket)?);
    let claim = Claim::for_accepted(handler, &PyString::intern(py, "_prologue"))?;
    let handler = handler.clone().unbind();
    let mut adoption = Some(Adoption { socket, peer, options: options.connection.into(), claim, handler });
    let begun = with_poller(poller, |poller, tables| Some(adoption.take()?.begin(py, poller, tables)));
    if let Some(Some(Err((error, _)))) = begun {
        return Err(error.into());
    }
    let Some(adoption) = adoption else { return Ok(()) };
    poller.post_task(PyTask::other(adoption)).map_err(|_| Error::stopped().into())
}

/// A socket to adopt, as the mailbox carries it.
struct Adoption {
    socket: Socket,
    peer: Peer,
    options: Arc<ConnectionOptions>,
    claim: Claim,
    /// The handler of the user; the claim may be for a handshake that comes before it.
    handler: Py<Connection>,
}

impl Adoption {
    /// Makes the connection; returns the handler of the user if that fails.
    fn begin(self, py: Python<'_>, poller: &Poller, tables: &Tables) -> Result<(), (Error, Py<Connection>)> {
        match poller.adopt(self.socket, self.peer, self.options) {
            Ok(token) => {
                let face = self.claim.face();
                tables.put_handler(token, self.claim.keep(py), face);
                Ok(())
            }
            Err(error) => Err((error, self.handler)),
        }
    }
}

impl Task for Adoption {
    fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        self.claim.show(see);
        see(self.handler.as_any());
    }

    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        if let Err((error, handler)) = self.begin(py, poller, caller.tables()) {
            caller.call_connect_fail(py, poller, handler.bind(py), error.into());
        }
    }
}
