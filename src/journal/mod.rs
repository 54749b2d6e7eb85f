//! A file of lines that many pollers write to and none waits for.
//!
//! Each poller puts records into a [`Lane`] of its own. One thread makes lines of them and appends whole lines. The rule to
//! know: the bytes that wait are bounded, and a record that does not fit is dropped and counted. In a forked child a
//! journal has no thread: it takes no record there, and only its owner's process ends it.
//!
//! | file | holds |
//! |---|---|
//! | `records` | the records of one poller that wait |
//! | `lane` | [`Lane`]: the way of a poller to them |
//! | `shared` | settings, counters, the wishes of other threads |
//! | `writer` | the thread |
//! | `target` | the file: it is opened, and whole lines are appended |

mod lane;
mod records;
mod shared;
mod target;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

pub use lane::Lane;
pub use shared::{CAPACITIES, Counted, Settings};
pub use target::Place;
pub use writer::Tell;

use crate::error::Error;
use crate::recorder::Render;
use crate::system::fork;
use shared::Shared;
use target::Target;

/// The time for which [`Journal::reopen`] waits until the writer has changed to the new file.
const CHANGE: Duration = Duration::from_secs(1);
/// The time in which the writer notices that it has to give up.
const NOTICE: Duration = Duration::from_millis(500);

/// A journal. When the last of its owners is gone, its thread writes the rest and ends.
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens the file and starts the thread.
    pub fn open(settings: Settings, render: Box<dyn Render>, tell: Tell) -> Result<Arc<Self>, Error> {
        let target = Self::open_file(&settings.place)?;
        let shared = Arc::new(Shared::new(settings));
        let writer = writer::Writer::new(shared.clone(), target, render, tell);
        let spawned = thread::Builder::new().name("goev-log".into()).spawn(|| writer.run());
        spawned.map_err(Error::io("cannot start the thread of a log"))?;
        Ok(Arc::new(Self { shared }))
    }

    fn open_file(place: &Place) -> Result<Target, Error> {
        Target::open(place).map_err(|error| Error::io(&format!("cannot open the log {place}"))(error))
    }

    /// A lane to the records of the poller with this number. Pollers of several reactors may share them.
    pub fn lane(&self, poller: usize) -> Arc<Lane> {
        let mut lanes = self.shared.lanes();
        while lanes.len() <= poller {
            lanes.push(Arc::default());
        }
        Arc::new(Lane::new(self.shared.clone(), lanes[poller].clone()))
    }

    /// The counts so far.
    pub fn counted(&self) -> Counted {
        self.shared.counted()
    }

    /// The path that it was opened with; `None` for standard output.
    pub fn path(&self) -> Option<&PathBuf> {
        self.shared.settings.place.path()
    }

    /// Waits until every record so far is written or dropped. False if the time is over first.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.ask(timeout)
    }

    /// Opens the path anew, and goes on in that file. The old file gets nothing after that, unless it takes nothing at all.
    pub fn reopen(&self) -> Result<(), Error> {
        if self.shared.is_closed.load(Ordering::SeqCst) {
            return Err(Error::state("the log is closed".into()));
        }
        if self.path().is_some() {
            let target = Self::open_file(&self.shared.settings.place)?;
            let before = self.shared.state().next.replace(target);
            drop(before);
            self.shared.has_next.store(true, Ordering::SeqCst);
            self.shared.ask(CHANGE);
        }
        Ok(())
    }

    /// Writes the lines that wait, and ends the thread. Records that come later are dropped. False if lines were dropped
    /// because the file did not take them in this time.
    pub fn close(&self, timeout: Duration) -> bool {
        self.shared.begin_close();
        if self.shared.wait_for_end(timeout) {
            return true;
        }
        self.shared.gives_up.store(true, Ordering::SeqCst);
        self.shared.wait_for_end(NOTICE);
        false
    }

    /// An error in a forked child, which has no writer.
    pub fn check_process(&self) -> Result<(), Error> {
        fork::check(self.shared.birth, "log")
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // In a forked child another thread may have held the lock.
        if self.check_process().is_ok() {
            self.shared.begin_close();
        }
    }
}

#[cfg(test)]
mod tests;
