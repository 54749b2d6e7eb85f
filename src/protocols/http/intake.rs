//! The part of [`Http`] that gives requests to a sink instead of a handler.

use std::any::Any;

use super::machine::Http;
use super::sink::{Intake, Sink, Wish};
use crate::protocols::{Protocol, Wire};

impl Http {
    /// Has a sink take all parts; with `delivers` false a handler takes them, and the sink sees only the rest.
    pub fn pour_into(&mut self, sink: Box<dyn Sink>, delivers: bool) {
        self.intake = Some(Box::new(Intake { sink, delivers }));
    }

    /// Whether the sink takes no part now.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.intake.as_ref().is_some_and(|intake| intake.sink.is_full(self.is_in_body()))
    }

    /// Gives the sink the parts that are due.
    pub(super) fn deliver_all(&mut self, wire: &mut dyn Wire) {
        let Some(mut intake) = self.intake.take() else { return };
        // While the sink is out, nothing counts as full. So it is asked here, and only when there is something for it:
        // it remembers those that it refuses, and has room for so many of them.
        while self.has_news() && !intake.sink.is_full(self.is_in_body()) {
            self.take(wire, |number, event| intake.sink.take(number, event));
        }
        self.intake = Some(intake);
    }

    /// Grants a wish; returns a value that is none.
    pub(super) fn grant(&mut self, post: Box<dyn Any + Send>, wire: &mut dyn Wire) -> Option<Box<dyn Any + Send>> {
        let wish = match post.downcast::<Wish>() {
            Ok(wish) => *wish,
            Err(other) => return Some(other),
        };
        match wish {
            Wish::Body(number) => self.continue_body(number, wire),
            // The caller looks at the state of the connection anew.
            Wish::More => {}
            Wish::Room if wire.queued() <= wire.high_water() => self.drained(),
            Wish::Room => {}
        }
        None
    }
}
