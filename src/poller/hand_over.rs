//! A connection that moves from one handler object to another: a protocol upgrade.

use std::sync::Arc;

use super::deadlines::{drop_guard, set_guard};
use super::state::State;
use super::token::mio_token;
use crate::connection::phase::Phase;
use crate::error::{Error, Foreign, Reason};
use crate::protocols::Succession;
use crate::shared::remote::Remote;
use crate::slots::Token;
use crate::timer::TimerId;

impl State {
    pub(super) fn hand_over(
        &mut self,
        token: Token,
        farewell: impl FnOnce(Vec<Foreign>) -> Foreign,
    ) -> Result<(Arc<Remote>, Vec<TimerId>), Error> {
        // A handler cannot hand over before its own `on_open`: it would get `on_close` without an `on_open`.
        let connection = self.open(token).filter(|connection| connection.phase() == Phase::Open);
        let connection = connection.ok_or_else(Error::closed)?;
        if connection.transport.is_upgrading() {
            return Err(Error::state("a handshake of TLS is not over; hand over in `then` of start_tls()".into()));
        }
        if connection.feeder.is_some() {
            return Err(Error::state("another connection is piped to this one".into()));
        }
        let protocol = connection.protocol();
        let succession = protocol.map_or(Ok(Succession::Bytes), |protocol| protocol.may_hand_over())?;
        let renewed = self.sources.renew(token).ok_or_else(Error::closed)?;
        let mut marks: Vec<_> = std::iter::from_fn(|| self.queues.take_passed(token)).collect();
        marks.extend(self.with(renewed, |connection, _| connection.take_marks()).unwrap_or_default());
        // The task of the old handler comes before the new handler's turn.
        self.queues.push_task(farewell(marks));
        let is_stopping = self.stopping.is_some();
        let handle = self.handle.clone();
        let handed = self.with(renewed, |connection, supplies| {
            let old = connection.remote.clone();
            let is_secure = connection.transport.is_secure();
            let new = Remote::over(handle, renewed, old.peer(), &connection.options, is_secure);
            connection.hand_over(new.clone(), succession);
            old.hand_over(&new);
            old.leave_all();
            if old.location.has_posted() {
                // A message to the old handler comes to this poller.
                connection.bind();
            }
            // The end of the batch looks for unread input by the token of a connection, and this one is new.
            connection.settle(&supplies.arena);
            // The timer of the time limits is set for the old token.
            drop_guard(connection, &mut supplies.timers);
            set_guard(connection, &mut supplies.timers, renewed);
            // During a stop the new handler gets `on_stopping` too, after its `on_open`.
            connection.set_stopping(is_stopping && !connection.is_late());
            (new, connection.take_timers())
        });
        let (remote, timers) = handed.ok_or_else(Error::closed)?;
        let timers = self.cancel_all(timers);
        let watched = self.connection(renewed).map(|connection| {
            let writes = connection.watches_writes();
            connection.transport.reregister(&self.registry, mio_token(renewed), writes)
        });
        if let Some(Err(error)) = watched {
            // The old handler's `on_close` is queued already. So the new handler gets both its callbacks.
            self.end(renewed, Reason::Io(error));
        }
        Ok((remote, timers))
    }
}
