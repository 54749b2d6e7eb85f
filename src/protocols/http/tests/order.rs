//! Answers given in any order, whole or in pieces, go out in the order of the requests, each framed by the rules.
//!
//! A [`Kind`] is a request and its answer: the calls of the handler, and for each call the bytes that the peer must
//! get. The bytes are written by hand, so the right output is known after every single call.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// The step that follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Another,
    TheEnd,
    AReset,
    AnotherProtocol,
}
use Behind::{AReset, Another, AnotherProtocol, TheEnd};

struct Kind {
    name: &'static str,
    request: &'static str,
    /// The body, which the peer sends after it was asked for it.
    withheld: &'static str,
    /// The calls, and the bytes that each call adds to the stream.
    steps: Vec<(Step, String)>,
    behind: Behind,
}

fn kind(name: &'static str, request: &'static str, steps: Vec<(Step, String)>, behind: Behind) -> Kind {
    Kind { name, request, withheld: "", steps, behind }
}

/// An answer: its head without the version, and its body.
fn answer(lines: &[&str], body: &str) -> String {
    format!("HTTP/1.1 {}\r\n\r\n{body}", lines.join("\r\n"))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKS: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
const KEPT: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const OLD: &str = "GET / HTTP/1.0\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n";
const EXPECT: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[rustfmt::skip]
fn kinds() -> Vec<Kind> {
    let none = String::new;
    let bytes = |text: &str| text.to_owned();
    let long = "Content-Length: 6";
    let chunked = "Transfer-Encoding: chunked";
    let close = "Connection: close";
    let keep = "Connection: keep-alive";
    vec![
        kind("whole", GET, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED], "body #"))], Another),
        kind("empty", GET, vec![(Respond(404, &["X: #"], ""), answer(&["404 Not Found", "X: #", "Content-Length: 0", DATED], ""))], Another),
        kind("to a body", POST, vec![(Respond(201, &[], "body #"), answer(&["201 Created", long, DATED], "body #"))], Another),
        kind("to chunks", CHUNKS, vec![(Respond(201, &[], "body #"), answer(&["201 Created", long, DATED], "body #"))], Another),
        kind("HEAD", HEAD, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED], ""))], Another),
        kind("HEAD with a length", HEAD, vec![(Respond(200, &["Content-Length: 6"], ""), answer(&["200 OK", long, DATED], ""))], Another),
        kind("HEAD in chunks", HEAD, vec![
            (Start(200, &["X: #"]), answer(&["200 OK", "X: #", chunked, DATED], "")), (Write("body #"), none()), (End, none()),
        ], Another),
        kind("HEAD in pieces", HEAD, vec![
            (Start(200, &["Content-Length: 6"]), answer(&["200 OK", long, DATED], "")), (Write("body #"), none()), (End, none()),
        ], Another),
        kind("204", GET, vec![(Respond(204, &["X: #"], "body #"), answer(&["204 No Content", "X: #", DATED], ""))], Another),
        kind("205", GET, vec![(Respond(205, &[], "body #"), answer(&["205 Reset Content", "Content-Length: 0", DATED], ""))], Another),
        kind("304", GET, vec![(Respond(304, &["Content-Length: 6"], ""), answer(&["304 Not Modified", long, DATED], ""))], Another),
        kind("304 in pieces", GET, vec![
            (Start(304, &["X: #"]), answer(&["304 Not Modified", "X: #", DATED], "")), (Write("body #"), none()), (End, none()),
        ], Another),
        kind("chunks", GET, vec![
            (Start(200, &[]), answer(&["200 OK", chunked, DATED], "")), (Write("number #"), bytes("8\r\nnumber #\r\n")),
            (Write(""), none()), (Write("sixteen bytes! #"), bytes("10\r\nsixteen bytes! #\r\n")), (End, bytes("0\r\n\r\n")),
        ], Another),
        kind("a length", GET, vec![
            (Start(200, &["content-length: 6"]), answer(&["200 OK", long, DATED], "")), (Write("bod"), bytes("bod")),
            (Write("y #"), bytes("y #")), (End, none()),
        ], Another),
        kind("1.0 kept", KEPT, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED, keep], "body #"))], Another),
        kind("1.0 kept, a length", KEPT, vec![
            (Start(200, &["Content-Length: 6"]), answer(&["200 OK", long, DATED, keep], "")), (Write("body #"), bytes("body #")), (End, none()),
        ], Another),
        kind("1.0 kept, until the end", KEPT, vec![
            (Start(200, &[]), answer(&["200 OK", DATED, close], "")), (Write("bod"), bytes("bod")), (Write("y #"), bytes("y #")), (End, none()),
        ], TheEnd),
        kind("1.0", OLD, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED, close], "body #"))], TheEnd),
        kind("a last request", LAST, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED, close], "body #"))], TheEnd),
        kind("a last request, chunks", LAST, vec![
            (Start(200, &[]), answer(&["200 OK", chunked, DATED, close], "")), (Write("body #"), bytes("6\r\nbody #\r\n")), (End, bytes("0\r\n\r\n")),
        ], TheEnd),
        kind("a last answer", GET, vec![
            (Respond(200, &["Connection: x, Close"], "body #"), answer(&["200 OK", "Connection: x, Close", long, DATED], "body #")),
        ], TheEnd),
        kind("a last answer, chunks", GET, vec![
            (Start(200, &["Connection: close"]), answer(&["200 OK", close, chunked, DATED], "")), (Write("body #"), bytes("6\r\nbody #\r\n")),
            (End, bytes("0\r\n\r\n")),
        ], TheEnd),
        kind("101", UPGRADE, vec![
            (Respond(101, &["Upgrade: other", "Connection: upgrade"], ""),
                answer(&["101 Switching Protocols", "Upgrade: other", "Connection: upgrade"], "")),
        ], AnotherProtocol),
        kind("no upgrade", UPGRADE, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED], "body #"))], Another),
        kind("a tunnel", CONNECT, vec![(Respond(200, &["X: #"], ""), answer(&["200 OK", "X: #", DATED], ""))], AnotherProtocol),
        kind("no tunnel", CONNECT, vec![(Respond(405, &[], "body #"), answer(&["405 Method Not Allowed", long, DATED], "body #"))], Another),
        Kind {
            withheld: "hello",
            ..kind("100", EXPECT, vec![(Respond(200, &[], "body #"), answer(&["200 OK", long, DATED], "body #"))], Another)
        },
        Kind {
            withheld: "hello",
            ..kind("100, then chunks", EXPECT, vec![
                (Start(200, &[]), answer(&["200 OK", chunked, DATED], "")), (Write("body #"), bytes("6\r\nbody #\r\n")), (End, bytes("0\r\n\r\n")),
            ], Another)
        },
        kind("none", GET, vec![(Abandon, bytes(NO_ANSWER))], TheEnd),
        kind("cut chunks", GET, vec![
            (Start(200, &[]), answer(&["200 OK", chunked, DATED], "")), (Write("body #"), bytes("6\r\nbody #\r\n")), (Abandon, none()),
        ], TheEnd),
        kind("cut length", GET, vec![
            (Start(200, &["Content-Length: 6"]), answer(&["200 OK", long, DATED], "")), (Write("body"), bytes("body")), (Abandon, none()),
        ], TheEnd),
        kind("1.0 cut", KEPT, vec![
            (Start(200, &[]), answer(&["200 OK", DATED, close], "")), (Write("body #"), bytes("body #")), (Abandon, none()),
        ], AReset),
    ]
}

/// The right output after `progress` steps of each answer, and the right end.
fn expected(requests: &[&Kind], progress: &[usize]) -> (String, Option<Ended>) {
    let mut sent = String::new();
    for (number, (kind, given)) in requests.iter().zip(progress).enumerate() {
        if !kind.withheld.is_empty() {
            sent += CONTINUE;
        }
        for (_, bytes) in &kind.steps[..*given] {
            sent += &bytes.replace('#', &number.to_string());
        }
        match kind.behind {
            _ if *given < kind.steps.len() => return (sent, None),
            Another => {}
            AnotherProtocol => return (sent, None),
            TheEnd => return (sent, Some(Ended::Closed)),
            AReset => return (sent, Some(Ended::Cut)),
        }
    }
    (sent, None)
}

/// Plays these requests: a handler takes them and gives the parts of the answers in the order of the schedule. An
/// entry is the number of a request; it is skipped until that request was handed out. `posts` tells which parts come
/// from another thread.
fn play(requests: &[&Kind], schedule: &[usize], posts: impl Fn(usize) -> bool, streams: bool) {
    let names = || requests.iter().map(|kind| kind.name).collect::<Vec<_>>();
    let context = || format!("{:?} answered in the order {schedule:?}, streams: {streams}", names());
    let (mut server, mut sent) = (Server::new(streams), String::new());
    server.asks = true;
    // Each part but the first begins with a withheld body.
    let mut input = VecDeque::from([String::new()]);
    for kind in requests {
        input.back_mut().expect("a part").push_str(kind.request);
        if !kind.withheld.is_empty() {
            input.push_back(kind.withheld.into());
        }
    }
    let (withheld, mut left, mut progress) = (input.len() - 1, schedule.to_vec(), vec![0; requests.len()]);
    server.receive(input.pop_front().expect("a part"));
    loop {
        sent += &server.sent();
        while let Some(body) = input.front().filter(|_| sent.matches(CONTINUE).count() + input.len() > withheld) {
            let body = body.clone();
            input.pop_front();
            server.receive(body);
            sent += &server.sent();
        }
        let (right, end) = expected(requests, &progress);
        assert_eq!((&sent, &server.wire.ended), (&right, &end), "{} after {progress:?}", context());
        if end.is_some() {
            break;
        }
        let Some(at) = left.iter().position(|number| *number < server.answers.len()) else { break };
        let number = left.remove(at);
        let step = requests[number].steps[progress[number]].0;
        let given = if posts(at + number) { server.post(number, step) } else { server.give(number, step) };
        assert!(given.is_ok(), "{}: {step:?} of {number}: {given:?}", context());
        progress[number] += 1;
        server.serve();
    }
    let last = requests.iter().position(|kind| [OLD, LAST].contains(&kind.request)).unwrap_or(usize::MAX);
    assert!(server.answers.len() <= last.saturating_add(1), "{}: nothing is seen behind a last request", context());
    if server.is_open() {
        let is_other = |(number, kind): (usize, &&Kind)| kind.behind == AnotherProtocol && progress[number] > 0;
        let switched = requests.iter().enumerate().position(is_other);
        let seen = switched.map_or(requests.len(), |at| at + 1);
        assert_eq!(server.answers.len(), seen, "{}", context());
        assert!(!server.http.has_news() && !server.http.is_waited_for(), "{}", context());
        // The peer waits to be asked for a body, and no handler asks for it.
        let waits = requests[seen..].iter().position(|kind| !kind.withheld.is_empty());
        let behind: String =
            requests[seen..].iter().take(waits.map_or(5, |at| at + 1)).map(|kind| kind.request).collect();
        assert_eq!(server.wire.unread, behind.as_bytes(), "{}: the rest is another protocol's", context());
        assert!(server.http.may_hand_over().is_ok(), "{}", context());
    }
}

/// Every order of this many zeros and ones.
fn interleavings(zeros: usize, ones: usize) -> Vec<Vec<usize>> {
    if zeros == 0 || ones == 0 {
        return vec![[vec![0; zeros], vec![1; ones]].concat()];
    }
    let with = |first, rest: Vec<Vec<usize>>| rest.into_iter().map(move |rest| [vec![first], rest].concat());
    with(0, interleavings(zeros - 1, ones)).chain(with(1, interleavings(zeros, ones - 1))).collect()
}

#[test]
fn the_steps_of_two_answers_may_be_given_in_every_order() {
    let kinds = kinds();
    for (first, second) in kinds.iter().flat_map(|first| kinds.iter().map(move |second| (first, second))) {
        for schedule in interleavings(first.steps.len(), second.steps.len()) {
            for streams in [false, true] {
                play(&[first, second], &schedule, |at| at % 3 == 1, streams);
            }
        }
    }
}

#[test]
fn the_answers_to_five_requests_may_be_given_in_every_order() {
    let kinds = kinds();
    let orders = order_of(5);
    assert_eq!(orders.len(), 120);
    // Each kind comes at each place, beside many other kinds.
    for start in 0..kinds.len() {
        let requests: Vec<&Kind> = (0..5).map(|at| &kinds[(start + at * 7) % kinds.len()]).collect();
        for (at, order) in orders.iter().enumerate() {
            let whole = order.iter().flat_map(|number| vec![*number; requests[*number].steps.len()]);
            play(&requests, &whole.collect::<Vec<_>>(), |part| (part + at) % 2 == 0, (start + at) % 2 == 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_steps_of_up_to_five_answers_may_be_given_in_any_order(
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        keys in prop::collection::vec(any::<u16>(), 30), posts: u32, streams: bool,
    ) {
        let kinds = kinds();
        let requests: Vec<&Kind> = chosen.iter().map(|index| index.get(&kinds)).collect();
        let steps = requests.iter().enumerate().flat_map(|(number, kind)| vec![number; kind.steps.len()]);
        let mut schedule: Vec<_> = keys.into_iter().zip(steps).collect();
        schedule.sort_unstable();
        let schedule: Vec<usize> = schedule.into_iter().map(|(_, number)| number).collect();
        play(&requests, &schedule, |at| posts >> (at % 32) & 1 == 1, streams);
    }
}

#[test]
fn a_part_that_is_wrong_leaves_the_answer_and_the_connection_as_they_were() {
    let mut server = Server::keeping(false, &[GET]);
    let wrong = [
        Write("x"),
        End,
        Start(101, &["Upgrade: other"]),
        Respond(101, &["Upgrade: other"], ""),
        Respond(200, &["Content-Length: 3"], "four"),
        Respond(200, &["Content-Length: 3"], ""),
    ];
    for step in wrong {
        let error = server.give(0, step).expect_err("it is wrong");
        assert!(matches!(error.kind(), ErrorKind::State(_) | ErrorKind::Argument(_)), "{step:?}");
    }
    let state = |server: &Server| (server.answers[0].is_due(), server.answers[0].is_given());
    assert_eq!(state(&server), (true, false));
    server.answer(0, Start(200, &["Content-Length: 4"]));
    assert_eq!(state(&server), (false, false));
    for step in [FINE, Start(200, &[]), End, Write("fives")] {
        let error = server.give(0, step).expect_err("it is wrong");
        assert!(matches!(error.kind(), ErrorKind::State(_) | ErrorKind::Argument(_)), "{step:?}");
    }
    server.answer(0, Write("fine"));
    server.answer(0, End);
    assert_eq!(state(&server), (false, true));
    for step in [FINE, Start(200, &[]), End, Write("")] {
        let error = server.give(0, step).expect_err("it comes too late");
        assert!(matches!(error.kind(), ErrorKind::State(_)), "{step:?}");
    }
    server.answer(0, Abandon);
    assert_eq!((server.sent(), server.wire.ended), (FINE_ANSWER.into(), None));
}

#[test]
fn a_length_must_be_that_of_the_body_which_only_an_answer_to_head_may_lack() {
    let given = |request: &str, body: &'static str| {
        let mut server = Server::keeping(false, &[request]);
        server.give(0, Respond(200, &["Content-Length: 4"], body)).is_ok()
    };
    assert_eq!((given(GET, "fine"), given(GET, ""), given(GET, "five!")), (true, false, false));
    assert_eq!((given(HEAD, "fine"), given(HEAD, ""), given(HEAD, "five!")), (true, true, false));
}

// ---- answers that wait ----------------------------------------------------------------------------------------------

#[test]
fn no_further_request_is_handed_out_while_the_answers_that_wait_exceed_high_water() {
    let mut server = Server::new(false);
    server.wire.high_water = 2 * FINE_ANSWER.len();
    let requests: Vec<String> = (0..6).map(|number| get(&format!("/{number}"))).collect();
    server.wire.receive(&mut server.http, requests.concat().as_bytes());
    for number in 0..4 {
        assert!(server.http.has_news(), "{number}");
        assert_eq!(server.call(), Some(number));
        if number > 0 {
            server.answer(number as usize, FINE);
        }
    }
    assert!(!server.http.has_news(), "three answers wait for the first");
    assert_eq!(server.call(), None);
    assert!(server.http.holds_eof(server.wire.unread.len()));
    server.answer(0, FINE);
    assert_eq!(server.sent(), FINE_ANSWER.repeat(4));
    server.serve();
    assert_eq!(server.targets(), ["/0", "/1", "/2", "/3", "/4", "/5"]);
}

#[test]
fn bytes_that_a_handler_lends_are_kept_by_reference_and_given_back_when_no_output_will_be_sent() {
    let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
    server.post(1, FINE).expect("it is kept");
    assert_eq!((server.http.kept(), server.wire.released), (FINE_ANSWER.len(), 0));
    let mut released = 0;
    server.http.drop_output(&mut |held| released += held.bytes().len());
    assert_eq!((released, server.http.kept()), ("fine".len(), 0));
    server.post(2, FINE).expect("nobody is told");
    assert_eq!((server.http.kept(), server.wire.released), (0, 1));
    server.answer(0, FINE);
    assert_eq!(server.sent(), FINE_ANSWER, "the wire drops it");
}

#[test]
fn output_in_the_queue_and_answers_that_wait_are_limited_together() {
    let len = FINE_ANSWER.len();
    for (queued, most, overflows) in [(0, 1, false), (len, 2 * len, false), (len, 2 * len - 1, true)] {
        let mut server = Server::keeping(false, &[&get("/0"), &get("/1"), &get("/2")]);
        (server.wire.queued, server.wire.max_output) = (queued, most);
        server.answer(1, FINE);
        assert_eq!(server.wire.ended.is_some(), overflows, "{queued} of {most}");
        if !overflows {
            server.answer(2, FINE);
            assert_eq!(server.wire.ended, Some(Ended::Overflown), "{queued} of {most}");
        }
    }
}
