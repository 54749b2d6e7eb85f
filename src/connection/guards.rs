//! The time limits of one connection: the next deadline, and the check whether one was missed.
//!
//! Pure: callers pass `now`. Activity only stores its time; it moves nothing in the timer heap. A connection has at
//! most one timer, set for the earliest deadline. When the timer fires, the check considers the activity since then
//! and sets the timer anew.

use std::time::Duration;

use crate::error::Expired;
use crate::options::{ConnectionOptions, Rate};
use crate::protocols::Unfinished;
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
    /// The begin of the window of `min_write_rate`, and the bytes that the peer took in it.
    window: u64,
    taken: u64,
    /// Bytes that the kernel would hold if the peer had taken none since the last look; `None` before the first look.
    owed: Option<u64>,
    /// Whether the window began with a look.
    is_known: bool,
}

impl Stuck {
    fn new(now: u64) -> Self {
        let (since, looked, window) = (now, now, now);
        Self { since, looked, unsent: usize::MAX, window, taken: 0, owed: None, is_known: false }
    }
}

/// A part that the peer has begun to send.
#[derive(Clone, Copy, Debug)]
struct Part {
    part: Unfinished,
    since: u64,
    /// Bytes that came before it.
    before: u64,
}

impl Part {
    /// The time by which it has to be whole, if the peer has sent `bytes` in all.
    fn deadline(&self, bytes: u64) -> u64 {
        let earned = self.part.bytes_per_second.map_or(0.0, |rate| (bytes - self.before) as f64 / rate);
        // A limit of many years is as good as none.
        let earned = Duration::try_from_secs_f64(earned).unwrap_or(Duration::MAX);
        self.since.saturating_add(nanos(self.part.time)).saturating_add(nanos(earned))
    }
}

/// The window of `min_rate`.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin: u64,
    /// The value of `received` then.
    before: u64,
}

/// The facts that most connections never need.
#[derive(Debug, Default)]
struct Rare {
    /// The last time at which the silence of the peer was found not to be its fault.
    excused: u64,
    /// `None` if it began with the opening.
    window: Option<Window>,
    stuck: Option<Box<Stuck>>,
    /// The part that the peer has begun to send.
    part: Option<Box<Part>>,
    /// Whether input that was not read because of a pause has come.
    held_input: bool,
    /// Whether a limit was exceeded; then only `write_timeout` still counts.
    over: bool,
}

#[derive(Debug)]
pub(crate) struct Guards {
    opened: u64,
    /// The last time at which a byte moved, either way.
    moved: u64,
    /// The last time at which the peer sent anything, or the time of the opening.
    last_heard: u64,
    /// Bytes that came in and went out since the opening.
    received: u64,
    sent: u64,
    /// In a box, since an idle connection is to be small.
    rare: Option<Box<Rare>>,
    /// The timer that is set, and its deadline.
    pub timer: Option<(TimerId, u64)>,
}

impl Guards {
    pub fn new(now: u64) -> Self {
        Self { opened: now, moved: now, last_heard: now, received: 0, sent: 0, rare: None, timer: None }
    }

    /// The time of the opening.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn stuck(&self) -> Option<&Stuck> {
        self.rare.as_ref()?.stuck.as_deref()
    }

    fn stuck_mut(&mut self) -> Option<&mut Stuck> {
        self.rare.as_mut()?.stuck.as_deref_mut()
    }

    fn part(&self) -> Option<&Part> {
        self.rare.as_ref()?.part.as_deref()
    }

    fn is_over(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.over)
    }

    /// Whether the peer has sent anything.
    fn has_heard(&self) -> bool {
        self.received > 0 || self.rare.as_ref().is_some_and(|rare| rare.held_input)
    }

    fn window(&self) -> Window {
        let window = self.rare.as_ref().and_then(|rare| rare.window);
        window.unwrap_or(Window { begin: self.opened, before: 0 })
    }

    /// Notes that bytes came in.
    pub fn received(&mut self, now: u64, bytes: usize) {
        self.moved = now;
        self.last_heard = now;
        self.received += bytes as u64;
    }

    /// Bytes that came in since the opening.
    pub fn total_received(&self) -> u64 {
        self.received
    }

    /// Bytes that went out since the opening.
    pub fn total_sent(&self) -> u64 {
        self.sent
    }

    /// The time at which bytes last came in, or the connection was opened.
    pub fn last_heard(&self) -> u64 {
        self.last_heard
    }

    /// Notes that bytes went out, into the kernel's queue.
    pub fn sent(&mut self, now: u64, bytes: usize) {
        self.moved = now;
        self.sent += bytes as u64;
        if let Some(stuck) = self.stuck_mut() {
            (stuck.since, stuck.looked, stuck.unsent) = (now, now, usize::MAX);
            stuck.owed = stuck.owed.map(|owed| owed + bytes as u64);
        }
    }

    /// Notes that the socket takes no more. Returns whether it took output until now, so that a deadline begins.
    pub fn blocked(&mut self, now: u64) -> bool {
        let began = self.stuck().is_none();
        // The bytes in the kernel's queue are not known yet, so the first look cannot find that none were taken. The
        // limit may come late, never early.
        self.rare().stuck.get_or_insert_with(|| Box::new(Stuck::new(now)));
        began
    }

    /// Notes that no output waits any more.
    #[inline]
    pub fn flushed(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.stuck = None;
        }
    }

    /// Starts a new window of the rate; earlier bytes count no more.
    pub fn restart_window(&mut self, now: u64) {
        self.rare().window = Some(Window { begin: now, before: self.received });
    }

    /// Notes the part that the peer has begun to send, if any. True if its time begins now.
    pub fn note_part(&mut self, now: u64, part: Option<Unfinished>) -> bool {
        let Some(part) = part else {
            if let Some(rare) = &mut self.rare {
                rare.part = None;
            }
            return false;
        };
        if self.part().is_some_and(|known| known.part.id == part.id) {
            return false;
        }
        self.rare().part = Some(Box::new(Part { part, since: now, before: self.received }));
        true
    }

    /// Whether the peer has begun to send a part.
    #[inline]
    pub fn has_part(&self) -> bool {
        self.part().is_some()
    }

    /// Whether the peer took too long for the part that it sends.
    pub fn is_part_late(&self, now: u64) -> bool {
        self.part().is_some_and(|part| now >= part.deadline(self.received))
    }

    /// Notes that the connection closes because of a limit; queued output still goes out.
    pub fn overstepped(&mut self) {
        self.rare().over = true;
    }

    /// The time of the next check.
    pub fn next(&self, options: &ConnectionOptions) -> Option<u64> {
        let write = options.write_timeout.zip(self.stuck());
        let write = write.map(|(limit, stuck)| (stuck.looked + nanos(limit) / LOOKS).min(stuck.since + nanos(limit)));
        let rate = options.min_write_rate.zip(self.stuck());
        let rate = rate.map(|(rate, stuck)| stuck.window + nanos(rate.window));
        if self.is_over() {
            return write.into_iter().chain(rate).min();
        }
        [
            options.idle_timeout.map(|limit| self.moved + nanos(limit)),
            options.receive_timeout.map(|limit| self.silent_since() + nanos(limit)),
            options.first_byte_timeout.filter(|_| !self.has_heard()).map(|limit| self.opened + nanos(limit)),
            options.lifetime.map(|limit| self.opened + nanos(limit)),
            options.min_rate.map(|rate| self.window().begin + nanos(rate.window)),
            self.part().map(|part| part.deadline(self.received)),
            write,
            rate,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The limit that was exceeded, if any.
    pub fn check(&mut self, now: u64, options: &ConnectionOptions, facts: Facts) -> Option<Expired> {
        if facts.unread || facts.is_waited_for {
            (self.moved, self.rare().excused) = (now, now);
            self.restart_window(now);
        }
        if facts.unread {
            let received = self.received;
            // Input that is not read because of a pause has come in time.
            self.rare().held_input = true;
            if let Some(part) = &mut self.rare().part {
                (part.since, part.before) = (now, received);
            }
        }
        self.look(now, facts.unsent);
        let too_slow = self.judge_taking(now, options);
        let over = |since: u64, limit: Duration| now >= since + nanos(limit);
        let stuck = self.stuck().copied();
        let write = options.write_timeout.filter(|limit| stuck.is_some_and(|stuck| over(stuck.since, *limit)));
        if self.is_over() {
            return write.map(Expired::Write).or(too_slow);
        }
        if let Some(limit) = options.lifetime.filter(|limit| over(self.opened, *limit)) {
            return Some(Expired::Lifetime(limit));
        }
        if let Some(limit) = options.first_byte_timeout.filter(|limit| !self.has_heard() && over(self.opened, *limit)) {
            return Some(Expired::FirstByte(limit));
        }
        if let Some(expired) = write.map(Expired::Write).or(too_slow) {
            return Some(expired);
        }
        if let Some(limit) = options.idle_timeout.filter(|limit| over(self.moved, *limit)) {
            return Some(Expired::Idle(limit));
        }
        if let Some(limit) = options.receive_timeout.filter(|limit| over(self.silent_since(), *limit)) {
            return Some(Expired::Receive(limit));
        }
        let window = self.window();
        let rate = options.min_rate.filter(|rate| over(window.begin, rate.window))?;
        let bytes = self.received - window.before;
        self.restart_window(now);
        let slow = (bytes as f64) < rate.bytes_per_second * rate.window.as_secs_f64();
        slow.then_some(Expired::TooSlow { bytes, rate: rate.bytes_per_second, window: rate.window })
    }

    /// The time since which the peer has sent nothing, by its own fault.
    fn silent_since(&self) -> u64 {
        self.last_heard.max(self.rare.as_ref().map_or(0, |rare| rare.excused))
    }

    /// Notes the number of bytes in the kernel's queue. If it shrank since the last look, the peer took some.
    fn look(&mut self, now: u64, unsent: usize) {
        let Self { rare, moved, .. } = self;
        if let Some(stuck) = rare.as_mut().and_then(|rare| rare.stuck.as_mut()) {
            if unsent < stuck.unsent {
                (stuck.since, *moved) = (now, now);
            }
            (stuck.looked, stuck.unsent) = (now, unsent);
            let owed = stuck.owed.replace(unsent as u64);
            stuck.taken += owed.map_or(0, |owed| owed.saturating_sub(unsent as u64));
        }
    }

    /// At the end of a window of `min_write_rate`: whether the peer took too little of the waiting output.
    fn judge_taking(&mut self, now: u64, options: &ConnectionOptions) -> Option<Expired> {
        let (rate, stuck) = options.min_write_rate.zip(self.stuck_mut())?;
        let Rate { bytes_per_second, window } = rate;
        if now < stuck.window + nanos(window) {
            return None;
        }
        let (bytes, was_known) = (stuck.taken, std::mem::replace(&mut stuck.is_known, true));
        (stuck.window, stuck.taken) = (now, 0);
        let slow = was_known && (bytes as f64) < bytes_per_second * window.as_secs_f64();
        slow.then_some(Expired::TakesTooSlowly { bytes, rate: bytes_per_second, window })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        guards.sent(7 * SECOND, 1);
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
    fn the_peer_has_to_send_whatever_we_send() {
        let options = ConnectionOptions { receive_timeout: seconds(10), ..without_guards() };
        let mut guards = Guards::new(0);
        guards.received(4 * SECOND, 1);
        (5..60).for_each(|second| guards.sent(second * SECOND, 1));
        assert_eq!(guards.next(&options), Some(14 * SECOND));
        assert_eq!(guards.check(14 * SECOND - 1, &options, Facts::default()), None);
        let over = (14 * SECOND, Expired::Receive(Duration::from_secs(10)));
        assert_eq!(run(&mut guards, &options, |_| Facts::default()), over);
    }

    #[test]
    fn a_first_byte_that_waits_behind_a_pause_has_come_in_time() {
        let options = ConnectionOptions { first_byte_timeout: seconds(3), ..without_guards() };
        let mut guards = Guards::new(0);
        let unread = Facts { unread: true, ..Facts::default() };
        assert_eq!((guards.check(3 * SECOND, &options, unread), guards.next(&options)), (None, None));
    }

    #[test]
    fn the_bytes_of_both_directions_are_counted() {
        let mut guards = Guards::new(0);
        guards.received(1, 5);
        guards.restart_window(2);
        guards.received(3, 7);
        guards.sent(4, 9);
        assert_eq!((guards.total_received(), guards.total_sent()), (12, 9));
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
            (only(&|options| options.receive_timeout = seconds(8)), 20),
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
        let idle = ConnectionOptions { idle_timeout: seconds(10), ..without_guards() };
        let receive = ConnectionOptions { receive_timeout: seconds(10), ..without_guards() };
        let unread = Facts { unread: true, ..Facts::default() };
        let waited_for = Facts { is_waited_for: true, ..Facts::default() };
        for facts in [unread, waited_for] {
            for (options, over) in [(&idle, Expired::Idle as fn(_) -> _), (&receive, Expired::Receive)] {
                let mut guards = Guards::new(0);
                assert_eq!(guards.check(10 * SECOND, options, facts), None);
                assert_eq!(guards.check(20 * SECOND - 1, options, Facts::default()), None);
                let over = Some(over(Duration::from_secs(10)));
                assert_eq!(guards.check(20 * SECOND, options, Facts::default()), over);
            }
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
        guards.sent(7 * SECOND, 1);
        // More in the kernel than before, and still the time began with the bytes that went out.
        let (when, _) = run(&mut guards, &options, |_| Facts { unsent: 9, ..Facts::default() });
        assert!((15 * SECOND..=17 * SECOND).contains(&when), "{when}");
    }

    #[test]
    fn a_part_has_its_time_and_more_for_each_of_its_bytes() {
        let options = without_guards();
        let part = |id, bytes_per_second| Some(Unfinished { id, time: Duration::from_secs(10), bytes_per_second });
        let mut guards = Guards::new(0);
        guards.received(0, 1000);
        assert!(guards.note_part(SECOND, part(1, None)));
        assert_eq!(guards.next(&options), Some(11 * SECOND));
        guards.received(2 * SECOND, 1000);
        assert!(!guards.note_part(2 * SECOND, part(1, None)), "it is the same");
        assert_eq!(guards.next(&options), Some(11 * SECOND), "its time is fixed");
        assert_eq!((guards.is_part_late(11 * SECOND - 1), guards.is_part_late(11 * SECOND)), (false, true));

        assert!(guards.note_part(12 * SECOND, part(2, Some(100.0))));
        guards.received(13 * SECOND, 250);
        assert_eq!(guards.next(&options), Some(24 * SECOND + SECOND / 2));
        // Input that waits unread in the kernel starts the time again.
        assert_eq!(guards.check(20 * SECOND, &options, Facts { unread: true, ..Facts::default() }), None);
        assert_eq!(guards.next(&options), Some(30 * SECOND));

        assert!(guards.has_part() && !guards.note_part(21 * SECOND, None) && !guards.has_part());
        assert_eq!((guards.next(&options), guards.is_part_late(u64::MAX)), (None, false));
    }

    #[test]
    fn a_peer_that_takes_less_than_the_rate_is_over_after_two_windows_at_most() {
        let rate = Rate { bytes_per_second: 100.0, window: Duration::from_secs(8) };
        let options = ConnectionOptions { write_timeout: seconds(8), min_write_rate: Some(rate), ..without_guards() };
        for (per_second, is_slow) in [(99, true), (101, false)] {
            let mut guards = Guards::new(0);
            guards.blocked(0);
            let mut queue = 10_000;
            for second in 1..=64 {
                let now = second * SECOND;
                queue -= per_second;
                if second % 5 == 0 {
                    guards.sent(now, 300);
                    queue += 300;
                }
                if guards.next(&options).is_some_and(|next| next <= now)
                    && let Some(expired) = guards.check(now, &options, Facts { unsent: queue, ..Facts::default() })
                {
                    assert!(is_slow && second <= 16, "{per_second}: {expired} after {second} s");
                    assert!(matches!(expired, Expired::TakesTooSlowly { bytes, .. } if bytes < 800), "{expired}");
                    break;
                }
                assert!(!is_slow || second < 16, "{per_second}");
            }
        }
    }
}
