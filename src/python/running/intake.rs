//! Messages of any threads on their way to one thread, which is woken for the first of them.
//!
//! A thread that is woken competes with the one that wakes it, for the interpreter lock and often for the CPU. The callback
//! that sends would wait for it, and so would its connections. Therefore a poller wakes it when the callbacks of the batch
//! have run and their output is sent. A callback that goes on sending puts it off no longer than [`LONGEST`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::poller::Poller;
use crate::python::tables::{Caller, PyTask, Task, with_current};
use crate::shared::handle::PollerHandle;
use crate::system::fork;

/// The longest time between a message and the wake-up.
const LONGEST: Duration = Duration::from_millis(1);

/// A message, behind its sender.
type Entry = (Py<PyAny>, Py<PyAny>);

/// The thread that takes the messages.
enum Reader {
    /// The next sender has to wake it.
    Asleep,
    /// A poller will wake it soon, and has been about to since then.
    PutOff(Instant),
    Woken,
}

struct Inside {
    entries: VecDeque<Entry>,
    /// Messages that found no room since the last `take`.
    dropped: u64,
    reader: Reader,
    /// Makes the exception for a sender that comes too late.
    closed: Option<Py<PyAny>>,
}

/// The messages of all threads on their way to one thread.
///
/// Args: ``wake()`` has the reader call ``take`` soon; it is called on any thread. ``most`` messages wait at most, then the
/// oldest are dropped.
#[pyclass(frozen, module = "goev._core")]
pub struct Intake {
    inside: Mutex<Inside>,
    wake: Py<PyAny>,
    most: usize,
    /// The [`fork::generation`] of the process that made it.
    birth: u32,
}

#[pymethods]
impl Intake {
    #[new]
    fn new(wake: Py<PyAny>, most: usize) -> Self {
        let inside = Inside { entries: VecDeque::new(), dropped: 0, reader: Reader::Asleep, closed: None };
        Self { inside: Mutex::new(inside), wake, most, birth: fork::generation() }
    }

    /// Append a message of a sender. Raises the exceptions of ``close``, and those of ``wake``.
    fn put(slf: &Bound<'_, Self>, sender: Py<PyAny>, message: Py<PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if fork::is_foreign(this.birth) {
            // In a forked child the lock may be held by a thread that does not exist there. This raises the reason.
            return this.wake.call0(py).map(drop);
        }
        let appended = this.append(py, (sender, message));
        let (is_due, oldest) = appended.map_err(|refusal| exception_by(py, &refusal))?;
        // Dropping it may run code of the user's.
        drop(oldest);
        if is_due { this.wake_or_put_off(slf) } else { Ok(()) }
    }

    /// All messages that wait, each behind its sender, and the number of older ones that found no room.
    fn take(&self) -> (Vec<Entry>, u64) {
        let inside = &mut *self.lock();
        inside.reader = Reader::Asleep;
        (std::mem::take(&mut inside.entries).into(), std::mem::take(&mut inside.dropped))
    }

    /// Have later calls of ``put`` raise what ``refusal()`` returns: a new exception each time, because a raised one keeps
    /// the frames of its caller.
    fn close(&self, refusal: Py<PyAny>) {
        let before = self.lock().closed.replace(refusal);
        drop(before);
    }

    fn __len__(&self) -> usize {
        self.lock().entries.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.wake)?;
        if let Ok(inside) = self.inside.try_lock() {
            for (sender, message) in &inside.entries {
                visit.call(sender)?;
                visit.call(message)?;
            }
            visit.call(&inside.closed)?;
        }
        Ok(())
    }
}

fn exception_by(py: Python<'_>, refusal: &Py<PyAny>) -> PyErr {
    refusal.bind(py).call0().map_or_else(|error| error, PyErr::from_value)
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // A panic while the lock is held cannot leave the queue half changed.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the reader is to be woken, and the message that made room; the refusal if it is closed.
    fn append(&self, py: Python<'_>, entry: Entry) -> Result<(bool, Option<Entry>), Py<PyAny>> {
        let inside = &mut *self.lock();
        if let Some(refusal) = &inside.closed {
            return Err(refusal.clone_ref(py));
        }
        let oldest = if inside.entries.len() < self.most { None } else { inside.entries.pop_front() };
        inside.dropped += u64::from(oldest.is_some());
        inside.entries.push_back(entry);
        let is_due = match inside.reader {
            Reader::Asleep => true,
            Reader::PutOff(since) => since.elapsed() >= LONGEST,
            Reader::Woken => false,
        };
        Ok((is_due, oldest))
    }

    fn wake_or_put_off(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let is_put_off = with_current(|poller, _| self.put_off(slf, poller.handle())).unwrap_or(false);
        if is_put_off { Ok(()) } else { self.wake_now(py) }
    }

    /// Has the poller of this thread wake the reader, unless it was to do so already.
    fn put_off(&self, slf: &Bound<'_, Self>, poller: &PollerHandle) -> bool {
        {
            let inside = &mut *self.lock();
            if !matches!(inside.reader, Reader::Asleep) {
                return false;
            }
            inside.reader = Reader::PutOff(Instant::now());
        }
        // A poller that has ended gives the task back, which wakes the reader when it is dropped.
        drop(poller.post_task(PyTask::other(WakeUp(Some(slf.clone().unbind())))));
        true
    }

    fn wake_now(&self, py: Python<'_>) -> PyResult<()> {
        self.lock().reader = Reader::Woken;
        let woken = self.wake.call0(py);
        if woken.is_err() {
            // So that the next sender hears it too.
            self.lock().reader = Reader::Asleep;
        }
        woken.map(drop)
    }

    /// Wakes the reader, unless a sender has done so because it took too long.
    fn wake_late(&self, py: Python<'_>) -> PyResult<()> {
        let is_due = !fork::is_foreign(self.birth) && matches!(self.lock().reader, Reader::PutOff(_));
        if is_due { self.wake_now(py) } else { Ok(()) }
    }
}

/// The wake-up at the end of a batch.
struct WakeUp(Option<Py<Intake>>);

impl Task for WakeUp {
    fn run(mut self: Box<Self>, py: Python<'_>, poller: &Poller, caller: &dyn Caller) {
        let Some(intake) = self.0.take() else { return };
        if let Err(error) = intake.get().wake_late(py) {
            caller.report(py, poller, intake.get().wake.bind(py), "the wake-up by", error);
        }
    }

    fn show(&self, see: &mut dyn FnMut(&Py<PyAny>)) {
        if let Some(intake) = &self.0 {
            see(intake.as_any());
        }
    }
}

/// The poller has ended before it came to the task.
impl Drop for WakeUp {
    fn drop(&mut self) {
        let Some(intake) = self.0.take() else { return };
        Python::try_attach(|py| {
            // It fails only if the reader has ended too.
            let _ = intake.get().wake_late(py);
        });
    }
}
