//! Refusals, failures and the ends of a connection: each follows the answers that are due, and nothing follows it.

use super::*;
use crate::protocols::http::{Kept, Then};

const CHUNKED: &str = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const POST: &str = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const NONSENSE: &str = "nonsense\r\n\r\n";
const MALFORMED: &str = "400 Bad Request: a malformed request line";
const BAD_CHUNK: &str = "400 Bad Request: a malformed chunk size";

/// The answer to a malformed request.
fn refusal(text: &str) -> String {
    let (status, length) = (text.split(':').next().unwrap_or_default(), text.len() + 1);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{DATED}\r\n\
         Connection: close\r\n\r\n{text}\n"
    )
}

/// An answer that contains the number of its request, so that no two answers are the same.
const NUMBER: Step = Respond(200, &[], "#");

fn numbered(number: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{DATED}\r\n\r\n{number}")
}

/// [`numbered`], with the field that says that no answer follows.
fn last_numbered(number: usize) -> String {
    numbered(number).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
}

fn raised() -> crate::error::Foreign {
    Box::new("raised")
}

// ---- refusals -----------------------------------------------------------------------------------------------------

#[test]
fn a_refusal_goes_out_behind_the_answers_that_are_due_in_whatever_order_they_are_given() {
    for order in order_of(3) {
        for posts in [false, true] {
            let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
            server.receive(NONSENSE.to_owned() + &get("/never"));
            assert_eq!((server.sent(), server.wire.ended.clone(), server.answers.len()), (String::new(), None, 3));
            for (at, number) in order.iter().enumerate() {
                assert!(server.is_open(), "{order:?}: an answer is due");
                let given = if posts { server.post(*number, NUMBER) } else { server.give(*number, NUMBER) };
                assert!(given.is_ok(), "{order:?}: answer {at}");
            }
            let all = numbered(0) + &numbered(1) + &numbered(2) + &refusal(MALFORMED);
            assert_eq!((server.sent(), server.wire.ended), (all, failed(MALFORMED)), "{order:?}");
        }
    }
}

#[test]
fn the_answer_to_a_malformed_body_goes_out_in_its_turn_and_the_one_of_the_handler_is_refused() {
    for due in 0..3 {
        let requests: Vec<String> = (0..due).map(|number| get(&format!("/{number}"))).collect();
        let mut server = Server::new(true);
        server.receive(requests.concat() + CHUNKED + "5\r\nhello\r\nnonsense\r\n" + &get("/never"));
        let late = server.give(due, FINE);
        assert!(matches!(&late, Err(error) if error.is_closed()), "{due} due: {late:?}");
        assert!(server.post(due, End).is_err(), "nothing was begun");
        for number in 0..due {
            assert_eq!((server.sent(), server.wire.ended.clone()), (String::new(), None));
            server.answer(number, NUMBER);
            let rest = server.sent();
            let (said, ended) =
                if number + 1 < due { (String::new(), None) } else { (refusal(BAD_CHUNK), failed(BAD_CHUNK)) };
            assert_eq!((rest, server.wire.ended.clone()), (numbered(number) + &said, ended));
        }
        if due == 0 {
            assert_eq!(server.sent(), refusal(BAD_CHUNK));
        }
        assert_eq!(server.wire.ended, failed(BAD_CHUNK));
        assert_eq!(server.seen.last(), Some(&Saw::Body(due as u64, b"hello".to_vec())), "the body has no end");
    }
}

#[test]
fn an_answer_that_was_begun_is_cut_where_the_body_of_its_request_goes_wrong() {
    let begun = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{DATED}\r\n\r\n6\r\nbody #\r\n");
    for due in 0..2 {
        let requests: Vec<String> = (0..due).map(|number| get(&format!("/{number}"))).collect();
        let mut server = Server::new(true);
        server.receive(requests.concat() + CHUNKED);
        server.answer(due, Start(200, &[]));
        server.answer(due, Write("body #"));
        server.receive("nonsense\r\n".to_owned() + &get("/never"));
        let given = server.give(due, Write("more"));
        assert!(matches!(&given, Err(error) if error.is_closed()), "{given:?}");
        let mut all = begun.replace('#', &due.to_string());
        if due > 0 {
            assert_eq!((server.sent(), server.wire.ended.clone()), (String::new(), None));
            server.answer(0, NUMBER);
            all = numbered(0) + &all;
        }
        assert_eq!((server.sent(), server.wire.ended), (all, failed(BAD_CHUNK)));
    }
}

#[test]
fn a_body_that_goes_wrong_behind_its_answer_gets_no_second_one() {
    for due in 0..2 {
        let requests: Vec<String> = (0..due).map(|number| get(&format!("/{number}"))).collect();
        let mut server = Server::new(true);
        server.receive(requests.concat() + CHUNKED);
        server.answer(due, NUMBER);
        server.receive("nonsense\r\n".to_owned() + &get("/never"));
        let mut all = numbered(due);
        if due > 0 {
            assert_eq!((server.sent(), server.wire.ended.clone()), (String::new(), None));
            server.answer(0, NUMBER);
            all = numbered(0) + &last_numbered(due);
        }
        assert_eq!((server.sent(), server.wire.ended), (all, failed(BAD_CHUNK)));
    }
}

#[test]
fn an_answer_that_ends_the_connection_goes_before_a_refusal() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1")]);
    server.receive(NONSENSE);
    server.answer(1, NUMBER);
    server.answer(0, Respond(200, &["Connection: close"], "#"));
    let closing = numbered(0).replace("200 OK\r\n", "200 OK\r\nConnection: close\r\n");
    assert_eq!((server.sent(), server.wire.ended), (closing, failed(MALFORMED)));
}

// ---- parts ----------------------------------------------------------------------------------------------------------

#[test]
fn a_part_of_a_complete_answer_is_refused_and_bytes_that_were_lent_go_back() {
    let part = |number| {
        let parts = vec![Payload::Held(Box::new(Lent(b"lent".to_vec()))), Payload::Copied(b"copied".to_vec())];
        Box::new(Part { number, parts, then: Then::Next })
    };
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
    server.answer(0, NUMBER);
    server.answer(2, NUMBER);
    server.sent();
    for number in [0, 2, 3, 1000, u64::MAX] {
        assert!(
            matches!(give_raw(&mut server, number, b"late", Then::Close), Err(error) if error.is_closed()),
            "{number}"
        );
        let before = server.wire.released;
        assert!(server.http.receive(part(number), &mut server.wire).is_none(), "a part is taken");
        assert_eq!(server.wire.released, before + 1, "{number}: the lent bytes go back");
    }
    assert_eq!((server.sent(), server.wire.ended.clone()), (String::new(), None));
    server.answer(1, NUMBER);
    assert_eq!((server.sent(), server.wire.ended), (numbered(1) + &numbered(2), None));
}

#[test]
fn lent_bytes_that_wait_are_not_copied() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1")]);
    server.post(1, NUMBER).expect("it is kept");
    server.answer(0, NUMBER);
    assert_eq!((server.sent(), server.wire.released), (numbered(0) + &numbered(1), 0), "the wire has them");
}

#[test]
fn a_part_that_the_wire_refuses_is_refused_with_all_that_follows_it() {
    let mut server = Server::keeping(false, &[&get("/0")]);
    server.wire.ended = Some(Ended::Closed);
    let lent = || Data::Held(Box::new(Lent(b"lent".to_vec())));
    let given = server.http.answer(0, [lent(), lent(), lent()], Then::Close, &mut server.wire);
    assert!(matches!(&given, Err(error) if error.is_closed()), "{given:?}");
    assert_eq!((server.sent(), server.wire.released), (String::new(), 3));
}

#[test]
fn a_value_that_is_no_part_of_an_answer_comes_back() {
    let mut server = Server::keeping(false, &[&get("/0")]);
    let back = server.http.receive(Box::new(String::from("foreign")), &mut server.wire);
    let back = back.and_then(|value| value.downcast::<String>().ok());
    assert_eq!(back.as_deref().map(String::as_str), Some("foreign"));
    server.answer(0, NUMBER);
    assert_eq!((server.sent(), server.wire.ended), (numbered(0), None));
}

#[test]
fn parts_that_wait_are_bounded_by_max_output_all_together() {
    for (first, second) in [(1, 1), (1, 2), (2, 1)] {
        let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
        server.wire.max_output = 100;
        give_raw(&mut server, first, &[b'a'; 60], Then::More).expect("it fits");
        give_raw(&mut server, second, &[b'b'; 40], Then::More).expect("it fits exactly");
        assert!(server.is_open(), "max_output is reached, not exceeded");
        give_raw(&mut server, second, b"c", Then::More).expect("it is kept, but the connection ends");
        assert_eq!((server.sent(), server.wire.ended), (String::new(), Some(Ended::Overflown)), "{first} and {second}");
    }
}

#[test]
fn one_part_fits_where_none_waits_however_large_it_is() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
    server.wire.max_output = 100;
    give_raw(&mut server, 1, &[b'1'; 1000], Then::Next).expect("it fits");
    give_raw(&mut server, 0, &[b'0'; 1000], Then::Next).expect("nothing of the oldest waits");
    assert_eq!(server.sent(), "0".repeat(1000) + &"1".repeat(1000));
    // Its room is free again.
    server.receive(get("/3"));
    give_raw(&mut server, 3, &[b'3'; 1000], Then::Next).expect("it fits");
    give_raw(&mut server, 2, b"2", Then::Next).expect("it is due");
    assert_eq!((server.sent(), server.wire.ended), ("2".to_owned() + &"3".repeat(1000), None));
}

// ---- abandoned answers ------------------------------------------------------------------------------------------------

#[test]
fn an_abandoned_answer_ends_the_connection_in_its_turn() {
    for order in order_of(3) {
        let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
        for number in order.iter().copied() {
            if !server.is_open() {
                continue;
            }
            server.answer(number, if number == 1 { Abandon } else { NUMBER });
            server.receive(get("/never"));
            if number == 1 {
                assert!(!server.http.has_news(), "nothing is handed out behind it");
            }
        }
        assert_eq!((server.sent(), server.wire.ended), (numbered(0) + NO_ANSWER, Some(Ended::Closed)), "{order:?}");
    }
}

#[test]
fn an_abandoned_answer_to_head_has_no_body() {
    let mut server = Server::keeping(false, &["HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    server.answer(0, Abandon);
    let (head, _) = NO_ANSWER.split_at(NO_ANSWER.find("\r\n\r\n").expect("a head") + 4);
    assert_eq!((server.sent().as_str(), server.wire.ended), (head, Some(Ended::Closed)));
}

#[test]
fn nothing_is_handed_out_behind_an_answer_that_ends_the_connection_once_it_is_begun() {
    let last = [Respond(200, &["Connection: close"], "#"), Start(200, &["Connection: close"]), Abandon];
    for (step, number) in last.into_iter().flat_map(|step| [(step, 0), (step, 1)]) {
        for posts in [false, true] {
            let mut server = Server::with(Limits { max_pending: 2, ..Limits::default() }, false);
            // The third request was found already.
            server.receive(get("/0") + &get("/1") + &get("/2"));
            let given = if posts { server.post(number, step) } else { server.give(number, step) };
            assert!(given.is_ok(), "{step:?} of {number}");
            server.wire.receive(&mut server.http, get("/3").as_bytes());
            if number == 1 {
                server.answer(0, NUMBER);
            }
            assert!(!server.http.has_news() && server.call().is_none(), "{step:?} of {number}");
            assert_eq!(server.targets(), ["/0", "/1"], "{step:?} of {number}");
        }
    }
}

// ---- the end that the handler wants -------------------------------------------------------------------------------------

#[test]
fn a_connection_without_answers_due_finishes_at_once() {
    for before in 0..2 {
        let mut server = Server::new(false);
        for number in 0..before {
            server.receive(get("/a"));
            server.answer(number, FINE);
        }
        server.sent();
        server.http.finish(&mut server.wire);
        assert_eq!((server.sent(), server.wire.ended), (String::new(), Some(Ended::Closed)));
    }
}

#[test]
fn a_connection_finishes_behind_the_answers_that_are_due_and_hands_out_nothing_more() {
    for (order, has_eof) in order_of(3).into_iter().flat_map(|order| [(order.clone(), false), (order, true)]) {
        let mut server = Server::with(Limits { max_pending: 3, ..Limits::default() }, false);
        server.receive((0..5).map(|number| get(&format!("/{number}"))).collect::<String>());
        server.wire.has_eof = has_eof;
        for _ in 0..2 {
            server.http.finish(&mut server.wire);
            assert!(server.is_open() && !server.http.has_news(), "three answers are due");
        }
        for number in &order {
            assert!(server.is_open(), "{order:?}");
            server.answer(*number, NUMBER);
            server.receive(get("/never"));
        }
        let all = numbered(0) + &numbered(1) + &last_numbered(2);
        assert_eq!((server.sent(), server.wire.ended.clone()), (all, Some(Ended::Closed)), "{order:?}");
        assert_eq!(server.targets(), ["/0", "/1", "/2"], "{order:?}");
    }
}

#[test]
fn a_connection_that_finishes_still_hands_out_the_body_that_comes() {
    let mut server = Server::new(true);
    server.receive(get("/0") + POST + "he");
    server.http.finish(&mut server.wire);
    server.receive("llo".to_owned() + &get("/never"));
    assert_eq!(server.seen[3..], [Saw::Body(1, b"hello".to_vec()), Saw::End(1)]);
    server.answer(1, NUMBER);
    assert!(server.is_open());
    server.answer(0, NUMBER);
    assert_eq!((server.sent(), server.wire.ended), (numbered(0) + &last_numbered(1), Some(Ended::Closed)));
}

#[test]
fn an_answer_that_may_wait_for_a_body_that_never_comes_is_not_waited_for() {
    for due in 0..2 {
        for begun in [false, true] {
            let mut server = Server::new(true);
            server.receive(get("/0").repeat(due) + POST + "he");
            if begun {
                server.answer(due, Start(200, &["Content-Length: 9"]));
            }
            server.end_input();
            server.http.finish(&mut server.wire);
            server.settle();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n{DATED}\r\n\r\n").repeat(begun.into());
            if due > 0 {
                assert_eq!((server.sent(), server.wire.ended.clone()), (String::new(), None));
                let late = server.give(1, if begun { Write("x") } else { FINE });
                assert!(matches!(&late, Err(error) if error.is_closed()), "its place is taken: {late:?}");
                server.answer(0, NUMBER);
            }
            let all = numbered(0).repeat(due) + &head;
            assert_eq!((server.sent(), server.wire.ended), (all, Some(Ended::Closed)), "{due} due");
        }
    }
}

#[test]
fn a_body_that_is_there_is_handed_out_although_the_peer_has_finished() {
    let mut server = Server::new(true);
    server.receive(POST);
    server.wire.receive(&mut server.http, b"hello");
    server.end_input();
    server.http.finish(&mut server.wire);
    server.serve();
    assert_eq!(server.seen[1..], [Saw::Body(0, b"hello".to_vec()), Saw::End(0)]);
    server.answer(0, NUMBER);
    assert_eq!((server.sent(), server.wire.ended), (last_numbered(0), Some(Ended::Closed)));
}

// ---- exceptions ---------------------------------------------------------------------------------------------------------

#[test]
fn a_failure_is_kept_until_the_answers_before_it_are_given() {
    for due in 0..4 {
        for waits in [false, true] {
            let requests: Vec<String> = (0..due).map(|number| get(&format!("/{number}"))).collect();
            let mut server = Server::new(false);
            server.receive(requests.concat());
            let kept = server.http.keep_failure(raised(), waits);
            if due <= usize::from(!waits) {
                let Kept::NothingDue(back) = kept else { panic!("{due} due, waits: {waits}: it was kept") };
                assert_eq!(back.downcast_ref(), Some(&"raised"));
                assert!(!server.http.is_ending());
                continue;
            }
            assert!(matches!(kept, Kept::Kept), "{due} due, waits: {waits}");
            let Kept::Other(back) = server.http.keep_failure(Box::new("second"), waits) else {
                panic!("the first counts")
            };
            assert_eq!(back.downcast_ref(), Some(&"second"));
            server.receive(get("/never"));
            for number in (0..due).rev() {
                assert!(server.is_open());
                server.answer(number, NUMBER);
            }
            let all = (0..due - 1).map(numbered).collect::<String>() + &last_numbered(due - 1);
            assert_eq!((server.sent(), server.wire.ended.clone()), (all, failed("raised")), "{due} due");
            assert_eq!(server.answers.len(), due, "nothing is handed out behind it");
        }
    }
}

#[test]
fn a_failure_comes_behind_the_answer_that_tells_of_it() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1")]);
    server.answer(1, Abandon);
    assert!(matches!(server.http.keep_failure(raised(), false), Kept::Kept));
    server.answer(0, NUMBER);
    assert_eq!((server.sent(), server.wire.ended), (numbered(0) + NO_ANSWER, failed("raised")));
}

#[test]
fn a_failure_is_told_also_where_a_malformed_request_was_the_reason_before() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1")]);
    server.receive(NONSENSE);
    assert!(matches!(server.http.keep_failure(raised(), false), Kept::Kept));
    server.answer(0, NUMBER);
    server.answer(1, NUMBER);
    let all = numbered(0) + &numbered(1) + &refusal(MALFORMED);
    assert_eq!((server.sent(), server.wire.ended), (all, failed("raised")));
}

#[test]
fn a_failure_that_was_kept_goes_to_a_connection_that_ends_earlier() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1")]);
    assert!(server.http.take_reason().is_none());
    assert!(matches!(server.http.keep_failure(raised(), false), Kept::Kept));
    let Some(Reason::Raised(value)) = server.http.take_reason() else { panic!("it is the reason") };
    assert_eq!(value.downcast_ref(), Some(&"raised"));
    assert!(server.http.take_reason().is_none(), "it is told once");
}

#[test]
fn an_exception_is_answered_once_and_only_if_nothing_of_the_answer_went_out() {
    type Case = (&'static str, usize, fn(&mut Server), &'static str);
    let cases: [Case; 6] = [
        ("nothing is due", 0, |_| {}, ""),
        ("one is due", 1, |_| {}, NO_ANSWER),
        ("two are due", 2, |_| {}, NO_ANSWER),
        ("the later one is given", 2, |server| server.answer(1, NUMBER), NO_ANSWER),
        ("the oldest is begun", 2, |server| server.answer(0, Start(200, &[])), ""),
        (
            "the oldest is given, and the next one is begun",
            2,
            |server| {
                server.answer(1, Start(200, &[]));
                server.answer(0, NUMBER);
            },
            "",
        ),
    ];
    for (name, due, work, said) in cases {
        let mut server = Server::keeping(false, &vec![&get("/a")[..]; due]);
        work(&mut server);
        server.sent();
        for why in
            [Closing::Asked, Closing::Stopping, Closing::Failed(&Reason::Aborted), Closing::Failed(&Reason::Orderly)]
        {
            server.close_by(why);
            assert_eq!(server.sent(), "", "{name}: no exception");
        }
        server.fail_by_exception();
        assert_eq!(server.sent(), said, "{name}");
        server.fail_by_exception();
        assert_eq!(server.sent(), "", "{name}: it is said once");
    }
}

// ---- 100 Continue, and single answers ---------------------------------------------------------------------------------------

#[test]
fn a_body_is_asked_for_only_while_nothing_else_is_due_and_its_answer_is_untouched() {
    type Case = (&'static str, fn(&mut Server), u64, bool);
    let cases: [Case; 5] = [
        ("it is due", |_| {}, 0, true),
        ("another number", |_| {}, 1, false),
        ("it is begun", |server| server.answer(0, Start(200, &[])), 0, false),
        ("it is given", |server| server.answer(0, FINE), 0, false),
        ("another one is due as well", |server| server.receive("hello".to_owned() + &get("/b")), 1, false),
    ];
    for (name, work, number, is_asked) in cases {
        let mut server = Server::new(true);
        server.receive(POST);
        work(&mut server);
        server.sent();
        server.http.continue_body(number, &mut server.wire);
        assert_eq!(server.sent(), if is_asked { CONTINUE } else { "" }, "{name}");
    }
}

#[test]
fn a_request_is_alone_while_no_other_answer_is_due_and_all_of_it_has_come() {
    let mut server = Server::new(true);
    server.receive(POST);
    assert!(!server.http.is_alone(0), "its body is missing");
    server.receive("hello");
    assert!(server.http.is_alone(0) && !server.http.is_alone(1));
    server.receive(get("/b"));
    assert!(!server.http.is_alone(0) && !server.http.is_alone(1), "two are due");
    server.answer(0, FINE);
    assert!(server.http.is_alone(1) && !server.http.is_alone(0));
    server.answer(1, FINE);
    assert!(!server.http.is_alone(1), "none is due");
}

// ---- answers that end the connection --------------------------------------------------------------------------------

#[test]
fn the_last_answer_of_an_orderly_end_says_so_in_whatever_order_they_are_given() {
    for order in order_of(3) {
        for posts in [false, true] {
            for finishes in [false, true] {
                let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
                server.wire.is_stopping = !finishes;
                if finishes {
                    server.http.finish(&mut server.wire);
                }
                for number in &order {
                    let given = if posts { server.post(*number, NUMBER) } else { server.give(*number, NUMBER) };
                    assert!(given.is_ok(), "{order:?}");
                }
                assert_eq!(server.sent(), numbered(0) + &numbered(1) + &last_numbered(2), "{order:?}");
                assert_eq!(server.wire.ended, Some(Ended::Closed));
            }
        }
    }
}

#[test]
fn an_orderly_end_behind_an_answer_that_was_kept_is_said_in_it() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1")]);
    server.answer(1, NUMBER);
    server.http.finish(&mut server.wire);
    server.answer(0, NUMBER);
    assert_eq!((server.sent(), server.wire.ended), (numbered(0) + &last_numbered(1), Some(Ended::Closed)));
}

#[test]
fn an_answer_in_pieces_says_the_end_in_its_head_and_an_old_peer_is_not_told_the_opposite() {
    let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for (request, fields) in [(get("/"), "Transfer-Encoding: chunked\r\n"), (old.into(), "Content-Length: 4\r\n")] {
        let mut server = Server::keeping(false, &[&request]);
        server.http.finish(&mut server.wire);
        server.answer(0, Start(200, if request == old { &["Content-Length: 4"] } else { &[] }));
        assert_eq!(server.sent(), format!("HTTP/1.1 200 OK\r\n{fields}{DATED}\r\nConnection: close\r\n\r\n"));
        server.answer(0, Write("fine"));
        server.answer(0, End);
        assert_eq!(server.wire.ended, Some(Ended::Closed));
    }
}

#[test]
fn an_answer_that_says_the_end_itself_and_one_that_switches_are_left_as_they_are() {
    let mut server = Server::keeping(false, &[&get("/")]);
    server.http.finish(&mut server.wire);
    server.answer(0, Respond(200, &["Connection: close"], "#"));
    assert_eq!(server.sent().matches("close").count(), 1);
    let mut server =
        Server::keeping(false, &["GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]);
    server.wire.is_stopping = true;
    server.answer(0, Respond(101, &["Upgrade: x"], ""));
    assert_eq!(
        (server.sent(), server.wire.ended),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into(), None)
    );
}

// ---- answers that only the end of the connection marks --------------------------------------------------------------

#[test]
fn an_answer_that_the_end_of_the_connection_would_complete_is_cut_however_it_ends_early() {
    const OLD: &str = "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n";
    type End = fn(&mut Server);
    let ends: [End; 5] = [
        |server| server.fail_by_exception(),
        |server| server.close_by(Closing::Asked),
        |server| server.close_by(Closing::Stopping),
        |server| server.answer(0, Abandon),
        |server| {
            server.end_input();
            server.http.finish(&mut server.wire);
        },
    ];
    for (at, end) in ends.into_iter().enumerate() {
        let mut server = Server::new(true);
        server.receive(OLD);
        server.answer(0, Start(200, &[]));
        server.answer(0, Write("part"));
        let ended = std::mem::take(&mut server.wire.ended);
        assert_eq!(ended, None);
        end_noting_cuts(&mut server, end);
        assert_eq!(server.wire.ended, Some(Ended::Cut), "end {at}");
        assert!(server.sent().ends_with("\r\n\r\npart"));
    }
    let mut server = Server::keeping(false, &["GET / HTTP/1.0\r\n\r\n"]);
    server.answer(0, Start(200, &[]));
    server.answer(0, End);
    assert_eq!(server.wire.ended, Some(Ended::Closed), "it is complete");
}

/// Ends the connection in a way that may ask for a cut in `closing`.
fn end_noting_cuts(server: &mut Server, end: fn(&mut Server)) {
    server.may_cut = true;
    end(server);
}

#[test]
fn an_error_answer_to_head_has_no_body() {
    const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let without_body = |answer: &str| format!("{}\r\n\r\n", answer.split("\r\n\r\n").next().unwrap_or_default());
    let mut server = Server::keeping(false, &[HEAD]);
    server.fail_by_exception();
    assert_eq!(server.sent(), without_body(NO_ANSWER));

    let mut server = Server::keeping(false, &[HEAD, &get("/1")]);
    server.fail_by_exception();
    assert_eq!(server.sent(), without_body(NO_ANSWER), "the oldest request counts");

    let mut server = Server::keeping(false, &[&get("/0"), HEAD]);
    server.fail_by_exception();
    assert_eq!(server.sent(), NO_ANSWER);

    let mut server = Server::new(true);
    server.receive(get("/0") + &CHUNKED.replace("POST", "HEAD") + "nonsense\r\n");
    server.answer(0, NUMBER);
    assert_eq!(server.sent(), numbered(0) + &without_body(&refusal(BAD_CHUNK)));
}
