//! A chunked body (RFC 9112 section 7.1): finds its data, piece by piece.

use super::limits::Limits;
use super::refusal::Refusal;

/// The longest line with the size and the extensions of a chunk, bytes.
pub(super) const MOST_SIZE_LINE: usize = 4096;

/// The most hexadecimal digits of a 64-bit number.
const MOST_DIGITS: usize = 16;

const MALFORMED_SIZE: Refusal = Refusal::bad("a malformed chunk size");

/// The position within a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(usize),
    DataEnd,
    /// Bytes and fields of the trailer so far.
    Trailer(usize, usize),
    Done,
}

/// The next part of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Data: skip `skip` bytes of the input; the next `len` bytes belong to the body.
    Data { skip: usize, len: usize },
    /// The end of the body, after `skip` bytes.
    End { skip: usize },
    /// More input is needed; `skip` bytes are no longer needed.
    More { skip: usize },
}

/// Reads one chunked body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    /// Bytes of the body so far.
    total: usize,
    /// Bytes of lines that carry no data. The limit on them grows with the body, so that many small chunks cost no
    /// more than the body itself.
    overhead: usize,
}

impl Chunks {
    pub fn new() -> Self {
        Self { state: State::Size, total: 0, overhead: 0 }
    }

    /// Looks at the input, which begins where the last result ended.
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Next, Refusal> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Size => {
                    let Some(line) = line(rest, MOST_SIZE_LINE, "a chunk size of too many bytes")? else {
                        // More digits cannot become a valid number, whatever follows.
                        return if digits(rest) > MOST_DIGITS {
                            Err(MALFORMED_SIZE)
                        } else {
                            Ok(Next::More { skip: at })
                        };
                    };
                    at += line.len() + 2;
                    self.begin_chunk(line, limits)?;
                }
                State::Data(_) if rest.is_empty() => return Ok(Next::More { skip: at }),
                State::Data(left) => {
                    let len = left.min(rest.len());
                    self.state = if len == left { State::DataEnd } else { State::Data(left - len) };
                    return Ok(Next::Data { skip: at, len });
                }
                State::DataEnd => match rest {
                    [] | [b'\r'] => return Ok(Next::More { skip: at }),
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    _ => return Err(Refusal::bad("a chunk that does not end with its size")),
                },
                State::Trailer(bytes, fields) => {
                    let most = limits.max_head.saturating_sub(bytes + 2);
                    let Some(line) = line(rest, most, "a trailer of more than max_head bytes")? else {
                        return Ok(Next::More { skip: at });
                    };
                    at += line.len() + 2;
                    self.state = trailer(line, bytes + line.len() + 2, fields, limits)?;
                }
                State::Done => return Ok(Next::End { skip: at }),
            }
        }
    }

    fn begin_chunk(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let size = size_of(line)?;
        self.total = self.total.saturating_add(size);
        self.overhead = self.overhead.saturating_add(line.len() + 4);
        if self.total > limits.max_body {
            return Err(Refusal::new(413, "a body of more than max_body bytes"));
        }
        // A chunk of one byte takes six bytes. Longer lines carry extensions, which no handler uses.
        if self.overhead > limits.max_head.saturating_add(self.total.saturating_mul(8)) {
            return Err(Refusal::bad("chunk extensions out of all proportion"));
        }
        self.state = if size == 0 { State::Trailer(0, 0) } else { State::Data(size) };
        Ok(())
    }
}

/// The first line without its end, of at most `most` bytes; `None` if it is not complete.
fn line<'a>(input: &'a [u8], most: usize, too_long: &'static str) -> Result<Option<&'a [u8]>, Refusal> {
    let within = &input[..input.len().min(most.saturating_add(1))];
    let Some(end) = memchr::memchr2(b'\r', b'\n', within) else {
        let status = if too_long.contains("max_head") { 431 } else { 400 };
        return if within.len() < input.len() { Err(Refusal::new(status, too_long)) } else { Ok(None) };
    };
    match &input[end..] {
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(&input[..end])),
        _ => Err(Refusal::bad("a line that does not end with CR and LF")),
    }
}

fn digits(line: &[u8]) -> usize {
    line.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count()
}

/// The size in `1*HEXDIG [ chunk-ext ]`. Extensions are ignored, as section 7.1.1 requires.
fn size_of(line: &[u8]) -> Result<usize, Refusal> {
    let digits = digits(line);
    let (size, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    let is_extension = extension.first() == Some(&b';');
    let is_clean = extension.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    if digits == 0 || digits > MOST_DIGITS || !(rest.is_empty() || is_extension && is_clean) {
        return Err(MALFORMED_SIZE);
    }
    let push = |size: u64, digit: &u8| (size << 4) + u64::from(char::from(*digit).to_digit(16).unwrap_or(0));
    Ok(usize::try_from(size.iter().fold(0, push)).unwrap_or(usize::MAX))
}

/// Reads a field of the trailer and ignores it (RFC 9112 section 7.1.2).
fn trailer(line: &[u8], bytes: usize, fields: usize, limits: &Limits) -> Result<State, Refusal> {
    if line.is_empty() {
        return Ok(State::Done);
    }
    if fields == limits.max_headers {
        return Err(Refusal::new(431, "more trailer fields than max_headers"));
    }
    let whole = [line, b"\r\n\r\n"].concat();
    let mut space = [httparse::EMPTY_HEADER];
    let parsed = httparse::parse_headers(&whole, &mut space);
    if parsed.is_ok_and(|status| status.is_complete()) {
        Ok(State::Trailer(bytes, fields + 1))
    } else {
        Err(Refusal::bad("a malformed trailer field"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusal of a body that arrives at once, if there is one.
    fn refusal(body: &str, max_head: usize) -> Option<Refusal> {
        let limits = Limits { max_head, ..Limits::default() };
        let (mut chunks, mut at) = (Chunks::new(), 0);
        loop {
            match chunks.next(&body.as_bytes()[at..], &limits) {
                Ok(Next::Data { skip, len }) => at += skip + len,
                Ok(Next::End { .. } | Next::More { .. }) => return None,
                Err(refusal) => return Some(refusal),
            }
        }
    }

    #[test]
    fn a_number_of_too_many_digits_is_refused_before_its_line_ends() {
        assert_eq!(refusal("0123456789abcdef", 64), None);
        assert_eq!(refusal("0123456789abcdef0", 64), Some(MALFORMED_SIZE));
    }

    #[test]
    fn all_fields_of_a_trailer_count_toward_max_head() {
        // A field takes six bytes.
        assert_eq!(refusal("0\r\na: b\r\nc: d\r\n\r\n", 12), None);
        assert_eq!(refusal("0\r\na: b\r\nc: d\r\n\r\n", 11), Some(Refusal::new(431, TRAILER)));
    }

    const TRAILER: &str = "a trailer of more than max_head bytes";

    #[test]
    fn lines_of_sizes_may_take_max_head_and_eight_times_the_body() {
        let of = |line: usize| format!("1;{:x<1$}\r\na\r\n", "", line - 2);
        // Four bytes are the ends of the line and of the chunk.
        assert_eq!(refusal(&of(100 + 8 - 4), 100), None);
        assert!(refusal(&of(100 + 8 - 3), 100).is_some_and(|refusal| refusal.text.contains("extensions")));
    }
}
