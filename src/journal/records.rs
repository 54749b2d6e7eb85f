//! The records of one poller that wait for the writer: each with its length before it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes before each record: its length.
pub(super) const PREFIX: usize = size_of::<u32>();
/// Memory that is kept between two rounds of the writer.
const KEPT: usize = 256 * 1024;

/// Records that wait.
#[derive(Default)]
pub(super) struct Records(Mutex<Vec<u8>>);

impl Records {
    pub fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // A thread that panics here has appended a part of a record at most, and a reader stops at such a part.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn are_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Exchanges the records for `spare`, whose memory is used again.
    pub fn take(&self, mut spare: Vec<u8>) -> Vec<u8> {
        spare.clear();
        spare.shrink_to(KEPT);
        std::mem::replace(&mut *self.lock(), spare)
    }
}

/// The records in the bytes of [`Records::take`], each with the bytes that it counted for.
pub(super) fn each_of(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    std::iter::from_fn(move || {
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        bytes = rest;
        Some((record, PREFIX + record.len()))
    })
}
