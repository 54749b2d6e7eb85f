//! The time for which a thread waits for a CPU: the second number of /proc/thread-self/schedstat (Linux,
//! Documentation/scheduler/sched-stats.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The longest text of three numbers of 64 bits.
const LONGEST: usize = 64;

/// The counter of one thread.
pub(crate) struct RunDelay(File);

impl RunDelay {
    /// The counter of the calling thread. An error if this kernel does not count.
    pub fn of_this_thread() -> io::Result<Self> {
        let counter = Self(File::open("/proc/thread-self/schedstat")?);
        counter.nanos()?;
        Ok(counter)
    }

    /// Nanoseconds for which the thread was ready to run and did not.
    pub fn nanos(&self) -> io::Result<u64> {
        let mut space = [0; LONGEST];
        let len = self.0.read_at(&mut space, 0)?;
        let second =
            std::str::from_utf8(&space[..len]).ok().and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
        second.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_a_thread_only_grows() {
        let Ok(counter) = RunDelay::of_this_thread() else { return };
        let first = counter.nanos().expect("it was read before");
        std::thread::yield_now();
        assert!(counter.nanos().expect("it was read before") >= first);
    }
}
