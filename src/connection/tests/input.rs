//! Readiness, reads and pauses.

use super::*;

const READ_BUDGET: usize = 260 * 1024;

#[test]
fn readiness_tells_of_the_peer_and_never_takes_it_back() {
    let closed = Readiness { read_closed: true, ..NOTHING };
    let cannot_write = Readiness { write_closed: true, ..NOTHING };
    for (ready, peer, readable) in [
        (NOTHING, Peer::Present, false),
        (READABLE, Peer::Present, true),
        (WRITABLE, Peer::Present, false),
        (cannot_write, Peer::Present, false),
        (closed, Peer::Finished, true),
        (FINISHED, Peer::Finished, true),
        (HUNG_UP, Peer::Gone, true),
        (FAILED, Peer::Gone, true),
    ] {
        let mut bench = Bench::open(ConnectionOptions::default());
        bench.connection.note(ready);
        assert_eq!((bench.connection.peer, bench.connection.may_hold_input()), (peer, readable), "{ready:?}");
        bench.connection.note(NOTHING);
        assert_eq!((bench.connection.peer, bench.connection.may_hold_input()), (peer, readable), "{ready:?}");
    }
}

#[test]
fn room_for_output_is_known_when_it_was_missed() {
    for ready in [WRITABLE, Readiness { write_closed: true, ..NOTHING }] {
        let mut bench = Bench::open(ConnectionOptions::default());
        bench.connection.note(ready);
        assert!(!bench.connection.watches_writes());
        bench.connection.block();
        bench.connection.note(READABLE);
        assert!(bench.connection.is_blocked());
        bench.connection.note(ready);
        assert!(!bench.connection.is_blocked() && bench.connection.watches_writes());
    }
}

#[test]
fn an_error_is_asked_for_where_no_read_would_tell_it() {
    let open = || Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });

    // A read will tell.
    let mut reading = open();
    reading.peer.push_reset();
    reading.connection.note(FAILED);
    assert!(reading.connection.reason.is_none() && !reading.connection.has_eof());

    // The input ended before.
    let mut ended = open();
    ended.finish();
    ended.peer.push_reset();
    ended.connection.note(FINISHED);
    assert!(ended.connection.reason.is_none());
    ended.connection.note(FAILED);
    assert_eq!(ended.connection.reason.as_deref().map(word), Some("io"));

    // No more input fits, and the handler was called for what there is.
    let mut stuffed = open();
    stuffed.come(b"abcd");
    stuffed.peer.push_reset();
    stuffed.connection.note(FAILED);
    assert!(stuffed.connection.reason.is_none());
    assert_eq!(stuffed.connection.take_due(), Some(Due::Read));
    stuffed.connection.note(FAILED);
    assert_eq!(stuffed.connection.reason.as_deref().map(word), Some("io"));
    assert!(stuffed.connection.has_eof());

    // The system keeps no error.
    let mut healthy = open();
    healthy.finish();
    healthy.connection.note(FAILED);
    assert!(healthy.connection.reason.is_none());

    // The first error counts.
    let mut known = open();
    known.finish();
    known.connection.reason = Some(Box::new(Reason::Aborted));
    known.peer.push_reset();
    known.connection.note(FAILED);
    assert_eq!(known.connection.reason.as_deref().map(word), Some("aborted"));
}

#[test]
fn the_end_of_the_input_is_seen_once() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.end_input();
    assert_eq!(bench.connection.input_end, InputEnd::Seen);
    assert_eq!(bench.connection.take_due(), Some(Due::Eof));
    bench.connection.end_input();
    assert_eq!(bench.connection.input_end, InputEnd::Told);
}

#[test]
fn a_read_is_wanted_where_there_is_readiness_and_room() {
    let open = || {
        let mut bench = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
        bench.come(b"abc");
        assert!(!bench.connection.wants_read());
        bench.connection.note(READABLE);
        assert!(bench.connection.wants_read());
        bench
    };
    let mut full = open();
    full.come(b"d");
    full.connection.note(READABLE);
    assert!(!full.connection.wants_read());
    full.consume(1);
    assert!(full.connection.wants_read());

    let mut paused = open();
    paused.connection.pause();
    assert!(!paused.connection.wants_read());

    let mut ended = open();
    ended.connection.end_input();
    assert!(!ended.connection.wants_read());

    for phase in [Phase::Accepted, Phase::New, Phase::Doomed, Phase::Flushing, Phase::Ended, Phase::Gone] {
        let mut bench = Bench::in_phase(phase);
        bench.connection.note(READABLE);
        assert!(!bench.connection.wants_read(), "{phase:?}");
    }
    let mut lingering = Bench::in_phase(Phase::Lingering);
    assert!(!lingering.connection.wants_read());
    lingering.connection.linger();
    assert!(lingering.connection.wants_read());
}

#[test]
fn a_read_takes_what_fits_and_counts_it() {
    let mut bench = Bench::open(ConnectionOptions { max_input: 10, ..ConnectionOptions::default() });
    bench.peer.push(b"0123456789abcdef");
    bench.connection.note(READABLE);
    assert_eq!(bench.connection.receive(&mut bench.arena, 100, NOW + 7), 10);
    assert_eq!(bench.connection.input.bytes(&bench.arena), b"0123456789");
    assert_eq!(&bench.arena[100..111], b"0123456789\0");
    assert_eq!(bench.connection.guards.last_heard(), NOW + 7);
    assert_eq!(bench.connection.remote.poller().counters.bytes_in.get(), 10);
    // The rest stays, and is known to be there.
    assert!(bench.connection.may_hold_input() && !bench.connection.wants_read());
    bench.consume(4);
    bench.connection.settle(&bench.arena);
    assert_eq!(bench.read(), 4);
    assert_eq!(bench.unread(), b"456789abcd");
    assert_eq!(bench.connection.remote.poller().counters.bytes_in.get(), 14);
}

#[test]
fn a_read_ends_with_the_arena_and_with_the_budget_of_a_turn() {
    let open = || {
        let bench = Bench::open(ConnectionOptions { max_input: 1 << 20, ..ConnectionOptions::default() });
        bench.peer.push(&vec![b'x'; READ_BUDGET + 1000]);
        bench
    };
    let mut short = open();
    short.connection.note(READABLE);
    assert_eq!(short.connection.receive(&mut short.arena[..150], 50, NOW), 100);
    assert!(short.connection.may_hold_input());

    let mut long = open();
    long.arena = vec![0; READ_BUDGET + 2000];
    long.connection.note(READABLE);
    assert_eq!(long.read(), READ_BUDGET);
    assert_eq!(long.unread().len(), READ_BUDGET);
}

#[test]
fn nothing_to_read_is_no_news() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.note(READABLE);
    assert_eq!(bench.read(), 0);
    assert_eq!((bench.connection.may_hold_input(), bench.connection.news), (false, false));
    assert_eq!(bench.connection.guards.last_heard(), NOW);
    let rules = bench.speak();
    bench.connection.note(READABLE);
    assert_eq!(bench.read(), 0);
    assert_eq!(lock(&rules).looks.len(), 1, "a protocol looks at new input only");
}

#[test]
fn the_input_of_a_peer_that_has_finished_is_read_to_its_end_in_one_turn() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.peer.push(b"abc");
    assert_eq!(bench.finish(), 3);
    assert!(bench.connection.has_eof() && !bench.connection.may_hold_input());
    assert_eq!(bench.unread(), b"abc");

    // Of one that is present a short read was all, and no second one is made.
    let mut present = Bench::open(ConnectionOptions::default());
    present.peer.push(b"abc");
    present.peer.push_eof();
    present.connection.note(READABLE);
    assert_eq!(present.read(), 3);
    assert!(!present.connection.has_eof() && !present.connection.may_hold_input());

    // Where the arena ends the end of the stream is for the next turn.
    let mut short = Bench::open(ConnectionOptions::default());
    short.peer.push(b"abcdef");
    short.peer.push_eof();
    short.connection.note(FINISHED);
    assert_eq!(short.connection.receive(&mut short.arena[..6], 2, NOW), 4);
    assert_eq!(short.connection.input.bytes(&short.arena), b"abcd");
    assert!(short.connection.may_hold_input() && !short.connection.has_eof());
}

/// The outcome of one receive.
#[derive(Clone, Copy, Debug)]
enum Comes {
    More,
    All,
    End,
    Nothing,
    Reset,
}

#[test]
fn each_outcome_of_a_read_is_noted() {
    for (comes, peer, cannot_write, bytes, readable, has_eof, is_error) in [
        (Comes::More, Peer::Present, false, 5, true, false, false),
        (Comes::All, Peer::Present, false, 3, false, false, false),
        (Comes::All, Peer::Finished, false, 3, true, false, false),
        (Comes::End, Peer::Finished, false, 0, false, true, false),
        (Comes::Nothing, Peer::Present, false, 0, false, false, false),
        (Comes::Nothing, Peer::Finished, true, 0, false, true, true),
        (Comes::Reset, Peer::Present, false, 0, false, true, true),
    ] {
        let mut bench = Bench::open(ConnectionOptions::default());
        match comes {
            Comes::More => bench.peer.push(b"abcdefgh"),
            Comes::All => bench.peer.push(b"abc"),
            Comes::End => bench.peer.push_eof(),
            Comes::Nothing => {}
            Comes::Reset => bench.peer.push_reset(),
        }
        let connection = &mut bench.connection;
        (connection.readable, connection.peer) = (true, peer);
        connection.reason = cannot_write.then(|| Box::new(Reason::Aborted));
        assert_eq!(connection.skip_input(&mut [0; 5]), bytes, "{comes:?}");
        assert_eq!((connection.may_hold_input(), connection.has_eof()), (readable, has_eof), "{comes:?}");
        assert_eq!(connection.reason.is_some(), is_error, "{comes:?}");
    }
}

#[test]
fn a_protocol_sees_all_the_input_and_consumes_what_it_is_done_with() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let rules = bench.speak();
    lock(&rules).done = 2;
    bench.come(b"abcde");
    assert_eq!(bench.unread(), b"cde");
    bench.consume(1);
    assert_eq!(bench.unread(), b"de");
    bench.connection.look(&mut bench.arena);
    assert_eq!(bench.unread(), b"");
    assert_eq!(lock(&rules).looks, [&b""[..], b"abcde", b"de"]);
    assert_eq!(lock(&rules).looks_again, [b"de"]);
}

#[test]
fn the_rest_of_a_message_is_read_behind_its_beginning() {
    let mut bench = Bench::open(ConnectionOptions { max_input: 8, ..ConnectionOptions::default() });
    let rules = bench.speak();
    bench.come(b"abc");
    bench.connection.settle(&bench.arena);
    bench.arena.fill(b'-');
    lock(&rules).missing = 4;
    bench.peer.push(b"defghijkl");
    bench.connection.note(READABLE);
    // No more than is missing: the next message begins in the arena.
    assert_eq!(bench.connection.receive(&mut bench.arena, 0, NOW + 3), 4);
    assert_eq!((bench.unread(), bench.arena[0]), (&b"abcdefg"[..], b'-'));
    assert_eq!(bench.connection.guards.last_heard(), NOW + 3);
    assert_eq!(bench.connection.remote.poller().counters.bytes_in.get(), 7);
    assert_eq!(lock(&rules).looks, [&b""[..], b"abc", b"abcdefg"]);
    assert!(bench.connection.may_hold_input());
    // No more than fits.
    assert_eq!(bench.read(), 1);
    assert_eq!(bench.unread(), b"abcdefgh");
    // None is missing: the arena is used.
    bench.consume(7);
    lock(&rules).missing = 0;
    assert_eq!(bench.read(), 4);
    assert_eq!((bench.unread(), &bench.arena[..5]), (&b"hijkl"[..], &b"ijkl-"[..]));
}

#[test]
fn a_missing_rest_that_does_not_come_is_no_activity() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let rules = bench.speak();
    bench.come(b"abc");
    bench.connection.settle(&bench.arena);
    lock(&rules).missing = 4;
    bench.connection.note(READABLE);
    assert_eq!(bench.connection.receive(&mut bench.arena, 0, NOW + 3), 0);
    assert_eq!(bench.connection.guards.last_heard(), NOW);
    assert!(!bench.connection.may_hold_input());
}

#[test]
fn the_longest_message_of_a_protocol_fits_whatever_max_input_is() {
    let mut bench = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
    let rules = bench.speak();
    lock(&rules).longest = 6;
    assert_eq!(bench.come(b"abcdefgh"), 6);
    lock(&rules).longest = 2;
    let mut short = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
    short.speak();
    assert_eq!(short.come(b"abcdefgh"), 4);
}

#[test]
fn input_that_waits_survives_the_next_use_of_the_arena() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    bench.connection.settle(&bench.arena);
    bench.arena.fill(0);
    assert_eq!(bench.unread(), b"abc");
}

#[test]
fn a_lingering_connection_throws_its_input_away_until_the_peer_has_finished() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    bench.connection.linger();
    assert!(bench.connection.input.is_empty() && bench.connection.may_hold_input());
    bench.peer.push(b"defgh");
    assert_eq!(bench.connection.skip_input(&mut bench.arena), 5);
    bench.peer.push_eof();
    bench.connection.note(FINISHED);
    assert_eq!(bench.connection.skip_input(&mut bench.arena), 0);
    assert!(bench.connection.has_eof());
}

#[test]
fn input_that_is_forgotten_is_forgotten_by_the_protocol_too() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let rules = bench.speak();
    bench.come(b"abc");
    bench.connection.forget_input();
    assert_eq!((bench.connection.input.len(), lock(&rules).forgotten), (0, 1));
}

#[test]
fn input_that_came_before_a_pause_is_offered_again_after_it() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
    // Without a pause there is nothing to resume.
    assert!(bench.connection.settle_callback().is_none());
    bench.connection.resume();
    assert_eq!(bench.connection.take_due(), None);
    bench.connection.pause();
    bench.connection.resume();
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
    // A pause inside of the callback kept nothing from it.
    bench.connection.pause();
    bench.connection.resume();
    assert!(bench.connection.settle_callback().is_none());
    assert_eq!(bench.connection.take_due(), None);
    // News that waited stay news.
    bench.come(b"d");
    bench.connection.pause();
    assert_eq!(bench.connection.take_due(), None);
    bench.connection.resume();
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
}

#[test]
fn the_end_of_a_pause_is_no_news_where_no_input_waits() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.pause();
    bench.connection.resume();
    assert!(!bench.connection.news);
}
