//! The times from sending a message to its echo, of which the loads print two quantiles.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const LONGEST: usize = 1 << 20; // microseconds; longer times count as this one

/// Counts by microseconds.
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn new() -> Self {
        Self(vec![0; LONGEST + 1])
    }

    fn add(&mut self, time: Duration, count: u64) {
        self.0[(time.as_micros() as usize).min(LONGEST)] += count;
    }

    /// The time, in seconds, within which this share of the echoes came.
    pub fn quantile(&self, share: f64) -> f64 {
        let due = self.0.iter().sum::<u64>() as f64 * share;
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen as f64 >= due
        };
        self.0.iter().position(reaches).unwrap_or(LONGEST) as f64 / 1e6
    }
}

/// The messages of one connection that are under way, in order. Those sent together share one reading of the clock.
#[derive(Default)]
pub struct Sent(VecDeque<(Instant, u64)>);

impl Sent {
    /// Notes messages that are sent now.
    pub fn sent(&mut self, count: u64) {
        if count > 0 {
            self.0.push_back((Instant::now(), count));
        }
    }

    /// Notes the echoes, received now, of the oldest messages.
    pub fn echoed(&mut self, mut count: u64, latencies: &mut Latencies) {
        let now = Instant::now();
        while count > 0 {
            let (begin, left) = self.0.front_mut().expect("an echo has a message");
            let taken = count.min(*left);
            latencies.add(now - *begin, taken);
            count -= taken;
            *left -= taken;
            if *left == 0 {
                self.0.pop_front();
            }
        }
    }
}
