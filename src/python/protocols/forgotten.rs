//! The warning about a request that its handler has dropped without a whole answer.
//!
//! A request may be dropped on any thread and at any place: inside a callback, by the garbage collector. So the poller
//! of the connection writes the warning, as a task. Nothing here gives an answer.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::poller::Poller;
use crate::python::running::logs::{About, log};
use crate::python::tables::{Caller, PyTask, Task, with_poller_of};
use crate::python::values::arguments::peer_text;
use crate::python::waiting::Owner;
use crate::shared::remote::Remote;

/// The most characters of a request line in the log.
const MOST_LINE: usize = 200;

struct Forgotten {
    remote: Arc<Remote>,
    /// The name of the handler's class, if the request was dropped on the poller's thread. There the connection may
    /// have ended before the task runs.
    class: Option<String>,
    line: String,
    is_begun: bool,
}

/// Has the poller log that the request with this head was dropped. `is_begun`: a part of its answer was given.
#[cold]
pub fn warn(remote: &Arc<Remote>, head: &[u8], is_begun: bool) {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = line.iter().take(MOST_LINE).map(|byte| char::from(*byte)).collect();
    let owner = Owner::Handler(remote.token());
    if with_poller_of(remote, |_, tables| tables.waiting.are_cancelled(owner)).unwrap_or(false) {
        // The peer has gone away, and its requests were cancelled.
        return;
    }
    let class = with_poller_of(remote, |_, tables| Python::attach(|py| class_of(py, remote, tables))).flatten();
    // A poller that has ended has no connection that waits for an answer.
    let _ = remote.post_task(PyTask::other(Forgotten { remote: remote.clone(), class, line, is_begun }));
}

fn class_of(py: Python<'_>, remote: &Remote, tables: &crate::python::tables::Tables) -> Option<String> {
    let handler = tables.handler(py, remote.token())?;
    let name = handler.get_type().qualname().ok()?;
    Some(name.to_string())
}

impl Task for Forgotten {
    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        let class = self.class.clone().or_else(|| class_of(py, &self.remote, caller.tables()));
        let class = class.unwrap_or_else(|| "a handler that has ended".into());
        if let Err(error) = self.log(py, &class) {
            let subject = PyString::new(py, &class);
            caller.report(py, poller, &subject, "the warning about a forgotten request of", error);
        }
    }
}

impl Forgotten {
    fn log(&self, py: Python<'_>, class: &str) -> PyResult<()> {
        let text = if self.is_begun {
            "%s dropped the request '%s' of %s before its answer was complete: the peer gets a part [GOEV607]"
        } else {
            "%s dropped the request '%s' of %s without an answer: the peer gets 500 [GOEV607]"
        };
        let peer = peer_text(&self.remote.peer());
        let about = About { peer: Some(peer.clone()), ..About::default() };
        log(py, "warning", &about, (text, class, &self.line, peer), None)
    }
}
