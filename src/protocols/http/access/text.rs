//! Values as text that no peer can break out of, and as JSON.

/// The digits of escapes.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A value of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// There is none.
    Missing,
    /// Bytes that may come from a peer.
    Bytes(&'a [u8]),
    /// As `Bytes`; a space would look like the end of the value, so it is escaped in text.
    Word(&'a [u8]),
    /// As `Word`, for bytes that were made.
    Made(Vec<u8>),
    /// Text of our own.
    Ours(String),
    Number(u64),
    /// Nanoseconds, written as seconds with six digits behind the point.
    Seconds(u64),
    Bool(bool),
}

impl Value<'_> {
    /// Appends the value to a line of text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Missing | Self::Bytes(b"") | Self::Word(b"") => out.push(b'-'),
            Self::Bytes(bytes) => escape(bytes, false, out),
            Self::Word(bytes) => escape(bytes, true, out),
            Self::Made(bytes) if bytes.is_empty() => out.push(b'-'),
            Self::Made(bytes) => escape(bytes, true, out),
            Self::Ours(_) | Self::Number(_) | Self::Seconds(_) | Self::Bool(_) => self.write_plain(out),
        }
    }

    /// Appends the value as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Missing | Self::Bytes(b"") | Self::Word(b"") => out.extend_from_slice(b"null"),
            Self::Bytes(bytes) | Self::Word(bytes) => quote(bytes, out),
            Self::Made(bytes) if bytes.is_empty() => out.extend_from_slice(b"null"),
            Self::Made(bytes) => quote(bytes, out),
            Self::Ours(text) => quote(text.as_bytes(), out),
            Self::Number(_) | Self::Seconds(_) | Self::Bool(_) => self.write_plain(out),
        }
    }

    fn write_plain(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        match self {
            Self::Ours(text) => out.extend_from_slice(text.as_bytes()),
            Self::Number(number) => out.extend_from_slice(digits.format(*number).as_bytes()),
            Self::Seconds(nanos) => {
                out.extend_from_slice(digits.format(nanos / 1_000_000_000).as_bytes());
                out.push(b'.');
                let text = digits.format(nanos / 1_000 % 1_000_000);
                out.extend(std::iter::repeat_n(b'0', 6 - text.len()));
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Missing | Self::Bytes(_) | Self::Word(_) | Self::Made(_) => {}
        }
    }
}

/// Appends bytes as nginx does: a quote, a backslash and everything that is not visible ASCII become `\x` and two digits. So
/// no value ends its quotes or its line.
fn escape(bytes: &[u8], escapes_spaces: bool, out: &mut Vec<u8>) {
    let is_clean = |byte: &u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~') || (*byte == b' ' && !escapes_spaces);
    if bytes.iter().all(is_clean) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match is_clean(byte) {
            true => out.push(*byte),
            false => out.extend([b'\\', b'x', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

fn digit(value: u8) -> u8 {
    DIGITS[usize::from(value & 15)]
}

/// Appends a string of JSON in ASCII. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if bytes.iter().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
        out.extend_from_slice(bytes);
    } else {
        String::from_utf8_lossy(bytes).chars().for_each(|letter| quote_letter(letter, out));
    }
    out.push(b'"');
}

fn quote_letter(letter: char, out: &mut Vec<u8>) {
    match letter {
        '"' | '\\' => out.extend([b'\\', letter as u8]),
        ' '..='~' => out.push(letter as u8),
        _ => {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let digits = [12, 8, 4, 0].map(|shift| digit((*unit >> shift) as u8));
                out.extend_from_slice(b"\\u");
                out.extend(digits);
            }
        }
    }
}

/// Decodes base64 (RFC 4648 section 4), with or without its padding. `None` if it is malformed.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.trim_ascii_end().iter().take_while(|letter| **letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        value.write(&mut out);
        String::from_utf8(out).expect("it is ASCII")
    }

    fn json(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        value.write_json(&mut out);
        String::from_utf8(out).expect("it is ASCII")
    }

    #[test]
    fn values_have_their_forms() {
        for (value, in_text, in_json) in [
            (Value::Missing, "-", "null"),
            (Value::Bytes(b"a \"b\\\n\xff\x7f"), r"a \x22b\x5c\x0a\xff\x7f", r#""a \"b\\\u000a\ufffd\u007f""#),
            (Value::Word("a \u{1f600}".as_bytes()), r"a\x20\xf0\x9f\x98\x80", r#""a \ud83d\ude00""#),
            (Value::Made(b"x y".to_vec()), r"x\x20y", "\"x y\""),
            (Value::Ours("x".into()), "x", "\"x\""),
            (Value::Number(200), "200", "200"),
            (Value::Seconds(1_000_042_999), "1.000042", "1.000042"),
            (Value::Bool(true), "true", "true"),
        ] {
            assert_eq!((text(&value), json(&value)), (in_text.into(), in_json.into()));
        }
    }

    #[test]
    fn base64_is_decoded() {
        for (coded, plain) in
            [("", Some("")), ("YQ==", Some("a")), ("YWI", Some("ab")), ("YWJj", Some("abc")), ("?", None)]
        {
            assert_eq!(from_base64(coded.as_bytes()), plain.map(|plain| plain.as_bytes().to_vec()));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_out_of_a_line_or_of_quotes(bytes: Vec<u8>) {
            let written = text(&Value::Bytes(&bytes));
            prop_assert!(written.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"'));
            let quoted = json(&Value::Bytes(&bytes));
            prop_assert!(quoted.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
