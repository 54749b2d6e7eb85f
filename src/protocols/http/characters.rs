//! Sets of bytes that names are made of.

/// `tchar` (RFC 9110 section 5.6.2)
pub(super) static TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// Whether a text has only bytes of a set. No branch for each byte, because nearly all texts do.
#[inline]
pub(super) fn are_all_in(set: &[bool; 256], text: &[u8]) -> bool {
    text.iter().fold(true, |are_in, byte| are_in & set[usize::from(*byte)])
}

/// The text behind the two hexadecimal digits that have to follow a percent sign (RFC 3986 section 2.1).
pub(super) fn behind_digits(text: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = text.split_at_checked(2)?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(rest)
}

/// The set of all letters and digits, and of `others`.
pub(super) const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < set.len() {
        set[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        set[others[at] as usize] = true;
        at += 1;
    }
    set
}
