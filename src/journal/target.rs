//! The file of a journal: it is opened, and whole lines are appended to it.
//!
//! A regular file takes each batch by one write with `O_APPEND`, so several processes may share it. Everything else (a FIFO,
//! a terminal, a socket) may be full: the writer waits for room, and sends at most as much as a pipe takes at once.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

/// Bytes that a pipe takes whole or not at all (pipe(7)).
const ATOMIC: usize = libc::PIPE_BUF;
/// Milliseconds between two looks at the wish to give up, while a file takes nothing.
const LOOK: libc::c_int = 50;

/// The place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path.
    Path(PathBuf),
    /// The standard output of the process.
    Output,
    /// Its standard error.
    Error,
}

impl Place {
    /// The path, if it has one.
    pub fn path(&self) -> Option<&PathBuf> {
        if let Self::Path(path) = self { Some(path) } else { None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(to, "{}", path.display()),
            Self::Output => to.write_str("to standard output"),
            Self::Error => to.write_str("to standard error"),
        }
    }
}

/// The outcome of [`Target::append`].
#[derive(Debug)]
pub(super) struct Appended {
    /// Bytes at the front of the lines that were taken, or that the target will complete: whole lines.
    pub taken: usize,
    /// The error that kept the target from taking the rest; `None` if it took everything, or was to stop.
    pub error: Option<io::Error>,
}

/// An open file.
pub(super) struct Target {
    file: File,
    is_regular: bool,
    /// The rest of a line, of which the file took only the beginning.
    torn: Vec<u8>,
}

impl Target {
    pub fn open(place: &Place) -> io::Result<Self> {
        let file = match place {
            Place::Path(path) => open_path(path)?,
            Place::Output => copy_of(libc::STDOUT_FILENO)?,
            Place::Error => copy_of(libc::STDERR_FILENO)?,
        };
        let is_regular = file.metadata()?.is_file();
        Ok(Self { file, is_regular, torn: Vec::new() })
    }

    /// Whether a line was begun that is not complete.
    pub fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }

    /// Appends whole lines. While the file has no room it waits, until `stops` says so.
    pub fn append(&mut self, lines: &[u8], stops: &dyn Fn() -> bool) -> Appended {
        let torn = std::mem::take(&mut self.torn);
        let (done, ended) = self.write(&torn, stops);
        self.torn = torn[done..].to_vec();
        if self.is_torn() {
            return Appended { taken: 0, error: ended.err() };
        }
        let mut taken = 0;
        while taken < lines.len() {
            let piece = if self.is_regular { &lines[taken..] } else { first_lines(&lines[taken..]) };
            let (done, ended) = self.write(piece, stops);
            if done < piece.len() {
                let cut = line_end(piece, done);
                // The begun line is completed as soon as the file has room. So no line is mixed with the next one.
                self.torn = piece[done..cut].to_vec();
                return Appended { taken: taken + cut, error: ended.err() };
            }
            taken += done;
        }
        Appended { taken, error: None }
    }

    /// Writes bytes; returns how many were taken, and the error that prevented the rest.
    fn write(&mut self, bytes: &[u8], stops: &dyn Fn() -> bool) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < bytes.len() {
            match self.has_room(stops) {
                Ok(true) => {}
                Ok(false) => return (done, Ok(())),
                Err(error) => return (done, Err(error)),
            }
            match self.file.write(&bytes[done..]) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process has set the mode of a file that it shares, and the room was taken meanwhile.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stops() => {}
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Waits for room. False if `stops` says so first.
    fn has_room(&self, stops: &dyn Fn() -> bool) -> io::Result<bool> {
        if self.is_regular {
            return Ok(true);
        }
        loop {
            let mut asked = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
            // SAFETY: the one entry is ours.
            match unsafe { libc::poll(&raw mut asked, 1, LOOK) } {
                0 if stops() => return Ok(false),
                // A file with an error has room: the write tells the error.
                1.. => return Ok(true),
                0 => {}
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

fn copy_of(descriptor: RawFd) -> io::Result<File> {
    // SAFETY: it is only copied; if nothing is open there, the copy fails.
    let standard = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(standard.try_clone_to_owned()?.into())
}

fn open_path(path: &PathBuf) -> io::Result<File> {
    let is_fifo = std::fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo());
    let mut options = OpenOptions::new();
    match is_fifo {
        // A FIFO that is open for both ways needs no reader, and keeps written bytes until a reader comes (fifo(7)).
        true => options.read(true).write(true),
        false => options.append(true).create(true),
    };
    options.custom_flags(libc::O_NOCTTY).open(path)
}

/// The lines at the front that a pipe takes at once: at least one, however long.
fn first_lines(lines: &[u8]) -> &[u8] {
    if lines.len() <= ATOMIC {
        return lines;
    }
    let end = memchr::memrchr(b'\n', &lines[..ATOMIC]).map_or_else(|| line_end(lines, 1), |at| at + 1);
    &lines[..end]
}

/// The end of the line that byte `at` is in, or `at` if a line ends before it.
fn line_end(lines: &[u8], at: usize) -> usize {
    if at == 0 || lines[at - 1] == b'\n' {
        return at;
    }
    memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |rest| at + rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_whole_lines_and_a_long_one_alone() {
        let line = vec![b'x'; 3000];
        let lines = [&line[..], b"\n", &line, b"\n", &line, &line, b"\n", b"y\n"].concat();
        assert_eq!(first_lines(&lines).len(), 3001);
        assert_eq!(first_lines(&lines[6002..]).len(), 6001);
        assert_eq!(first_lines(b"y\n"), b"y\n");
    }

    #[test]
    fn a_line_ends_behind_the_bytes_that_were_taken_of_it() {
        let ends: Vec<_> = (0..=4).map(|at| line_end(b"a\nbc", at)).collect();
        assert_eq!(ends, [0, 2, 2, 4, 4]);
    }
}
