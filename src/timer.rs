//! Deadlines of one poller in a 4-ary min-heap.
//!
//! The caller passes `now`; this module uses no clock, no socket and no Python. Times are nanoseconds of one
//! monotonic clock. Timers with equal deadlines fire in the order in which they were set. The entry of a timer that was
//! cancelled or reset stays in the heap until half of the heap is dead; then all dead entries are swept out. So neither
//! costs a search or a sift, and memory stays proportional to the live timers.

use crate::capacity::room_for;
use crate::slots::{Slots, Token};

/// The name of one timer. It is stale once the timer has fired for the last time or was cancelled.
pub type TimerId = Token;

/// A heap smaller than this is not swept: the sweep would save nothing.
const SWEEP_AT_LEAST: usize = 64;

/// The sequence number of a timer without an entry in the heap: it is due, and waits to fire.
const NO_ENTRY: u64 = 0;

/// An entry of the heap. It has 24 bytes, so that four children fill a cache line and a half.
#[derive(Clone, Copy)]
struct Entry {
    deadline: u64,
    sequence: u64,
    id: TimerId,
}

impl Entry {
    fn before(&self, other: &Self) -> bool {
        (self.deadline, self.sequence) < (other.deadline, other.sequence)
    }
}

struct Timer<T> {
    owner: T,
    /// Nanoseconds between firings; 0 means once.
    every: u64,
    /// The sequence number of its entry; its earlier entries are dead.
    sequence: u64,
}

/// A timer that is due and has not fired; see [`Timers::hold_due_if`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The timer's name.
    pub id: TimerId,
    /// The deadline that has come.
    pub deadline: u64,
}

/// A timer that is due, as [`Timers::pop_due`] hands it out.
#[derive(Debug, PartialEq, Eq)]
pub struct Due<T> {
    /// The timer's name. It is stale already when `again` is false.
    pub id: TimerId,
    /// The value that was passed to [`Timers::set`].
    pub owner: T,
    /// Whether the timer has been set anew for its next deadline.
    pub again: bool,
}

/// The timers of one poller.
pub struct Timers<T> {
    heap: Vec<Entry>,
    timers: Slots<Timer<T>>,
    sequence: u64,
    dead: usize,
    /// The number of timers that memory was reserved for.
    reserved: usize,
}

impl<T: Copy> Timers<T> {
    /// No timers, with memory for `capacity` of them.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            heap: Vec::with_capacity(capacity),
            timers: Slots::with_capacity(capacity),
            sequence: NO_ENTRY,
            dead: 0,
            reserved: capacity,
        }
    }

    /// The number of timers that are set.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Sets a timer for `deadline`; with `every` > 0 it fires again each `every` nanoseconds after that.
    pub fn set(&mut self, deadline: u64, every: u64, owner: T) -> TimerId {
        self.sequence += 1;
        let sequence = self.sequence;
        let id = self.timers.insert_with(|_| Timer { owner, every, sequence });
        self.push(Entry { deadline, sequence, id });
        id
    }

    /// Moves a timer to a new `deadline`; a repeating one counts from there. Returns false if it is not set any more.
    pub fn reset(&mut self, id: TimerId, deadline: u64) -> bool {
        let Some(timer) = self.timers.get_mut(id) else { return false };
        self.sequence += 1;
        let before = std::mem::replace(&mut timer.sequence, self.sequence);
        self.push(Entry { deadline, sequence: self.sequence, id });
        self.bury(before);
        true
    }

    /// Whether the timer will still fire.
    pub fn is_set(&self, id: TimerId) -> bool {
        self.timers.get(id).is_some()
    }

    /// Cancels a timer; false when there was nothing to cancel.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let Some(timer) = self.timers.remove(id) else { return false };
        self.bury(timer.sequence);
        true
    }

    /// Notes that the entry with this sequence number is dead.
    fn bury(&mut self, sequence: u64) {
        self.dead += usize::from(sequence != NO_ENTRY);
        if self.dead * 2 > self.heap.len() && self.heap.len() >= SWEEP_AT_LEAST {
            self.sweep();
        }
    }

    /// The earliest deadline; `None` if no timer is set.
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.drop_dead_top();
        self.heap.first().map(|entry| entry.deadline)
    }

    /// Takes out the earliest timer if its deadline is not after `now`.
    ///
    /// A repeating timer is set anew from its deadline, not from `now`. Several deadlines that were missed count as
    /// one firing.
    pub fn pop_due(&mut self, now: u64) -> Option<Due<T>> {
        self.pop_due_if(now, |_| true)
    }

    /// As [`Self::pop_due`], but only if `wanted` returns true for the owner of the earliest timer.
    pub fn pop_due_if(&mut self, now: u64, wanted: impl FnOnce(&T) -> bool) -> Option<Due<T>> {
        let held = self.hold_due_if(now, wanted)?;
        self.fire(held, now)
    }

    /// The owner of the earliest timer, if its deadline is not after `now`.
    pub fn first_due(&mut self, now: u64) -> Option<&T> {
        self.drop_dead_top();
        let entry = self.heap.first().filter(|entry| entry.deadline <= now)?;
        self.timers.get(entry.id).map(|timer| &timer.owner)
    }

    /// Takes the earliest timer out of the order, if it is due and `wanted` returns true for its owner. It stays set until
    /// [`Self::fire`], so that it can be cancelled and reset.
    pub fn hold_due_if(&mut self, now: u64, wanted: impl FnOnce(&T) -> bool) -> Option<Held> {
        self.drop_dead_top();
        let Entry { id, deadline, .. } = *self.heap.first().filter(|entry| entry.deadline <= now)?;
        let timer = self.timers.get_mut(id).filter(|timer| wanted(&timer.owner))?;
        timer.sequence = NO_ENTRY;
        self.pop_top();
        Some(Held { id, deadline })
    }

    /// The owner of a timer; `None` if it is not set any more.
    pub fn owner(&self, id: TimerId) -> Option<&T> {
        self.timers.get(id).map(|timer| &timer.owner)
    }

    /// Fires a timer that was held; `None` if it was cancelled or reset meanwhile.
    pub fn fire(&mut self, Held { id, deadline }: Held, now: u64) -> Option<Due<T>> {
        let timer = self.timers.get_mut(id).filter(|timer| timer.sequence == NO_ENTRY)?;
        let (owner, every) = (timer.owner, timer.every);
        match (now - deadline).checked_div(every) {
            Some(missed) => {
                self.sequence += 1;
                timer.sequence = self.sequence;
                self.push(Entry { deadline: deadline + (missed + 1) * every, sequence: self.sequence, id });
            }
            None => drop(self.timers.remove(id)),
        }
        Some(Due { id, owner, again: every > 0 })
    }

    fn push(&mut self, entry: Entry) {
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1);
    }

    fn is_live(timers: &Slots<Timer<T>>, entry: &Entry) -> bool {
        timers.get(entry.id).is_some_and(|timer| timer.sequence == entry.sequence)
    }

    #[inline]
    fn drop_dead_top(&mut self) {
        if self.dead > 0 {
            self.drop_dead();
        }
    }

    fn drop_dead(&mut self) {
        while let Some(entry) = self.heap.first() {
            if Self::is_live(&self.timers, entry) {
                return;
            }
            self.dead -= 1;
            self.pop_top();
        }
    }

    fn pop_top(&mut self) {
        let Some(last) = self.heap.pop() else { return };
        if let Some(top) = self.heap.first_mut() {
            *top = last;
            self.sift_down(0);
        }
        self.shrink();
    }

    /// Gives memory back that a flood of timers took, except what was reserved.
    #[inline]
    fn shrink(&mut self) {
        if let Some(room) = room_for(self.heap.len().max(self.reserved), self.heap.capacity()) {
            self.heap.shrink_to(room);
        }
    }

    fn sweep(&mut self) {
        let timers = &self.timers;
        self.heap.retain(|entry| Self::is_live(timers, entry));
        self.dead = 0;
        // A sweep is rare, so it may leave less room than `shrink` does.
        self.heap.shrink_to((2 * self.heap.len()).max(self.reserved));
        for index in (0..self.heap.len().div_ceil(4)).rev() {
            self.sift_down(index);
        }
    }

    fn sift_up(&mut self, mut index: usize) {
        let entry = self.heap[index];
        while index > 0 {
            let parent = (index - 1) / 4;
            if !entry.before(&self.heap[parent]) {
                break;
            }
            self.heap[index] = self.heap[parent];
            index = parent;
        }
        self.heap[index] = entry;
    }

    fn sift_down(&mut self, mut index: usize) {
        let entry = self.heap[index];
        loop {
            let first = index * 4 + 1;
            let children = first..(first + 4).min(self.heap.len());
            let Some(least) = children.reduce(|a, b| if self.heap[b].before(&self.heap[a]) { b } else { a }) else {
                break;
            };
            if !self.heap[least].before(&entry) {
                break;
            }
            self.heap[index] = self.heap[least];
            index = least;
        }
        self.heap[index] = entry;
    }
}

impl<T: Copy> Default for Timers<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set() {
        let mut timers = Timers::with_capacity(0);
        for owner in 0..100 {
            timers.set(5, 0, owner);
        }
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(5)).map(|due| due.owner).collect();
        assert_eq!(fired, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_repeating_timer_counts_from_its_deadline_and_missed_ones_are_one() {
        let mut timers = Timers::with_capacity(0);
        let id = timers.set(10, 10, ());
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(37), Some(Due { id, owner: (), again: true }));
        assert_eq!(timers.next_deadline(), Some(40));
        assert_eq!(timers.pop_due(37), None);
        assert!(timers.cancel(id) && !timers.cancel(id));
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_fired_one_shot_timer_cannot_be_cancelled() {
        let mut timers = Timers::with_capacity(0);
        let id = timers.set(1, 0, ());
        assert_eq!(timers.pop_due(1), Some(Due { id, owner: (), again: false }));
        assert!(!timers.is_set(id) && !timers.cancel(id) && timers.is_empty());
    }

    #[test]
    fn cancelled_entries_never_outnumber_the_live_ones_in_a_large_heap() {
        let mut timers = Timers::with_capacity(0);
        let ids: Vec<_> = (0..10_000).map(|n| timers.set(n * 7919 % 10_007, 0, ())).collect();
        for id in ids {
            timers.cancel(id);
            assert!(timers.heap.len() <= SWEEP_AT_LEAST.max(2 * timers.len() + 1));
        }
    }

    #[test]
    fn a_timer_is_set_until_it_fires() {
        let mut timers = Timers::with_capacity(0);
        assert!(timers.is_empty());
        let id = timers.set(1, 0, ());
        assert!(timers.is_set(id) && !timers.is_empty());
        assert!(timers.pop_due(1).is_some() && timers.is_empty());
    }

    #[test]
    fn cancelled_entries_stay_until_they_are_more_than_half_of_a_large_heap() {
        let mut timers = Timers::with_capacity(0);
        let ids: Vec<_> = (0..1000).map(|n| timers.set(n, 0, ())).collect();
        // From the back, so that none of them is ever the first.
        for (cancelled, id) in ids.iter().rev().enumerate().take(500) {
            assert_eq!((timers.heap.len(), timers.dead), (1000, cancelled));
            timers.cancel(*id);
        }
        assert_eq!((timers.heap.len(), timers.dead), (1000, 500));
        timers.cancel(ids[499]);
        assert_eq!((timers.heap.len(), timers.dead), (499, 0));
        // With room to grow, and no more than that.
        assert_eq!(timers.heap.capacity(), 2 * 499);
    }

    #[test]
    fn a_flood_of_timers_that_fire_leaves_no_memory_behind() {
        for reserved in [0, 5000] {
            let mut timers = Timers::with_capacity(reserved);
            (0..100_000).for_each(|n| _ = timers.set(n, 0, ()));
            assert_eq!(std::iter::from_fn(|| timers.pop_due(100_000)).count(), 100_000);
            let capacity = timers.heap.capacity();
            assert!((reserved..=4 * reserved.max(crate::capacity::KEPT)).contains(&capacity), "{capacity}");
        }
    }

    #[test]
    fn a_reset_timer_fires_once_at_its_new_deadline() {
        let mut timers = Timers::with_capacity(0);
        let (id, other) = (timers.set(10, 0, 'a'), timers.set(20, 0, 'b'));
        assert!(timers.reset(id, 30));
        assert_eq!(timers.pop_due(10), None);
        assert_eq!(timers.pop_due(40), Some(Due { id: other, owner: 'b', again: false }));
        assert_eq!(timers.pop_due(40), Some(Due { id, owner: 'a', again: false }));
        assert!(!timers.reset(id, 50) && timers.next_deadline().is_none());
        assert_eq!(timers.dead, 0);
    }

    #[test]
    fn a_repeating_timer_that_was_reset_counts_from_its_new_deadline() {
        let mut timers = Timers::with_capacity(0);
        let id = timers.set(10, 10, ());
        assert!(timers.reset(id, 15));
        assert_eq!(timers.pop_due(14), None);
        assert!(timers.pop_due(15).is_some());
        assert_eq!(timers.next_deadline(), Some(25));
    }

    #[test]
    fn a_held_timer_is_set_until_it_fires_and_does_not_fire_after_a_cancel_or_a_reset() {
        let mut timers = Timers::with_capacity(0);
        let ids: Vec<_> = (0..3).map(|n| timers.set(5, 0, n)).collect();
        let held: Vec<_> = ids.iter().filter_map(|_| timers.hold_due_if(5, |_| true)).collect();
        assert_eq!((held.len(), timers.len(), timers.next_deadline()), (3, 3, None));
        assert!(timers.cancel(ids[0]) && timers.reset(ids[1], 9));
        assert_eq!((timers.fire(held[0], 5), timers.fire(held[1], 5)), (None, None));
        assert_eq!(timers.fire(held[2], 5), Some(Due { id: ids[2], owner: 2, again: false }));
        assert_eq!((timers.next_deadline(), timers.len(), timers.dead), (Some(9), 1, 0));
    }

    #[test]
    fn timers_that_are_reset_again_and_again_keep_the_heap_small() {
        let mut timers = Timers::with_capacity(0);
        let id = timers.set(1_000_000, 0, ());
        (0..100_000).for_each(|n| assert!(timers.reset(id, 1_000_000 + n)));
        assert!(timers.heap.len() <= SWEEP_AT_LEAST, "{}", timers.heap.len());
    }

    #[test]
    fn a_small_heap_is_not_swept() {
        let mut timers = Timers::with_capacity(0);
        let ids: Vec<_> = (0..SWEEP_AT_LEAST as u64 - 1).map(|n| timers.set(n, 0, ())).collect();
        for id in ids.iter().skip(1) {
            timers.cancel(*id);
        }
        assert_eq!((timers.heap.len(), timers.dead), (SWEEP_AT_LEAST - 1, SWEEP_AT_LEAST - 2));
    }

    #[test]
    fn cancelled_entries_at_the_top_leave_with_the_next_look() {
        let mut timers = Timers::with_capacity(0);
        let ids: Vec<_> = (0..4).map(|n| timers.set(n, 0, n)).collect();
        for id in &ids[..3] {
            timers.cancel(*id);
        }
        assert_eq!((timers.heap.len(), timers.dead), (4, 3));
        assert_eq!(timers.next_deadline(), Some(3));
        assert_eq!((timers.heap.len(), timers.dead), (1, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set { delay: u64, every: u64 },
        Cancel(usize),
        Reset(usize, u64),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..200, prop_oneof![3 => Just(0u64), 1 => 1u64..50]).prop_map(|(delay, every)| Step::Set { delay, every }),
            3 => (0usize..400).prop_map(Step::Cancel),
            2 => (0usize..400, 0u64..200).prop_map(|(n, delay)| Step::Reset(n, delay)),
            1 => (0u64..60).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(steps in steps()) {
            let mut timers = Timers::with_capacity(0);
            // (deadline, order of setting) -> (id, every)
            let mut model: BTreeMap<(u64, u64), (TimerId, u64)> = BTreeMap::new();
            let (mut ids, mut now, mut order) = (Vec::new(), 0, 0);
            for step in steps {
                match step {
                    Step::Set { delay, every } => {
                        order += 1;
                        let id = timers.set(now + delay, every, order);
                        model.insert((now + delay, order), (id, every));
                        ids.push(id);
                    }
                    Step::Cancel(n) if !ids.is_empty() => {
                        let id = ids[n % ids.len()];
                        let key = model.iter().find(|(_, (other, _))| *other == id).map(|(key, _)| *key);
                        prop_assert_eq!(timers.cancel(id), key.is_some());
                        key.and_then(|key| model.remove(&key));
                    }
                    Step::Reset(n, delay) if !ids.is_empty() => {
                        let id = ids[n % ids.len()];
                        let key = model.iter().find(|(_, (other, _))| *other == id).map(|(key, _)| *key);
                        prop_assert_eq!(timers.reset(id, now + delay), key.is_some());
                        if let Some(set) = key.and_then(|key| model.remove(&key)) {
                            order += 1;
                            model.insert((now + delay, order), set);
                        }
                    }
                    Step::Cancel(_) | Step::Reset(..) => {}
                    Step::Pass(time) => now += time,
                }
                while let Some((&(deadline, set), &(id, every))) = model.first_key_value().filter(|((d, _), _)| *d <= now) {
                    model.remove(&(deadline, set));
                    prop_assert_eq!(timers.next_deadline(), Some(deadline));
                    prop_assert_eq!(timers.pop_due(now).map(|due| (due.id, due.again)), Some((id, every > 0)));
                    if let Some(missed) = (now - deadline).checked_div(every) {
                        order += 1;
                        model.insert((deadline + (missed + 1) * every, order), (id, every));
                    }
                }
                prop_assert_eq!(timers.pop_due(now), None);
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next_deadline(), model.keys().next().map(|(deadline, _)| *deadline));
            }
        }
    }
}
