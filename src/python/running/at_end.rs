//! Logs that are written before the interpreter ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::journal::Journal;

/// The time for the last lines of all logs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Logs that are open.
static OPEN: Mutex<Vec<Weak<Journal>>> = Mutex::new(Vec::new());

fn open_logs() -> MutexGuard<'static, Vec<Weak<Journal>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a log closed when the interpreter ends.
pub fn close_log(journal: &Arc<Journal>) {
    let mut open = open_logs();
    open.retain(|journal| journal.strong_count() > 0);
    open.push(Arc::downgrade(journal));
}

/// Closes all logs; the caller is detached.
pub fn close_all_logs() {
    let logs = std::mem::take(&mut *open_logs());
    let end = Instant::now() + PATIENCE;
    for journal in logs.iter().filter_map(Weak::upgrade).filter(|journal| journal.check_process().is_ok()) {
        journal.close(end.saturating_duration_since(Instant::now()));
    }
}
