//! Files that are read at an offset.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Reads at an offset; the position of the file stays (pread(2)). Returns the number of bytes.
pub(crate) fn read_at(file: BorrowedFd<'_>, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open for the length of the call, which writes at most as many bytes as there is room.
    let count = unsafe { libc::pread(file.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), offset) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
