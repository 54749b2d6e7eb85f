//! The times at which requests came to the handler, until their answers are given. Only connections that measure keep them.

use std::collections::VecDeque;

/// The times of the requests whose answers are due, the oldest first; 0 for a request that was refused.
#[derive(Default)]
pub(super) struct Times(VecDeque<u64>);

impl Times {
    /// Notes the time of the next request.
    pub fn note(&mut self, time: u64) {
        self.0.push_back(time);
    }

    /// The answer to the oldest request is given: returns its time.
    pub fn take(&mut self) -> u64 {
        self.0.pop_front().unwrap_or(0)
    }
}
