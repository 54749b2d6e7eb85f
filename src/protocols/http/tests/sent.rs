//! Answers that are files, and the marks behind answers, by which a handler hears that they were sent.

use super::super::{Answered, Then};
use super::*;
use crate::data::FileRange;

/// A server whose handler wants to hear of its answers, with the requests handed out.
fn observed(requests: &[&str]) -> Server {
    let mut server = Server::new(false);
    server.http.observe();
    server.receive(requests.concat());
    server
}

/// The marks so far, as `(bytes before it, number, status, bytes of the answer)`.
fn marks(server: &mut Server) -> Vec<(usize, u64, u16, u64)> {
    let marks = std::mem::take(&mut server.wire.marks).into_iter();
    let read = marks.map(|(before, mark)| (before, *mark.downcast::<Answered>().expect("it is a mark of HTTP")));
    read.map(|(before, Answered { number, status, bytes })| (before, number, status, bytes)).collect()
}

fn file(remaining: u64) -> Data<'static> {
    let (reader, _) = std::io::pipe().expect("there are descriptors");
    Data::File(FileRange { file: reader.into(), offset: 7, remaining })
}

fn give_file(server: &mut Server, number: u64, remaining: u64) {
    let parts = [Data::Bytes(b"HTTP/1.1 206 Partial Content\r\n\r\n"), file(remaining)];
    assert!(server.http.answer(number, parts, Then::Next, &mut server.wire).is_ok());
}

#[test]
fn a_file_waits_for_its_turn_behind_its_head() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
    give_file(&mut server, 1, 30);
    server.answer(2, FINE);
    assert_eq!(server.sent(), "");
    server.answer(0, FINE);
    let file = "HTTP/1.1 206 Partial Content\r\n\r\n<30 bytes of a file from 7 on>";
    assert_eq!(server.sent(), format!("{FINE_ANSWER}{file}{FINE_ANSWER}"));
    assert!(server.wire.marks.is_empty(), "nobody asked for marks");
}

#[test]
fn each_answer_is_marked_behind_its_last_byte_with_its_status_and_size() {
    let mut server = observed(&[&get("/0"), &get("/1"), &get("/2"), &get("/3")]);
    let fine = FINE_ANSWER.len();
    server.answer(3, Respond(404, &[], ""));
    give_file(&mut server, 1, 1000);
    server.answer(2, Start(200, &["Content-Length: 4"]));
    server.answer(2, Write("fi"));
    assert_eq!(marks(&mut server), []);
    server.answer(0, FINE);
    let file = "HTTP/1.1 206 Partial Content\r\n\r\n".len();
    let behind = fine + file + "<1000 bytes of a file from 7 on>".len();
    assert_eq!(marks(&mut server), [(fine, 0, 200, fine as u64), (behind, 1, 206, file as u64 + 1000)]);
    server.answer(2, Write("ne"));
    assert_eq!(marks(&mut server), []);
    server.answer(2, End);
    let all = server.sent().len();
    let last = (all - behind - fine) as u64;
    assert_eq!(marks(&mut server), [(behind + fine, 2, 200, fine as u64), (all, 3, 404, last)]);
}

#[test]
fn answers_of_the_machine_are_marked_too_and_those_that_were_cut_are_not() {
    let mut server = observed(&[&get("/0")]);
    server.answer(0, Abandon);
    let size = NO_ANSWER.len();
    assert_eq!(marks(&mut server), [(size, 0, 500, size as u64)]);

    let mut server = observed(&[&get("/0")]);
    server.fail_by_exception();
    assert_eq!(marks(&mut server), [(size, 0, 500, size as u64)]);

    for (request, ended) in [("GET / HTTP/1.0\r\n\r\n".to_owned(), Ended::Cut), (get("/"), Ended::Closed)] {
        let mut server = observed(&[&request]);
        server.answer(0, Start(200, &[]));
        server.answer(0, Abandon);
        assert_eq!((server.wire.ended.clone(), marks(&mut server)), (Some(ended), vec![]));
    }

    let mut server = observed(&["nonsense\r\n\r\n"]);
    let (marks, sent) = (marks(&mut server), server.sent());
    assert_eq!(marks, [(sent.len(), 0, 400, sent.len() as u64)]);
}
