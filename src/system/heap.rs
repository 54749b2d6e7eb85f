//! How much freed memory the C library keeps.

use std::hint::black_box;
use std::sync::Once;

/// The size of a block as large as a large message.
const LARGE: usize = 4 * 1024 * 1024;

static SHOWN: Once = Once::new();

/// Lets glibc keep up to 8 MiB of free memory at the top of its heap.
///
/// At first glibc returns all free memory above 128 KiB to the system, which is two messages of 64 KiB. The next
/// messages then fault their pages in again, one by one, and that takes as long as sending them. Once a larger block
/// was freed, glibc keeps twice the size of that block (`mallopt(3)`, `M_MMAP_THRESHOLD`). So this function allocates
/// and frees one large block before there is any traffic, and touches no page of it. Settings of the user in the
/// environment still take precedence. With another C library this function has no effect.
pub(crate) fn keep_free_memory() {
    SHOWN.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGE))));
}
