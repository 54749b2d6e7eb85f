//! The wire that a protocol writes by.

use super::super::wire::{Ending, Line};
use super::*;
use crate::protocols::Wire;

/// A word for an end that was asked for.
fn end(ending: &Ending) -> &'static str {
    match ending {
        Ending::Close => "close",
        Ending::Fail(_) => "fail",
        Ending::Cut => "cut",
        Ending::Abort => "abort",
        Ending::Overflow => "overflow",
    }
}

/// Calls `work` with the wire of the connection; returns whether it wrote above the high-water mark, and the end that it
/// asked for.
fn call(bench: &mut Bench, work: impl FnOnce(&mut Line<'_>)) -> (bool, Option<&'static str>) {
    call_keeping(bench, 0, work)
}

/// As [`call`], for a protocol that keeps some bytes of output.
fn call_keeping(bench: &mut Bench, kept: usize, work: impl FnOnce(&mut Line<'_>)) -> (bool, Option<&'static str>) {
    let mut line = Line::new(&mut bench.connection, &mut bench.pool, &mut bench.arena);
    work(&mut line);
    let (is_high, ending) = line.outcome(|| kept);
    (is_high, ending.as_deref().map(end))
}

#[test]
fn a_wire_shows_the_input_and_its_end() {
    let mut bench = Bench::open(ConnectionOptions { max_output: 77, ..ConnectionOptions::default() });
    bench.come(b"abc");
    let outcome = call(&mut bench, |wire| {
        assert_eq!((wire.has_eof(), wire.max_output()), (false, 77));
        assert_eq!(wire.input(), b"abc");
        wire.input()[1] = b'B';
        wire.consume(1);
        assert_eq!(wire.input(), b"Bc");
    });
    assert_eq!(outcome, (false, None));
    bench.finish();
    call(&mut bench, |wire| assert!(wire.has_eof()));
}

#[test]
fn a_wire_has_the_date_and_bytes_that_nobody_can_foretell() {
    let mut bench = Bench::open(ConnectionOptions::default());
    call(&mut bench, |wire| {
        assert!(wire.date().ends_with(b" GMT"));
        let (first, second) = (wire.random().expect("random bytes"), wire.random().expect("random bytes"));
        assert_ne!(first, second);
    });
}

#[test]
fn everything_that_is_written_is_queued_in_order() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let outcome = call(&mut bench, |wire| {
        wire.write(Data::Bytes(b"ab")).expect("it is open");
        wire.write_exempt(Data::Bytes(b"cd")).expect("it is open");
    });
    assert_eq!(outcome, (false, None));
    assert_eq!(bench.flush(), Flushed::All);
    assert_eq!(bench.peer.take(), b"abcd");
}

#[test]
fn the_first_end_counts_and_nothing_is_written_behind_it() {
    type End = fn(&mut Line<'_>);
    let ends: [(End, &str); 5] = [
        (|wire| wire.close(), "close"),
        (|wire| wire.fail(Reason::Aborted), "fail"),
        (|wire| wire.cut(), "cut"),
        (|wire| wire.abort(), "abort"),
        (|wire| wire.overflow(), "overflow"),
    ];
    for (ask, name) in ends {
        let mut bench = Bench::open(ConnectionOptions::default());
        let outcome = call(&mut bench, |wire| {
            ask(wire);
            wire.close();
            wire.abort();
            let refused = wire.write(Data::Held(Box::new(Kept(vec![1]))));
            assert!(matches!(refused, Err(error) if error.is_closed()));
            assert!(matches!(wire.write_exempt(Data::Own(vec![1])), Err(error) if error.is_closed()));
        });
        assert_eq!(outcome, (false, Some(name)));
        assert_eq!((bench.connection.queued(), bench.pool.take_released().len()), (0, 1));

        let written = call(&mut bench, |wire| {
            wire.write(Data::Bytes(b"x")).expect("it is open");
            ask(wire);
        });
        assert_eq!((written, bench.connection.queued()), ((false, Some(name)), 1));
    }
}

#[test]
fn nothing_is_written_behind_the_end_of_the_output() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.end_output();
    let outcome = call(&mut bench, |wire| {
        assert!(matches!(wire.write(Data::Bytes(b"x")), Err(error) if error.is_closed()));
    });
    assert_eq!((outcome, bench.connection.queued()), ((false, None), 0));
}

#[test]
fn output_for_a_peer_that_is_gone_is_dropped_without_an_error() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.reason = Some(Box::new(Reason::Aborted));
    let outcome = call(&mut bench, |wire| {
        wire.write(Data::Held(Box::new(Kept(vec![1])))).expect("on_close will tell");
        wire.release(Box::new(Kept(vec![2])));
    });
    assert_eq!((outcome, bench.connection.queued()), ((false, None), 0));
    assert_eq!(bench.pool.take_released().len(), 2);
}

#[test]
fn one_write_fits_an_empty_queue_and_behind_others_no_more_than_max_output() {
    let options = || ConnectionOptions { max_output: 10, high_water: 10, low_water: 5, ..ConnectionOptions::default() };
    // Bytes that were queued before, that are written, that are let in past the limit, that the protocol keeps.
    for (before, written, exempt, kept, overflows) in [
        (0, 11, 0, 0, false),
        (1, 9, 0, 0, false),
        (1, 10, 0, 0, true),
        (5, 5, 6, 0, false),
        (5, 6, 6, 0, true),
        (4, 2, 100, 0, false),
        (1, 4, 0, 5, false),
        (1, 5, 0, 5, true),
        (0, 5, 0, 50, false),
        (1, 4, 100, 5, false),
        (1, 4, 100, 6, true),
    ] {
        let mut bench = Bench::open(options());
        if before > 0 {
            bench.write(&vec![0; before]);
        }
        let outcome = call_keeping(&mut bench, kept, |wire| {
            wire.write(Data::Own(vec![0; written])).expect("it is open");
            for part in [exempt / 2, exempt - exempt / 2] {
                wire.write_exempt(Data::Own(vec![0; part])).expect("it is open");
            }
        });
        let is_high = before + written + exempt > 10;
        assert_eq!(outcome, (is_high, overflows.then_some("overflow")), "{before} + {written} + {exempt} + {kept}");
    }
    // An overflow goes before the end that was asked for.
    let mut bench = Bench::open(options());
    bench.write(b"x");
    let outcome = call(&mut bench, |wire| {
        wire.write(Data::Own(vec![0; 20])).expect("it is open");
        wire.close();
    });
    assert_eq!(outcome, (true, Some("overflow")));
}
