//! Sends answers in the order of the requests, in whatever order the handler gives them (RFC 9112 section 9.3.2).
//!
//! The oldest answer that is due is written at once; parts of later answers are kept here until their turn. Bytes that
//! the handler lends are held by reference meanwhile.

use std::collections::VecDeque;

use crate::data::{Data, Held, Payload};

/// The step after a part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another part of the same answer follows.
    More,
    /// Another part of the same answer follows, and the connection ends after the answer.
    MoreOfLast,
    /// As [`Self::MoreOfLast`], and only the end of the connection tells the peer that the answer is complete.
    MoreUntilClose,
    /// The next answer.
    Next,
    /// The connection closes.
    Close,
    /// The connection closes amid the answer; its framing tells the peer that the rest is missing.
    Break,
    /// The connection ends by a reset, because the peer must not take the answer for whole.
    Cut,
    /// Another protocol follows.
    Switch,
}

impl Then {
    /// Whether more parts of the answer follow.
    pub fn is_more(self) -> bool {
        matches!(self, Self::More | Self::MoreOfLast | Self::MoreUntilClose)
    }

    /// Whether the answer ends before it is whole.
    pub fn is_half_way(self) -> bool {
        matches!(self, Self::Break | Self::Cut)
    }

    /// Whether the connection ends after the answer.
    pub fn is_of_last(self) -> bool {
        matches!(self, Self::MoreOfLast | Self::MoreUntilClose | Self::Close | Self::Break | Self::Cut)
    }
}

/// The parts of an answer that wait for its turn.
#[derive(Default)]
struct Waiting {
    parts: Vec<Payload>,
    /// The step after the answer, once it is complete.
    then: Option<Then>,
    /// Whether only the end of the connection marks its end.
    is_until_close: bool,
}

/// The parts of an answer whose turn has come.
pub(crate) struct Kept {
    pub parts: Vec<Payload>,
    /// Whether [`Answers::exempt`] was called for it.
    pub is_exempt: bool,
}

/// The answers of one connection.
#[derive(Default)]
pub(crate) struct Answers {
    /// The number of the oldest answer that is due.
    first: u64,
    /// The number of the next request.
    next: u64,
    /// The answers after the oldest one, up to the last of which a part was given.
    waiting: VecDeque<Waiting>,
    /// Bytes kept in `waiting`.
    held: usize,
    /// Bytes of the files in `waiting`. They take no memory, but each takes a descriptor.
    files: u64,
    /// The answer that was kept although it is larger than the limit, because nothing waited; and its bytes.
    exempt: (u64, usize),
    /// Whether more bytes are kept than may be while further requests are handed out.
    crowded: bool,
    /// Whether no more output will be sent.
    lost: bool,
    /// Whether a part of the oldest answer was written.
    begun: bool,
    /// Whether only the end of the connection marks the end of the oldest answer, which was begun.
    is_until_close: bool,
    /// The numbers of `HEAD` requests. Few requests are, so the vector usually owns no memory.
    heads: Vec<u64>,
    /// Whether the connection closes when no answer is due.
    pub finishing: bool,
}

/// The treatment of a part of an answer: written now, kept until its turn, or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Written now.
    Now,
    /// Kept until the answers before it are given.
    Later,
    /// Refused: the answer is complete.
    Never,
}

impl Answers {
    /// The number of answers that are due.
    pub fn due(&self) -> usize {
        (self.next - self.first) as usize
    }

    /// As [`Self::due`]; more than any limit while so much waits that no further request may be handed out.
    pub fn load(&self) -> usize {
        if self.crowded { usize::MAX } else { self.due() }
    }

    /// Notes that the last request is a `HEAD`.
    #[cold]
    fn note_head(&mut self) {
        self.heads.retain(|number| *number >= self.first);
        self.heads.push(self.last());
    }

    /// Whether the request with this number is a `HEAD`.
    pub fn is_head(&self, number: u64) -> bool {
        self.heads.contains(&number)
    }

    /// The number of the next request.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest request that is due.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Counts a request, which may be a `HEAD`; returns its number.
    #[inline]
    pub fn expect(&mut self, is_head: bool) -> u64 {
        self.next += 1;
        if is_head {
            self.note_head();
        }
        self.next - 1
    }

    /// The number of the last request.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The number of the last request, if no part of its answer was given.
    pub fn last_untouched(&self) -> Option<u64> {
        let last = self.next.checked_sub(1).filter(|last| *last >= self.first)?;
        let touched = match last - self.first {
            0 => self.begun,
            behind => self.waiting.get(behind as usize - 1).is_some_and(|waiting| !waiting.is_empty()),
        };
        (!touched).then_some(last)
    }

    /// The treatment of the next part of an answer.
    pub fn place(&self, number: u64) -> Place {
        match number.checked_sub(self.first) {
            Some(0) if self.next > number => Place::Now,
            Some(behind) if self.next > number => match self.waiting.get(behind as usize - 1) {
                Some(Waiting { then: Some(_), .. }) => Place::Never,
                _ => Place::Later,
            },
            _ => Place::Never,
        }
    }

    /// Keeps a part of an answer with [`Place::Later`]. Gives a part back if no more output will be sent.
    pub fn keep(&mut self, number: u64, part: Data<'_>) -> Option<Box<dyn Held>> {
        if self.lost {
            return if let Data::Held(held) = part { Some(held) } else { None };
        }
        if let Data::File(range) = &part {
            self.files += range.remaining;
        }
        let waiting = self.waiting(number);
        self.held += waiting.push(part);
        None
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The number of kept bytes that count toward the limit of the output.
    pub fn held(&self) -> usize {
        self.held - self.exempt.1
    }

    /// Takes the bytes kept for an answer out of the count of [`Self::held`], until its turn.
    pub fn exempt(&mut self, number: u64) {
        self.exempt = (number, self.held);
    }

    /// Compares the kept bytes with the number above which no further request is handed out.
    pub fn weigh(&mut self, high_water: usize) {
        self.crowded = self.held as u64 + self.files > high_water as u64;
    }

    /// Whether so much is kept that no further request may be handed out.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Drops all kept parts, since no more output will be sent. `release` gets those that belong to the handler.
    pub fn lose(&mut self, release: &mut dyn FnMut(Box<dyn Held>)) {
        (self.lost, self.crowded, self.held, self.files, self.exempt) = (true, false, 0, 0, (0, 0));
        for part in self.waiting.iter_mut().flat_map(|waiting| waiting.parts.drain(..)) {
            if let Payload::Held(held) = part {
                release(held);
            }
        }
    }

    /// Notes that only the end of the connection marks the end of an answer.
    pub fn note_until_close(&mut self, number: u64) {
        if number == self.first {
            self.is_until_close = true;
        } else {
            self.waiting(number).is_until_close = true;
        }
    }

    /// Whether an answer was begun, is not complete, and would look complete if the connection closed.
    pub fn is_until_close(&self, number: u64) -> bool {
        match number.checked_sub(self.first) {
            Some(0) => self.is_until_close,
            Some(behind) => self.waiting.get(behind as usize - 1).is_some_and(|waiting| waiting.is_until_close),
            None => false,
        }
    }

    /// Notes that an answer with [`Place::Later`] is complete.
    pub fn end(&mut self, number: u64, then: Then) {
        let waiting = self.waiting(number);
        (waiting.then, waiting.is_until_close) = (Some(then), false);
    }

    fn waiting(&mut self, number: u64) -> &mut Waiting {
        let behind = (number - self.first) as usize;
        if self.waiting.len() < behind {
            self.waiting.resize_with(behind, Waiting::default);
        }
        &mut self.waiting[behind - 1]
    }

    /// Notes that a part of the oldest answer is written.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether a part of the oldest answer was written, and the answer is not complete.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Notes that the oldest answer is complete.
    pub fn complete(&mut self) {
        self.is_until_close = false;
    }

    /// The oldest answer is complete: returns the kept parts of the next one, if any, and the step after them.
    #[inline]
    pub fn advance(&mut self) -> (Option<Kept>, Then) {
        self.first += 1;
        (self.begun, self.is_until_close) = (false, false);
        // In the common case each answer is given when its turn has come.
        if self.waiting.is_empty() { (None, Then::More) } else { self.take_kept() }
    }

    #[inline(never)]
    fn take_kept(&mut self) -> (Option<Kept>, Then) {
        let Waiting { parts, then, is_until_close } = self.waiting.pop_front().unwrap_or_default();
        self.held -= parts.iter().map(Payload::len).sum::<usize>();
        self.files -= parts.iter().map(Payload::in_file).sum::<u64>();
        let is_exempt = self.exempt.0 == self.first && std::mem::take(&mut self.exempt).1 > 0;
        (self.begun, self.is_until_close) = (!parts.is_empty() || then.is_some(), is_until_close);
        let kept = (!parts.is_empty()).then_some(Kept { parts, is_exempt });
        (kept, then.unwrap_or(Then::More))
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.then.is_none()
    }

    /// Appends a part; returns its length.
    fn push(&mut self, part: Data<'_>) -> usize {
        let (len, copied) = match (part, self.parts.last_mut()) {
            (Data::Bytes(bytes), Some(Payload::Copied(last))) => {
                last.extend_from_slice(bytes);
                return bytes.len();
            }
            (Data::Bytes(bytes), _) => (bytes.len(), Payload::Copied(bytes.to_vec())),
            (Data::Own(bytes), _) => (bytes.len(), Payload::Copied(bytes)),
            (Data::Held(held), _) => (held.bytes().len(), Payload::Held(held)),
            (Data::File(range), _) => {
                // It takes a descriptor and no memory.
                self.parts.push(Payload::File(range));
                return 0;
            }
            // No part of an answer: the machine itself marks its end.
            (Data::Mark(_) | Data::Note(_), _) => return 0,
        };
        if len > 0 {
            self.parts.push(copied);
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::FileRange;

    proptest! {
        #[test]
        fn whatever_the_order_in_which_they_are_given_they_go_out_in_that_of_the_requests(
            order in Just((0..8_u64).collect::<Vec<_>>()).prop_shuffle(), parts in 1..4_usize,
        ) {
            let mut answers = Answers::default();
            for number in 0..8 {
                prop_assert_eq!(answers.expect(false), number);
            }
            let mut out = Vec::new();
            for number in order {
                for part in 1..=parts {
                    let then = if part == parts { Then::Next } else { Then::More };
                    let byte = [number as u8];
                    match answers.place(number) {
                        Place::Now => {
                            out.extend(byte);
                            answers.begin();
                            let mut then = then;
                            while then != Then::More {
                                let (kept, next) = answers.advance();
                                out.extend(kept.iter().flat_map(|kept| &kept.parts).flat_map(|part| match part {
                                    Payload::Copied(bytes) => bytes.clone(),
                                    Payload::Held(held) => held.bytes().to_vec(),
                                    Payload::File(_) => Vec::new(),
                                }));
                                then = if answers.due() > 0 { next } else { Then::More };
                            }
                        }
                        Place::Later => {
                            prop_assert!(answers.keep(number, Data::Bytes(&byte)).is_none());
                            if then == Then::Next {
                                answers.end(number, then);
                            }
                        }
                        Place::Never => prop_assert!(false, "an answer is given once"),
                    }
                }
                prop_assert_eq!(answers.place(number), Place::Never);
            }
            let expected: Vec<u8> = (0..8).flat_map(|number| vec![number; parts]).collect();
            prop_assert_eq!(out, expected);
            prop_assert_eq!((answers.due(), answers.held, answers.waiting.len()), (0, 0, 0));
        }
    }

    #[test]
    fn a_file_that_waits_keeps_further_requests_away() {
        let file = std::fs::File::open("/dev/null").expect("every system has it");
        let mut answers = Answers::default();
        (0..2).for_each(|_| _ = answers.expect(false));
        answers.keep(1, Data::File(FileRange { file: file.into(), offset: 0, remaining: 1000 }));
        answers.weigh(1000);
        assert!(!answers.is_crowded());
        answers.weigh(999);
        assert!(answers.is_crowded() && answers.held() == 0);
        answers.advance();
        answers.weigh(0);
        assert!(!answers.is_crowded());
    }

    #[test]
    fn an_answer_has_a_place_from_its_request_on() {
        let mut answers = Answers::default();
        assert_eq!(answers.place(0), Place::Never);
        answers.expect(false);
        assert_eq!((answers.place(0), answers.place(1)), (Place::Now, Place::Never));
        answers.expect(false);
        assert_eq!((answers.place(1), answers.place(2)), (Place::Later, Place::Never));
    }

    #[test]
    fn the_last_answer_is_untouched_until_a_part_of_it_is_given() {
        let mut answers = Answers::default();
        assert_eq!(answers.last_untouched(), None);
        (0..3).for_each(|_| _ = answers.expect(false));
        answers.begin();
        assert_eq!(answers.last_untouched(), Some(2));
        answers.advance();
        answers.advance();
        assert_eq!(answers.last_untouched(), Some(2));
        answers.begin();
        assert_eq!(answers.last_untouched(), None);

        answers.expect(false);
        answers.keep(3, Data::Bytes(b""));
        assert_eq!(answers.last_untouched(), Some(3));
        answers.keep(3, Data::Bytes(b"x"));
        assert_eq!(answers.last_untouched(), None);
    }
}
