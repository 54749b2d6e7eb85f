//! Conditional requests and requests for a range, of a representation whose bytes are known (RFC 9110 sections 13, 14).
//!
//! Pure: decides by the head of a request which part of the representation answers it, or which status. A malformed
//! condition about a date and a malformed range are ignored, as the RFC asks; a malformed list of tags matches nothing.

use std::ops::Range;

use httpdate::HttpDate;

use super::head::Lines;
use super::list::members;

/// An entity tag (RFC 9110 section 8.8.3): the opaque part with its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    opaque: &'a [u8],
    is_weak: bool,
}

impl<'a> Tag<'a> {
    /// Reads a tag at the front of `text`; also returns the rest.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (is_weak, quoted) = text.strip_prefix(b"W/").map_or((false, text), |rest| (true, rest));
        let inside = quoted.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', inside)? + 2;
        let (opaque, rest) = quoted.split_at(end);
        opaque.iter().all(|byte| *byte > b' ' && *byte != 0x7f).then_some((Self { opaque, is_weak }, rest))
    }

    /// Reads a field that is one tag.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        Self::take(text.trim_ascii()).filter(|(_, rest)| rest.is_empty()).map(|(tag, _)| tag)
    }

    /// RFC 9110 section 8.8.3.2
    fn equals_strongly(self, other: Self) -> bool {
        self == other && !self.is_weak
    }

    fn equals_weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

/// The representation that the request asks for.
pub struct Representation<'a> {
    /// Bytes.
    pub length: u64,
    /// Its tag.
    pub tag: Tag<'a>,
    /// The time of its last change.
    pub modified: HttpDate,
    /// Whether `modified` tells any two versions apart (RFC 9110 section 8.8.2.2).
    pub is_date_strong: bool,
}

/// The answer that a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// 200: all of it.
    Whole,
    /// 206: this part of it.
    Part(Range<u64>),
    /// 304: the peer has it.
    NotModified,
    /// 412: it is not the version that the peer means.
    Failed,
    /// 416: it has no such part.
    Unsatisfiable,
}

/// Selects the answer to a request with this head, in the order of RFC 9110 section 13.2.2. Methods other than `GET` and
/// `HEAD` get the whole, because their conditions are about what they do and not about the answer.
pub fn select(head: &[u8], method: &[u8], it: &Representation<'_>) -> Selected {
    if !matches!(method, b"GET" | b"HEAD") {
        return Selected::Whole;
    }
    let is_failed = match field(head, b"if-match") {
        Some(tags) => !contains(&tags, it.tag, Tag::equals_strongly),
        None => date(head, b"if-unmodified-since").is_some_and(|date| it.modified > date),
    };
    if is_failed {
        return Selected::Failed;
    }
    let is_known = match field(head, b"if-none-match") {
        Some(tags) => contains(&tags, it.tag, Tag::equals_weakly),
        None => date(head, b"if-modified-since").is_some_and(|date| it.modified <= date),
    };
    if is_known {
        return Selected::NotModified;
    }
    match field(head, b"range") {
        // RFC 9110 section 14.2: a range is defined for `GET` only.
        Some(range) if method == b"GET" && is_still_the_same(head, it) => part(&range, it.length),
        _ => Selected::Whole,
    }
}

/// RFC 9110 section 13.1.5
fn is_still_the_same(head: &[u8], it: &Representation<'_>) -> bool {
    let Some(validator) = field(head, b"if-range") else { return true };
    match Tag::parse(&validator) {
        Some(tag) => tag.equals_strongly(it.tag),
        None => it.is_date_strong && parse_date(&validator) == Some(it.modified),
    }
}

/// The part of a representation that a `Range` names (RFC 9110 section 14.1.2). Several parts, other units and malformed
/// ranges get the whole.
fn part(range: &[u8], length: u64) -> Selected {
    let Some((first, last)) = only_range(range) else { return Selected::Whole };
    match (number(first), number(last)) {
        (None, None) => Selected::Whole,
        (None, Some(0)) => Selected::Unsatisfiable,
        // Nothing is the last part of nothing, and no `Content-Range` could say so.
        (None, Some(_)) if length == 0 => Selected::Whole,
        (None, Some(count)) => Selected::Part(length.saturating_sub(count)..length),
        (Some(first), Some(last)) if last < first => Selected::Whole,
        (Some(first), _) if first >= length => Selected::Unsatisfiable,
        (Some(first), last) => Selected::Part(first..last.map_or(length, |last| length.min(last.saturating_add(1)))),
    }
}

/// The two numbers of the only range in bytes, as text. `None` if there are several, or anything else.
fn only_range(range: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', range)?;
    let (unit, set) = (&range[..at], &range[at + 1..]);
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = members(set).filter(|range| !range.is_empty());
    let (only, None) = (ranges.next()?, ranges.next()) else { return None };
    let dash = memchr::memchr(b'-', only)?;
    let (first, last) = (&only[..dash], &only[dash + 1..]);
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    (is_number(first) && is_number(last)).then_some((first, last))
}

/// The value of digits; larger numbers become the largest. `None` if there are no digits.
fn number(digits: &[u8]) -> Option<u64> {
    let push = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    (!digits.is_empty()).then(|| digits.iter().fold(0, push))
}

/// Whether a list of tags has one that equals `tag`, or is `*`.
fn contains<'a>(list: &'a [u8], tag: Tag<'a>, equals: impl Fn(Tag<'a>, Tag<'a>) -> bool) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let is_between = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
    let mut rest = list;
    loop {
        let begin = rest.iter().position(|byte| !is_between(byte)).unwrap_or(rest.len());
        let Some((found, behind)) = Tag::take(&rest[begin..]) else { return false };
        if equals(found, tag) {
            return true;
        }
        rest = behind;
    }
}

/// The value of a field; those of a repeated field are joined.
fn field(head: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut values = Lines::of(head).filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let mut joined = values.next()?.to_vec();
    for value in values {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(value);
    }
    Some(joined)
}

fn date(head: &[u8], name: &[u8]) -> Option<HttpDate> {
    parse_date(&field(head, name)?)
}

/// Reads a date in any of the forms of RFC 9110 section 5.6.7.
pub fn parse_date(text: &[u8]) -> Option<HttpDate> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn selected_of(length: u64, tag: &str, method: &str, fields: &[&str]) -> Selected {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n"));
        let tag = Tag::parse(tag.as_bytes()).expect("it is a tag");
        let modified = parse_date(MODIFIED.as_bytes()).expect("it is a date");
        select(head.as_bytes(), method.as_bytes(), &Representation { length, tag, modified, is_date_strong: true })
    }

    fn selected(fields: &[&str]) -> Selected {
        selected_of(1000, "\"a\"", "GET", fields)
    }

    #[test]
    fn a_range_selects_its_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..1000),
            ("bytes=0-999", 0..1000),
            ("bytes=0-99999999999999999999999", 0..1000),
            ("bytes=999-", 999..1000),
            ("bytes=10-19", 10..20),
            ("bytes=-1", 999..1000),
            ("bytes=-1000", 0..1000),
            ("bytes=-5000", 0..1000),
            ("Bytes=1-2", 1..3),
            ("bytes= 1-2 ,", 1..3),
        ] {
            assert_eq!(selected(&[&format!("Range: {range}")]), Selected::Part(part), "{range}");
        }
    }

    #[test]
    fn a_range_that_is_none_or_several_selects_the_whole() {
        for range in [
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5",
            "bytes=5-2",
            "bytes=1-2,4-5",
            "bytes=--5",
            "bytes=1-2-3",
            "lines=1-2",
            "bytes=0x1-2",
            "bytes=+1-2",
            "bytes 1-2",
            "",
        ] {
            assert_eq!(selected(&[&format!("Range: {range}")]), Selected::Whole, "{range}");
        }
        assert_eq!(selected(&["Range: bytes=1-2", "Range: bytes=4-5"]), Selected::Whole);
    }

    #[test]
    fn a_range_behind_the_end_cannot_be_met() {
        for range in ["bytes=1000-", "bytes=1000-1001", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(selected(&[&format!("Range: {range}")]), Selected::Unsatisfiable, "{range}");
        }
        assert_eq!(selected_of(0, "\"a\"", "GET", &["Range: bytes=0-"]), Selected::Unsatisfiable);
        assert_eq!(selected_of(0, "\"a\"", "GET", &["Range: bytes=-5"]), Selected::Whole);
    }

    #[test]
    fn other_methods_have_no_ranges_and_those_that_change_something_no_conditions() {
        assert_eq!(selected_of(9, "\"a\"", "HEAD", &["Range: bytes=1-2"]), Selected::Whole);
        assert_eq!(selected_of(9, "\"a\"", "HEAD", &["If-None-Match: \"a\""]), Selected::NotModified);
        for fields in [["Range: bytes=1-2"], ["If-None-Match: \"a\""], ["If-Match: \"b\""]] {
            assert_eq!(selected_of(9, "\"a\"", "POST", &fields), Selected::Whole);
        }
    }

    #[test]
    fn tags_are_compared_weakly_for_the_cache_and_strongly_for_parts_and_changes() {
        for (ours, fields, expected) in [
            ("\"a\"", ["If-None-Match: \"a\""], Selected::NotModified),
            ("\"a\"", ["If-None-Match: W/\"a\""], Selected::NotModified),
            ("W/\"a\"", ["If-None-Match: \"a\""], Selected::NotModified),
            ("\"a\"", ["If-None-Match: \"x\", W/\"y\",, \"a\""], Selected::NotModified),
            ("\"a,b\"", ["If-None-Match: \"a,b\""], Selected::NotModified),
            ("\"a\"", ["If-None-Match: *"], Selected::NotModified),
            ("\"a\"", ["If-None-Match: \"b\""], Selected::Whole),
            ("\"a\"", ["If-None-Match: a"], Selected::Whole),
            ("\"a\"", ["If-None-Match: \"a"], Selected::Whole),
            ("\"a\"", ["If-None-Match: \"A\""], Selected::Whole),
            ("\"a\"", ["If-Match: \"a\""], Selected::Whole),
            ("\"a\"", ["If-Match: \"b\", \"a\""], Selected::Whole),
            ("\"a\"", ["If-Match: *"], Selected::Whole),
            ("\"a\"", ["If-Match: W/\"a\""], Selected::Failed),
            ("W/\"a\"", ["If-Match: W/\"a\""], Selected::Failed),
            ("\"a\"", ["If-Match: \"b\""], Selected::Failed),
            ("\"a\"", ["If-Match: nonsense"], Selected::Failed),
        ] {
            assert_eq!(selected_of(9, ours, "GET", &fields), expected, "{ours} {fields:?}");
        }
    }

    #[test]
    fn dates_count_only_without_tags_and_malformed_ones_never() {
        let (before, later) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        for (fields, expected) in [
            (vec![format!("If-Modified-Since: {MODIFIED}")], Selected::NotModified),
            (vec![format!("If-Modified-Since: {later}")], Selected::NotModified),
            (vec![format!("If-Modified-Since: {before}")], Selected::Whole),
            // The obsolete forms of RFC 9110 section 5.6.7.
            (vec!["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT".into()], Selected::NotModified),
            (vec!["If-Modified-Since: Sun Nov  6 08:49:37 1994".into()], Selected::NotModified),
            (vec!["If-Modified-Since: yesterday".into()], Selected::Whole),
            (vec![format!("If-Modified-Since: {later}"), "If-None-Match: \"b\"".into()], Selected::Whole),
            (vec![format!("If-Unmodified-Since: {MODIFIED}")], Selected::Whole),
            (vec![format!("If-Unmodified-Since: {before}")], Selected::Failed),
            (vec!["If-Unmodified-Since: yesterday".into()], Selected::Whole),
            (vec![format!("If-Unmodified-Since: {before}"), "If-Match: \"a\"".into()], Selected::Whole),
            // The order of RFC 9110 section 13.2.2: a failed precondition comes first, a known version before a range.
            (vec!["If-Match: \"b\"".into(), "If-None-Match: \"a\"".into()], Selected::Failed),
            (vec!["If-None-Match: \"a\"".into(), "Range: bytes=0-1".into()], Selected::NotModified),
        ] {
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            assert_eq!(selected(&fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_part_is_sent_only_of_the_version_that_the_peer_has() {
        for (condition, expected) in [
            ("\"a\"", Selected::Part(1..3)),
            (MODIFIED, Selected::Part(1..3)),
            ("\"b\"", Selected::Whole),
            ("W/\"a\"", Selected::Whole),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Selected::Whole),
            ("nonsense", Selected::Whole),
        ] {
            let condition = format!("If-Range: {condition}");
            assert_eq!(selected(&["Range: bytes=1-2", &condition]), expected, "{condition}");
        }
        let weak = selected_of(9, "W/\"a\"", "GET", &["Range: bytes=1-2", "If-Range: W/\"a\""]);
        assert_eq!(weak, Selected::Whole);
    }
}
