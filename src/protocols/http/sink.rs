//! Requests that leave the poller without a handler: a [`Sink`] takes them in the read phase, for other threads.
//!
//! The sink never waits and calls no handler. It says when it is full; then the next part stays in the input, so the
//! peer feels it, until the sink's threads wish for more. Answers come back as for any other thread, by
//! [`super::Part`].

use super::requests::Event;

/// A place that takes the requests of one connection. Its drop means that the connection has ended.
pub trait Sink: Send {
    /// Takes a request, or a piece of its body.
    fn take(&mut self, number: u64, event: Event<'_>);

    /// Whether it takes nothing now: no piece of a body if `in_body`, else no request.
    fn is_full(&self, in_body: bool) -> bool;

    /// The output has fallen to the low-water mark.
    fn drained(&self);
}

/// A wish that another thread posts ([`crate::shared::remote::Remote::post`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The body of the request with this number is wanted: send `100 Continue` if the peer waits for it.
    Body(u64),
    /// The sink takes parts again.
    More,
    /// Call [`Sink::drained`] when little output waits; at once if little waits now.
    Room,
}

/// A sink, and whether it takes the parts. Otherwise a handler takes them.
pub(super) struct Intake {
    pub sink: Box<dyn Sink>,
    pub delivers: bool,
}
