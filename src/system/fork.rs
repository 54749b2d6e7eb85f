//! Detects whether this process was forked, by a counter that pthread_atfork(3) handlers keep.
//!
//! A reactor stores the counter's value of its creation. In a child the counter differs, and no part of the reactor
//! may be used there: child and parent share the epoll instance and the eventfd.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::Error;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static HAS_CHILDREN: AtomicBool = AtomicBool::new(false);

extern "C" fn in_parent() {
    HAS_CHILDREN.store(true, Ordering::Relaxed);
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// The number of forks that led to this process. The first call installs the handlers.
pub fn generation() -> u32 {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: both handlers only store to atomics, which is allowed after a fork. A failure (ENOMEM) leaves the
        // counter at 0, as if no fork happened; nothing depends on it for memory safety.
        unsafe { libc::pthread_atfork(None, Some(in_parent), Some(in_child)) };
    });
    GENERATION.load(Ordering::Relaxed)
}

/// Whether `birth`, a stored [`generation`], comes from another process than this one.
pub fn is_foreign(birth: u32) -> bool {
    GENERATION.load(Ordering::Relaxed) != birth
}

/// Returns an error in a forked child, because `what` there is a copy that must not be touched.
pub fn check(birth: u32, what: &str) -> Result<(), Error> {
    if is_foreign(birth) {
        return Err(Error::state(format!(
            "this {what} belongs to the parent process: after os.fork() make a new one in the child [GOEV103]"
        )));
    }
    Ok(())
}

/// Whether a child may hold copies of our sockets. If so, closing our copy does not notify the peer.
pub fn has_children() -> bool {
    HAS_CHILDREN.load(Ordering::Relaxed)
}
