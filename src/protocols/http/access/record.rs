//! A request and its answer as the bytes of a record: written by the connection, read by [`super::Lines`].

use crate::recorder::Recorder;

/// The counts of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub status: u16,
    pub bytes: u64,
    /// The part of `bytes` that is the status line and the fields.
    pub head: u64,
}

/// A request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// The times of the handing out and of the end, on the clock of the process.
    pub began: u64,
    pub ended: u64,
    pub counts: Counts,
    /// Whether the kernel has taken the whole answer.
    pub is_whole: bool,
    /// The facts of the connection, as [`about`] returns them.
    pub about: &'a [u8],
    /// The head of the request, or its line.
    pub head: &'a [u8],
    /// The head of the answer, if a line needs it.
    pub answer: &'a [u8],
}

impl<'a> Record<'a> {
    /// Puts the record into a recorder: numbers of fixed sizes, then the texts.
    pub fn put(&self, recorder: &dyn Recorder) {
        let mut numbers = [0; 48];
        let (mut at, lens) = (0, [self.about.len() as u64, self.head.len() as u64]);
        for number in [self.began, self.ended, self.counts.bytes, self.counts.head << 1 | u64::from(self.is_whole)] {
            numbers[at..at + 8].copy_from_slice(&number.to_le_bytes());
            at += 8;
        }
        numbers[at..at + 2].copy_from_slice(&self.counts.status.to_le_bytes());
        numbers[at + 2..at + 8].copy_from_slice(&lens[0].to_le_bytes()[..6]);
        numbers[at + 8..].copy_from_slice(&lens[1].to_le_bytes());
        recorder.put(&[&numbers, self.about, self.head, self.answer]);
    }

    /// Reads a record.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_first_chunk::<48>()?;
        let number = |at: usize, len: usize| {
            let bytes = numbers[at..at + len].iter().rev();
            bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (about, rest) = rest.split_at_checked(number(34, 6) as usize)?;
        let (head, answer) = rest.split_at_checked(number(40, 8) as usize)?;
        Some(Self {
            began: number(0, 8),
            ended: number(8, 8),
            counts: Counts { status: number(32, 2) as u16, bytes: number(16, 8), head: number(24, 8) >> 1 },
            is_whole: number(24, 8) & 1 == 1,
            about,
            head,
            answer,
        })
    }

    /// The facts of the connection: peer, port, TLS, poller.
    pub fn facts(&self) -> [&'a [u8]; 4] {
        let mut facts = self.about.split(|byte| *byte == 0);
        std::array::from_fn(|_| facts.next().unwrap_or_default())
    }
}

/// The facts of a connection in one text.
pub(super) fn about(peer: &str, port: &str, tls: &str, poller: usize) -> Vec<u8> {
    format!("{peer}\0{port}\0{tls}\0{poller}").into_bytes()
}
