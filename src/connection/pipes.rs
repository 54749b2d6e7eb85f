//! The pipes of one poller, by which connections pass input on to others. A pipe costs two descriptors, so there are few.
//!
//! A connection takes one when bytes flow, and its output gives it back when it is empty. Only a slow reader keeps one.

use crate::system::pipe::Pipe;
use crate::system::signal::handler_of;

/// The most pipes of a poller. Beyond them, and when descriptors run out, bytes are copied instead.
const MOST: usize = 64;
/// The most empty pipes that are kept.
const KEPT: usize = 8;

#[derive(Default)]
pub(crate) struct Pipes {
    /// The pipes that exist.
    count: usize,
    empty: Vec<Pipe>,
    /// Pipes that are to be closed, outside callbacks.
    done: Vec<Pipe>,
}

impl Pipes {
    /// An empty pipe; `None` if there are no more, or if a pipe is dangerous.
    pub fn take(&mut self) -> Option<Pipe> {
        // A splice to a socket whose peer is gone raises SIGPIPE, which a program may have set to end it.
        if handler_of(libc::SIGPIPE) == Some(libc::SIG_DFL) {
            return None;
        }
        if let Some(pipe) = self.empty.pop() {
            return Some(pipe);
        }
        // Without descriptors the next attempt is that of the next large read, which costs little.
        let pipe = if self.count < MOST { Pipe::new().ok()? } else { return None };
        self.count += 1;
        Some(pipe)
    }

    /// Takes a pipe back. One that holds bytes is of no use any more.
    pub fn give_back(&mut self, pipe: Pipe) {
        let is_kept = pipe.held() == 0 && self.empty.len() < KEPT;
        (if is_kept { &mut self.empty } else { &mut self.done }).push(pipe);
    }

    /// Closes the pipes that are of no use.
    #[inline]
    pub fn close_done(&mut self) {
        self.count -= self.done.len();
        self.done.clear();
    }

    /// Closes the empty pipes, because descriptors are short.
    pub fn close_empty(&mut self) {
        self.count -= self.empty.len();
        self.empty.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poller_has_few_pipes_and_keeps_fewer() {
        let mut pipes = Pipes::default();
        let taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!((taken.len(), pipes.count), (MOST, MOST));
        taken.into_iter().for_each(|pipe| pipes.give_back(pipe));
        pipes.close_done();
        assert_eq!((pipes.empty.len(), pipes.count), (KEPT, KEPT));
        assert!(pipes.take().is_some());
        assert_eq!((pipes.empty.len(), pipes.count), (KEPT - 1, KEPT));
        pipes.close_empty();
        assert_eq!(pipes.count, 1);
    }
}
