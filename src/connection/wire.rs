//! The wire of a connection, through which a protocol reads and writes.
//!
//! The wire stores the end that a protocol asks for, and the poller obeys after the protocol's method has returned. So
//! no method here calls the protocol back, and nothing is sent while it runs.

use super::Connection;
use super::buffer::Pool;
use crate::data::{Data, Held};
use crate::error::{Error, Reason};
use crate::protocols::Wire;
use crate::system::clock::http_date;
use crate::system::random;

/// An end that a protocol asked for.
pub(crate) enum Ending {
    Close,
    Fail(Reason),
    Cut,
    Abort,
    Overflow,
}

/// One connection during one call of its protocol.
pub(crate) struct Line<'a> {
    connection: &'a mut Connection,
    pool: &'a mut Pool,
    arena: &'a mut [u8],
    /// Bytes of output before the first write; `None` if nothing was written.
    before: Option<usize>,
    /// Bytes of output that cause no overflow.
    exempt: usize,
    /// Boxed, because an end is rare and this value is passed on with each message.
    ending: Option<Box<Ending>>,
}

impl<'a> Line<'a> {
    #[inline(always)]
    pub fn new(connection: &'a mut Connection, pool: &'a mut Pool, arena: &'a mut [u8]) -> Self {
        Self { connection, pool, arena, before: None, exempt: 0, ending: None }
    }

    /// Whether the output is above the high-water mark after a write, and the end that the protocol asked for. `kept`
    /// tells the bytes of output that the protocol keeps.
    #[inline(always)]
    pub fn outcome(self, kept: impl FnOnce() -> usize) -> (bool, Option<Box<Ending>>) {
        let Some(before) = self.before else { return (false, self.ending) };
        let (connection, options) = (&self.connection, &self.connection.options);
        let is_high = connection.queued() > options.high_water;
        let exceeds =
            before > 0 && connection.queued_or_posted() + kept() > options.max_output.saturating_add(self.exempt);
        (is_high, if exceeds { Some(Box::new(Ending::Overflow)) } else { self.ending })
    }

    #[cold]
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert_with(|| Box::new(ending));
    }
}

impl Wire for Line<'_> {
    #[inline]
    fn input(&mut self) -> &mut [u8] {
        self.connection.input.bytes_mut(self.arena)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.connection.input.consume(count);
    }

    fn has_eof(&self) -> bool {
        self.connection.has_eof()
    }

    fn write(&mut self, data: Data<'_>) -> Result<(), Error> {
        if self.ending.is_some() || !self.connection.takes_output() {
            self.pool.refuse(data);
            return Err(Error::closed());
        }
        if self.connection.cannot_write() {
            // The peer is gone; `on_close` reports that after the input is delivered.
            self.pool.refuse(data);
            return Ok(());
        }
        if self.before.is_none() {
            self.before = Some(self.connection.queued_or_posted());
        }
        self.connection.push(data, self.pool);
        Ok(())
    }

    fn write_exempt(&mut self, data: Data<'_>) -> Result<(), Error> {
        let before = self.connection.queued_memory();
        let written = self.write(data);
        self.exempt += self.connection.queued_memory() - before;
        written
    }

    fn release(&mut self, held: Box<dyn Held>) {
        self.pool.release(held);
    }

    fn queued(&self) -> usize {
        self.connection.queued_or_posted()
    }

    fn max_output(&self) -> usize {
        self.connection.options.max_output
    }

    fn high_water(&self) -> usize {
        self.connection.options.high_water
    }

    fn is_stopping(&self) -> bool {
        self.connection.remote.poller().is_stopping()
    }

    fn began(&self) -> u64 {
        self.connection.remote.poller().measures.as_ref().map_or(0, |measures| measures.began())
    }

    fn count_answer(&mut self, class: u8, since: u64) {
        let handle = self.connection.remote.poller();
        let counters = &handle.counters;
        counters.answers.get(usize::from(class)).unwrap_or(&counters.answers[0]).add(1);
        if since > 0
            && let Some(measures) = &handle.measures
        {
            measures.note_answer(since);
        }
    }

    fn date(&self) -> [u8; 29] {
        http_date()
    }

    fn random(&mut self) -> Result<[u8; 4], Error> {
        random::four()
    }

    fn close(&mut self) {
        self.end(Ending::Close);
    }

    fn fail(&mut self, reason: Reason) {
        self.end(Ending::Fail(reason));
    }

    fn cut(&mut self) {
        self.end(Ending::Cut);
    }

    fn abort(&mut self) {
        self.end(Ending::Abort);
    }

    fn overflow(&mut self) {
        self.end(Ending::Overflow);
    }
}
