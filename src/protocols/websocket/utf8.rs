//! Checks whether text that arrives in pieces is UTF-8.
//!
//! It fails at the first byte that no later byte could make valid. It stores only a character that has begun.

use simdutf8::compat;

use super::violation::Violation;

/// The most bytes of a character.
const LONGEST: usize = 4;

/// The check of one text, piece by piece.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; LONGEST],
    len: u8,
}

impl Utf8 {
    /// Checks the next piece.
    #[inline]
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let rest = if self.len == 0 { piece } else { self.finish_character(piece)? };
        match compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(Violation::TextNotUtf8),
            Err(error) => {
                let tail = &rest[error.valid_up_to()..];
                self.begun[..tail.len()].copy_from_slice(tail);
                self.len = tail.len() as u8;
                Ok(())
            }
        }
    }

    /// Completes the character that began in an earlier piece; returns the rest of `piece`.
    #[cold]
    fn finish_character<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Violation> {
        for (at, byte) in piece.iter().enumerate() {
            let len = usize::from(self.len);
            self.begun[len] = *byte;
            self.len += 1;
            match std::str::from_utf8(&self.begun[..=len]) {
                Ok(_) => {
                    self.len = 0;
                    return Ok(&piece[at + 1..]);
                }
                Err(error) if error.error_len().is_some() => return Err(Violation::TextNotUtf8),
                Err(_) => {}
            }
        }
        Ok(&[])
    }

    /// The text ends here; another may begin.
    #[inline]
    pub fn end(&mut self) -> Result<(), Violation> {
        if std::mem::take(&mut self.len) == 0 { Ok(()) } else { Err(Violation::TextNotUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of which characters consist, and some that are nearly valid.
    const PARTS: &[u8] = b"\xf0\x9f\x98\x80\xe2\x82\xac\xc3a\xed\xa0\xf4\xe0";

    /// The number of bytes that are accepted before the refusal.
    fn accepted(pieces: &[&[u8]]) -> (usize, bool) {
        let (mut utf8, mut before) = (Utf8::default(), 0);
        for piece in pieces {
            if utf8.feed(piece).is_err() {
                return (before, false);
            }
            before += piece.len();
        }
        (before, utf8.end().is_ok())
    }

    proptest! {
        #[test]
        fn a_text_is_judged_as_a_whole_one_wherever_it_is_cut(
            text in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..12),
                any::<String>().prop_map(String::into_bytes),
            ],
        ) {
            let valid = std::str::from_utf8(&text).is_ok();
            for at in 0..=text.len() {
                let (left, right) = text.split_at(at);
                prop_assert_eq!(accepted(&[left, right]).1, valid);
            }
        }

        #[test]
        fn it_fails_at_the_first_byte_that_makes_it_invalid(text in prop::collection::vec(any::<u8>(), 0..12)) {
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            let hopeless = |end: &usize| {
                std::str::from_utf8(&text[..*end]).is_err_and(|error| error.error_len().is_some())
            };
            let first = (0..=text.len()).find(hopeless);
            let expected = first.map_or(text.len(), |end| end - 1);
            prop_assert_eq!(accepted(&bytes).0, expected);
        }
    }
}
