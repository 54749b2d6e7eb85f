//! A protocol that this file defines by the public traits alone, served on real sockets.
//!
//! Netstrings (<https://cr.yp.to/proto/netstrings.txt>): a request is `4:abcd,`, and so is its answer. The rules of order:
//!
//! * Requests are numbered as they are taken. Answers are given in any order and by any thread, and go out by number.
//! * At most [`MOST_DUE`] answers are due at a time; the next request waits for one of them.
//! * A request that breaks the rules ends the connection behind the answers that are due.
//! * The last netstring of a connection says why it ends: `3:bye,` for an orderly end.

mod common;

use std::any::Any;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use goev::data::Data;
use goev::error::{Error, Reason, Violation, ViolationKind};
use goev::handlers::{Context, Handler};
use goev::options::AcceptorOptions;
use goev::protocols::{Closing, Protocol, Succession, Wire};
use goev::shared::remote::Remote;

use common::{PATIENCE, Server, Teller, Told, defaults, name, receive_exactly, tell};

/// As many answers may be due; the next request waits.
const MOST_DUE: usize = 4;

/// Digits, the colon and the comma of the largest request.
const FRAME: usize = 12;

// ---- the protocol -----------------------------------------------------------------------------------------------------

/// The requests and answers of one connection.
struct Netstrings {
    max_size: usize,
    /// The body of the next request in the input; a comma follows it.
    found: Option<Range<usize>>,
    /// The rule that the input breaks behind that.
    broken: Option<Violation>,
    /// The number of the oldest answer that is due.
    first: u64,
    /// The answers that are due, by number; those that were given wait for the ones before.
    due: VecDeque<Option<Vec<u8>>>,
    /// Bytes of the answers that wait.
    kept: usize,
    /// The connection closes when no answer is due.
    finishing: bool,
    has_parted: bool,
}

/// An answer that another thread posts.
struct Answer {
    number: u64,
    body: Vec<u8>,
}

impl Netstrings {
    fn new(max_size: usize) -> Self {
        Self {
            max_size,
            found: None,
            broken: None,
            first: 0,
            due: VecDeque::new(),
            kept: 0,
            finishing: false,
            has_parted: false,
        }
    }

    /// Hands out the next request with its number.
    fn take<R>(&mut self, wire: &mut dyn Wire, show: impl FnOnce(u64, &[u8]) -> R) -> Option<R> {
        let body = self.found.take_if(|_| self.due.len() < MOST_DUE)?;
        let number = self.first + self.due.len() as u64;
        self.due.push_back(None);
        let end = body.end + 1;
        let shown = show(number, &wire.input()[body]);
        wire.consume(end);
        self.find(wire.input());
        Some(shown)
    }

    /// Gives an answer: it goes out now, or when those before it are given.
    fn answer(&mut self, number: u64, body: &[u8], wire: &mut dyn Wire) -> Result<(), Error> {
        let behind = number.checked_sub(self.first).map(|behind| behind as usize);
        let Some(place @ None) = behind.and_then(|behind| self.due.get_mut(behind)) else {
            return Err(Error::state(format!("the answer {number} is not due")));
        };
        let answer = netstring(body);
        if number > self.first {
            let before = self.kept + wire.queued();
            self.kept += answer.len();
            *place = Some(answer);
            if before > 0 && self.kept + wire.queued() > wire.max_output() {
                wire.overflow();
            }
            return Ok(());
        }
        self.due.pop_front();
        self.first += 1;
        wire.write(Data::Own(answer))?;
        self.advance(wire)
    }

    /// Behind the oldest answer: those that were given meanwhile follow, then the end if that is due.
    fn advance(&mut self, wire: &mut dyn Wire) -> Result<(), Error> {
        while let Some(answer) = self.due.front_mut().and_then(Option::take) {
            self.due.pop_front();
            self.first += 1;
            self.kept -= answer.len();
            wire.write(Data::Own(answer))?;
        }
        if self.finishing && self.due.is_empty() && self.broken.is_none() {
            wire.close();
        }
        Ok(())
    }

    /// Looks for the next request, unless one waits.
    fn find(&mut self, input: &[u8]) {
        if self.found.is_some() || self.broken.is_some() || self.finishing {
            return;
        }
        match body_of(input, self.max_size) {
            Ok(body) => self.found = body.filter(|body| body.end < input.len()),
            Err(broken) => self.broken = Some(broken),
        }
    }

    /// Whether a request waits for an answer to one before it.
    fn is_full(&self) -> bool {
        self.found.is_some() && self.due.len() >= MOST_DUE
    }
}

impl Protocol for Netstrings {
    fn look(&mut self, input: &mut [u8]) -> usize {
        if self.finishing || (self.found.is_none() && self.broken.is_some()) {
            // No request follows.
            return input.len();
        }
        self.find(input);
        0
    }

    fn has_news(&self) -> bool {
        (self.found.is_some() && !self.is_full()) || self.violation().is_some()
    }

    fn missing(&self, input: &[u8]) -> usize {
        match body_of(input, self.max_size) {
            Ok(Some(body)) if !self.finishing => (body.end + 1).saturating_sub(input.len()),
            _ => 0,
        }
    }

    fn longest(&self) -> usize {
        self.max_size + FRAME
    }

    fn callback(&self) -> &'static &'static str {
        &"on_netstring"
    }

    fn forget(&mut self) {
        (self.found, self.broken) = (None, None);
    }

    fn kept(&self) -> usize {
        self.kept
    }

    fn violation(&self) -> Option<Violation> {
        self.broken.clone().filter(|_| self.found.is_none() && self.due.is_empty())
    }

    fn holds_eof(&self, _input: usize) -> bool {
        self.is_full()
    }

    fn is_waited_for(&self) -> bool {
        !self.due.is_empty()
    }

    fn is_ending(&self) -> bool {
        self.finishing
    }

    fn closing(&mut self, why: Closing<'_>, wire: &mut dyn Wire) {
        if std::mem::replace(&mut self.has_parted, true) {
            return;
        }
        let word = match why {
            Closing::Asked => "bye",
            Closing::Stopping => "stopping",
            Closing::Failed(Reason::Protocol(violation)) => &violation.text,
            Closing::Failed(_) => "failed",
        };
        // Where writing has ended nobody listens.
        let _ = wire.write(Data::Own(netstring(word.as_bytes())));
    }

    fn finish(&mut self, wire: &mut dyn Wire) {
        self.finishing = true;
        self.found = None;
        if self.due.is_empty() {
            wire.close();
        }
    }

    fn receive(&mut self, post: Box<dyn Any + Send>, wire: &mut dyn Wire) -> Option<Box<dyn Any + Send>> {
        let answer = match post.downcast::<Answer>() {
            Ok(answer) => answer,
            Err(other) => return Some(other),
        };
        // An answer that was given meanwhile is not due any more, and a closed connection says so by `on_close`.
        let _ = self.answer(answer.number, &answer.body, wire);
        None
    }

    fn may_hand_over(&self) -> Result<Succession, Error> {
        if !self.due.is_empty() {
            return Err(Error::state(format!("{} answers are due", self.due.len())));
        }
        Ok(Succession::Bytes)
    }
}

/// Where the body of the first netstring lies, or will lie; `None` while its length has not come whole.
fn body_of(input: &[u8], max_size: usize) -> Result<Option<Range<usize>>, Violation> {
    let broken = |kind, text| Err(Violation { protocol: "netstring", kind, text });
    let mut size = 0;
    for (at, byte) in input.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at > 0 && size == 0 => {
                return broken(ViolationKind::Protocol, "a length with a leading zero".into());
            }
            b'0'..=b'9' => size = size * 10 + usize::from(byte - b'0'),
            b':' if at > 0 => {
                let body = at + 1..at + 1 + size;
                return match input.get(body.end) {
                    None | Some(b',') => Ok(Some(body)),
                    Some(_) => broken(ViolationKind::Protocol, "no comma behind the body".into()),
                };
            }
            _ => return broken(ViolationKind::Protocol, format!("no length but b'{}'", byte.escape_ascii())),
        }
        if size > max_size {
            return broken(ViolationKind::TooLong, format!("a body of {size} bytes or more: max_size is {max_size}"));
        }
    }
    Ok(None)
}

fn netstring(body: &[u8]) -> Vec<u8> {
    [format!("{}:", body.len()).as_bytes(), body, b","].concat()
}

fn netstrings<B: AsRef<[u8]>>(bodies: impl IntoIterator<Item = B>) -> Vec<u8> {
    bodies.into_iter().flat_map(|body| netstring(body.as_ref())).collect()
}

// ---- its server -------------------------------------------------------------------------------------------------------

/// A request on its way to the thread that answers it.
struct Job {
    remote: Arc<Remote>,
    number: u64,
    body: Vec<u8>,
}

impl Job {
    fn answer(&self, body: &[u8]) -> Result<(), Error> {
        self.remote.post(body.len(), Box::new(Answer { number: self.number, body: body.to_vec() }))
    }
}

/// Answers a request that begins with `now` itself, by an echo, and leaves all others to another thread.
struct Service {
    teller: Teller,
    jobs: Sender<Job>,
    remote: Arc<Remote>,
    max_size: usize,
}

impl Handler for Service {
    fn on_open(&mut self, connection: &Context<'_>) {
        connection.speak(Netstrings::new(self.max_size)).expect("open");
    }
    fn on_news(&mut self, connection: &Context<'_>) {
        let taken = connection.with::<Netstrings, _>(|netstrings, wire| {
            let (number, body) = netstrings.take(wire, |number, body| (number, body.to_vec()))?;
            if body.starts_with(b"now") {
                netstrings.answer(number, &body, wire).expect("it is due");
            }
            Some((number, body))
        });
        let Some((number, body)) = taken.flatten() else { return };
        tell(&self.teller, Told::Read(body.clone()));
        if !body.starts_with(b"now") {
            // A test that has seen enough drops its end.
            let _ = self.jobs.send(Job { remote: self.remote.clone(), number, body });
        }
    }
    fn on_eof(&mut self, connection: &Context<'_>) {
        tell(&self.teller, Told::Eof);
        connection.poller.finish(connection.token);
    }
    fn on_drain(&mut self, _: &Context<'_>) {
        tell(&self.teller, Told::Drain);
    }
    fn on_stopping(&mut self, connection: &Context<'_>) {
        connection.poller.finish(connection.token);
    }
    fn on_close(&mut self, reason: Reason) {
        tell(&self.teller, Told::Close(name(&reason)));
    }
}

/// A server, and the requests that its tests are to answer.
fn serve(max_size: usize, options: &AcceptorOptions) -> (Server, Receiver<Job>) {
    let (sender, jobs) = channel();
    let server = Server::start(1, "127.0.0.1:0", options, move |teller, remote| {
        Box::new(Service { teller, jobs: sender.clone(), remote: remote.clone(), max_size })
    });
    (server, jobs)
}

fn next_jobs(jobs: &Receiver<Job>, count: usize) -> Vec<Job> {
    let next = |_| jobs.recv_timeout(PATIENCE).expect("a request");
    (0..count).map(next).collect()
}

/// Waits until the poller has received and sent so many bytes in its life.
fn wait_for(server: &Server, received: u64, sent: u64) {
    let (counters, began) = (&server.reactor.handles()[0].counters, Instant::now());
    while (counters.bytes_in.get(), counters.bytes_out.get()) != (received, sent) {
        let so_far = (counters.bytes_in.get(), counters.bytes_out.get());
        assert!(began.elapsed() < PATIENCE, "received and sent {so_far:?}, not {:?}", (received, sent));
        thread::sleep(Duration::from_millis(1));
    }
}

fn rest_of(mut client: &TcpStream) -> String {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an end in order");
    String::from_utf8(rest).expect("text")
}

// ---- requests ---------------------------------------------------------------------------------------------------------

#[test]
fn requests_come_whole_wherever_the_stream_is_cut() {
    let (server, jobs) = serve(100, &defaults());
    let stream = b"5:first,0:,14:ends with 3:x,,";
    let answers = "5:first,0:,14:ends with 3:x,,3:bye,";
    let (mut received, mut sent) = (0, 0);
    for cut in 0..=stream.len() {
        let (left, right) = stream.split_at(cut);
        let mut client = server.connect();
        client.write_all(left).expect("sent");
        received += left.len() as u64;
        wait_for(&server, received, sent);
        client.write_all(right).expect("sent");
        received += right.len() as u64;
        client.shutdown(Shutdown::Write).expect("finished");
        let taken = next_jobs(&jobs, 3);
        assert_eq!(taken.iter().map(|job| job.number).collect::<Vec<_>>(), [0, 1, 2]);
        taken.iter().for_each(|job| job.answer(&job.body).expect("open"));
        assert_eq!(rest_of(&client), answers, "cut at {cut}");
        sent += answers.len() as u64;
    }
}

#[test]
fn a_request_may_be_larger_than_all_other_input_and_comes_whole() {
    let mut options = defaults();
    options.connection.max_input = 1000;
    let (server, jobs) = serve(1_000_000, &options);
    let body: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let client = server.connect();
    let (mut sending, sent) = (client.try_clone().expect("a copy"), netstrings([&body[..], b"now and then"]));
    let sender = thread::spawn(move || sent.chunks(70_001).for_each(|chunk| sending.write_all(chunk).expect("sent")));
    let taken = next_jobs(&jobs, 1);
    assert!(taken[0].body == body, "the request differs");
    taken[0].answer(&body[..300_000]).expect("open");
    let expected = netstrings([&body[..300_000], b"now and then"]);
    assert!(receive_exactly(&mut &client, expected.len()) == expected, "the answer differs");
    sender.join().expect("no panic");
}

#[test]
fn no_more_requests_are_taken_than_answers_may_be_due() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    client.write_all(&netstrings(["1", "2", "3", "4", "5", "6"])).expect("sent");
    client.shutdown(Shutdown::Write).expect("finished");
    let taken = next_jobs(&jobs, MOST_DUE);
    let callbacks = || server.reactor.handles()[0].counters.callbacks.get();
    let before = callbacks();
    assert!(jobs.recv_timeout(Duration::from_millis(100)).is_err(), "a request more was taken");
    assert!(callbacks() < before + 10, "the handler is called although it can take nothing");
    taken[0].answer(b"one").expect("open");
    let fifth = next_jobs(&jobs, 1);
    assert_eq!((fifth[0].number, &fifth[0].body[..]), (4, &b"5"[..]));
    taken[1].answer(b"two").expect("open");
    let sixth = next_jobs(&jobs, 1);
    // The end of the input waits for the last request, and the close for its answer.
    let read = |body: &str| Told::Read(body.into());
    assert_eq!(server.until(&Told::Eof), ["1", "2", "3", "4", "5", "6"].map(read));
    for (job, answer) in [(&taken[2], "three"), (&taken[3], "four"), (&fifth[0], "five"), (&sixth[0], "six")] {
        job.answer(answer.as_bytes()).expect("open");
    }
    let answers = netstrings(["one", "two", "three", "four", "five", "six", "bye"]);
    assert_eq!(rest_of(&client).as_bytes(), answers);
    assert_eq!(server.next(), Told::Close("orderly"));
}

// ---- the order of answers ---------------------------------------------------------------------------------------------

#[test]
fn answers_of_another_thread_go_out_in_the_order_of_the_requests() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    let (requests, expected) = (netstrings(["one", "two", "three"]), netstrings(["ONE", "TWO", "THREE"]));
    client.write_all(&requests).expect("sent");
    let taken = next_jobs(&jobs, 3);
    taken[2].answer(b"THREE").expect("open");
    taken[1].answer(b"TWO").expect("open");
    // Twice, since a batch answers the first question before it is flushed.
    (0..2).for_each(|_| server.ask(0, |_| ()));
    wait_for(&server, requests.len() as u64, 0);
    taken[0].answer(b"ONE").expect("open");
    assert_eq!(receive_exactly(&mut client, expected.len()), expected);
}

#[test]
fn answers_of_the_handler_wait_for_those_of_another_thread() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    client.write_all(&netstrings(["now 1", "later", "now 2", "now 3"])).expect("sent");
    assert_eq!(receive_exactly(&mut client, 8), netstring(b"now 1"));
    let taken = next_jobs(&jobs, 1);
    taken[0].answer(b"at last").expect("open");
    let expected = netstrings(["at last", "now 2", "now 3"]);
    assert_eq!(receive_exactly(&mut client, expected.len()), expected);
}

#[test]
fn answers_of_many_threads_go_out_in_the_order_of_the_requests() {
    let (server, jobs) = serve(100, &defaults());
    let jobs = Arc::new(Mutex::new(jobs));
    for worker in 0..MOST_DUE as u64 {
        let jobs = jobs.clone();
        thread::spawn(move || {
            // Ends with the server's last handler.
            while let Ok(job) = { jobs.lock().expect("no panic").recv() } {
                thread::sleep(Duration::from_micros((job.number * 7919 + worker * 104_729) % 1000));
                job.answer(&job.body).expect("open");
            }
        });
    }
    let requests: Vec<_> = (0..500).map(|number| format!("request {number}")).collect();
    let mut client = server.connect();
    client.write_all(&netstrings(&requests)).expect("sent");
    client.shutdown(Shutdown::Write).expect("finished");
    let expected = [netstrings(&requests), netstring(b"bye")].concat();
    assert_eq!(rest_of(&client).as_bytes(), expected);
}

#[test]
fn an_answer_is_given_once_and_a_value_of_another_type_is_dropped() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    client.write_all(&netstrings(["one", "two"])).expect("sent");
    let taken = next_jobs(&jobs, 2);
    let value = Arc::new(());
    taken[0].remote.post(0, Box::new(value.clone())).expect("open");
    taken[1].answer(b"TWO").expect("open");
    taken[1].answer(b"TWICE").expect("open");
    taken[0].answer(b"ONE").expect("open");
    taken[0].answer(b"ONCE MORE").expect("open");
    let expected = netstrings(["ONE", "TWO"]);
    assert_eq!(receive_exactly(&mut client, expected.len()), expected);
    client.shutdown(Shutdown::Write).expect("finished");
    assert_eq!(rest_of(&client), "3:bye,");
    assert_eq!(Arc::strong_count(&value), 1, "the value is kept");
    server.until(&Told::Close("orderly"));
    assert!(matches!(taken[0].answer(b"too late"), Err(error) if error.is_closed()));
}

// ---- limits -----------------------------------------------------------------------------------------------------------

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let mut options = defaults();
    options.socket.send_buffer_size = Some(8192);
    options.socket.receive_buffer_size = Some(8192);
    options.connection.high_water = 10_000;
    options.connection.low_water = 1000;
    let (server, jobs) = serve(10_000, &options);
    let client = server.connect();
    let requests: Vec<_> = (0..2000).map(|number| format!("now {number:9996}")).collect();
    let (mut sending, sent) = (client.try_clone().expect("a copy"), netstrings(&requests));
    let sender = thread::spawn(move || sending.write_all(&sent).expect("sent"));
    let mut taken = 0;
    while server.told.recv_timeout(Duration::from_millis(300)).is_ok() {
        taken += 1;
    }
    assert!(taken < requests.len(), "all {taken} requests were taken");
    let expected = netstrings(&requests);
    assert!(receive_exactly(&mut &client, expected.len()) == expected, "the answers differ");
    sender.join().expect("no panic");
    client.shutdown(Shutdown::Write).expect("finished");
    assert!(server.until(&Told::Close("orderly")).contains(&Told::Drain), "there was no back-pressure");
    assert!(jobs.try_recv().is_err(), "nothing was left to another thread");
}

#[test]
fn answers_that_wait_for_another_are_bounded() {
    let mut options = defaults();
    options.connection.max_output = 10_000;
    (options.connection.high_water, options.connection.low_water) = (5000, 1000);
    let (server, jobs) = serve(100, &options);
    let mut client = server.connect();
    client.write_all(&netstrings(["one", "two", "three"])).expect("sent");
    let taken = next_jobs(&jobs, 3);
    taken[1].answer(&[b'x'; 6000]).expect("open");
    // The first answer leaves the mailbox, which has a limit of its own, before the second is posted.
    server.ask(0, |_| ());
    taken[2].answer(&[b'x'; 6000]).expect("open");
    server.until(&Told::Close("output overflow"));
    assert!(matches!(taken[0].answer(b"too late"), Err(error) if error.is_closed()));
    assert!(client.read(&mut [0]).is_err(), "the peer sees no reset");
}

#[test]
fn a_peer_that_waits_for_its_answer_is_not_idle() {
    let mut options = defaults();
    options.connection.idle_timeout = Some(Duration::from_millis(250));
    let (server, jobs) = serve(100, &options);
    let mut client = server.connect();
    client.write_all(&netstring(b"one")).expect("sent");
    let taken = next_jobs(&jobs, 1);
    thread::sleep(Duration::from_millis(600));
    taken[0].answer(b"ONE").expect("open");
    assert_eq!(rest_of(&client), "3:ONE,6:failed,");
    assert_eq!(server.until(&Told::Close("expired")), [Told::Read(b"one".to_vec())]);
}

// ---- ends -------------------------------------------------------------------------------------------------------------

#[test]
fn a_request_that_breaks_a_rule_ends_the_connection_with_a_word() {
    let (server, _jobs) = serve(100, &defaults());
    for (stream, word) in [
        ("x", "no length but b'x'"),
        (":", "no length but b':'"),
        ("00", "a length with a leading zero"),
        ("3:abcd", "no comma behind the body"),
        // Told before a byte of it comes.
        ("101", "a body of 101 bytes or more: max_size is 100"),
        ("99999999999999999999", "a body of 999 bytes or more: max_size is 100"),
    ] {
        let mut client = server.connect();
        client.write_all(&[b"3:now,", stream.as_bytes()].concat()).expect("sent");
        assert_eq!(rest_of(&client).as_bytes(), netstrings(["now", word]), "{stream}");
        assert_eq!(server.until(&Told::Close("netstring")), [Told::Read(b"now".to_vec())], "{stream}");
    }
}

#[test]
fn a_request_that_breaks_a_rule_ends_the_connection_behind_the_answers_that_are_due() {
    let (server, jobs) = serve(100, &defaults());
    for finishes in [false, true] {
        let mut client = server.connect();
        client.write_all(b"3:one,3:two,x3:not taken,").expect("sent");
        if finishes {
            client.shutdown(Shutdown::Write).expect("finished");
        }
        let taken = next_jobs(&jobs, 2);
        let mut told: Vec<_> =
            std::iter::from_fn(|| server.told.recv_timeout(Duration::from_millis(100)).ok()).collect();
        taken[1].answer(b"TWO").expect("open");
        taken[0].answer(b"ONE").expect("open");
        assert_eq!(rest_of(&client).as_bytes(), netstrings(["ONE", "TWO", "no length but b'x'"]));
        told.extend(server.until(&Told::Close("netstring")));
        let eof = finishes.then_some(Told::Eof);
        let expected: Vec<_> =
            [Told::Read(b"one".to_vec()), Told::Read(b"two".to_vec())].into_iter().chain(eof).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_finish_waits_for_the_answers_that_are_due() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    client.write_all(&netstrings(["one", "two"])).expect("sent");
    client.shutdown(Shutdown::Write).expect("finished");
    let taken = next_jobs(&jobs, 2);
    let read = |body: &str| Told::Read(body.into());
    assert_eq!(server.until(&Told::Eof), ["one", "two"].map(read));
    taken[1].answer(b"TWO").expect("open");
    assert!(server.told.recv_timeout(Duration::from_millis(100)).is_err(), "ended before the first answer");
    taken[0].answer(b"ONE").expect("open");
    assert_eq!(rest_of(&client).as_bytes(), netstrings(["ONE", "TWO", "bye"]));
    assert_eq!(server.next(), Told::Close("orderly"));
}

#[test]
fn a_stop_waits_for_the_answers_that_are_due_and_says_a_last_word() {
    let (server, jobs) = serve(100, &defaults());
    let (mut busy, idle) = (server.connect(), server.connect());
    busy.write_all(&netstring(b"one")).expect("sent");
    let taken = next_jobs(&jobs, 1);
    // Both are open before the stop.
    while server.reactor.handles()[0].counters.accepted.get() < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    server.ask(0, |_| ());
    server.reactor.stop(PATIENCE);
    assert_eq!(rest_of(&idle), "3:bye,");
    taken[0].answer(b"ONE").expect("open");
    assert_eq!(rest_of(&busy), "3:ONE,3:bye,");
    assert_eq!(server.join(), Ok(()));
    assert_eq!(server.reactor.stop_report(), (2, 0));
}

#[test]
fn a_close_of_another_thread_says_the_last_word_behind_its_answers() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    client.write_all(&netstrings(["one", "two"])).expect("sent");
    let taken = next_jobs(&jobs, 2);
    taken[0].answer(b"ONE").expect("open");
    taken[0].remote.close();
    assert!(matches!(taken[1].answer(b"TWO"), Err(error) if error.is_closed()));
    assert_eq!(rest_of(&client), "3:ONE,3:bye,");
    server.until(&Told::Close("orderly"));
}

#[test]
fn a_connection_with_answers_that_are_due_is_not_handed_over() {
    let (server, jobs) = serve(100, &defaults());
    let mut client = server.connect();
    client.write_all(&netstring(b"one")).expect("sent");
    let taken = next_jobs(&jobs, 1);
    let token = taken[0].remote.token();
    let hand_over = move || {
        server.ask(0, move |poller| {
            let handed = poller.hand_over(token, |_| Box::new(()));
            handed.map(|(remote, _)| remote.token()).map_err(|error| error.to_string())
        })
    };
    assert_eq!(hand_over(), Err("1 answers are due".into()));
    taken[0].answer(b"ONE").expect("open");
    assert_eq!(receive_exactly(&mut client, 6), b"3:ONE,");
    let successor = hand_over();
    assert!(successor.is_ok_and(|successor| successor != token), "the connection keeps its name");
}
