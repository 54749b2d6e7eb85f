//! The reasons with which a connection ends.

use super::Connection;
use crate::error::Reason;

impl Connection {
    /// Sets the reason with which it ends right after `on_open`; returns an earlier one.
    pub fn set_early_end(&mut self, reason: Reason) -> Option<Reason> {
        self.rare.get_or_insert_default().early_end.replace(Box::new(reason)).map(|earlier| *earlier)
    }

    /// Takes that reason out.
    pub fn take_early_end(&mut self) -> Option<Reason> {
        self.rare.as_mut()?.early_end.take().map(|reason| *reason)
    }

    /// The reason for `on_close`: the exception of a callback or an exceeded time limit, else the `given` reason, else
    /// the socket's error. The second value was not reported to the handler, and may hold a value of the layer above.
    pub fn take_reason(&mut self, given: Option<Reason>) -> (Reason, Option<Reason>) {
        let known = self.reason.take().map(|reason| *reason);
        let answered = self.protocol.as_mut().and_then(|protocol| protocol.take_reason());
        match (known, answered) {
            (Some(known), answered) if known.goes_first() => (known, answered),
            (_, Some(answered)) if answered.goes_first() => (answered, None),
            (known, _) => (given.or(known).unwrap_or(Reason::Orderly), None),
        }
    }
}
