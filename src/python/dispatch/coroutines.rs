//! Callbacks that are coroutines: their first step, and the action on their answers when they end.
//!
//! A callback that answers `None` never comes here. Any other answer does: a coroutine is run first, so that a plain
//! callback and one with `async def` end in the same `act`.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::PyDispatch;
use super::report::text_of;
use crate::error::Reason;
use crate::poller::Poller;
use crate::python::asyncio::bridge::{Step, Waiting, is_cancelled, is_coroutine};
use crate::python::callbacks::{goes_on, is_false, is_none};
use crate::python::tables::{Asked, Caller, Kind, PyTask, Task, with_current};
use crate::python::values::arguments::type_name;
use crate::python::waiting::Owner;

/// The end of a coroutine.
struct Concluded {
    asked: Asked,
    /// The number of the coroutine among those of its handler.
    number: u64,
    answer: PyResult<Py<PyAny>>,
}

impl Task for Concluded {
    fn run(self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        let Self { asked, number, answer } = *self;
        caller.conclude(py, poller, asked, number, answer.map(|answer| answer.into_bound(py)));
    }
}

impl PyDispatch {
    /// Acts on the answer of a callback. A coroutine runs its first step; if it waits, the answer comes later.
    #[inline(never)]
    pub(super) fn settle(&self, py: Python<'_>, poller: &Poller, asked: Asked, answer: PyResult<Bound<'_, PyAny>>) {
        match answer {
            Ok(answer) if !answer.is_instance_of::<PyBool>() && is_coroutine(&answer) => {
                self.start(py, poller, asked, &answer)
            }
            answer => self.act(py, poller, asked, answer),
        }
    }

    fn start(&self, py: Python<'_>, poller: &Poller, asked: Asked, coroutine: &Bound<'_, PyAny>) {
        let Some(event_loop) = self.tables.event_loop() else {
            // Otherwise Python would warn that it was never awaited.
            let _ = coroutine.call_method0("close");
            let name = asked.name.bind(py);
            let text =
                format!("{name} is async def, which needs Reactor(asyncio=True), or goev.asyncio.run() [GOEV108]");
            return self.act(py, poller, asked, Err(PyTypeError::new_err(text)));
        };
        let (first, spare) = match event_loop.begin(coroutine) {
            Ok((Step::Waits(first), Some(spare))) => (first, spare),
            Ok((Step::Waits(_), None)) => return,
            Ok((Step::Ended(answer), _)) => return self.act(py, poller, asked, answer),
            Err(error) => return self.act(py, poller, asked, Err(error)),
        };
        let (number, name, owner) = (self.tables.waiting.number(), asked.title(py), asked.owner());
        let (token, holds) = (asked.token, asked.holds);
        if let Some(token) = token {
            poller.begin_wait(token, holds);
        }
        let end = Box::new(move |_: Python<'_>, answer| {
            let ended = PyTask::other(Concluded { asked, number, answer });
            // Its loop runs on the thread of its poller.
            with_current(|poller, _| poller.push_task(ended));
        });
        let context = self.tables.contexts.take_away(py);
        let first = Some(first.unbind());
        let waiting = Waiting { coroutine: coroutine.clone().unbind(), context, first, done: end };
        match event_loop.go_on(py, spare, &name, waiting) {
            Ok(task) => self.tables.waiting.add(owner, number, task),
            Err(error) => {
                self.report(py, poller, coroutine, "task", error);
                if let Some(token) = token {
                    poller.end_wait(token, holds);
                }
            }
        }
    }

    /// Acts on the answer of a coroutine that has waited.
    pub(super) fn conclude_wait(
        &self,
        py: Python<'_>,
        poller: &Poller,
        mut asked: Asked,
        number: u64,
        answer: PyResult<Bound<'_, PyAny>>,
    ) {
        let (token, holds, owner) = (asked.token, asked.holds, asked.owner());
        let was_cancelled = self.tables.waiting.are_cancelled(owner);
        // If the connection has ended, nobody waits for the answer. The request, which the traceback may hold, is dropped
        // before its owner is forgotten: it needs no warning.
        let answer = match answer {
            Err(error) if was_cancelled && is_cancelled(py, &error) => None,
            answer => Some(answer),
        };
        if was_cancelled {
            drop(asked.about.take());
        }
        let last = self.tables.waiting.remove(owner, number);
        match token.filter(|token| self.tables.handler(py, *token).is_some()) {
            Some(token) => self.tables.contexts.enter(py, token),
            // Another handler has taken over: its values are its own.
            None => self.tables.contexts.enter_nothing(py),
        }
        match answer {
            None => {}
            // As in asyncio, there is no log line for a task that was cancelled.
            Some(Err(error)) if is_cancelled(py, &error) => self.end_with(py, poller, asked, error),
            Some(answer) => self.act(py, poller, asked, answer),
        }
        if let Some(token) = token {
            poller.end_wait(token, holds);
        }
        if let Some(((handler, reason), token)) = last.zip(token) {
            self.call_last(py, poller, token, handler.bind(py), reason);
        }
    }

    /// Acts on an answer that is no coroutine.
    fn act(&self, py: Python<'_>, poller: &Poller, asked: Asked, answer: PyResult<Bound<'_, PyAny>>) {
        let name = asked.name.bind(py);
        let checked = match asked.kind {
            Kind::Deciding | Kind::Protocol(_) | Kind::Descriptor | Kind::Datagrams => {
                answer.and_then(|answer| goes_on(name, &answer))
            }
            Kind::Telling | Kind::Last => answer.and_then(|answer| is_none(name, &answer)).map(|()| true),
            Kind::Timer(_) => answer.map(|answer| !is_false(&answer)),
            Kind::Posted => answer.map(|_| true),
        };
        match checked {
            Ok(true) => {}
            Ok(false) => self.decline(poller, &asked),
            Err(error) => self.raise(py, poller, asked, error),
        }
    }

    /// Acts on a callback that returned `False`.
    fn decline(&self, poller: &Poller, asked: &Asked) {
        match (asked.kind, asked.token) {
            (Kind::Deciding, Some(token)) => poller.close(token),
            (Kind::Protocol(face), Some(token)) => face.decline(poller, token),
            (Kind::Descriptor, Some(token)) => poller.remove_descriptor(token, Reason::Orderly),
            (Kind::Datagrams, Some(token)) => poller.close_datagrams(token, Reason::Orderly),
            (Kind::Timer(id), _) => self.tables.cancel_timer(poller, id),
            _ => {}
        }
    }

    /// Acts on a callback that raised: logs the exception, and ends the connection with it.
    fn raise(&self, py: Python<'_>, poller: &Poller, asked: Asked, error: PyErr) {
        let (subject, name) = (asked.subject.bind(py), asked.name.bind(py));
        if let Kind::Timer(id) = asked.kind {
            self.tables.cancel_timer(poller, id);
        }
        let error = match (asked.kind, asked.token) {
            (Kind::Deciding | Kind::Telling | Kind::Protocol(_), Some(token)) => {
                self.blame(poller, token, subject, name, error)
            }
            (Kind::Timer(_) | Kind::Posted, Some(owner)) => match self.tables.handler(py, owner) {
                Some(handler) => self.blame(poller, owner, &handler, name, error),
                None => None,
            },
            _ => self.report_and_keep(py, poller, subject, &name.to_string(), error),
        };
        if let Some(error) = error {
            self.end_with(py, poller, asked, error);
        }
    }

    /// Ends the connection, the socket or the descriptor of a callback with the exception that it raised.
    fn end_with(&self, py: Python<'_>, poller: &Poller, asked: Asked, error: PyErr) {
        let Some(token) = asked.token else { return };
        match asked.kind {
            Kind::Protocol(face) => {
                face.fail(py, poller, token, asked.about.map(|about| about.into_bound(py)), error);
            }
            Kind::Descriptor => poller.remove_descriptor(token, Reason::Raised(Box::new(error))),
            Kind::Datagrams => poller.close_datagrams(token, Reason::Raised(Box::new(error))),
            Kind::Last => {}
            Kind::Deciding | Kind::Telling | Kind::Timer(_) | Kind::Posted => poller.fail(token, Box::new(error)),
        }
    }
}

impl Asked {
    /// The owner of the callback, if it is a coroutine that waits.
    fn owner(&self) -> Owner {
        match (self.kind, self.token) {
            (_, Some(token)) => Owner::Handler(token),
            (Kind::Timer(id), None) => Owner::Timer(id),
            (Kind::Last, None) => Owner::Ended,
            _ => Owner::Nobody,
        }
    }

    /// The name of a task: the class of the handler, or the function, and the callback.
    fn title(&self, py: Python<'_>) -> String {
        let (name, subject) = (self.name.bind(py), self.subject.bind(py));
        match self.kind {
            Kind::Timer(_) | Kind::Posted => format!("{name} {}", text_of(subject)),
            _ => format!("{}.{name}", type_name(subject)),
        }
    }
}
