//! Ciphertext that waits for the socket: in memory of the thread while it is made and sent, in memory of its own if the
//! socket does not take it all.

use rustls::unbuffered::{EncryptError, InsufficientSizeError};

/// The ciphertext of one connection.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The bytes behind `end` are initialised and have no meaning, so lent memory is not cleared for each record.
    memory: Vec<u8>,
    start: usize,
    end: usize,
    is_lent: bool,
}

impl Outgoing {
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Lends memory to ciphertext that has none; [`Self::give_back`] returns it.
    pub fn lend(&mut self, memory: Vec<u8>) {
        debug_assert!(self.is_empty() && !self.is_lent);
        *self = Self { memory, start: 0, end: 0, is_lent: true };
    }

    /// Returns lent memory. The bytes that are left move to memory of their own.
    pub fn give_back(&mut self) -> Option<Vec<u8>> {
        if !self.is_lent {
            if self.is_empty() {
                *self = Self::default();
            }
            return None;
        }
        let rest = self.bytes().to_vec();
        let end = rest.len();
        let before = std::mem::replace(self, Self { memory: rest, start: 0, end, is_lent: false });
        Some(before.memory)
    }

    /// Notes that the socket took the first `count` bytes.
    pub fn sent(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// Bytes of memory of its own.
    #[cfg(test)]
    pub fn owned_memory(&self) -> usize {
        self.memory.capacity()
    }

    /// Has `write` write behind the bytes. Its first attempt tells the room that it needs.
    pub fn append(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), rustls::Error> {
        let mut written = write(&mut self.memory[self.end..]);
        if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) = written {
            self.memory.resize(self.end + required_size, 0);
            written = write(&mut self.memory[self.end..]);
        }
        self.end += written.map_err(|_| rustls::Error::EncryptError)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends as rustls does: it asks for room first.
    fn append(outgoing: &mut Outgoing, bytes: &[u8]) {
        let write = |room: &mut [u8]| match room.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Ok(bytes.len())
            }
            None => Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size: bytes.len() })),
        };
        outgoing.append(write).expect("room");
    }

    #[test]
    fn the_bytes_leave_in_order_and_lent_memory_returns() {
        let mut outgoing = Outgoing::default();
        outgoing.lend(vec![7; 100]);
        append(&mut outgoing, b"hello ");
        append(&mut outgoing, b"world");
        outgoing.sent(3);
        assert_eq!(outgoing.give_back().expect("it was lent").len(), 100);
        assert_eq!(outgoing.bytes(), b"lo world");
        assert!(outgoing.give_back().is_none());
        append(&mut outgoing, b"!");
        outgoing.sent(4);
        assert_eq!(outgoing.bytes(), b"orld!");
        outgoing.sent(5);
        assert!(outgoing.is_empty() && outgoing.give_back().is_none());
        assert_eq!(outgoing.owned_memory(), 0);
    }

    #[test]
    fn nothing_is_kept_of_what_was_sent_at_once() {
        let mut outgoing = Outgoing::default();
        outgoing.lend(Vec::new());
        append(&mut outgoing, &[1; 1000]);
        outgoing.sent(1000);
        assert_eq!(outgoing.give_back().expect("it was lent").len(), 1000);
        assert_eq!((outgoing.owned_memory(), outgoing.is_lent), (0, false));
    }
}
