//! The memory that a collection gives back after a flood.

/// A collection with room for no more entries than this keeps its room.
pub const KEPT: usize = 1024;

/// The room to which a collection of `len` entries should shrink; `None` if it may keep all its room.
#[inline]
pub fn room_for(len: usize, capacity: usize) -> Option<usize> {
    // Half of the new room stays free, so that the next entries cost no growth.
    (capacity > KEPT && len < capacity / 4).then_some((2 * len).max(KEPT))
}
