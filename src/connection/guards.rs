//! The time limits of one connection: the next deadline, and the check whether one was missed.
//!
//! Pure: callers pass `now`. Activity only stores its time; it moves nothing in the timer heap. A connection has at
//! most one timer, set for the earliest deadline. When the timer fires, the check considers the activity since then
//! and sets the timer anew.

use std::time::Duration;

use crate::error::Expired;
use crate::options::ConnectionOptions;
use crate::timer::TimerId;

/// Number of checks of a blocked peer within its time. The number of bytes in the kernel's queue tells whether the
/// peer took any.
const LOOKS: u64 = 4;

/// The facts, other than times, on which a check depends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Input waits in the kernel because reading is paused, so the peer is not responsible for the silence.
    pub unread: bool,
    /// The peer waits for an answer, so it is not responsible for the silence either.
    pub is_waited_for: bool,
    /// Bytes in the kernel's queue that the peer has not taken.
    pub unsent: usize,
}

/// Output that the socket does not take.
#[derive(Clone, Copy, Debug)]
struct Stuck {
    /// The last time at which the peer took some, as far as known.
    since: u64,
    /// The time of the last look at the kernel's queue, and the bytes in it then.
    looked: u64,
    unsent: usize,
}

#[derive(Debug)]
pub(crate) struct Guards {
    opened: u64,
    /// The last time at which a byte moved, either way.
    moved: u64,
    /// Whether the peer has sent anything, and the last time.
    heard: bool,
    last_heard: u64,
    stuck: Option<Box<Stuck>>,
    /// Whether a limit was exceeded; then only `write_timeout` still counts.
    over: bool,
    /// The begin of the window of `min_rate`, and the bytes read in it.
    window: u64,
    window_bytes: u64,
    /// The timer that is set, and its deadline.
    pub timer: Option<(TimerId, u64)>,
}

impl Guards {
    pub fn new(now: u64) -> Self {
        Self {
            opened: now,
            moved: now,
            heard: false,
            last_heard: now,
            stuck: None,
            over: false,
            window: now,
            window_bytes: 0,
            timer: None,
        }
    }

    /// Notes that bytes came in.
    pub fn received(&mut self, now: u64, bytes: usize) {
        self.moved = now;
        self.last_heard = now;
        self.heard = true;
        self.window_bytes += bytes as u64;
    }

    /// The time at which bytes last came in, or the connection was opened.
    pub fn last_heard(&self) -> u64 {
        self.last_heard
    }

    /// Notes that bytes went out.
    pub fn sent(&mut self, now: u64) {
        self.moved = now;
        if let Some(stuck) = self.stuck.as_mut() {
            (stuck.since, stuck.looked, stuck.unsent) = (now, now, usize::MAX);
        }
    }

    /// Notes that the socket takes no more. Returns whether it took output until now, so that a deadline begins.
    pub fn blocked(&mut self, now: u64) -> bool {
        let began = self.stuck.is_none();
        // The bytes in the kernel's queue are not known yet, so the first look cannot find that none were taken. The
        // limit may come late, never early.
        self.stuck.get_or_insert_with(|| Box::new(Stuck { since: now, looked: now, unsent: usize::MAX }));
        began
    }

    /// Notes that no output waits any more.
    pub fn flushed(&mut self) {
        self.stuck = None;
    }

    /// Starts a new window of the rate; earlier bytes count no more.
    pub fn restart_window(&mut self, now: u64) {
        (self.window, self.window_bytes) = (now, 0);
    }

    /// Notes that the connection closes because of a limit; queued output still goes out.
    pub fn overstepped(&mut self) {
        self.over = true;
    }

    /// The time of the next check.
    pub fn next(&self, options: &ConnectionOptions) -> Option<u64> {
        let write = options.write_timeout.zip(self.stuck.as_deref());
        let write = write.map(|(limit, stuck)| (stuck.looked + nanos(limit) / LOOKS).min(stuck.since + nanos(limit)));
        if self.over {
            return write;
        }
        [
            options.idle_timeout.map(|limit| self.moved + nanos(limit)),
            options.first_byte_timeout.filter(|_| !self.heard).map(|limit| self.opened + nanos(limit)),
            options.lifetime.map(|limit| self.opened + nanos(limit)),
            options.min_rate.map(|rate| self.window + nanos(rate.window)),
            write,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The limit that was exceeded, if any.
    pub fn check(&mut self, now: u64, options: &ConnectionOptions, facts: Facts) -> Option<Expired> {
        if facts.unread || facts.is_waited_for {
            self.moved = now;
            self.restart_window(now);
        }
        self.look(now, facts.unsent);
        let over = |since: u64, limit: Duration| now >= since + nanos(limit);
        let stuck = self.stuck.as_deref().copied();
        let write = options.write_timeout.filter(|limit| stuck.is_some_and(|stuck| over(stuck.since, *limit)));
        if self.over {
            return write.map(Expired::Write);
        }
        if let Some(limit) = options.lifetime.filter(|limit| over(self.opened, *limit)) {
            return Some(Expired::Lifetime(limit));
        }
        if let Some(limit) = options.first_byte_timeout.filter(|limit| !self.heard && over(self.opened, *limit)) {
            return Some(Expired::FirstByte(limit));
        }
        if let Some(limit) = write {
            return Some(Expired::Write(limit));
        }
        if let Some(limit) = options.idle_timeout.filter(|limit| over(self.moved, *limit)) {
            return Some(Expired::Idle(limit));
        }
        let rate = options.min_rate.filter(|rate| over(self.window, rate.window))?;
        let bytes = self.window_bytes;
        self.restart_window(now);
        let slow = (bytes as f64) < rate.bytes_per_second * rate.window.as_secs_f64();
        slow.then_some(Expired::TooSlow { bytes, rate: rate.bytes_per_second, window: rate.window })
    }

    /// Notes the number of bytes in the kernel's queue. If it shrank since the last look, the peer took some.
    fn look(&mut self, now: u64, unsent: usize) {
        if let Some(stuck) = self.stuck.as_mut() {
            if unsent < stuck.unsent {
                (stuck.since, self.moved) = (now, now);
            }
            (stuck.looked, stuck.unsent) = (now, unsent);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Rate;

    const SECOND: u64 = 1_000_000_000;

    fn seconds(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    fn without_guards() -> ConnectionOptions {
        ConnectionOptions { write_timeout: None, ..ConnectionOptions::default() }
    }

    /// Checks at each deadline, as a poller does; returns the time and the limit of the end.
    fn run(guards: &mut Guards, options: &ConnectionOptions, facts: impl Fn(u64) -> Facts) -> (u64, Expired) {
        for _ in 0..10_000 {
            let now = guards.next(options).expect("some deadline");
            if let Some(expired) = guards.check(now, options, facts(now)) {
                return (now, expired);
            }
        }
        panic!("it never ended");
    }

    #[test]
    fn without_limits_there_is_no_deadline() {
        let mut guards = Guards::new(0);
        guards.blocked(1);
        assert_eq!(guards.next(&without_guards()), None);
    }

    #[test]
    fn activity_moves_the_deadline_only_when_it_has_come() {
        let options = ConnectionOptions { idle_timeout: seconds(10), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.received(4 * SECOND, 1);
        guards.sent(7 * SECOND);
        assert_eq!(
            run(&mut guards, &options, |_| Facts::default()),
            (17 * SECOND, Expired::Idle(options.idle_timeout.unwrap_or_default()))
        );
    }

    #[test]
    fn the_first_byte_ends_its_guard() {
        let options = ConnectionOptions { first_byte_timeout: seconds(3), ..without_guards() };
        let mut guards = Guards::new(SECOND);
        assert_eq!(guards.next(&options), Some(4 * SECOND));
        guards.received(2 * SECOND, 1);
        assert_eq!(guards.next(&options), None);
        assert_eq!(guards.check(4 * SECOND, &options, Facts::default()), None);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_over_after_the_write_timeout_and_at_most_a_quarter_more() {
        let options = ConnectionOptions { write_timeout: seconds(8), ..without_guards() };
        let mut guards = Guards::new(0);
        assert!(guards.blocked(SECOND));
        assert!(!guards.blocked(2 * SECOND));
        let (when, _) = run(&mut guards, &options, |_| Facts { unsent: 1000, ..Facts::default() });
        assert!((9 * SECOND..=11 * SECOND).contains(&when), "{when}");
    }

    #[test]
    fn a_peer_that_takes_little_out_of_the_kernel_is_not_stuck() {
        let options = ConnectionOptions { write_timeout: seconds(8), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.blocked(0);
        // One byte is taken every five seconds for a hundred seconds, then none.
        let unsent = |now: u64| Facts { unsent: 1000 - (now / (5 * SECOND)).min(20) as usize, ..Facts::default() };
        let (when, _) = run(&mut guards, &options, unsent);
        assert!((108 * SECOND..=112 * SECOND).contains(&when), "{when}");
    }

    #[test]
    fn a_rate_is_judged_by_windows_and_not_while_reading_is_paused() {
        let rate = Rate { bytes_per_second: 100.0, window: Duration::from_secs(5) };
        let options = ConnectionOptions { min_rate: Some(rate), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.received(SECOND, 500);
        assert_eq!(guards.check(5 * SECOND, &options, Facts::default()), None);
        assert_eq!(guards.check(10 * SECOND, &options, Facts { unread: true, ..Facts::default() }), None);
        guards.received(14 * SECOND, 499);
        let over = Expired::TooSlow { bytes: 499, rate: 100.0, window: rate.window };
        assert_eq!(run(&mut guards, &options, |_| Facts::default()), (15 * SECOND, over));
    }

    #[test]
    fn the_lifetime_ends_the_busiest() {
        let options = ConnectionOptions { lifetime: seconds(60), idle_timeout: seconds(50), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.received(59 * SECOND, 1_000_000);
        assert_eq!(
            run(&mut guards, &options, |_| Facts::default()),
            (60 * SECOND, Expired::Lifetime(Duration::from_secs(60)))
        );
    }

    #[test]
    fn the_next_look_is_at_the_earliest_deadline() {
        let (opened, heard) = (10 * SECOND, 12 * SECOND);
        let mut guards = Guards::new(opened);
        let only = |set: &dyn Fn(&mut ConnectionOptions)| {
            let mut options = without_guards();
            set(&mut options);
            options
        };
        let first_byte = only(&|options| options.first_byte_timeout = seconds(8));
        assert_eq!(guards.next(&first_byte), Some(18 * SECOND));
        guards.received(heard, 1);
        assert_eq!(guards.last_heard(), heard);
        guards.blocked(13 * SECOND);
        let rate = Rate { bytes_per_second: 1.0, window: Duration::from_secs(8) };
        let write = only(&|options| options.write_timeout = seconds(8));
        for (options, deadline) in [
            (only(&|options| options.idle_timeout = seconds(8)), 20),
            (first_byte, 0),
            (only(&|options| options.lifetime = seconds(8)), 18),
            (only(&|options| options.min_rate = Some(rate)), 18),
            // A quarter of the time, to look at what the kernel has.
            (write.clone(), 15),
            (ConnectionOptions { lifetime: seconds(4), idle_timeout: seconds(8), ..write.clone() }, 14),
        ] {
            assert_eq!(guards.next(&options).unwrap_or(0), deadline * SECOND, "{options:?}");
        }
        // The last look is at the end of the time.
        for look in [15, 17, 19] {
            assert_eq!(guards.check(look * SECOND, &write, Facts { unsent: 9, ..Facts::default() }), None);
        }
        assert_eq!(guards.next(&write), Some(21 * SECOND));
        guards.flushed();
        assert_eq!(guards.next(&write), None);
    }

    #[test]
    fn once_a_limit_was_overstepped_only_the_output_has_one() {
        let options = ConnectionOptions { lifetime: seconds(1), write_timeout: seconds(8), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.overstepped();
        assert_eq!((guards.next(&options), guards.check(5 * SECOND, &options, Facts::default())), (None, None));
        guards.blocked(5 * SECOND);
        assert_eq!(guards.next(&options), Some(7 * SECOND));
        let (when, why) = run(&mut guards, &options, |_| Facts { unsent: 1, ..Facts::default() });
        assert_eq!(why, Expired::Write(Duration::from_secs(8)));
        assert!((13 * SECOND..=15 * SECOND).contains(&when), "{when}");
    }

    #[test]
    fn silence_is_not_the_fault_of_a_peer_that_is_not_read_or_waits_for_an_answer() {
        let options = ConnectionOptions { idle_timeout: seconds(10), ..without_guards() };
        let unread = Facts { unread: true, ..Facts::default() };
        let waited_for = Facts { is_waited_for: true, ..Facts::default() };
        for facts in [unread, waited_for] {
            let mut guards = Guards::new(0);
            assert_eq!(guards.check(10 * SECOND, &options, facts), None);
            assert_eq!(guards.check(20 * SECOND - 1, &options, Facts::default()), None);
            let idle = Some(Expired::Idle(Duration::from_secs(10)));
            assert_eq!(guards.check(20 * SECOND, &options, Facts::default()), idle);
        }
    }

    #[test]
    fn a_peer_that_sends_nothing_at_all_is_over_by_the_first_byte() {
        let options = ConnectionOptions { first_byte_timeout: seconds(3), ..without_guards() };
        let mut guards = Guards::new(SECOND);
        let over = (4 * SECOND, Expired::FirstByte(Duration::from_secs(3)));
        assert_eq!(run(&mut guards, &options, |_| Facts::default()), over);
    }

    #[test]
    fn output_that_moves_again_has_its_whole_time_again() {
        let options = ConnectionOptions { write_timeout: seconds(8), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.blocked(0);
        assert_eq!(guards.check(7 * SECOND, &options, Facts { unsent: 5, ..Facts::default() }), None);
        guards.sent(7 * SECOND);
        // More in the kernel than before, and still the time began with the bytes that went out.
        let (when, _) = run(&mut guards, &options, |_| Facts { unsent: 9, ..Facts::default() });
        assert!((15 * SECOND..=17 * SECOND).contains(&when), "{when}");
    }
}
