//! Histograms of times. As with a counter, one thread adds to a histogram, and any thread reads it.
//!
//! The limits of the classes are fixed: 1 µs, 2 µs, 4 µs and so on to 16.8 s. So the class of a time is a matter of two
//! instructions, histograms of all pollers and processes can be summed, and a quantile is right within a factor of two.

use crate::shared::counters::Counter;
use crate::system::clock::Clock;

/// The number of classes with a limit; one more class has none.
const LIMITS: usize = 25;

/// Times by classes, and their sum.
#[derive(Default)]
pub struct Histogram {
    classes: [Counter; LIMITS + 1],
    sum: Counter,
}

/// A histogram as it was read.
pub struct Reading {
    /// The limit of each class in seconds, which belongs to the class, and the number of times in the class; the last class
    /// has no limit.
    pub classes: [(f64, u64); LIMITS + 1],
    /// The sum of all times in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Counts a time of so many nanoseconds.
    #[inline]
    pub(crate) fn note(&self, nanoseconds: u64) {
        let micros = nanoseconds.saturating_sub(1) / 1000;
        let class = (u64::BITS - micros.leading_zeros()) as usize;
        self.classes[class.min(LIMITS)].add(1);
        self.sum.add(nanoseconds);
    }

    /// The counts so far.
    pub fn read(&self) -> Reading {
        let sum = self.sum.get() as f64 / 1e9;
        let limit = |class: usize| if class < LIMITS { (1_u64 << class) as f64 / 1e6 } else { f64::INFINITY };
        Reading { classes: std::array::from_fn(|class| (limit(class), self.classes[class].get())), sum }
    }
}

/// The histograms of a poller that measures, with the times that they need.
pub struct Measures {
    /// The times of callbacks.
    pub callbacks: Histogram,
    /// The times between the end of reading and the first callback of a batch, for example for the interpreter lock.
    pub attaching: Histogram,
    /// The times between the callback that got a request and the end of its answer.
    pub answers: Histogram,
    /// The time when the running callback began.
    began: Counter,
    clock: Clock,
}

impl Measures {
    pub(crate) fn new(clock: Clock) -> Self {
        let (callbacks, attaching, answers) = (Histogram::default(), Histogram::default(), Histogram::default());
        Self { callbacks, attaching, answers, began: Counter::default(), clock }
    }

    /// Notes that a callback begins.
    #[inline]
    pub(crate) fn begin(&self, now: u64) {
        self.began.set(now);
    }

    /// The time when the running callback began.
    pub(crate) fn began(&self) -> u64 {
        self.began.get()
    }

    /// Counts an answer that is given now, to a request that came to the handler at `since`.
    pub(crate) fn note_answer(&self, since: u64) {
        self.answers.note(self.clock.now().saturating_sub(since));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class_of(nanoseconds: u64) -> (f64, u64) {
        let histogram = Histogram::default();
        histogram.note(nanoseconds);
        let found = histogram.read().classes.into_iter().find(|(_, count)| *count == 1);
        found.expect("each time has a class")
    }

    #[test]
    fn a_limit_belongs_to_its_class() {
        let limits = [0, 1, 1000, 1001, 2000, 2001, 4000, 4001].map(|time| class_of(time).0);
        assert_eq!(limits, [1e-6, 1e-6, 1e-6, 2e-6, 2e-6, 4e-6, 4e-6, 8e-6]);
        assert_eq!(class_of(16_777_216_000).0, 16.777216);
        assert_eq!(class_of(16_777_216_001).0, f64::INFINITY);
        assert_eq!(class_of(u64::MAX).0, f64::INFINITY);
    }

    #[test]
    fn the_sum_is_in_seconds() {
        let histogram = Histogram::default();
        [1_500_000_000, 500_000_000].iter().for_each(|time| histogram.note(*time));
        let Reading { classes, sum } = histogram.read();
        assert_eq!((sum, classes.iter().map(|(_, count)| count).sum::<u64>()), (2.0, 2));
    }

    #[test]
    fn limits_rise_and_each_is_twice_the_one_before() {
        let limits = Histogram::default().read().classes.map(|(limit, _)| limit);
        assert!(limits[..LIMITS].windows(2).all(|pair| pair[1] == 2.0 * pair[0]));
    }

    proptest! {
        #[test]
        fn each_time_is_in_the_first_class_whose_limit_is_not_below_it(nanoseconds in 0..40_000_000_000_u64) {
            let seconds = nanoseconds as f64 / 1e9;
            let all = Histogram::default().read().classes;
            let expected = all.iter().map(|(limit, _)| *limit).find(|limit| seconds <= *limit);
            prop_assert_eq!(Some(class_of(nanoseconds).0), expected);
        }
    }
}
