//! The requests of one connection on their way from its poller to the queue.
//!
//! A connection has at most one request here, because its HTTP hands out the next one only when this one is answered. A
//! request goes to the queue when its body has arrived, or [`super::body::ENOUGH`] of it. So a peer that sends a form
//! slowly takes no thread. A peer that waits for `100 Continue` sends nothing before a thread reads, so its request
//! goes to the queue at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::body::Body;
use super::exchange::{Exchange, Job};
use super::line::Line;
use super::queue::Held;
use super::site::Site;
use crate::protocols::http::{Answer, Event, Facts, Sink, Wish};

/// One connection, for its poller.
pub struct Feed {
    site: Arc<Site>,
    line: Arc<Line>,
    flow: Mutex<Flow>,
    /// Whether the queue has it among the connections that it resumes.
    is_held: AtomicBool,
}

/// The request that arrives.
#[derive(Default)]
struct Flow {
    /// The request, until it goes to the queue.
    pending: Option<Job>,
    body: Option<Arc<Body>>,
}

impl Feed {
    pub fn new(site: Arc<Site>, line: Line) -> Arc<Self> {
        Arc::new(Self { site, line: Arc::new(line), flow: Mutex::default(), is_held: AtomicBool::new(false) })
    }

    /// Takes a request whose body may follow.
    pub fn request(self: &Arc<Self>, head: &[u8], facts: Facts, answer: Answer) {
        let body = facts.has_body().then(Arc::<Body>::default);
        let exchange = Exchange::new(self.line.clone(), answer, body.clone(), facts.is_head);
        let job = Job { head: head.into(), facts, exchange: Arc::new(exchange) };
        let waits = body.is_some() && !facts.expects_continue;
        let mut flow = self.flow();
        flow.body = body;
        if waits {
            flow.pending = Some(job);
            return;
        }
        drop(flow);
        self.site.queue.push(job);
    }

    /// Takes a piece of the body.
    pub fn piece(&self, piece: &[u8]) {
        let mut flow = self.flow();
        let is_enough = flow.body.as_ref().is_some_and(|body| body.push(piece));
        let job = if is_enough { flow.pending.take() } else { None };
        drop(flow);
        if let Some(job) = job {
            self.site.queue.push(job);
        }
    }

    /// The body is complete.
    pub fn end(&self) {
        let mut flow = self.flow();
        let (body, job) = (flow.body.take(), flow.pending.take());
        drop(flow);
        if let Some(body) = body {
            body.end();
        }
        if let Some(job) = job {
            self.site.queue.push(job);
        }
    }

    fn is_full(self: &Arc<Self>, in_body: bool) -> bool {
        match in_body {
            true => self.flow().body.as_ref().is_some_and(|body| body.is_full()),
            false => self.site.queue.is_full(self),
        }
    }

    fn lose(&self) {
        let (body, job) = {
            let mut flow = self.flow();
            (flow.body.take(), flow.pending.take())
        };
        if let Some(body) = body {
            body.lose();
        }
        drop(job);
        self.line.lose();
        // The queue may have resumed this connection, which hands out nothing any more, in the place of another.
        self.site.queue.refill();
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        // A panic while the lock is held cannot leave the value half changed.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held for Feed {
    fn note_held(&self) -> bool {
        !self.is_held.swap(true, Ordering::Relaxed)
    }

    fn resume(&self) -> bool {
        self.is_held.store(false, Ordering::Relaxed);
        // One that is lost from here on refills the queue by itself.
        !self.line.is_gone() && self.line.wish(Wish::More)
    }
}

/// The end of a feed in its connection's HTTP.
pub struct Tap(pub Arc<Feed>);

impl Sink for Tap {
    fn take(&mut self, number: u64, event: Event<'_>) {
        match event {
            Event::Request { head, facts, .. } => self.0.request(head, facts, Answer::new(number, facts, false)),
            Event::Body(piece) => self.0.piece(piece),
            Event::End => self.0.end(),
        }
    }

    fn is_full(&self, in_body: bool) -> bool {
        self.0.is_full(in_body)
    }

    fn drained(&self) {
        self.0.line.note_drained();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.0.lose();
    }
}
