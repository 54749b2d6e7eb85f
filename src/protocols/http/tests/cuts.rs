//! A stream has the same meaning wherever it is cut.

use super::*;

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// The parts that the handler saw, the bytes that the peer got, and the end.
type Outcome = (Vec<Saw>, String, Option<Ended>);

/// The outcome of a stream that arrives in these pieces. The handler answers each request when it has arrived whole,
/// and never asks for a body.
fn outcome(streams: bool, pieces: &[&[u8]]) -> Outcome {
    let mut server = Server::with(rows::limits(), streams);
    for piece in pieces {
        server.wire.receive(&mut server.http, piece);
        while server.is_open() && server.http.has_news() {
            let number = server.call();
            let is_whole = if streams { matches!(server.seen.last(), Some(Saw::End(_))) } else { number.is_some() };
            if server.is_open() && is_whole {
                // A 200 would hand over the stream of a CONNECT.
                server.answer(server.answers.len() - 1, Respond(405, &[], "answered"));
            }
        }
    }
    let sent = server.sent();
    (server.seen, sent, server.wire.ended)
}

/// The outcome of a stream that arrives at once. Asserts the same outcome for each cut in two, and byte by byte.
fn outcome_of_all_cuts(streams: bool, stream: &[u8], reason: &str) -> Outcome {
    let whole = outcome(streams, &[stream]);
    for at in 0..=stream.len() {
        let (left, right) = stream.split_at(at);
        assert_eq!(outcome(streams, &[left, right]), whole, "{reason}: cut at {at}, streams: {streams}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(outcome(streams, &bytes), whole, "{reason}: byte by byte, streams: {streams}");
    whole
}

/// Asserts exactly one error answer, complete in itself, and an end because of it.
fn assert_refused((_, sent, ended): &Outcome, status: u16, reason: &str) {
    let (head, body) = sent.split_once("\r\n\r\n").expect("an answer has a head");
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    assert!(status_line.starts_with(&format!("HTTP/1.1 {status} ")), "{reason}: {sent}");
    let length = format!("Content-Length: {}", body.len());
    let fields = ["Content-Type: text/plain; charset=utf-8", &length, DATED, "Connection: close"];
    assert_eq!(lines.collect::<Vec<_>>(), fields, "{reason}");
    // The body names the rule, and so does the handler's error.
    assert_eq!(*ended, failed(body.trim_end()), "{reason}");
    assert!(body.starts_with(&status_line["HTTP/1.1 ".len()..]) && body.ends_with('\n'), "{reason}: {body}");
}

fn answered(closes: bool) -> String {
    let connection = if closes { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 8\r\n{DATED}\r\n{connection}\r\nanswered")
}

#[test]
fn a_malformed_head_is_refused_for_the_same_reason_wherever_it_is_cut() {
    for ((status, request, reason), streams) in both_ways(rows::malformed_heads()) {
        let outcome = outcome_of_all_cuts(streams, &[&request, NEXT].concat(), reason);
        assert_refused(&outcome, status, reason);
        assert_eq!(outcome.0, [], "{reason}: no request reaches the handler");
    }
}

#[test]
fn a_malformed_body_is_refused_for_the_same_reason_wherever_it_is_cut() {
    for ((status, request, reason), streams) in both_ways(rows::malformed_bodies()) {
        let (seen, sent, ended) = outcome_of_all_cuts(streams, &[&request, NEXT].concat(), reason);
        match &seen[..] {
            [] => assert!(!streams, "{reason}"),
            [Saw::Request(0, _)] | [Saw::Request(0, _), Saw::Body(0, _)] => assert!(streams, "{reason}"),
            _ => panic!("{reason}: {seen:?}"),
        }
        assert_refused(&(seen, sent, ended), status, reason);
    }
}

#[test]
fn a_malformed_request_costs_the_request_before_it_nothing() {
    let all = || rows::malformed_heads().into_iter().chain(rows::malformed_bodies()).collect::<Vec<_>>();
    for ((status, request, reason), streams) in both_ways(all()) {
        let (seen, sent, ended) = outcome(streams, &[NEXT, &request, NEXT]);
        let rest = sent.strip_prefix(&answered(false)).unwrap_or_else(|| panic!("{reason}: {sent}"));
        assert_refused(&(seen, rest.into(), ended), status, reason);
    }
}

#[test]
fn an_unusual_request_is_served_and_so_is_the_next_one_wherever_they_are_cut() {
    for ((request, line, fields, body, reason), streams) in both_ways(rows::legal()) {
        let (seen, sent, ended) = outcome_of_all_cuts(streams, &[&request, NEXT].concat(), reason);
        let behind = assert_served(&seen, streams, (line, fields, body), reason);
        assert!(matches!(behind, [Saw::Request(1, next), ..] if next.line == "GET /next 1.1 goes on"), "{reason}");
        assert_eq!(ended, None, "{reason}");
        let said = if line.contains(" 1.0 ") { "\r\nConnection: keep-alive\r\n\r\n" } else { "\r\n\r\n" };
        assert_eq!(sent, answered(false).replace("\r\n\r\n", said) + &answered(false), "{reason}");
    }
}

#[test]
fn a_last_request_is_served_and_nothing_behind_it_wherever_they_are_cut() {
    for ((request, line, fields, body, reason), streams) in both_ways(rows::last()) {
        let (seen, sent, ended) = outcome_of_all_cuts(streams, &[&request, NEXT].concat(), reason);
        let behind = assert_served(&seen, streams, (line, fields, body), reason);
        assert_eq!((behind, &sent, ended), (&[][..], &answered(true), Some(Ended::Closed)), "{reason}");
    }
}

/// Asserts that the first request is as the row says. Returns the rest.
fn assert_served<'a>(
    seen: &'a [Saw],
    streams: bool,
    (line, fields, body): (&str, &[&str], &[u8]),
    reason: &str,
) -> &'a [Saw] {
    let [Saw::Request(0, request), rest @ ..] = seen else { panic!("{reason}: {seen:?}") };
    assert_eq!(request.line, line, "{reason}");
    let sees = |field: &&&str| !request.fields.iter().any(|seen| seen == **field);
    assert_eq!(fields.iter().find(sees), None, "{reason}: {:?}", request.fields);
    if !streams {
        assert_eq!(request.body.as_deref(), Some(body), "{reason}");
        return rest;
    }
    assert_eq!(request.body, None, "{reason}");
    match rest {
        [Saw::Body(0, came), Saw::End(0), rest @ ..] if came == body => rest,
        [Saw::End(0), rest @ ..] if body.is_empty() => rest,
        _ => panic!("{reason}: {rest:?}"),
    }
}

/// Each row twice: for a handler that takes bodies whole, and for one that takes them in pieces.
fn both_ways<T: Clone>(rows: Vec<T>) -> impl Iterator<Item = (T, bool)> {
    rows.into_iter().flat_map(|row| [(row.clone(), false), (row, true)])
}

/// Requests with a body that the peer sends only after `100 Continue`.
const EXPECTING: [&str; 2] = [
    "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: a\r\nEXPECT:100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
];

#[test]
fn a_peer_that_waits_is_asked_for_the_body_once_and_only_if_it_is_not_there() {
    for request in EXPECTING {
        let head = request.find("\r\n\r\n").expect("a head") + 4;
        let (whole_seen, whole_sent, _) = outcome(false, &[request.as_bytes(), NEXT]);
        assert_eq!(whole_sent, answered(false).repeat(2), "a body that is there is not asked for");
        for at in 0..=request.len() {
            let (left, right) = request.as_bytes().split_at(at);
            let (seen, sent, ended) = outcome(false, &[left, &[right, NEXT].concat()]);
            let asked = if (head..request.len()).contains(&at) { CONTINUE } else { "" };
            assert_eq!(sent, asked.to_owned() + &whole_sent, "cut at {at}");
            assert_eq!((seen, ended), (whole_seen.clone(), None), "cut at {at}");
        }
    }
}

#[test]
fn a_body_in_pieces_is_asked_for_when_the_handler_wants_it() {
    for request in EXPECTING {
        let head = request.find("\r\n\r\n").expect("a head") + 4;
        for wants in [false, true] {
            let mut server = Server::new(true);
            server.receive(&request[..head]);
            assert_eq!((server.targets(), server.sent()), (vec!["/a".into()], String::new()), "the handler decides");
            if wants {
                assert!(server.answers[0].ask_for_body() && !server.answers[0].ask_for_body(), "it asks once");
                server.http.continue_body(0, &mut server.wire);
                assert_eq!(server.sent(), CONTINUE);
            }
            server.answer(0, FINE);
            if wants {
                server.receive(&request[head..]);
                assert_eq!(server.seen[1..], [Saw::Body(0, b"hello".to_vec()), Saw::End(0)]);
                assert_eq!((server.sent(), server.wire.ended), (FINE_ANSWER.into(), None));
            } else {
                // The body may come or not, so the connection cannot continue.
                let last = FINE_ANSWER.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                assert_eq!((server.sent(), server.wire.ended), (last, Some(Ended::Closed)));
            }
        }
    }
}
