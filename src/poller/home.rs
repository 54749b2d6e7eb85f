//! The CPU to which a poller returns.
//!
//! The scheduler wakes a thread on whatever CPU is idle at that moment. Where clients run on the same machine, pollers and
//! clients so change places all the time, and a request wakes a sleeping CPU for each of its steps. Therefore a poller that
//! woke on another CPU than its own sleeps the next time bound to its own.
//!
//! It is free again before a callback runs: a thread or a process that a callback starts would inherit the bound, and
//! sched_getaffinity(2) tells a callback all CPUs. A poller that waits long for its CPU rests from this for a while, because
//! another program keeps that CPU busy. Nor does it touch an affinity that a callback or taskset(1) has set.

use std::time::Duration;

use crate::system::run_delay::RunDelay;
use crate::system::steering;

/// The time for which a poller with a busy CPU sleeps unbound, in nanoseconds.
const REST: u64 = Duration::from_secs(5).as_nanos() as u64;

/// The looks in a row at which a poller waits long for its CPU. Each sees the others' figures as they were a while ago.
const LASTING: u8 = 2;

pub(super) struct Home {
    cpu: usize,
    /// The CPUs that the thread is allowed.
    allowed: libc::cpu_set_t,
    delay: RunDelay,
    /// Whether the thread last woke on another CPU.
    strayed: bool,
    /// Whether the thread is bound.
    bound: bool,
    /// The number of looks in a row that found the CPU busy with another program.
    crowded: u8,
    /// Up to this time the thread stays free.
    rests_until: u64,
}

impl Home {
    /// The home of the poller with this number, whose thread this is. `None` unless there is one poller for each CPU, and the
    /// kernel tells how long a thread waits for its CPU.
    pub fn of(index: usize, pollers: usize) -> Option<Self> {
        let cpus = steering::allowed_cpus().ok().filter(|cpus| pollers > 1 && cpus.len() == pollers)?;
        let (allowed, delay) = (steering::affinity().ok()?, RunDelay::of_this_thread().ok()?);
        Some(Self { cpu: *cpus.get(index)?, allowed, delay, strayed: false, bound: false, crowded: 0, rests_until: 0 })
    }

    /// Notes the CPU on which the thread woke.
    #[inline]
    pub fn woke_on(&mut self, cpu: usize) {
        self.strayed = cpu != self.cpu;
    }

    /// Binds the thread if it strayed. Called before it sleeps.
    #[inline]
    pub fn enter(&mut self, now: u64) {
        if self.strayed && !self.bound && now >= self.rests_until && steering::has_affinity(&self.allowed) {
            // Without the bound, the wake-ups only cost more.
            self.bound = steering::pin(self.cpu).is_ok();
        }
    }

    /// Frees the thread. Called before a callback runs.
    #[inline]
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.bound) && steering::has_affinity(&steering::only(self.cpu)) {
            // Fails only if the system has taken these CPUs away from the process since.
            let _ = steering::set_affinity(&self.allowed);
        }
    }

    /// Nanoseconds for which the thread has waited for a CPU while it had work.
    pub fn delayed(&self) -> u64 {
        self.delay.nanos().unwrap_or(0)
    }

    /// Notes whether another program keeps the CPU busy. If that lasts, the thread is left free for a while.
    pub fn judge(&mut self, is_crowded: bool, now: u64) {
        self.crowded = if is_crowded { self.crowded + 1 } else { 0 };
        if self.crowded == LASTING {
            self.crowded = 0;
            self.rests_until = now + REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` on a thread with a home, and with the CPUs that the thread is allowed.
    fn with_home(check: impl FnOnce(Home, Vec<usize>) + Send + 'static) {
        let run = move || {
            let cpus = steering::allowed_cpus().expect("Linux tells");
            if let Some(home) = Home::of(0, cpus.len()) {
                check(home, cpus);
            }
        };
        std::thread::spawn(run).join().expect("the checks hold");
    }

    fn allowed() -> Vec<usize> {
        steering::allowed_cpus().expect("Linux tells")
    }

    #[test]
    fn a_thread_that_strayed_sleeps_bound_and_is_free_for_callbacks() {
        with_home(|mut home, cpus| {
            home.enter(0);
            assert_eq!(allowed(), cpus, "it has not strayed");
            home.woke_on(cpus[1]);
            home.enter(0);
            assert_eq!(allowed(), [cpus[0]]);
            home.woke_on(cpus[0]);
            home.leave();
            assert_eq!(allowed(), cpus);
            home.enter(0);
            assert_eq!(allowed(), cpus, "it woke at home");
        });
    }

    #[test]
    fn a_thread_whose_cpu_is_busy_stays_free_for_a_while() {
        with_home(|mut home, cpus| {
            home.woke_on(cpus[1]);
            (1..LASTING).for_each(|_| home.judge(true, 5));
            home.judge(false, 5);
            home.enter(5);
            assert_eq!(allowed(), [cpus[0]], "it does not last");
            home.leave();
            (0..LASTING).for_each(|_| home.judge(true, 5));
            home.enter(5 + REST - 1);
            assert_eq!(allowed(), cpus);
            home.enter(5 + REST);
            assert_eq!(allowed(), [cpus[0]]);
        });
    }

    #[test]
    fn the_affinity_that_others_set_stays() {
        with_home(|mut home, cpus| {
            let other = cpus[cpus.len() - 1];
            home.woke_on(other);
            home.enter(0);
            steering::pin(other).expect("it is allowed");
            home.leave();
            assert_eq!(allowed(), [other], "it was set while the thread slept");
            home.enter(0);
            assert_eq!(allowed(), [other], "it was set while the thread ran");
        });
    }

    #[test]
    fn a_poller_has_a_home_only_if_each_cpu_has_one_poller() {
        let cpus = allowed().len();
        for pollers in [1, cpus - 1, cpus + 1] {
            assert!(Home::of(0, pollers).is_none(), "{pollers} pollers on {cpus} CPUs");
        }
    }
}
