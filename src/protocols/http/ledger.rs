//! Notes on the requests and answers of one connection: for the counters, for handlers, for an access log.
//!
//! The class of each status is always noted. Times and tallies cost something, so they exist only if somebody wants them.

use std::collections::VecDeque;

use super::access::Site;
use super::tally::{Tally, class_of};
use crate::data::Data;
use crate::protocols::Wire;

/// The notes of a connection. Each answer gets its turn once, in the order of the requests.
#[derive(Default)]
pub(super) struct Ledger {
    /// The first digit of the status of the answer whose turn it is; 0 until its first part is written.
    class: u8,
    /// The counts of that answer; `None` if neither the handler nor an access log wants them.
    tally: Option<Box<Tally>>,
    /// The times at which the requests whose answers are due came to the handler, the oldest first. 0: it was refused.
    times: Option<Box<Times>>,
}

/// Behind a pointer, because most connections have none.
#[derive(Default)]
struct Times(VecDeque<u64>);

impl Ledger {
    /// Keeps the times of requests.
    pub fn measure(&mut self) {
        self.times = Some(Box::default());
    }

    /// Has the end of each answer marked by a [`super::Answered`].
    pub fn observe(&mut self) {
        self.tally.get_or_insert_default().observe();
    }

    /// Has each request recorded with its answer.
    pub fn record(&mut self, site: Site) {
        self.tally.get_or_insert_default().record(site);
    }

    /// The time of a request that is handed out now; 0 if nobody wants it.
    #[inline]
    pub fn now(&self, wire: &dyn Wire) -> u64 {
        self.times.as_ref().map_or(0, |_| wire.began())
    }

    /// A request is handed out, or refused.
    #[inline]
    pub fn begin(&mut self, number: u64, head: &[u8], time: u64) {
        if let Some(times) = &mut self.times {
            times.0.push_back(time);
        }
        if let Some(tally) = &mut self.tally {
            tally.begin(number, head);
        }
    }

    /// A part of the oldest answer is written.
    #[inline]
    pub fn note(&mut self, part: &Data<'_>) {
        if let Some(tally) = &mut self.tally {
            tally.note(part);
        }
        if self.class == 0 {
            self.class = class_of(part);
        }
    }

    /// The oldest answer is written whole.
    pub fn end(&mut self, number: u64, wire: &mut dyn Wire) {
        wire.count_answer(std::mem::take(&mut self.class), self.take_time());
        if let Some(tally) = &mut self.tally {
            // A write fails only if the connection has ended, and then nobody waits for the mark.
            tally.take(number).for_each(|mark| _ = wire.write(mark));
        }
    }

    /// The oldest answer is given up half-way.
    pub fn cut(&mut self, number: u64) {
        self.class = 0;
        self.take_time();
        if let Some(tally) = &mut self.tally {
            tally.cut(number);
        }
    }

    fn take_time(&mut self) -> u64 {
        self.times.as_mut().and_then(|times| times.0.pop_front()).unwrap_or(0)
    }
}
