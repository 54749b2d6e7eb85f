//! The limits in time of one connection: which deadline comes next, and whether one was missed.
//!
//! Pure: callers pass `now`. Activity only notes when it was; nothing moves in the timer heap for it. A connection has at
//! most one timer, set for the earliest deadline: when it fires, what happened meanwhile is looked at, and it is set anew.

use std::time::Duration;

use crate::error::Expired;
use crate::options::ConnectionOptions;
use crate::timer::TimerId;

/// A peer that takes nothing is looked at so many times before its time is up: what the kernel still has for it tells
/// whether it took any.
const LOOKS: u64 = 4;

/// What a deadline's judgement depends on beyond times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Input waits in the kernel, because reading is paused: the peer is not to blame for silence.
    pub unread: bool,
    /// The peer waits for an answer of ours: likewise.
    pub is_waited_for: bool,
    /// Bytes in the kernel's queue that the peer has not taken.
    pub unsent: usize,
}

/// Output that waits for the peer.
#[derive(Clone, Copy, Debug)]
struct Stuck {
    /// When the peer last took some, as far as known.
    since: u64,
    /// When the kernel's queue was last looked at, and what was in it.
    looked: u64,
    unsent: usize,
}

#[derive(Debug)]
pub(crate) struct Guards {
    opened: u64,
    /// When a byte last moved, either way.
    moved: u64,
    /// Whether the peer has sent anything, and when last.
    heard: bool,
    last_heard: u64,
    stuck: Option<Box<Stuck>>,
    /// A limit was overstepped: only what goes out still has one.
    over: bool,
    /// When the window of `min_rate` began, and what was read in it.
    window: u64,
    window_bytes: u64,
    /// The timer that is set, and for when.
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

    /// Bytes came in.
    pub fn received(&mut self, now: u64, bytes: usize) {
        self.moved = now;
        self.last_heard = now;
        self.heard = true;
        self.window_bytes += bytes as u64;
    }

    /// When bytes last came in, or the connection was opened.
    pub fn last_heard(&self) -> u64 {
        self.last_heard
    }

    /// Bytes went out.
    pub fn sent(&mut self, now: u64) {
        self.moved = now;
        if let Some(stuck) = self.stuck.as_mut() {
            (stuck.since, stuck.looked, stuck.unsent) = (now, now, usize::MAX);
        }
    }

    /// The socket takes no more; whether it took some until now, so that a deadline began.
    pub fn blocked(&mut self, now: u64) -> bool {
        let began = self.stuck.is_none();
        // Not known how much the kernel has, so the first look cannot find that nothing was taken: late, never early.
        self.stuck.get_or_insert_with(|| Box::new(Stuck { since: now, looked: now, unsent: usize::MAX }));
        began
    }

    /// Nothing waits any more.
    pub fn flushed(&mut self) {
        self.stuck = None;
    }

    /// What came until now does not count for the rate any more.
    pub fn restart_window(&mut self, now: u64) {
        (self.window, self.window_bytes) = (now, 0);
    }

    /// The connection closes because of a limit; what is queued still goes out.
    pub fn overstepped(&mut self) {
        self.over = true;
    }

    /// When to look again.
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

    /// Which limit was overstepped, if one was.
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

    /// Whether the kernel's queue shrank since the last look: then the peer took some.
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

    /// Looks whenever a deadline has come, as a poller does; returns when and why it was over.
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
        // One byte every five seconds for a hundred of them, then none.
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
}
