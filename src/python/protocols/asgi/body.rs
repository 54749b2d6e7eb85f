//! The body of a request on its way to `receive`.

use std::collections::VecDeque;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes that wait for the application before reading pauses.
const HIGH: usize = 64 * 1024;

/// Bytes at which reading goes on.
const LOW: usize = 16 * 1024;

/// The next message of `receive`.
pub enum Next {
    /// A part of the body; `None` is an empty one. And whether more follows.
    Part(Option<Py<PyBytes>>, bool),
    Disconnect,
    /// There is none yet.
    Nothing,
}

/// The parts that came and were not taken.
#[derive(Default)]
pub struct Body {
    parts: VecDeque<Py<PyBytes>>,
    held: usize,
    is_paused: bool,
    /// The whole body has come.
    is_whole: bool,
    /// `receive` has given the whole body.
    is_taken: bool,
    /// Nothing more comes.
    pub is_lost: bool,
    /// Objects with a method `told`, which is called when there may be a message.
    pub waiters: Vec<Py<PyAny>>,
}

impl Body {
    pub fn new(is_whole: bool) -> Self {
        Self { is_whole, ..Self::default() }
    }

    /// Adds a part, or the end. Returns whether reading has to pause.
    pub fn add(&mut self, part: Option<(Py<PyBytes>, usize)>) -> bool {
        match part {
            None => self.is_whole = true,
            Some((part, len)) => {
                self.parts.push_back(part);
                self.held += len;
            }
        }
        let pauses = self.held > HIGH && !self.is_paused && !self.is_whole;
        self.is_paused |= pauses;
        pauses
    }

    /// Takes the next message. Also returns whether reading goes on.
    pub fn next(&mut self, py: Python<'_>, is_answered: bool) -> (Next, bool) {
        if is_answered {
            return (Next::Disconnect, false);
        }
        if let Some(part) = self.parts.pop_front() {
            self.held -= part.bind(py).as_bytes().len();
            self.is_taken = self.is_whole && self.parts.is_empty();
            let resumes = self.is_paused && self.held <= LOW;
            self.is_paused &= !resumes;
            return (Next::Part(Some(part), !self.is_taken), resumes);
        }
        let next = if self.is_whole && !self.is_taken {
            self.is_taken = true;
            Next::Part(None, false)
        } else if self.is_lost {
            Next::Disconnect
        } else {
            Next::Nothing
        };
        (next, false)
    }

    /// Forgets the parts, because no `receive` takes them any more. Returns them, and whether reading goes on.
    pub fn forget(&mut self) -> (VecDeque<Py<PyBytes>>, bool) {
        self.held = 0;
        (std::mem::take(&mut self.parts), std::mem::take(&mut self.is_paused))
    }
}
