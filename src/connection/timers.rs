//! The timers of a connection: those of its handler, and of its protocol. They end with it.

use super::Connection;
use crate::timer::TimerId;

impl Connection {
    /// Notes a timer, which ends with the connection. Timers that are not set any more are forgotten when there are many.
    pub fn add_timer(&mut self, id: TimerId, is_set: impl Fn(TimerId) -> bool) {
        let timers = &mut self.rare.get_or_insert_default().timers;
        if timers.len() == timers.capacity() {
            timers.retain(|id| is_set(*id));
            timers.shrink_to(2 * timers.len());
        }
        timers.push(id);
    }

    /// Forgets the timers that are not set any more.
    pub fn forget_timers(&mut self, is_set: impl Fn(TimerId) -> bool) {
        if let Some(rare) = &mut self.rare {
            rare.timers.retain(|id| is_set(*id));
        }
    }

    /// Takes all timers out.
    pub fn take_timers(&mut self) -> Vec<TimerId> {
        self.rare.as_mut().map_or_else(Vec::new, |rare| std::mem::take(&mut rare.timers))
    }
}
