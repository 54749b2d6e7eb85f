//! Flushes, the water marks, and failed writes.

use std::fs::File;
use std::io;

use super::super::memory::End;
use super::*;
use crate::data::FileRange;

/// At most so many bytes of one file go out per turn.
const FILE_BUDGET: usize = 256 * 1024;

/// A file of `len` bytes without a name.
fn file(len: usize) -> FileRange {
    let path = std::env::temp_dir().join(format!("goev-output-{}-{len}", std::process::id()));
    std::fs::write(&path, vec![b'f'; len]).expect("written");
    let file = File::open(&path).expect("readable");
    std::fs::remove_file(&path).expect("removed");
    FileRange { file: file.into(), offset: 0, remaining: len as u64 }
}

#[test]
fn every_kind_of_data_goes_out_in_order() {
    let mut bench = Bench::open(ConnectionOptions::default());
    assert!(!bench.connection.has_output() && !bench.connection.wants_flush());
    bench.write(b"one ");
    bench.connection.push(Data::Own(b"two ".to_vec()), &mut bench.pool);
    bench.connection.push(Data::Held(Box::new(Kept(b"three ".to_vec()))), &mut bench.pool);
    bench.connection.push(Data::File(file(2)), &mut bench.pool);
    assert!(bench.connection.has_output() && bench.connection.wants_flush());
    assert_eq!((bench.connection.queued_memory(), bench.connection.queued()), (14, 16));
    assert_eq!(bench.flush(), Flushed::All);
    assert_eq!(bench.peer.take(), b"one two three ff");
    assert_eq!(bench.connection.remote.poller().counters.bytes_out.get(), 16);
    assert!(!bench.connection.has_output() && bench.connection.output.is_none());
    assert_eq!((bench.connection.queued_memory(), bench.connection.queued()), (0, 0));
    assert_eq!(bench.flush(), Flushed::All);
}

#[test]
fn a_peer_that_takes_a_part_blocks_the_rest() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.write(b"abcdef");
    bench.peer.set_window(2);
    for sent in [&b"ab"[..], b""] {
        assert_eq!(bench.flush(), Flushed::Blocked);
        assert_eq!((&bench.peer.take()[..], bench.connection.queued()), (sent, 4));
    }
    bench.peer.set_window(usize::MAX);
    assert_eq!(bench.flush(), Flushed::All);
    assert_eq!(bench.peer.take(), b"cdef");
}

#[test]
fn a_file_goes_out_by_its_budget_a_turn() {
    for (len, behind, turns) in [
        (FILE_BUDGET - 1, false, 1),
        (FILE_BUDGET, false, 1),
        (FILE_BUDGET, true, 2),
        (FILE_BUDGET + 1, false, 2),
        (2 * FILE_BUDGET + 1, true, 3),
    ] {
        let mut bench = Bench::open(ConnectionOptions::default());
        bench.connection.push(Data::File(file(len)), &mut bench.pool);
        if behind {
            bench.write(b"x");
        }
        for _ in 1..turns {
            assert_eq!(bench.flush(), Flushed::Again);
            assert_eq!(bench.peer.take().len(), FILE_BUDGET);
        }
        assert_eq!(bench.flush(), Flushed::All);
        assert_eq!(bench.peer.take().len(), len + usize::from(behind) - (turns - 1) * FILE_BUDGET);
    }
}

#[test]
fn a_reset_is_the_error_of_the_flush() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.write(b"abc");
    bench.peer.push_reset();
    let error = bench.connection.flush(&mut bench.pool, NOW).expect_err("the peer is gone");
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn the_end_of_the_output_comes_behind_it_and_once() {
    let mut bench = Bench::open(ConnectionOptions::default());
    assert!(bench.connection.takes_output());
    bench.connection.shut_if_due();
    assert_eq!(bench.peer.end(), None);
    bench.connection.end_output();
    assert!(!bench.connection.takes_output() && bench.connection.has_output() && bench.connection.wants_flush());
    bench.connection.shut_if_due();
    assert_eq!(bench.peer.end(), Some(End::Finished));
    assert!(!bench.connection.has_output());
    // It was shut, so it is not due again.
    bench.connection.end_output();
    assert!(!bench.connection.has_output() && !bench.connection.takes_output());
}

#[test]
fn a_flush_is_wanted_until_the_connection_has_ended_and_while_there_is_room() {
    for (phase, wants) in [
        (Phase::Accepted, true),
        (Phase::New, true),
        (Phase::Doomed, true),
        (Phase::Open, true),
        (Phase::Flushing, true),
        (Phase::Ended, false),
        (Phase::Lingering, false),
        (Phase::Gone, false),
    ] {
        let mut bench = Bench::in_phase(phase);
        bench.write(b"x");
        assert_eq!(bench.connection.wants_flush(), wants, "{phase:?}");
        bench.connection.block();
        assert!(!bench.connection.wants_flush(), "{phase:?}");
    }
}

#[test]
fn the_poll_watches_for_room_from_the_first_time_on_that_there_was_none() {
    let mut bench = Bench::open(ConnectionOptions::default());
    assert!(!bench.connection.is_blocked() && !bench.connection.watches_writes());
    assert!(bench.connection.block());
    assert!(bench.connection.is_blocked() && bench.connection.watches_writes());
    assert!(!bench.connection.block());
    bench.connection.note(WRITABLE);
    assert!(!bench.connection.is_blocked() && bench.connection.watches_writes());
    assert!(!bench.connection.block());
    bench.connection.unwatch_writes();
    assert!(!bench.connection.is_blocked() && !bench.connection.watches_writes());
}

#[test]
fn output_that_is_dropped_cuts_the_stream() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.drop_output(&mut bench.pool);
    bench.connection.output = Some(bench.pool.take());
    bench.connection.drop_output(&mut bench.pool);
    assert!(!bench.connection.is_cut());
    bench.write(b"x");
    bench.connection.drop_output(&mut bench.pool);
    assert!(bench.connection.is_cut() && bench.connection.output.is_none());
    bench.connection.output = Some(bench.pool.take());
    bench.connection.drop_output(&mut bench.pool);
    assert!(bench.connection.is_cut(), "a cut stays");
}

#[test]
fn after_a_failed_write_the_input_that_remains_is_delivered_first() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    bench.write(b"x");
    bench.connection.over_high = true;
    bench.connection.write_failed(io::ErrorKind::BrokenPipe.into(), &mut bench.pool);
    let connection = &mut bench.connection;
    assert!(connection.is_cut() && connection.cannot_write() && !connection.has_eof());
    assert!(connection.may_hold_input() && !connection.is_paused() && !connection.is_over_high());
    assert_eq!(connection.peer, Peer::Finished);
    assert_eq!(connection.take_due(), Some(Due::Read));
    assert_eq!(connection.take_due(), None);
    // Nothing more comes, and that is the end.
    assert_eq!(bench.read(), 0);
    assert_eq!(bench.connection.take_due(), Some(Due::Close));
    assert_eq!(word(&bench.connection.take_reason(None).0), "io");
}

#[test]
fn after_a_failed_write_input_that_nobody_wants_or_that_has_no_room_is_dropped() {
    let open = || {
        let mut bench = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
        bench.come(b"abcd");
        bench
    };
    let mut paused = open();
    paused.connection.pause();
    let mut stuffed = open();
    assert_eq!(stuffed.connection.take_due(), Some(Due::Read));
    for mut bench in [paused, stuffed] {
        bench.connection.write_failed(io::ErrorKind::BrokenPipe.into(), &mut bench.pool);
        assert!(bench.connection.has_eof() && bench.connection.input.is_empty());
        assert!(!bench.connection.may_hold_input());
        assert_eq!(bench.connection.take_due(), Some(Due::Close));
    }
    // The first error counts, and a peer that is gone stays gone.
    let mut known = open();
    known.connection.note(HUNG_UP);
    known.connection.reason = Some(Box::new(Reason::Aborted));
    known.connection.write_failed(io::ErrorKind::BrokenPipe.into(), &mut known.pool);
    assert_eq!((word(&known.connection.take_reason(None).0), known.connection.peer), ("aborted", Peer::Gone));
}

#[test]
fn a_write_deadline_begins_when_the_socket_is_full_and_ends_with_the_output() {
    let options = ConnectionOptions::default();
    let mut bench = Bench::open(options.clone());
    let guards = |bench: &Bench| bench.connection.guards.next(&options);
    bench.write(b"abcdef");
    bench.peer.set_window(1);
    bench.connection.guards.blocked(NOW);
    let first = guards(&bench).expect("a deadline");
    assert_eq!(bench.connection.flush(&mut bench.pool, NOW + 5).ok(), Some(Flushed::Blocked));
    assert_eq!(guards(&bench), Some(first + 5));
    bench.peer.set_window(usize::MAX);
    assert_eq!(bench.flush(), Flushed::All);
    assert_eq!(guards(&bench), None);
    bench.connection.guards.blocked(NOW);
    bench.connection.write_failed(io::ErrorKind::BrokenPipe.into(), &mut bench.pool);
    assert_eq!(guards(&bench), None);
}

#[test]
fn the_water_marks_pause_and_wake_once() {
    let options = ConnectionOptions { high_water: 10, low_water: 5, ..ConnectionOptions::default() };
    let mut bench = Bench::open(options);
    let mut weigh = |bytes: usize| {
        bench.connection.drop_output(&mut bench.pool);
        bench.connection.push(Data::Own(vec![0; bytes]), &mut bench.pool);
        bench.connection.weigh();
        (bench.connection.is_over_high(), bench.connection.take_due())
    };
    for (queued, over_high, due) in [
        (10, false, None),
        (4, false, None),
        (11, true, None),
        (6, true, None),
        (5, false, Some(Due::Drain)),
        (5, false, None),
        (12, true, None),
        (0, false, Some(Due::Drain)),
    ] {
        assert_eq!(weigh(queued), (over_high, due), "{queued}");
    }
}

#[test]
fn other_threads_are_told_how_much_waits() {
    let mut bench = Bench::open(ConnectionOptions { max_output: 10, ..ConnectionOptions::default() });
    let write = |bench: &Bench, len| bench.connection.remote.write(crate::data::Payload::Copied(vec![0; len]));
    write(&bench, 4).expect("it fits");
    assert_eq!(bench.connection.queued_or_posted(), 4);
    bench.write(b"abc");
    bench.connection.push(Data::File(file(100)), &mut bench.pool);
    assert_eq!(bench.connection.queued_or_posted(), 7);
    bench.connection.weigh();
    write(&bench, 3).expect("it just fits");
    assert_eq!(bench.connection.queued_or_posted(), 10);
    assert!(!bench.connection.remote.is_closed());
    let _ = write(&bench, 1);
    assert!(bench.connection.remote.is_closed(), "too much ends the connection");
}

#[test]
fn the_facts_excuse_a_peer_that_is_not_read_or_waits_for_an_answer() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let rules = bench.speak();
    let facts = |bench: &Bench| {
        let facts = bench.connection.facts();
        (facts.unread, facts.is_waited_for)
    };
    assert_eq!(facts(&bench), (false, false));
    bench.connection.note(READABLE);
    lock(&rules).is_waited_for = true;
    assert_eq!(facts(&bench), (true, true));
    bench.connection.end_input();
    assert_eq!(facts(&bench), (false, true));
    bench.connection.reason = Some(Box::new(Reason::Aborted));
    assert_eq!(facts(&bench), (false, false));
}
