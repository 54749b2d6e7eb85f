//! The records of requests, and the lines that are made of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::protocols::fake::FakeWire;
use crate::protocols::http::{Answer, Facts, Head, Http, Limits};
use crate::protocols::{Closing, Protocol};
use crate::recorder::{Render, Time};

/// A recorder that keeps records; each reading of its clock takes a second.
#[derive(Default)]
struct Kept {
    format: &'static str,
    records: Mutex<Vec<Vec<u8>>>,
    seconds: AtomicU64,
    draws: bool,
}

impl Recorder for Kept {
    fn now(&self) -> u64 {
        self.seconds.fetch_add(1, Ordering::Relaxed) * 1_000_000_000
    }
    fn draws(&self) -> bool {
        self.draws
    }
    fn needs(&self) -> u8 {
        format(self.format).needs()
    }
    fn put(&self, parts: &[&[u8]]) {
        self.records.lock().expect("nobody panics").push(parts.concat());
    }
}

fn format(text: &str) -> Format {
    Format::parse(text).expect("it is a format")
}

fn head(status: u16, name: &str, value: &str) -> Head {
    let mut head = Head::new(Vec::new(), status);
    head.field(name.as_bytes(), value.as_bytes()).expect("it is a field");
    head
}

/// A connection with an access log.
struct Logged {
    http: Http,
    wire: FakeWire,
    kept: Arc<Kept>,
}

impl Logged {
    fn new(format: &'static str, draws: bool) -> Self {
        let kept = Arc::new(Kept { format, draws, ..Kept::default() });
        let mut http = Http::new(Arc::new(Limits::default()), false);
        http.record(Site::new(kept.clone(), Some(("192.0.2.1", 4711)), Some("TLSv1.3"), 2));
        Self { http, wire: FakeWire::default(), kept }
    }

    fn receive(&mut self, input: &[u8]) {
        self.wire.unread.extend_from_slice(input);
        let done = self.http.look(&mut self.wire.unread);
        self.wire.unread.drain(..done);
    }

    /// Takes the next request, if there is one.
    fn take(&mut self) -> Option<(u64, Facts)> {
        let show = |number, event: crate::protocols::http::Event<'_>| match event {
            crate::protocols::http::Event::Request { facts, .. } => Some((number, facts)),
            _ => None,
        };
        self.http.take(&mut self.wire, show).flatten()
    }

    fn respond(&mut self, (number, facts): (u64, Facts), status: u16, body: &[u8]) {
        let head = head(status, "Content-Type", "text/x y");
        let mut answer = Answer::new(number, facts, true);
        self.http.respond(&mut answer, head, body, &mut self.wire).expect("it may answer");
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Lines::new(format(self.kept.format), Some(3), 77);
        let records = std::mem::take(&mut *self.kept.records.lock().expect("nobody panics"));
        let line = |record: &Vec<u8>| {
            let mut out = Vec::new();
            lines.render(record, Time { zero: 971_211_336_000_000_000, east: -25_200 }, &mut out);
            String::from_utf8(out).expect("it is ASCII")
        };
        records.iter().map(line).collect()
    }

    /// The lines after the end of the connection.
    fn ended(mut self) -> Vec<String> {
        self.http = Http::new(Arc::new(Limits::default()), false);
        self.lines()
    }
}

const GET: &[u8] =
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nAuthorization: Basic dSBzZXI6cA==\r\nReferer: r\"\r\nUser-Agent: u\x80\r\n\
    X-Request-ID: 9\r\n\r\n";

#[test]
fn the_known_formats_have_their_lines() {
    let common = r#"192.0.2.1 - u\x20ser [10/Oct/2000:13:55:37 -0700] "GET /a?b=c HTTP/1.1" 201 5"#;
    let combined = format!(r#"{common} "r\x22" "u\x80""#);
    let json = concat!(
        r#"{"time":"2000-10-10T20:55:37.000Z","peer":"192.0.2.1","port":4711,"user":"u ser","method":"GET","#,
        r#""target":"/a?b=c","version":"HTTP/1.1","status":201,"body_bytes":5,"bytes_sent":SENT,"whole":true,"#,
        r#""seconds":1.000000,"host":"h","referer":"r\"","user_agent":"u\ufffd","request_id":"9","tls":"TLSv1.3","#,
        r#""worker":3,"pid":77,"poller":2}"#,
    );
    for (format, line) in [("common", common), ("combined", &combined), ("json", json)] {
        let mut logged = Logged::new(format, true);
        logged.receive(GET);
        let request = logged.take().expect("a request came");
        logged.respond(request, 201, b"12345");
        let sent = logged.wire.output.len().to_string();
        assert_eq!(logged.lines(), [format!("{}\n", line.replace("SENT", &sent))]);
        assert!(logged.ended().is_empty(), "a request has one line");
    }
}

#[test]
fn a_format_of_ones_own_has_every_value() {
    const OWN: &str =
        "{{{path}|{query}}} {request.user-agent} {response.content-type} {milliseconds} {time_unix} {missing}";
    assert!(matches!(Format::parse(OWN), Err(Unknown::Name { name, .. }) if name == "missing"));
    let mut logged =
        Logged::new("{{{path}|{query}}} {request.host} {response.content-type} {milliseconds} {time_unix}", true);
    logged.receive(GET);
    let request = logged.take().expect("a request came");
    logged.respond(request, 200, b"");
    assert_eq!(logged.lines(), ["{/a|b=c} h text/x y 1000 971211337.000000\n"]);
}

#[test]
fn every_value_has_a_name_that_is_known() {
    for (name, _) in super::fields::NAMES {
        let format = format(&format!("{{{name}}}"));
        let mut out = Vec::new();
        let record = Record {
            began: 0,
            ended: 1,
            counts: Counts { status: 200, bytes: 2, head: 1 },
            is_whole: true,
            about: &record::about("p", "1", "", 0),
            head: GET,
            answer: b"",
        };
        let kept = Kept::default();
        record.put(&kept);
        let bytes = kept.records.lock().expect("nobody panics").remove(0);
        assert_eq!(Record::read(&bytes), Some(record));
        Lines::new(format, None, 1).render(&bytes, Time::default(), &mut out);
        let is_absent = ["tls", "worker"].contains(name);
        assert_eq!(out == b"-\n", is_absent, "{name}");
    }
}

#[test]
fn wrong_formats_are_refused() {
    for (text, error) in [
        ("{peer", Unknown::Brace),
        ("peer}", Unknown::Brace),
        ("}{peer}", Unknown::Brace),
        ("text", Unknown::NoValue),
        ("", Unknown::NoValue),
        ("{peer}\n", Unknown::Control),
    ] {
        assert_eq!(Format::parse(text), Err(error), "{text}");
    }
    for name in ["", "Peer", "request.", "request.a b", "response.:", "peer "] {
        let error = Format::parse(&format!("{{{name}}}")).expect_err("there is no such value").to_string();
        assert!(error.starts_with(&format!("has no value {{{name}}}; there are time, ")), "{error}");
    }
}

#[test]
fn only_the_parts_that_a_format_needs_are_copied() {
    for (text, needs) in [("common", 1), ("{request}", 0), ("{host}", 1), ("{response.a}", 2), ("json", 1)] {
        assert_eq!(format(text).needs(), needs, "{text}");
    }
    let mut logged = Logged::new("{request}", true);
    logged.receive(GET);
    let request = logged.take().expect("a request came");
    logged.respond(request, 200, b"");
    let record = logged.kept.records.lock().expect("nobody panics").remove(0);
    assert_eq!(Record::read(&record).expect("it is a record").head, b"GET /a?b=c HTTP/1.1\r");
}

#[test]
fn refused_requests_have_lines_with_what_came_of_them() {
    for (input, line) in [
        (&b"GET /x HTTP/1.1\r\n\r\n"[..], "GET /x HTTP/1.1|400"),
        (b"\x16\x03\x01\x02", "\\x16\\x03\\x01\\x02|400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", "POST / HTTP/1.1|413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "POST / HTTP/1.1|400"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "GET / HTTP/2.0|505"),
    ] {
        let mut logged = Logged::new("{request}|{status}", true);
        logged.receive(input);
        assert!(logged.take().is_none());
        assert_eq!(logged.lines(), [format!("{line}\n")]);
    }
    let mut logged = Logged::new("{request}|{status}", true);
    logged.receive(b"GET / HT");
    logged.http.took_too_long(&mut logged.wire);
    assert_eq!(logged.lines(), ["GET / HT|408\n"]);
}

#[test]
fn a_request_without_an_answer_has_a_line_when_the_connection_ends() {
    let mut logged = Logged::new("{target} {status} {whole} {body_bytes}", true);
    logged.receive(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let (number, facts) = logged.take().expect("a request came");
    logged.take().expect("another came");
    let mut answer = Answer::new(number, facts, true);
    logged.http.start(&mut answer, head(200, "content-length", "9"), &mut logged.wire).expect("it may answer");
    logged.http.write(&mut answer, b"1234", &mut logged.wire).expect("it may go on");
    assert_eq!(logged.ended(), ["/1 200 false 4\n", "/2 499 false 0\n"]);
}

#[test]
fn answers_that_goev_gives_have_lines() {
    let mut logged = Logged::new("{status} {whole}", true);
    logged.receive(GET);
    logged.take().expect("a request came");
    let raised = crate::error::Reason::Raised(Box::new(()));
    logged.http.closing(Closing::Failed(&raised), &mut logged.wire);
    assert_eq!(logged.ended(), ["500 true\n"]);
}

#[test]
fn a_sample_has_every_failure() {
    let mut logged = Logged::new("{status}", false);
    for status in [200, 404, 500, 503] {
        logged.receive(GET);
        let request = logged.take().expect("a request came");
        logged.respond(request, status, b"");
    }
    assert_eq!(logged.lines(), ["500\n", "503\n"]);
}
