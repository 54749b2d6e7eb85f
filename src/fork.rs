//! Whether this process was forked, by a counter that pthread_atfork(3) handlers keep.
//!
//! A reactor remembers the number of its birth. In a child the number differs, and nothing of the reactor may be
//! touched there: the epoll instance and the eventfd are shared with the parent.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static HAS_CHILDREN: AtomicBool = AtomicBool::new(false);

extern "C" fn in_parent() {
    HAS_CHILDREN.store(true, Ordering::Relaxed);
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// The number of this process in the line of forks; the handlers are installed at the first call.
pub fn generation() -> u32 {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: both handlers only store to atomics, which is allowed after a fork. A failure (ENOMEM) leaves the
        // counter at 0, as if no fork happened; nothing depends on it for memory safety.
        unsafe { libc::pthread_atfork(None, Some(in_parent), Some(in_child)) };
    });
    GENERATION.load(Ordering::Relaxed)
}

/// Whether `birth`, a [`generation`] kept from earlier, belongs to another process than this one.
pub fn is_foreign(birth: u32) -> bool {
    GENERATION.load(Ordering::Relaxed) != birth
}

/// Whether a child may hold copies of our sockets: then closing ours does not tell the peer.
pub fn has_children() -> bool {
    HAS_CHILDREN.load(Ordering::Relaxed)
}
