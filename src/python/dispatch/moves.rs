//! The objects of a connection that moves to another poller: its handler, and its context.

use pyo3::prelude::*;

use super::PyDispatch;
use crate::error::Foreign;
use crate::poller::Poller;
use crate::poller::ticket::Ticket;
use crate::python::contexts::Context;
use crate::python::protocols::FaceRef;
use crate::python::waiting::Owner;
use crate::slots::Token;

struct Luggage {
    handler: Py<PyAny>,
    face: Option<FaceRef>,
    context: Option<Context>,
}

impl PyDispatch {
    /// Takes the objects of a connection out, and sends it to its new poller. A connection with objects that belong to this
    /// poller stays.
    pub(super) fn pack(&self, py: Python<'_>, poller: &Poller, ticket: &Ticket) {
        let (tables, token) = (&self.tables, ticket.token);
        // The values of the last callback may belong to the connection.
        tables.contexts.enter_nothing(py);
        let has_waiters = tables.waiters.has(token) || tables.waiting.has_some(Owner::Handler(token));
        if tables.event_loop().is_some() || has_waiters || tables.is_observed(token) {
            poller.bind(token);
            return ticket.decline();
        }
        let Some((handler, face)) = tables.take_handler(token) else { return ticket.decline() };
        let luggage = Luggage { handler, face, context: tables.contexts.take(token) };
        match poller.depart(ticket, Box::new(luggage)) {
            Ok(timers) => tables.forget_timers(timers),
            Err(luggage) => drop(self.put_back(token, luggage)),
        }
    }

    /// Puts the objects of a connection that came from another poller into the tables of this one.
    pub(super) fn unpack(&self, py: Python<'_>, poller: &Poller, token: Token, luggage: Foreign) {
        let Some(face) = self.put_back(token, luggage) else { return };
        let Some(handler) = self.tables.handler(py, token).filter(|_| poller.is_open(token)) else { return };
        self.tables.contexts.enter(py, token);
        if let Err(error) = face.resume(&handler) {
            self.end_by(poller, token, &handler, self.tables.names.timer_callback.bind(py), error);
        }
    }

    fn put_back(&self, token: Token, luggage: Foreign) -> Option<FaceRef> {
        let Luggage { handler, face, context } = *luggage.downcast::<Luggage>().ok()?;
        self.tables.put_handler(token, handler, face);
        self.tables.contexts.give(token, context);
        face
    }
}
