//! Answers go out in the order of the requests, in whatever order they are given (RFC 9112 section 9.3.2).
//!
//! The oldest answer that is due is written as it comes; what is given of later ones waits here.

use std::collections::VecDeque;

/// What comes behind a part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More of the same answer.
    More,
    /// More of the same answer, which will be the last one.
    MoreOfLast,
    /// The next answer.
    Next,
    /// The end of the connection.
    Close,
    /// The end of the connection, and the peer must not take what it got for all.
    Cut,
    /// Another protocol.
    Switch,
}

impl Then {
    /// Whether the answer goes on.
    pub fn is_more(self) -> bool {
        matches!(self, Self::More | Self::MoreOfLast)
    }

    /// Whether the connection ends behind the answer.
    pub fn is_of_last(self) -> bool {
        matches!(self, Self::MoreOfLast | Self::Close | Self::Cut)
    }
}

/// What was given of an answer whose turn has not come.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    then: Option<Then>,
}

/// The answers of one connection.
#[derive(Default)]
pub(crate) struct Answers {
    /// The number of the oldest one that is due.
    first: u64,
    /// The number of the next request.
    next: u64,
    /// Those behind the oldest, as far as anything was given.
    waiting: VecDeque<Waiting>,
    /// Bytes in there.
    held: usize,
    /// Whether something of the oldest went out.
    begun: bool,
    /// Closes when none is due.
    pub finishing: bool,
}

/// Where a part of an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Out.
    Now,
    /// Here, until those before are given.
    Later,
    /// Nowhere: it is complete.
    Never,
}

impl Answers {
    /// How many are due.
    pub fn due(&self) -> usize {
        (self.next - self.first) as usize
    }

    /// A request came; returns its number.
    pub fn expect(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The number of the last request.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The number of the last request, while nothing of its answer was given.
    pub fn last_untouched(&self) -> Option<u64> {
        let last = self.next.checked_sub(1).filter(|last| *last >= self.first)?;
        let touched = match last - self.first {
            0 => self.begun,
            behind => self.waiting.get(behind as usize - 1).is_some_and(|waiting| !waiting.is_empty()),
        };
        (!touched).then_some(last)
    }

    /// Where what is given of an answer goes.
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

    /// Keeps a part of an answer whose place is [`Place::Later`].
    pub fn keep(&mut self, number: u64, part: &[u8]) {
        self.waiting(number).bytes.extend_from_slice(part);
        self.held += part.len();
    }

    /// How many bytes are kept.
    pub fn held(&self) -> usize {
        self.held
    }

    /// An answer whose place is [`Place::Later`] is complete.
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

    /// Something of the oldest goes out.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether something of the oldest went out, and it is not complete.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// The oldest one is complete: what was given of the next, and what comes behind that.
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
}
