//! The limits of a head, to the byte, and the refusals of malformed ones.
//!
//! A well-formed head goes through [`read`] alone. Of every other input [`end_of`] finds the end, and [`parse`] the fault.

use super::super::head::{end_of, parse, read};
use super::*;

const HEAD: &str = "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n";
const LINE: usize = "GET / HTTP/1.1".len();

fn status<T>(result: Result<T, super::super::Refusal>) -> Option<u16> {
    result.err().map(|refusal| refusal.status)
}

#[test]
fn a_common_head_is_read_in_one_step_up_to_its_limits() {
    let exact = Limits { max_line: LINE, max_head: HEAD.len(), max_headers: 2, ..Limits::default() };
    let end = |head: &str, limits: &Limits| read(head.as_bytes(), limits).map(|(end, _)| end);
    assert_eq!(end(HEAD, &exact), Some(HEAD.len()));
    assert_eq!(end(&[HEAD, "more"].concat(), &exact), Some(HEAD.len()));
    assert_eq!(end(HEAD, &Limits { max_line: LINE - 1, ..exact.clone() }), None);
    assert_eq!(end(HEAD, &Limits { max_head: HEAD.len() - 1, ..exact.clone() }), None);
    assert_eq!(end(HEAD, &Limits { max_headers: 1, ..exact.clone() }), None);
    // A bare LF ends no line, wherever it is.
    for at in HEAD.match_indices('\r').map(|(at, _)| at) {
        let bare = [&HEAD[..at], &HEAD[at + 1..]].concat();
        assert_eq!(end(&bare, &Limits::default()), None, "{bare:?}");
    }
}

#[test]
fn the_end_of_a_head_is_found_up_to_its_limits() {
    let find = |input: &str, limits: &Limits| end_of(input.as_bytes(), 0, limits);
    let lines = Limits { max_line: LINE, max_headers: 2, ..Limits::default() };
    assert_eq!(find(HEAD, &lines), Ok(Some(HEAD.len())));
    assert_eq!(find(&HEAD[..HEAD.len() - 2], &lines), Ok(None));
    let short = Limits { max_line: LINE - 1, ..lines.clone() };
    assert_eq!((find(&HEAD[..LINE], &short), status(find(HEAD, &short))), (Ok(None), Some(414)));
    assert_eq!(status(find(HEAD, &Limits { max_headers: 0, ..lines.clone() })), Some(431));
    let long = Limits { max_head: HEAD.len() - 1, ..lines };
    assert_eq!(status(find(HEAD, &long)), Some(431));
}

#[test]
fn input_that_cannot_become_a_request_is_refused_at_its_first_byte() {
    for (input, is_refused) in [(&b"\x16\x03\x01"[..], true), (b" GET", true), (b"\rGET", false), (b"GET", false)] {
        assert_eq!(end_of(input, 0, &Limits::default()).is_err(), is_refused, "{input:?}");
    }
    // The first byte was looked at before.
    assert_eq!(end_of(b"GET", 1, &Limits::default()), Ok(None));
}

#[test]
fn a_malformed_head_is_refused_with_its_fault() {
    let fault = |text: &str| {
        let limits = Limits { max_headers: 2, ..Limits::default() };
        parse(text.as_bytes(), &limits).err().map(|refusal| refusal.to_string())
    };
    for (line, fields, expected) in [
        ("GET / HTTP/1.1", "Host: a", None),
        ("GET / HTTP/1.7", "Host: a", None),
        ("GET / HTTP/2.0", "Host: a", Some("505 HTTP Version Not Supported: only HTTP/1 is spoken")),
        ("GET / HTTP/x.0", "Host: a", Some("400 Bad Request: a malformed request line")),
        ("GET / HTTP/2.x", "Host: a", Some("400 Bad Request: a malformed request line")),
        ("GET / HTTP/1.1", "Host: a\r\nb c: d", Some("400 Bad Request: a malformed field name")),
        ("GET / HTTP/1.1", "Host: a\r\nb: \x01", Some("400 Bad Request: a control character in a field")),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nb: c\r\nd: e",
            Some("431 Request Header Fields Too Large: more fields than max_headers"),
        ),
        ("GET / HTTP/1.1", "Host: []", Some("400 Bad Request: a malformed Host")),
        ("GET / HTTP/1.1", "Host: [g::1]", Some("400 Bad Request: a malformed Host")),
        ("GET / HTTP/1.1", "Host: [::1]", None),
        ("GET / HTTP/1.1", "Host: a\r\n\r\nb: c", Some("400 Bad Request: a malformed head")),
    ] {
        assert_eq!(fault(&format!("{line}\r\n{fields}\r\n\r\n")).as_deref(), expected, "{line} {fields:?}");
    }
}

#[test]
fn a_field_means_something_by_its_whole_name_and_not_by_its_length() {
    let fields = [
        "Host: a",
        "From: a b",
        "Accept: x",
        "Connection: upgrade",
        "Referer: x",
        "User-Agent: close",
        "Accept-Charset: x",
        "X-Forwarded-Proto: x",
    ];
    let head = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"));
    let facts = parse(head.as_bytes(), &Limits::default()).expect("it is well formed");
    assert_eq!((facts.keep_alive, facts.may_switch, facts.expects_continue), (true, false, false));
    assert_eq!(facts.body, super::super::head::Body::Length(0));
}
