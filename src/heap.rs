//! The memory that is free again, which the C library is to keep.

use std::hint::black_box;
use std::sync::Once;

/// A block as large as a large message.
const LARGE: usize = 4 * 1024 * 1024;

static SHOWN: Once = Once::new();

/// Lets glibc keep up to 8 MiB of free memory at the top of its heap.
///
/// It gives back all above 128 KiB at first, which is two messages of 64 KiB: the next ones fault their pages in again, one
/// by one, and that takes as long as to send them. Once a larger block was freed it keeps twice as much as that, by itself
/// (`mallopt(3)`, `M_MMAP_THRESHOLD`). So it is shown one, of which no page is touched, before there is any traffic, and
/// what a user has set in the environment still goes first. With another C library this does nothing.
pub(crate) fn keep_free_memory() {
    SHOWN.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGE))));
}
