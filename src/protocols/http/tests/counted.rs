//! Answers as they are counted: each whole one once, by the class of its status, with the time of its request.

use super::super::Then;
use super::*;

/// A server that measures. The times of requests are those that [`FakeWire::began`] shows when they are handed out.
fn measuring() -> Server {
    let mut server = Server::new(false);
    server.http.measure();
    server
}

/// Hands out a request at a time.
fn request_at(server: &mut Server, time: u64) {
    server.wire.began = time;
    server.receive(get("/"));
}

#[test]
fn answers_are_counted_in_the_order_of_their_requests_with_their_times() {
    let mut server = measuring();
    (1..=3).for_each(|time| request_at(&mut server, time * 10));
    server.answer(2, Respond(404, &[], ""));
    server.answer(1, Start(503, &[]));
    assert_eq!(server.wire.answers, []);
    server.answer(0, FINE);
    assert_eq!(server.wire.answers, [(2, 10)]);
    server.answer(1, Write("more"));
    server.answer(1, End);
    assert_eq!(server.wire.answers, [(2, 10), (5, 20), (4, 30)]);
}

#[test]
fn without_measuring_an_answer_has_no_time() {
    let mut server = Server::new(false);
    request_at(&mut server, 10);
    server.answer(0, Respond(301, &[], ""));
    assert_eq!(server.wire.answers, [(3, 0)]);
}

#[test]
fn an_interim_answer_counts_as_none() {
    let mut server = measuring();
    request_at(&mut server, 7);
    assert!(give_raw(&mut server, 0, b"HTTP/1.1 103 Early Hints\r\n\r\n", Then::More).is_ok());
    assert!(give_raw(&mut server, 0, b"HTTP/1.1 204 No Content\r\n\r\n", Then::Next).is_ok());
    assert_eq!(server.wire.answers, [(2, 7)]);
}

#[test]
fn a_change_of_protocol_counts_as_an_answer() {
    let mut server = measuring();
    request_at(&mut server, 7);
    assert!(give_raw(&mut server, 0, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Then::Switch).is_ok());
    assert_eq!(server.wire.answers, [(1, 7)]);
}

#[test]
fn a_refusal_counts_without_a_time_behind_the_answers_that_are_due() {
    let mut server = measuring();
    request_at(&mut server, 7);
    server.receive("nonsense\r\n\r\n");
    server.answer(0, FINE);
    assert_eq!(server.wire.answers, [(2, 7), (4, 0)]);
}

#[test]
fn an_exception_counts_as_an_answer_of_the_server() {
    let mut server = measuring();
    request_at(&mut server, 7);
    server.fail_by_exception();
    assert_eq!(server.wire.answers, [(5, 7)]);
}

#[test]
fn an_answer_that_is_cut_does_not_count() {
    let mut server = measuring();
    server.wire.began = 7;
    server.receive("GET / HTTP/1.0\r\n\r\n");
    server.answer(0, Start(200, &[]));
    server.answer(0, Abandon);
    assert_eq!((server.wire.ended.clone(), server.wire.answers), (Some(Ended::Cut), vec![]));
}
