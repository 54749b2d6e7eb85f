//! The questions that a connection asks its HTTP, in each possible state.

use super::*;
use crate::protocols::Succession;

const POST: &str = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &str = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const EXPECT: &str = "POST /body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

const NEWS: u8 = 1;
/// The end of the input waits for answers.
const HOLDS: u8 = 2;
const WAITED_FOR: u8 = 4;
const ENDING: u8 = 8;
const MAY_HAND_OVER: u8 = 16;

/// A state that a test describes: its name, a connection in that state, and the answers to the questions.
type Row = (&'static str, Server, u8);

fn row(name: &'static str, server: Server, answers: u8, work: impl FnOnce(&mut Server)) -> Row {
    let mut server = server;
    work(&mut server);
    (name, server, answers)
}

/// Receives input without handing out any part of it.
fn look(server: &mut Server, input: &str) {
    server.wire.receive(&mut server.http, input.as_bytes());
}

fn few(max_pending: usize) -> Server {
    Server::with(Limits { max_pending, ..Limits::default() }, false)
}

fn rows() -> Vec<Row> {
    let whole = || Server::new(false);
    let pieces = || Server::new(true);
    let (get, more) = (get("/a"), get("/b"));
    let get = &get[..];
    vec![
        row("nothing came", whole(), MAY_HAND_OVER, |_| {}),
        row("half a head", whole(), MAY_HAND_OVER, |server| server.receive(&get[..10])),
        row("a request is found", whole(), NEWS | MAY_HAND_OVER, |server| look(server, get)),
        row("an answer is due", whole(), WAITED_FOR, |server| server.receive(get)),
        row("an answer is due, and half a head came", whole(), WAITED_FOR, |server| {
            server.receive([get, &more[..10]].concat());
        }),
        row("an answer is begun", whole(), WAITED_FOR, |server| {
            server.receive(get);
            server.answer(0, Start(200, &[]));
        }),
        row("the second of two answers is given", whole(), WAITED_FOR, |server| {
            server.receive(get.repeat(2));
            server.answer(1, FINE);
        }),
        row("all answers are given", whole(), MAY_HAND_OVER, |server| {
            server.receive(get.repeat(2));
            server.answer(1, FINE);
            server.answer(0, FINE);
        }),
        row("a request waits for an answer", few(2), HOLDS | WAITED_FOR, |server| server.receive(get.repeat(3))),
        row("a request waits no longer", few(2), NEWS | WAITED_FOR, |server| {
            server.receive(get.repeat(3));
            server.answer(0, FINE);
        }),
        row("the limit of answers is reached, and no request waits", few(2), WAITED_FOR, |server| {
            server.receive(get.repeat(2));
        }),
        row("an upgrade may follow", whole(), WAITED_FOR, |server| server.receive(UPGRADE)),
        row("input waits for the answer to an upgrade", whole(), HOLDS | WAITED_FOR, |server| {
            server.receive([UPGRADE, get].concat());
        }),
        row("an upgrade is refused", whole(), NEWS | MAY_HAND_OVER, |server| {
            server.receive([UPGRADE, get].concat());
            server.answer(0, FINE);
        }),
        row("another protocol follows", whole(), MAY_HAND_OVER, |server| {
            server.receive([UPGRADE, get].concat());
            server.answer(0, Respond(101, &["Upgrade: other"], ""));
        }),
        row("the last request came, and more input", whole(), WAITED_FOR, |server| {
            server.receive(LAST);
            look(server, get)
        }),
        row("half a body came, which the handler takes whole", whole(), MAY_HAND_OVER, |server| {
            server.receive([POST, "he"].concat());
        }),
        row("half a body in chunks came, which the handler takes whole", whole(), 0, |server| {
            server.receive([CHUNKED, "5\r\nhe"].concat());
        }),
        row("a body in chunks is found", whole(), NEWS, |server| look(server, &[CHUNKED, "0\r\n\r\n"].concat())),
        row("half a body came in pieces", pieces(), 0, |server| server.receive([POST, "he"].concat())),
        row("half a body in chunks came in pieces", pieces(), 0, |server| {
            server.receive([CHUNKED, "5\r\nhe"].concat());
        }),
        row("a body in chunks came, and waits for an earlier answer", few(1), HOLDS | WAITED_FOR, |server| {
            server.receive([get, CHUNKED, "0\r\n\r\n"].concat());
        }),
        row("a piece of a body is found", pieces(), NEWS, |server| {
            server.receive(POST);
            look(server, "hello");
        }),
        row("the end of a body is found", pieces(), NEWS | WAITED_FOR, |server| {
            server.receive([CHUNKED, "5\r\nhello\r\n"].concat());
            look(server, "0\r\n\r\n");
        }),
        row("a body came in pieces", pieces(), WAITED_FOR, |server| server.receive([POST, "hello"].concat())),
        row("half a body came behind its answer", pieces(), 0, |server| {
            server.receive([POST, "he"].concat());
            server.answer(0, FINE);
        }),
        row("a body came behind its answer", pieces(), MAY_HAND_OVER, |server| {
            server.receive([POST, "he"].concat());
            server.answer(0, FINE);
            server.receive("llo");
        }),
        row("a peer is to be asked for a body", whole(), NEWS | MAY_HAND_OVER, |server| look(server, EXPECT)),
        row("a peer is to be asked for a body behind an answer", whole(), HOLDS | WAITED_FOR, |server| {
            server.receive([get, EXPECT].concat());
        }),
        row("a peer is asked for a body", whole(), MAY_HAND_OVER, |server| server.receive(EXPECT)),
        row("a request that asks for a body in pieces waits", pieces(), HOLDS | WAITED_FOR, |server| {
            server.receive([get, EXPECT].concat());
        }),
        row("a malformed request is found", whole(), NEWS | MAY_HAND_OVER, |server| look(server, "nonsense\r\n\r\n")),
        row("a malformed request is refused behind an answer", whole(), WAITED_FOR | ENDING, |server| {
            server.receive([get, "nonsense\r\n\r\n"].concat());
        }),
        row("the handler finishes", whole(), WAITED_FOR | ENDING, |server| {
            server.receive(get);
            server.http.finish(&mut server.wire);
            look(server, get);
        }),
        row("the handler has raised", whole(), WAITED_FOR | ENDING, |server| {
            server.receive(get.repeat(2));
            assert!(matches!(server.http.keep_failure(Box::new(()), false), super::super::Kept::Kept));
            look(server, get);
        }),
        row("the last answer is begun", whole(), WAITED_FOR, |server| {
            server.receive(get);
            server.answer(0, Start(200, &["Connection: close"]));
            look(server, get);
        }),
        row("the input is forgotten", whole(), MAY_HAND_OVER, |server| {
            look(server, get);
            server.http.forget();
            server.wire.unread.clear();
        }),
    ]
}

#[test]
fn each_state_answers_the_questions_of_its_connection() {
    for (name, server, answers) in rows() {
        let http = &server.http;
        let is = |question: bool, bit: u8| if question { bit } else { 0 };
        let came = is(http.has_news(), NEWS)
            | is(http.holds_eof(server.wire.unread.len()), HOLDS)
            | is(http.is_waited_for(), WAITED_FOR)
            | is(http.is_ending(), ENDING)
            | is(matches!(http.may_hand_over(), Ok(Succession::Bytes)), MAY_HAND_OVER);
        assert_eq!(format!("{came:05b}"), format!("{answers:05b}"), "{name}");
        assert_eq!(server.wire.ended, None, "{name}");
    }
}

#[test]
fn a_refusal_to_hand_over_names_the_reason() {
    let due = Server::keeping(false, &[&get("/a")]);
    let error = due.http.may_hand_over().expect_err("an answer is due");
    assert_eq!(error.to_string(), "answers are due, and would be lost: give them before hand_over() [GOEV604]");
    let mut amid = Server::new(false);
    amid.receive([CHUNKED, "5\r\nhe"].concat());
    let error = amid.http.may_hand_over().expect_err("a request is there in part");
    assert_eq!(error.to_string(), "the stream is in the middle of a request, which has to come whole first [GOEV604]");
}

#[test]
fn the_end_of_the_input_is_held_while_input_waits_for_answers_only() {
    let mut server = Server::new(false);
    server.receive(UPGRADE);
    assert!(!server.http.holds_eof(0) && server.http.holds_eof(1), "nothing waits, or something");
    server.answer(0, FINE);
    assert!(!server.http.holds_eof(1), "the next request may be looked at");
}

#[test]
fn nothing_is_handed_out_while_nothing_may_be() {
    let (get, both) = (get("/a"), [&get("/a"), EXPECT].concat());
    let cases = [
        (few(2), get.repeat(3), vec!["/a"; 2]),
        (Server::new(false), both.clone(), vec!["/a"]),
        (Server::new(true), both, vec!["/a"]),
        (Server::new(false), [UPGRADE, &get].concat(), vec!["/up"]),
    ];
    for (mut server, input, targets) in cases {
        server.receive(&input);
        for _ in 0..3 {
            assert_eq!(server.call(), None, "{input}");
        }
        assert_eq!(
            (server.targets(), server.sent()),
            (targets.into_iter().map(String::from).collect(), String::new()),
            "{input}"
        );
        // Nothing was lost.
        let due = server.answers.len();
        (0..due).for_each(|number| server.answer(number, FINE));
        server.serve();
        let asked = if server.sent().ends_with(CONTINUE) { 1 } else { 0 };
        assert_eq!(server.answers.len() + asked, due + 1, "{input}");
    }
}

#[test]
fn the_machine_tells_how_much_input_it_needs() {
    let mut server = Server::with(Limits { max_body: 100, ..Limits::default() }, false);
    assert_eq!((server.http.longest(), server.http.missing(b"")), (32 * 1024 + 100 + 1, 0));
    server.receive([POST, "he"].concat());
    assert_eq!(server.http.missing(&server.wire.unread), 3);
    assert_eq!(Server::new(true).http.longest(), 32 * 1024 + 1);
    let small = Limits { max_head: 64, max_line: 64, ..Limits::default() };
    assert_eq!(Server::with(small, true).http.longest(), 8192 + 1, "the lines of a chunk have to fit");
    assert_eq!(*server.http.callback(), "on_request");
    assert!(!server.http.allows_bytes());
}
