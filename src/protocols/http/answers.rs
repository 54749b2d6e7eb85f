//! Sends answers in the order of the requests, in whatever order the handler gives them (RFC 9112 section 9.3.2).
//!
//! The oldest answer that is due is written at once; parts of later answers are kept here until their turn.

use std::collections::VecDeque;

/// The step after a part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another part of the same answer follows.
    More,
    /// Another part of the same answer follows, and the connection ends after the answer.
    MoreOfLast,
    /// The next answer.
    Next,
    /// The connection closes.
    Close,
    /// The connection ends by a reset, because the peer must not take the answer for whole.
    Cut,
    /// Another protocol follows.
    Switch,
}

impl Then {
    /// Whether more parts of the answer follow.
    pub fn is_more(self) -> bool {
        matches!(self, Self::More | Self::MoreOfLast)
    }

    /// Whether the connection ends after the answer.
    pub fn is_of_last(self) -> bool {
        matches!(self, Self::MoreOfLast | Self::Close | Self::Cut)
    }
}

/// The parts of an answer that wait for its turn.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    then: Option<Then>,
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
    /// Whether a part of the oldest answer was written.
    begun: bool,
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

    /// Counts a request; returns its number.
    pub fn expect(&mut self) -> u64 {
        self.next += 1;
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

    /// Keeps a part of an answer with [`Place::Later`].
    pub fn keep(&mut self, number: u64, part: &[u8]) {
        self.waiting(number).bytes.extend_from_slice(part);
        self.held += part.len();
    }

    /// The number of kept bytes.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Notes that an answer with [`Place::Later`] is complete.
    pub fn end(&mut self, number: u64, then: Then) {
        self.waiting(number).then = Some(then);
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

    /// The oldest answer is complete: returns the kept parts of the next one, and the step after them.
    pub fn advance(&mut self) -> (Vec<u8>, Then) {
        self.first += 1;
        let Waiting { bytes, then } = self.waiting.pop_front().unwrap_or_default();
        self.held -= bytes.len();
        self.begun = !bytes.is_empty() || then.is_some();
        (bytes, then.unwrap_or(Then::More))
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.then.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_order_in_which_they_are_given_they_go_out_in_that_of_the_requests(
            order in Just((0..8_u64).collect::<Vec<_>>()).prop_shuffle(), parts in 1..4_usize,
        ) {
            let mut answers = Answers::default();
            for number in 0..8 {
                prop_assert_eq!(answers.expect(), number);
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
                                let (bytes, next) = answers.advance();
                                out.extend(bytes);
                                then = if answers.due() > 0 { next } else { Then::More };
                            }
                        }
                        Place::Later => {
                            answers.keep(number, &byte);
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
    fn an_answer_has_a_place_from_its_request_on() {
        let mut answers = Answers::default();
        assert_eq!(answers.place(0), Place::Never);
        answers.expect();
        assert_eq!((answers.place(0), answers.place(1)), (Place::Now, Place::Never));
        answers.expect();
        assert_eq!((answers.place(1), answers.place(2)), (Place::Later, Place::Never));
    }

    #[test]
    fn the_last_answer_is_untouched_until_a_part_of_it_is_given() {
        let mut answers = Answers::default();
        assert_eq!(answers.last_untouched(), None);
        (0..3).for_each(|_| _ = answers.expect());
        answers.begin();
        assert_eq!(answers.last_untouched(), Some(2));
        answers.advance();
        answers.advance();
        assert_eq!(answers.last_untouched(), Some(2));
        answers.begin();
        assert_eq!(answers.last_untouched(), None);

        answers.expect();
        answers.keep(3, b"");
        assert_eq!(answers.last_untouched(), Some(3));
        answers.keep(3, b"x");
        assert_eq!(answers.last_untouched(), None);
    }
}
