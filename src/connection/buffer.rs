//! The waiting bytes of one connection: unread input and unsent output; and the pool of output memory.
//!
//! No sockets, no clock, no Python. Input is always one contiguous slice. Output is a queue of chunks. An idle
//! connection owns no chunk: sent chunks return to the poller's pool. A mark is a chunk without bytes: the pool keeps it
//! for the dispatch when everything before it was sent.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use super::pipes::Pipes;
use crate::data::{Data, FileRange, Held, Note};
use crate::error::Foreign;
use crate::system::pipe::Pipe;

/// Small writes are gathered into chunks of about this many bytes.
const CHUNK: usize = 16 * 1024;
/// First capacity of a pooled buffer: a typical answer, or a batch of pipelined ones.
const FIRST_CAPACITY: usize = 1024;
/// Number of empty queues and buffers that a pool keeps: as many as one batch of events usually needs.
const POOLED: usize = 64;
/// Most room that is reserved at once. A peer that only announces a large message must not make us reserve memory for
/// it.
const MOST_ROOM: usize = 256 * 1024;
/// A queue with room for more chunks than this is not kept.
const MOST_CHUNKS: usize = 1024;
/// Number of chunks that one `writev` takes.
const GATHER: usize = 64;

/// The result of one receive.
pub(crate) struct Received {
    /// Bytes received; 0 at the end of the stream.
    pub bytes: usize,
    /// Whether the socket is empty, because it gave fewer bytes than there was room for. The next byte then makes a
    /// new edge of the poll.
    pub drained: bool,
}

/// The result of one send.
pub(crate) struct Sent {
    /// Bytes sent.
    pub bytes: usize,
    /// Whether all offered bytes were sent.
    pub all: bool,
    /// Whether they belong to a file; a file is never offered whole.
    pub from_file: bool,
}

/// Unread input: bytes of the poller's arena during a batch, bytes in its own memory afterwards.
#[derive(Default)]
pub struct Input {
    own: Vec<u8>,
    /// The first unread byte, in the arena if some are there; [`LOST`] if there was no memory.
    start: u32,
    /// The number of unread bytes in the arena.
    arena_len: u32,
}

const LOST: u32 = u32::MAX;

impl Input {
    /// Whether there was no memory for the unread bytes. Then they are lost.
    pub fn is_lost(&self) -> bool {
        self.start == LOST
    }

    /// Frees the memory of all bytes, because there is none for more.
    #[cold]
    fn lose(&mut self) {
        *self = Self { start: LOST, ..Self::default() };
    }

    /// The number of unread bytes.
    pub fn len(&self) -> usize {
        if self.arena_len > 0 { self.arena_len as usize } else { self.own.len().saturating_sub(self.start as usize) }
    }

    /// Whether there is no unread byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The unread bytes.
    pub fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        if self.arena_len > 0 {
            &arena[self.start as usize..][..self.arena_len as usize]
        } else {
            self.own.get(self.start as usize..).unwrap_or_default()
        }
    }

    /// The unread bytes, to be changed in place.
    pub fn bytes_mut<'a>(&'a mut self, arena: &'a mut [u8]) -> &'a mut [u8] {
        if self.arena_len > 0 {
            &mut arena[self.start as usize..][..self.arena_len as usize]
        } else {
            self.own.get_mut(self.start as usize..).unwrap_or_default()
        }
    }

    /// Appends `received`, a range of `arena`.
    ///
    /// Copies nothing, unless older input waits; then the new bytes must follow it in memory.
    pub fn receive(&mut self, arena: &[u8], received: Range<usize>) {
        if self.is_empty() {
            self.start = received.start as u32;
            self.arena_len = received.len() as u32;
            return;
        }
        self.settle(arena, received.len());
        self.own.drain(..self.start as usize);
        self.start = 0;
        match self.own.try_reserve(received.len()) {
            Ok(()) => self.own.extend_from_slice(&arena[received]),
            Err(_) => self.lose(),
        }
    }

    /// Removes the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        if self.arena_len > 0 {
            self.start += n as u32;
            self.arena_len -= n as u32;
        } else if n == self.len() {
            *self = Self::default();
        } else {
            self.start += n as u32;
        }
    }

    /// Copies unread bytes out of the arena before the arena is used again. Reserves room for `more` bytes that are
    /// known to follow.
    pub fn settle(&mut self, arena: &[u8], more: usize) {
        if self.arena_len > 0 {
            let mut own = Vec::new();
            if own.try_reserve_exact(self.len() + more.min(MOST_ROOM)).is_err() {
                return self.lose();
            }
            own.extend_from_slice(self.bytes(arena));
            self.own = own;
            (self.start, self.arena_len) = (0, 0);
        }
    }

    /// Whether unread bytes are in the arena.
    #[inline]
    pub fn is_in_arena(&self) -> bool {
        self.arena_len > 0
    }

    /// Whether the unread bytes are in the input's own memory.
    pub fn is_settled(&self) -> bool {
        self.arena_len == 0 && !self.own.is_empty()
    }

    /// Has `read` fill room for at most `most` bytes behind the unread bytes in the input's own memory, and appends
    /// what it read. Reads nothing if there is no memory for the room.
    pub fn receive_into<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        if self.own.try_reserve(most.min(MOST_ROOM)).is_err() {
            self.lose();
            return Ok(0);
        }
        if self.own.is_empty() {
            // The input that was read last lay in the arena.
            self.start = 0;
        }
        let spare = self.own.spare_capacity_mut();
        let room = spare.len().min(most);
        let count = read(&mut spare[..room])?.min(room);
        // SAFETY: `read` has written the first `count` bytes of the room, which lies right behind the length.
        unsafe { self.own.set_len(self.own.len() + count) };
        Ok(count)
    }
}

enum Chunk {
    Own {
        bytes: Vec<u8>,
        start: usize,
    },
    Held {
        bytes: Box<dyn Held>,
        start: usize,
    },
    Shared {
        bytes: Arc<[u8]>,
        start: usize,
    },
    File(FileRange),
    /// Bytes of another connection, in the kernel.
    Piped(Pipe),
    Mark(Foreign),
    Note(Box<dyn Note>),
}

impl Chunk {
    #[inline]
    fn unsent(&self) -> &[u8] {
        match self {
            Self::Own { bytes, start } => &bytes[*start..],
            Self::Held { bytes, start } => &bytes.bytes()[*start..],
            Self::Shared { bytes, start } => &bytes[*start..],
            Self::File(_) | Self::Piped(_) | Self::Mark(_) | Self::Note(_) => &[],
        }
    }
}

/// The first item of an output queue; its kind decides the system call.
pub(crate) enum Head<'a> {
    /// Bytes in memory, one chunk or several.
    Bytes(&'a [IoSlice<'a>]),
    /// A part of a file.
    File(&'a mut FileRange),
    /// The bytes of a pipe.
    Piped(&'a mut Pipe),
}

/// Unsent output in order.
#[derive(Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    memory: usize,
    files: u64,
    piped: usize,
}

impl Output {
    /// Unsent bytes in memory.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Unsent bytes in pipes.
    pub fn piped(&self) -> usize {
        self.piped
    }

    /// All unsent bytes that were written, those of files included.
    pub fn len(&self) -> usize {
        self.memory.saturating_add(usize::try_from(self.files).unwrap_or(usize::MAX))
    }

    /// Whether no byte is unsent; a mark may remain.
    pub fn is_empty(&self) -> bool {
        self.memory == 0 && self.files == 0 && self.piped == 0
    }

    /// Appends a copy of `data`.
    #[inline]
    pub fn push_copy(&mut self, data: &[u8], pool: &mut Pool) {
        self.push_copies([data], pool);
    }

    /// Appends a copy of each part.
    #[inline]
    pub fn push_copies<const N: usize>(&mut self, parts: [&[u8]; N], pool: &mut Pool) {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        self.memory += len;
        if let Some(Chunk::Own { bytes, .. }) = self.chunks.back_mut()
            && bytes.len() + len <= CHUNK
        {
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            return;
        }
        if len > 0 {
            let mut bytes = pool.take_buffer();
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            self.chunks.push_back(Chunk::Own { bytes, start: 0 });
        }
    }

    /// Appends `data`, which was copied before. Copies it again only if it is small.
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

    /// Appends `data`, which other connections send too.
    pub fn push_shared(&mut self, data: Arc<[u8]>) {
        self.memory += data.len();
        self.chunks.push_back(Chunk::Shared { bytes: data, start: 0 });
    }

    /// Appends a part of a file.
    pub fn push_file(&mut self, range: FileRange) {
        self.files += range.remaining;
        self.chunks.push_back(Chunk::File(range));
    }

    /// Appends the bytes of a pipe.
    pub(crate) fn push_piped(&mut self, pipe: Pipe) {
        self.piped += pipe.held();
        self.chunks.push_back(Chunk::Piped(pipe));
    }

    /// Appends a mark, which the pool gets when everything before it was sent.
    pub fn push_mark(&mut self, mark: Foreign) {
        self.chunks.push_back(Chunk::Mark(mark));
    }

    /// Appends a note, which hears when everything before it was sent.
    pub fn push_note(&mut self, note: Box<dyn Note>) {
        self.chunks.push_back(Chunk::Note(note));
    }

    /// Takes all marks out of the queue; notes stay.
    pub fn take_marks(&mut self) -> Vec<Foreign> {
        let chunks = std::mem::take(&mut self.chunks);
        let mut marks = Vec::new();
        for chunk in chunks {
            match chunk {
                Chunk::Mark(mark) => marks.push(mark),
                other => self.chunks.push_back(other),
            }
        }
        marks
    }

    /// Hands the marks at the front to the pool, and tells the notes there.
    #[cold]
    fn pass_marks(&mut self, pool: &mut Pool) {
        while let Some(Chunk::Mark(_) | Chunk::Note(_)) = self.chunks.front() {
            self.chunks.pop_front().into_iter().for_each(|mark| pool.take_sent(mark));
        }
    }

    /// Calls `send` with the first item of the queue; returns `None` if the queue is empty. Marks at the front are passed.
    pub(crate) fn with_head<R>(&mut self, pool: &mut Pool, send: impl FnOnce(Head<'_>) -> R) -> Option<R> {
        loop {
            match self.chunks.front_mut()? {
                Chunk::Mark(_) | Chunk::Note(_) => self.pass_marks(pool),
                Chunk::File(range) => return Some(send(Head::File(range))),
                Chunk::Piped(pipe) => return Some(send(Head::Piped(pipe))),
                Chunk::Own { .. } | Chunk::Held { .. } | Chunk::Shared { .. } => break,
            }
        }
        if let [only] | [only, Chunk::Note(_)] = self.chunks.as_slices().0 {
            return Some(send(Head::Bytes(&[IoSlice::new(only.unsent())])));
        }
        let in_memory = self.chunks.iter().take_while(|chunk| !matches!(chunk, Chunk::File(_) | Chunk::Piped(_)));
        let slices: Vec<IoSlice<'_>> = in_memory.take(GATHER).map(|chunk| IoSlice::new(chunk.unsent())).collect();
        Some(send(Head::Bytes(&slices)))
    }

    /// Notes that the first `n` bytes were sent. Their chunks return to the pool.
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
                // The bytes have left the pipe already.
                Chunk::Piped(pipe) => {
                    self.piped -= n;
                    n = 0;
                    if pipe.held() > 0 {
                        return;
                    }
                }
                Chunk::Own { .. } | Chunk::Held { .. } | Chunk::Shared { .. } | Chunk::Mark(_) | Chunk::Note(_) => {
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
                pool.take_sent(chunk);
            }
            if n == 0 {
                return;
            }
        }
    }
}

/// Empty queues and buffers of one poller, kept for later use; and held bytes that wait to be dropped by their owner.
#[derive(Default)]
pub struct Pool {
    #[allow(clippy::vec_box, reason = "a connection holds the box, so that it is small while it has no output")]
    queues: Vec<Box<Output>>,
    buffers: Vec<Vec<u8>>,
    released: Vec<Box<dyn Held>>,
    passed: Vec<Foreign>,
    pub(crate) pipes: Pipes,
}

impl Pool {
    /// An empty queue.
    pub fn take(&mut self) -> Box<Output> {
        self.queues.pop().unwrap_or_default()
    }

    /// Takes a queue back, with its unsent bytes.
    pub fn give_back(&mut self, mut output: Box<Output>) {
        while let Some(chunk) = output.chunks.pop_front() {
            self.take_back(chunk);
        }
        (output.memory, output.files, output.piped) = (0, 0, 0);
        // A queue that a flood made large is not kept.
        if self.queues.len() < POOLED && output.chunks.capacity() <= MOST_CHUNKS {
            self.queues.push(output);
        }
    }

    /// Takes data that is not sent. Held bytes are kept until they can be dropped where their owner can be.
    pub fn refuse(&mut self, data: Data<'_>) {
        if let Data::Held(held) = data {
            self.release(held);
        }
    }

    /// Takes held bytes that never came into a queue.
    pub fn release(&mut self, held: Box<dyn Held>) {
        self.released.push(held);
    }

    /// Whether held bytes wait to be dropped.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Takes the held bytes that are no longer needed; the caller must drop them where their owner can be dropped.
    pub fn take_released(&mut self) -> Vec<Box<dyn Held>> {
        std::mem::take(&mut self.released)
    }

    /// Whether output before a mark was sent.
    #[inline]
    pub fn has_passed(&self) -> bool {
        !self.passed.is_empty()
    }

    /// Takes the marks whose output was sent.
    pub fn take_passed(&mut self) -> Vec<Foreign> {
        std::mem::take(&mut self.passed)
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(FIRST_CAPACITY))
    }

    #[inline]
    fn take_sent(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Mark(mark) => self.passed.push(mark),
            Chunk::Note(note) => note.sent(),
            chunk => self.take_back(chunk),
        }
    }

    fn take_back(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Own { mut bytes, .. } if bytes.capacity() <= CHUNK && self.buffers.len() < POOLED => {
                bytes.clear();
                self.buffers.push(bytes);
            }
            Chunk::Held { bytes, .. } => self.released.push(bytes),
            Chunk::Piped(pipe) => self.pipes.give_back(pipe),
            Chunk::Own { .. } | Chunk::Shared { .. } | Chunk::File(_) | Chunk::Mark(_) | Chunk::Note(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_pool_keeps_no_queue_that_a_flood_made_large() {
        for (chunks, kept) in [(1, 1), (10_000, 0)] {
            let (mut output, mut pool) = (Box::<Output>::default(), Pool::default());
            (0..chunks).for_each(|_| output.push_shared(Arc::from([1])));
            pool.give_back(output);
            assert_eq!(pool.queues.len(), kept);
        }
    }

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
                prop_assert_eq!(&*input.bytes_mut(&mut arena), &expected[..]);
                if settles || !input.is_empty() {
                    input.settle(&arena, consumed);
                    arena.fill(0);
                }
                prop_assert_eq!(input.bytes(&arena), &expected[..]);
                prop_assert_eq!(&*input.bytes_mut(&mut arena), &expected[..]);
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
                let n = output.with_head(&mut pool, |head| match head {
                    Head::Bytes(slices) => {
                        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).take(take).collect();
                        sent.extend(&all);
                        all.len()
                    }
                    Head::File(_) | Head::Piped(_) => 0,
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
    fn room_for_what_is_to_come_is_made_once_and_in_steps() {
        let mut input = Input::default();
        assert!(!input.is_settled());
        input.receive(b"abc", 0..3);
        assert!(!input.is_settled());
        input.settle(b"abc", 1000);
        assert!(input.is_settled());
        assert!((1003..1100).contains(&input.own.capacity()), "{}", input.own.capacity());
        // Settled bytes stay where they are, and keep their room.
        let (at, room) = (input.own.as_ptr(), input.own.capacity());
        input.settle(&[], 0);
        assert_eq!((input.own.as_ptr(), input.own.capacity()), (at, room));
        let announced = 100 * MOST_ROOM;
        let mut room = 0;
        let read = |spare: &mut [MaybeUninit<u8>]| {
            room = spare.len();
            spare[0].write(b'd');
            Ok::<_, ()>(1)
        };
        assert_eq!(input.receive_into(announced, read), Ok(1));
        assert!((256 * 1024..1024 * 1024).contains(&room), "{room}");
        assert_eq!(input.bytes(&[]), b"abcd");
        assert_eq!(input.receive_into(2, |room| Err::<usize, _>(room.len())), Err(2));
        assert_eq!(input.bytes(&[]), b"abcd");
    }

    /// The sizes of the chunks that wait; of files their bytes.
    fn chunks(output: &Output) -> Vec<usize> {
        let len = |chunk: &Chunk| match chunk {
            Chunk::File(range) => range.remaining as usize,
            _ => chunk.unsent().len(),
        };
        output.chunks.iter().map(len).collect()
    }

    fn nothing() -> FileRange {
        let file = std::fs::File::open("/dev/null").expect("every system has it");
        FileRange { file: file.into(), offset: 7, remaining: 1000 }
    }

    #[test]
    fn small_writes_share_a_chunk_and_large_ones_are_not_copied() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.push_copy(b"", &mut pool);
        assert!(output.is_empty());
        output.push_copy(&[1; 1000], &mut pool);
        output.push_copy(&[2; CHUNK - 1000], &mut pool);
        output.push_copy(&[3], &mut pool);
        output.push_own(vec![4; CHUNK - 1], &mut pool);
        assert_eq!(chunks(&output), [CHUNK, CHUNK]);
        let large = vec![5; CHUNK + 1];
        let at = large.as_ptr();
        output.push_own(large, &mut pool);
        output.push_shared(Arc::from([6; 10]));
        output.push_held(Box::new(Bytes(vec![7; 20])));
        assert_eq!(chunks(&output), [CHUNK, CHUNK, CHUNK + 1, 10, 20]);
        assert_eq!((output.memory(), output.len()), (3 * CHUNK + 31, 3 * CHUNK + 31));
        let third = output.with_head(&mut pool, |head| match head {
            Head::Bytes(slices) => (slices.len(), slices[2].as_ptr()),
            Head::File(_) | Head::Piped(_) => panic!("there is no file and no pipe"),
        });
        assert_eq!(third, Some((5, at)));
        // An own buffer of a chunk is used again, a larger one is not.
        pool.buffers.clear();
        output.sent(3 * CHUNK + 31, &mut pool);
        assert_eq!((pool.buffers.len(), pool.take_released().len(), output.memory()), (2, 1, 0));
    }

    #[test]
    fn parts_lie_in_one_chunk_behind_the_bytes_before_them() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.push_copies([b"", b"", b""], &mut pool);
        assert_eq!(chunks(&output), [0; 0]);
        output.push_copies([b"head", b"body", b""], &mut pool);
        output.push_copies([b"", b"more", b"tail"], &mut pool);
        assert_eq!((chunks(&output), output.memory()), (vec![16], 16));
        output.push_copies([b"x", &[7; CHUNK - 17], b"y"], &mut pool);
        assert_eq!(chunks(&output), [16, CHUNK - 15], "a chunk grows to its limit and not beyond");
        let sent = output.with_head(&mut pool, |head| match head {
            Head::Bytes(slices) => slices[0].to_vec(),
            Head::File(_) | Head::Piped(_) => panic!("there is no file and no pipe"),
        });
        assert_eq!(sent.as_deref(), Some(&b"headbodymoretail"[..]));
    }

    #[test]
    fn a_small_write_takes_a_buffer_that_was_used_before() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.push_copy(b"first", &mut pool);
        output.sent(5, &mut pool);
        let room = pool.buffers[0].capacity();
        assert!(room >= FIRST_CAPACITY, "{room}");
        output.push_copy(b"second", &mut pool);
        assert!(pool.buffers.is_empty());
    }

    #[test]
    fn files_count_as_bytes_that_wait_but_not_as_memory() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.push_copy(&[1; 10], &mut pool);
        output.push_file(nothing());
        output.push_copy(&[2; 5], &mut pool);
        output.push_file(nothing());
        assert_eq!((output.memory(), output.len(), chunks(&output)), (15, 2015, vec![10, 1000, 5, 1000]));
        // The head ends before a file.
        let head = |output: &mut Output| {
            output.with_head(&mut Pool::default(), |head| match head {
                Head::Bytes(slices) => (slices.len(), slices[0].len() as u64, 0),
                Head::File(range) => (0, range.remaining, range.offset),
                Head::Piped(_) => panic!("there is no pipe"),
            })
        };
        assert_eq!(head(&mut output), Some((1, 10, 0)));
        output.sent(4, &mut pool);
        assert_eq!((output.memory(), output.len(), head(&mut output)), (11, 2011, Some((1, 6, 0))));
        output.sent(6 + 300, &mut pool);
        assert_eq!((output.memory(), output.len(), head(&mut output)), (5, 1705, Some((0, 700, 307))));
        output.sent(700, &mut pool);
        assert_eq!((output.memory(), output.len(), head(&mut output)), (5, 1005, Some((1, 5, 0))));
        output.sent(5 + 1000, &mut pool);
        assert_eq!((output.memory(), output.len(), head(&mut output)), (0, 0, None));
    }

    #[test]
    fn a_pipe_stands_alone_counts_apart_and_goes_back_to_the_pool() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("a pair of sockets");
        (&theirs).write_all(b"piped").expect("room");
        let mut pipe = pool.pipes.take().expect("a pipe");
        pipe.fill(&ours).expect("bytes");
        output.push_copy(b"before", &mut pool);
        output.push_piped(pipe);
        output.push_copy(b"behind", &mut pool);
        assert_eq!((output.len(), output.memory(), output.piped()), (12, 12, 5));
        let send = |output: &mut Output, pool: &mut Pool| {
            let sent = output.with_head(pool, |head| match head {
                Head::Bytes(slices) => slices.iter().map(|slice| slice.len()).sum(),
                Head::Piped(pipe) => pipe.drain(&ours, 3).expect("room"),
                Head::File(_) => panic!("there is no file"),
            });
            output.sent(sent.unwrap_or(0), pool);
            (sent, output.piped())
        };
        let sent: Vec<_> = (0..5).map(|_| send(&mut output, &mut pool)).collect();
        assert_eq!(sent, [(Some(6), 5), (Some(3), 2), (Some(2), 0), (Some(6), 0), (None, 0)]);
        assert!(output.is_empty() && pool.pipes.take().is_some_and(|pipe| pipe.held() == 0));
    }

    #[test]
    fn a_queue_that_is_given_back_is_empty_when_it_is_taken_again() {
        let (mut output, mut pool) = (Box::<Output>::default(), Pool::default());
        output.push_copy(&[1; 10], &mut pool);
        output.push_file(nothing());
        output.push_held(Box::new(Bytes(vec![7; 20])));
        pool.give_back(output);
        assert!(pool.has_released() && pool.take_released().len() == 1 && !pool.has_released());
        assert_eq!((pool.queues.len(), pool.buffers.len()), (1, 1));
        let output = pool.take();
        assert_eq!((output.len(), output.is_empty(), pool.queues.len()), (0, true, 0));
    }

    #[test]
    fn held_data_that_is_refused_waits_for_its_owner() {
        let mut pool = Pool::default();
        pool.refuse(Data::Bytes(b"x"));
        pool.refuse(Data::Own(vec![1]));
        assert!(!pool.has_released());
        pool.refuse(Data::Held(Box::new(Bytes(vec![1]))));
        pool.release(Box::new(Bytes(vec![2])));
        let released: Vec<_> = pool.take_released().iter().map(|held| held.bytes()[0]).collect();
        assert_eq!(released, [1, 2]);
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
        assert_eq!((pool.queues.len(), pool.buffers.len()), (POOLED, POOLED));
    }

    #[test]
    fn a_mark_is_passed_when_everything_before_it_was_sent_and_dropped_with_the_output() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        let passed = |pool: &mut Pool| -> Vec<u8> {
            pool.take_passed().into_iter().filter_map(|mark| mark.downcast::<u8>().ok()).map(|mark| *mark).collect()
        };
        output.push_copy(b"one", &mut pool);
        output.push_mark(Box::new(1_u8));
        output.push_copy(b"two", &mut pool);
        output.push_mark(Box::new(2_u8));
        output.push_mark(Box::new(3_u8));
        output.sent(2, &mut pool);
        assert!(passed(&mut pool).is_empty());
        output.sent(2, &mut pool);
        assert_eq!(passed(&mut pool), [1]);
        output.sent(2, &mut pool);
        assert!(output.with_head(&mut pool, |_| ()).is_none(), "a mark alone is nothing to send");
        assert_eq!((passed(&mut pool), output.is_empty()), (vec![2, 3], true));

        output.push_copy(b"lost", &mut pool);
        output.push_mark(Box::new(4_u8));
        pool.give_back(Box::new(output));
        assert!(passed(&mut pool).is_empty());
    }

    #[test]
    fn marks_can_be_taken_out_of_the_queue() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.push_copy(b"one", &mut pool);
        output.push_mark(Box::new(1_u8));
        output.push_copy(b"two", &mut pool);
        assert_eq!((output.take_marks().len(), output.memory()), (1, 6));
        assert_eq!(output.take_marks().len(), 0);
    }
}
