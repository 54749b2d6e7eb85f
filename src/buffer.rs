//! The bytes of one connection that wait: unread input, unsent output. And the pool the output comes from.
//!
//! Pure: no sockets, no clock, no Python. Input is always one contiguous slice. Output is a queue of chunks, and an
//! idle connection owns none: what is sent goes back to the poller's pool.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Small writes are gathered into chunks of about this many bytes.
const CHUNK: usize = 16 * 1024;
/// A pooled buffer starts with this capacity: a typical answer, or a batch of pipelined ones.
const FIRST_CAPACITY: usize = 1024;
/// How many emptied queues and buffers a pool keeps: what one batch of events can use, less what is seldom.
const POOLED: usize = 64;
/// Room is made for so many bytes at a time: who only says that much will come shall not cost more.
const MOST_ROOM: usize = 256 * 1024;
/// How many chunks one `writev` takes.
const GATHER: usize = 64;

/// Bytes that belong to the language above, held by reference until they are sent.
pub trait Held: Send {
    /// The bytes; the same ones for as long as the value lives.
    fn bytes(&self) -> &[u8];
}

/// Unread input: bytes of the poller's arena during a batch, bytes of its own afterwards.
#[derive(Default)]
pub struct Input {
    own: Vec<u8>,
    start: u32,
    arena_start: u32,
    arena_len: u32,
}

impl Input {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        if self.arena_len > 0 { self.arena_len as usize } else { self.own.len() - self.start as usize }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that wait.
    pub fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        if self.arena_len > 0 {
            &arena[self.arena_start as usize..][..self.arena_len as usize]
        } else {
            &self.own[self.start as usize..]
        }
    }

    /// The bytes that wait, to be changed in place.
    pub fn bytes_mut<'a>(&'a mut self, arena: &'a mut [u8]) -> &'a mut [u8] {
        if self.arena_len > 0 {
            &mut arena[self.arena_start as usize..][..self.arena_len as usize]
        } else {
            &mut self.own[self.start as usize..]
        }
    }

    /// Takes in `received`, a range of `arena`.
    ///
    /// Nothing is copied unless older input waits, which the new bytes have to follow.
    pub fn receive(&mut self, arena: &[u8], received: Range<usize>) {
        if self.is_empty() {
            self.arena_start = received.start as u32;
            self.arena_len = received.len() as u32;
            return;
        }
        self.settle(arena, received.len());
        self.own.drain(..self.start as usize);
        self.start = 0;
        self.own.extend_from_slice(&arena[received]);
    }

    /// Forgets the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        if self.arena_len > 0 {
            self.arena_start += n as u32;
            self.arena_len -= n as u32;
        } else if n == self.len() {
            *self = Self::default();
        } else {
            self.start += n as u32;
        }
    }

    /// Copies what still lies in the arena, which is about to be used again; with room for as much more as is known to come.
    pub fn settle(&mut self, arena: &[u8], more: usize) {
        if self.arena_len > 0 {
            let mut own = Vec::with_capacity(self.len() + more.min(MOST_ROOM));
            own.extend_from_slice(self.bytes(arena));
            self.own = own;
            (self.start, self.arena_len) = (0, 0);
        }
    }

    /// Whether what waits is in memory of its own.
    pub fn is_settled(&self) -> bool {
        self.arena_len == 0 && !self.own.is_empty()
    }

    /// Takes in, behind what waits in memory of its own, what `read` puts at the front of the room it is given: `most` bytes,
    /// or less.
    pub fn receive_into<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.own.reserve(most.min(MOST_ROOM));
        let spare = self.own.spare_capacity_mut();
        let room = spare.len().min(most);
        let count = read(&mut spare[..room])?.min(room);
        // SAFETY: `read` has written the first `count` bytes of the room, which lies right behind the length.
        unsafe { self.own.set_len(self.own.len() + count) };
        Ok(count)
    }
}

/// A part of a file on its way to the peer.
pub struct FileRange {
    /// The file.
    pub file: OwnedFd,
    /// Where the unsent part begins.
    pub offset: u64,
    /// How much of it is unsent.
    pub remaining: u64,
}

enum Chunk {
    Own { bytes: Vec<u8>, start: usize },
    Held { bytes: Box<dyn Held>, start: usize },
    Shared { bytes: Arc<[u8]>, start: usize },
    File(FileRange),
}

impl Chunk {
    #[inline]
    fn unsent(&self) -> &[u8] {
        match self {
            Self::Own { bytes, start } => &bytes[*start..],
            Self::Held { bytes, start } => &bytes.bytes()[*start..],
            Self::Shared { bytes, start } => &bytes[*start..],
            Self::File(_) => &[],
        }
    }
}

/// What the head of an output queue is, which decides the system call.
pub enum Head<'a> {
    /// Bytes in memory, one chunk or several.
    Bytes(&'a [IoSlice<'a>]),
    /// A part of a file.
    File(&'a mut FileRange),
}

/// Unsent output in order.
#[derive(Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    memory: usize,
    files: u64,
}

impl Output {
    /// Bytes in memory that wait.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// All bytes that wait, those of files included.
    pub fn len(&self) -> usize {
        self.memory.saturating_add(usize::try_from(self.files).unwrap_or(usize::MAX))
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends a copy of `data`.
    #[inline]
    pub fn push_copy(&mut self, data: &[u8], pool: &mut Pool) {
        self.memory += data.len();
        if let Some(Chunk::Own { bytes, .. }) = self.chunks.back_mut()
            && bytes.len() + data.len() <= CHUNK
        {
            bytes.extend_from_slice(data);
            return;
        }
        if !data.is_empty() {
            let mut bytes = pool.take_buffer();
            bytes.extend_from_slice(data);
            self.chunks.push_back(Chunk::Own { bytes, start: 0 });
        }
    }

    /// Appends `data`, which was copied before; again only if it is small.
    pub fn push_own(&mut self, data: Vec<u8>, pool: &mut Pool) {
        if data.len() <= CHUNK {
            return self.push_copy(&data, pool);
        }
        self.memory += data.len();
        self.chunks.push_back(Chunk::Own { bytes: data, start: 0 });
    }

    /// Appends `data` without copying.
    pub fn push_held(&mut self, data: Box<dyn Held>) {
        self.memory += data.bytes().len();
        self.chunks.push_back(Chunk::Held { bytes: data, start: 0 });
    }

    /// Appends `data`, which others send too.
    pub fn push_shared(&mut self, data: Arc<[u8]>) {
        self.memory += data.len();
        self.chunks.push_back(Chunk::Shared { bytes: data, start: 0 });
    }

    /// Appends a part of a file.
    pub fn push_file(&mut self, range: FileRange) {
        self.files += range.remaining;
        self.chunks.push_back(Chunk::File(range));
    }

    /// Calls `send` with what is first in the queue; `None` when nothing waits.
    pub fn with_head<R>(&mut self, send: impl FnOnce(Head<'_>) -> R) -> Option<R> {
        if let Some(Chunk::File(range)) = self.chunks.front_mut() {
            return Some(send(Head::File(range)));
        }
        if let [only] = self.chunks.as_slices().0 {
            return Some(send(Head::Bytes(&[IoSlice::new(only.unsent())])));
        }
        if self.chunks.is_empty() {
            return None;
        }
        let in_memory = self.chunks.iter().take_while(|chunk| !matches!(chunk, Chunk::File(_)));
        let slices: Vec<IoSlice<'_>> = in_memory.take(GATHER).map(|chunk| IoSlice::new(chunk.unsent())).collect();
        Some(send(Head::Bytes(&slices)))
    }

    /// Notes that the first `n` bytes were sent. What held them goes to the pool.
    pub fn sent(&mut self, mut n: usize, pool: &mut Pool) {
        while let Some(chunk) = self.chunks.front_mut() {
            match chunk {
                Chunk::File(range) => {
                    let part = (n as u64).min(range.remaining);
                    range.remaining -= part;
                    range.offset += part;
                    self.files -= part;
                    if range.remaining > 0 {
                        return;
                    }
                    n -= part as usize;
                }
                Chunk::Own { .. } | Chunk::Held { .. } | Chunk::Shared { .. } => {
                    let unsent = chunk.unsent().len();
                    let part = n.min(unsent);
                    self.memory -= part;
                    n -= part;
                    if part < unsent {
                        let (Chunk::Own { start, .. } | Chunk::Held { start, .. } | Chunk::Shared { start, .. }) =
                            chunk
                        else {
                            return;
                        };
                        *start += part;
                        return;
                    }
                }
            }
            if let Some(chunk) = self.chunks.pop_front() {
                pool.take_back(chunk);
            }
            if n == 0 {
                return;
            }
        }
    }
}

/// Emptied queues and buffers of one poller, used again; and held bytes that wait to be dropped by their owner.
#[derive(Default)]
pub struct Pool {
    #[allow(clippy::vec_box, reason = "a connection holds the box, so that it is small while it has no output")]
    queues: Vec<Box<Output>>,
    buffers: Vec<Vec<u8>>,
    released: Vec<Box<dyn Held>>,
}

impl Pool {
    /// An empty queue.
    pub fn take(&mut self) -> Box<Output> {
        self.queues.pop().unwrap_or_default()
    }

    /// Takes a queue back, unsent bytes and all.
    pub fn give_back(&mut self, mut output: Box<Output>) {
        while let Some(chunk) = output.chunks.pop_front() {
            self.take_back(chunk);
        }
        (output.memory, output.files) = (0, 0);
        if self.queues.len() < POOLED {
            self.queues.push(output);
        }
    }

    /// Notes held bytes that never came into a queue.
    pub fn release(&mut self, held: Box<dyn Held>) {
        self.released.push(held);
    }

    /// Whether held bytes wait to be dropped.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// The held bytes that are no longer needed; they have to be dropped where their owner can be.
    pub fn take_released(&mut self) -> Vec<Box<dyn Held>> {
        std::mem::take(&mut self.released)
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(FIRST_CAPACITY))
    }

    fn take_back(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Own { mut bytes, .. } if bytes.capacity() <= CHUNK && self.buffers.len() < POOLED => {
                bytes.clear();
                self.buffers.push(bytes);
            }
            Chunk::Held { bytes, .. } => self.released.push(bytes),
            Chunk::Own { .. } | Chunk::Shared { .. } | Chunk::File(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Bytes(Vec<u8>);

    impl Held for Bytes {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn input_comes_out_as_it_went_in(parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..50), 0usize..60, any::<bool>(), any::<bool>()), 1..40)) {
            let (mut input, mut expected, mut arena) = (Input::default(), Vec::<u8>::new(), vec![0; 64]);
            for (part, consumed, settles, direct) in parts {
                if direct && input.is_settled() {
                    let room = |room: &mut [MaybeUninit<u8>]| {
                        room.iter_mut().zip(&part).for_each(|(place, byte)| _ = place.write(*byte));
                        Ok::<_, ()>(part.len())
                    };
                    prop_assert_eq!(input.receive_into(part.len(), room), Ok(part.len()));
                } else {
                    arena[..part.len()].copy_from_slice(&part);
                    input.receive(&arena, 0..part.len());
                }
                expected.extend(&part);
                let consumed = consumed.min(expected.len());
                input.consume(consumed);
                expected.drain(..consumed);
                prop_assert_eq!(input.bytes(&arena), &expected[..]);
                if settles || !input.is_empty() {
                    input.settle(&arena, consumed);
                    arena.fill(0);
                }
                prop_assert_eq!(input.bytes(&arena), &expected[..]);
                prop_assert_eq!(input.len(), expected.len());
            }
        }

        #[test]
        fn output_leaves_in_order_whatever_each_send_takes(
            writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30_000), 0..3), 1..20),
            sends in prop::collection::vec(1usize..12_000, 1..10),
        ) {
            let (mut output, mut pool, mut expected, mut sent) = (Output::default(), Pool::default(), Vec::<u8>::new(), Vec::<u8>::new());
            for (data, how) in &writes {
                expected.extend(data);
                match how {
                    0 if !data.is_empty() => output.push_held(Box::new(Bytes(data.clone()))),
                    1 => output.push_own(data.clone(), &mut pool),
                    _ => output.push_copy(data, &mut pool),
                }
            }
            prop_assert_eq!(output.memory(), expected.len());
            let mut takes = sends.iter().cycle();
            while !output.is_empty() {
                let take = *takes.next().unwrap_or(&1);
                let n = output.with_head(|head| match head {
                    Head::Bytes(slices) => {
                        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).take(take).collect();
                        sent.extend(&all);
                        all.len()
                    }
                    Head::File(_) => 0,
                });
                output.sent(n.unwrap_or(0), &mut pool);
            }
            prop_assert_eq!(sent, expected);
            prop_assert_eq!(output.len(), 0);
            let held = writes.iter().filter(|(data, how)| *how == 0 && !data.is_empty()).count();
            prop_assert_eq!(pool.take_released().len(), held);
        }
    }

    #[test]
    fn input_that_was_consumed_owns_no_memory() {
        let mut input = Input::default();
        let arena = [1, 2, 3, 4];
        input.receive(&arena, 0..4);
        input.consume(1);
        input.settle(&arena, 0);
        assert_eq!(input.bytes(&arena), [2, 3, 4]);
        input.consume(3);
        assert_eq!(input.own.capacity(), 0);
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_may() {
        let mut pool = Pool::default();
        for _ in 0..3 * POOLED {
            let mut output = pool.take();
            output.push_copy(b"x", &mut Pool::default());
            pool.give_back(output);
            pool.give_back(Box::default());
        }
        assert!(pool.queues.len() <= POOLED && pool.buffers.len() <= POOLED);
    }
}
