//! TLS between a socket and the buffers of a connection: the records of [`crate::tls::stream`], and the two queues around
//! them.
//!
//! Reads go through the memory of the thread, where records are decrypted; only the part of a record that has come so far
//! is kept here. Output is encrypted a batch at a time. A connection holds its plaintext until the socket has taken the
//! ciphertext, so its water marks, time limits and ends are those of a plain one.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;

use super::buffer::{Head, Received, Sent};
use crate::system::file::read_at;
use crate::tls::Failure;
use crate::tls::chooser::asked_name;
use crate::tls::stream::{RECORD, Stream};

/// The most bytes of plaintext that one batch of output encrypts: four records.
const BATCH: usize = 64 * 1024;
/// The most ciphertext that one read takes.
const MOST_READ: usize = 16 * RECORD;
/// Reads in one turn that bring no plaintext: tickets, key updates, parts of a record.
const FRUITLESS: usize = 16;

thread_local! {
    /// Memory for ciphertext that comes, and for ciphertext and plaintext that go.
    static COMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static GOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static GATHERED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The TLS of one connection.
pub(crate) struct Secure {
    pub stream: Stream,
    /// Plaintext that was encrypted and that the connection still holds.
    unsettled: usize,
    /// Whether our last word is to go out.
    is_finishing: bool,
}

impl Secure {
    pub fn new(stream: Stream) -> Self {
        Self { stream, unsettled: 0, is_finishing: false }
    }

    // ---- the handshake --------------------------------------------------------------------------------------------

    /// Receives the first message of a client, and returns the name that it asks for. `WouldBlock` until it is whole.
    pub fn asked_name(&mut self, carrier: &impl Carrier) -> io::Result<Option<String>> {
        let mut memory = COMING.take();
        memory.resize(memory.len().max(RECORD), 0);
        let name = loop {
            if let Some(name) = asked_name(self.stream.incoming()) {
                break Ok(name);
            }
            match carrier.fetch(&mut memory[..RECORD]) {
                Ok(0) => break Err(Failure::Truncated.into()),
                Ok(count) => self.stream.hold(&memory[..count]),
                Err(error) => break Err(error),
            }
        };
        COMING.set(memory);
        name
    }

    /// Goes on with the handshake to its end. `WouldBlock` if the peer has to send or read first.
    pub fn shake_hands(&mut self, carrier: &impl Carrier) -> io::Result<()> {
        if self.stream.incoming().is_empty() {
            // The first word may be ours.
            self.stream.decrypt(&mut [], &mut []).map_err(Failure::from)?;
        }
        self.push(carrier)?;
        while self.stream.is_handshaking() {
            let came = self.read(carrier, &mut []);
            // Our part of the handshake, or the alert with which it ends.
            let gone = self.push(carrier);
            came?;
            gone?;
        }
        Ok(())
    }

    // ---- input ----------------------------------------------------------------------------------------------------

    /// Receives plaintext. `drained` if neither the socket nor this holds more.
    pub fn receive(&mut self, carrier: &impl Carrier, room: &mut [u8]) -> io::Result<Received> {
        let bytes = self.stream.take(room);
        if bytes > 0 {
            return Ok(Received { bytes, drained: false });
        }
        for _ in 0..FRUITLESS {
            if self.stream.is_closed() {
                return Ok(Received { bytes: 0, drained: true });
            }
            let read = self.read(carrier, room);
            if !self.stream.outgoing().is_empty() && self.unsettled == 0 {
                // An alert, or the answer to a key update. Bytes that the socket does not take go out before later output.
                let _ = self.push(carrier);
            }
            // A short read does not end this: the end of the stream may be behind a part of a record.
            match read? {
                Received { bytes: 0, .. } => {}
                received => return Ok(received),
            }
        }
        // The connection keeps its place in the ready list.
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Decrypts the records that have come before, or reads once.
    fn read(&mut self, carrier: &impl Carrier, room: &mut [u8]) -> io::Result<Received> {
        let held = self.stream.incoming().len();
        let most = (room.len() + room.len() / 64 + RECORD).min(MOST_READ);
        let mut memory = COMING.take();
        if memory.len() < held + most {
            memory.resize(held + most, 0);
        }
        memory[..held].copy_from_slice(self.stream.incoming());
        let read = match self.stream.holds_input() {
            true => Ok((0, false)),
            false => match carrier.fetch(&mut memory[held..held + most]) {
                Ok(0) => Err(Failure::Truncated.into()),
                read => read.map(|count| (count, count < most)),
            },
        };
        let result = read.and_then(|(count, drained)| {
            let bytes = self.stream.decrypt(&mut memory[..held + count], room).map_err(Failure::from)?;
            // An end behind the bytes is news for the next read: the socket itself may never be readable again.
            let has_more = self.stream.holds_input() || self.stream.is_closed();
            Ok(Received { bytes, drained: drained && !has_more })
        });
        COMING.set(memory);
        result
    }

    // ---- output ---------------------------------------------------------------------------------------------------

    /// Sends a batch of the head of a queue; at most `file_budget` bytes of a file.
    pub fn send(&mut self, carrier: &impl Carrier, head: Head<'_>, file_budget: usize) -> io::Result<Sent> {
        let from_file = matches!(head, Head::File(_));
        if self.unsettled == 0 {
            self.push(carrier)?;
            self.stream.lend(GOING.take());
            self.unsettled = self.encrypt(head, file_budget)?;
        }
        let before = self.unsettled;
        let pushed = self.push(carrier);
        // The plaintext whose ciphertext waits stays with the connection: at least one byte of it.
        self.unsettled = self.unsettled.min(self.stream.outgoing().len());
        match pushed {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock || self.unsettled == before => Err(error),
            pushed => Ok(Sent { bytes: before - self.unsettled, all: pushed.is_ok(), from_file }),
        }
    }

    /// Encrypts a batch of the head; returns the bytes of plaintext.
    fn encrypt(&mut self, head: Head<'_>, file_budget: usize) -> io::Result<usize> {
        if let Head::Bytes([one]) = head {
            let batch = &one[..one.len().min(BATCH)];
            self.stream.encrypt(batch).map_err(Failure::from)?;
            return Ok(batch.len());
        }
        let mut batch = GATHERED.take();
        // Its bytes are initialised once.
        batch.resize(BATCH, 0);
        let result = gather(head, file_budget, &mut batch).and_then(|count| {
            self.stream.encrypt(&batch[..count]).map_err(Failure::from)?;
            Ok(count)
        });
        GATHERED.set(batch);
        result
    }

    /// Sends our last word (close_notify). `WouldBlock` if the socket is full.
    pub fn finish(&mut self, carrier: &impl Carrier) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_finishing, true) {
            self.stream.say_close().map_err(Failure::from)?;
        }
        self.push(carrier)
    }

    /// Discards input that has come behind the end of the stream. The close of a socket with unread input would be a reset,
    /// and the peer might lose the last output, or the alert that tells it the reason.
    pub fn discard_late_input(&self, carrier: &impl Carrier) {
        if !self.stream.is_closed() && !self.stream.has_failed() {
            return;
        }
        let mut memory = COMING.take();
        memory.resize(memory.len().max(RECORD), 0);
        for _ in 0..FRUITLESS {
            if !matches!(carrier.fetch(&mut memory), Ok(1..)) {
                break;
            }
        }
        COMING.set(memory);
    }

    /// Sends the ciphertext that waits.
    fn push(&mut self, carrier: &impl Carrier) -> io::Result<()> {
        while !self.stream.outgoing().is_empty() {
            match carrier.deliver(self.stream.outgoing()) {
                Ok(count) => self.stream.sent(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.give_back();
                    return Err(error);
                }
            }
        }
        self.give_back();
        Ok(())
    }

    /// Leaves the memory of the thread to the thread.
    fn give_back(&mut self) {
        if let Some(memory) = self.stream.give_back() {
            GOING.set(memory);
        }
    }
}

/// Puts the first bytes of a queue together; returns their number.
fn gather(head: Head<'_>, file_budget: usize, batch: &mut [u8]) -> io::Result<usize> {
    match head {
        Head::Bytes(slices) => {
            let mut count = 0;
            for slice in slices {
                let part = slice.len().min(batch.len() - count);
                batch[count..count + part].copy_from_slice(&slice[..part]);
                count += part;
            }
            Ok(count)
        }
        Head::File(range) => {
            let wanted = usize::try_from(range.remaining).unwrap_or(usize::MAX).min(file_budget).min(batch.len());
            match read_at(range.file.as_fd(), &mut batch[..wanted], range.offset)? {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was being sent")),
                count => Ok(count),
            }
        }
        Head::Piped(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The socket, as TLS uses it; the memory of a test, too.
pub(crate) trait Carrier {
    fn fetch(&self, room: &mut [u8]) -> io::Result<usize>;
    fn deliver(&self, bytes: &[u8]) -> io::Result<usize>;
}
