//! Input that goes on to another connection.

use std::io;

use super::*;
use crate::connection::piping::Parcel;

/// A connection whose input goes to another one, which has these options.
fn piped(options: ConnectionOptions) -> (Bench, Bench) {
    let mut bench = Bench::open(ConnectionOptions { max_input: 8, ..ConnectionOptions::default() });
    bench.connection.begin_relay(Slot::from_bits(2 << 32));
    (bench, Bench::open(options))
}

/// Gives it a turn; returns the bytes that go on, and whether the end of the input does.
fn pass(bench: &mut Bench, other: &Bench) -> (Vec<u8>, bool) {
    let place = other.connection.place_at(0);
    let (_, parcel) = bench.connection.take_parcel(&mut bench.pool, &mut bench.arena, place, NOW);
    let bytes = match parcel {
        Some(Parcel::Memory(input)) => input.bytes(&bench.arena).to_vec(),
        Some(Parcel::Kernel(_)) => panic!("there is no socket"),
        None => Vec::new(),
    };
    (bytes, bench.connection.take_end())
}

#[test]
fn unread_input_goes_first_and_no_callback_gets_any() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"unread");
    bench.connection.settle(&bench.arena);
    bench.connection.begin_relay(Slot::from_bits(2 << 32));
    assert!(bench.connection.wants_read() && !bench.connection.has_due());
    bench.peer.push(b"more");
    let other = Bench::open(ConnectionOptions::default());
    assert_eq!(pass(&mut bench, &other), (b"unread".into(), false));
    assert_eq!(pass(&mut bench, &other), (b"more".into(), false));
    assert_eq!(pass(&mut bench, &other), (b"".into(), false));
    assert!(!bench.connection.wants_read() && !bench.connection.has_due());
}

#[test]
fn the_end_is_passed_on_once_and_then_told() {
    let (mut bench, other) = piped(ConnectionOptions::default());
    bench.peer.push(b"last");
    bench.peer.push_eof();
    bench.connection.note(FINISHED);
    assert_eq!(pass(&mut bench, &other), (b"last".into(), true));
    assert!(!bench.connection.take_end() && !bench.connection.wants_read());
    assert_eq!(bench.connection.take_due(), Some(Due::Eof));
}

#[test]
fn it_waits_while_the_other_one_has_output() {
    let (mut bench, mut other) = piped(ConnectionOptions::default());
    bench.peer.push(b"x");
    bench.connection.note(READABLE);
    assert!(other.connection.takes_parcels());
    other.write(b"waits");
    assert!(!other.connection.takes_parcels());
    bench.connection.hold_back();
    assert!(!bench.connection.wants_read());
    // Not even a reset overtakes what came before it.
    bench.peer.push_reset();
    bench.connection.note(FAILED);
    assert!(!bench.connection.wants_read() && !bench.connection.has_due());
    other.flush();
    assert!(other.connection.takes_parcels());
    bench.connection.flow_on();
    assert_eq!(pass(&mut bench, &other), (b"".into(), false));
    assert_eq!(bench.connection.take_due(), Some(Due::Close));
}

#[test]
fn its_own_output_does_not_pause_it_and_its_user_does() {
    let (mut bench, _) = piped(ConnectionOptions::default());
    let high = bench.connection.options.high_water;
    bench.write(&vec![0; high + 1]);
    bench.connection.weigh();
    assert!(bench.connection.is_over_high() && bench.connection.wants_read());
    bench.connection.pause();
    assert!(!bench.connection.wants_read());
    bench.connection.resume();
    assert!(bench.connection.wants_read());
}

#[test]
fn a_copy_stays_below_the_high_water_mark_of_the_other_one() {
    let high_water = 20 * 1024;
    let (mut bench, mut other) = piped(ConnectionOptions { high_water, low_water: 0, ..ConnectionOptions::default() });
    bench.connection.options = Arc::new(ConnectionOptions::default());
    bench.peer.push(&vec![1; 50 * 1024]);
    bench.connection.note(READABLE);
    let sizes: Vec<_> = (0..3).map(|_| pass(&mut bench, &other).0.len()).collect();
    assert_eq!(sizes, [high_water, high_water, 10 * 1024]);
    other.write(&vec![1; high_water]);
    other.connection.weigh();
    assert!(!other.connection.is_over_high());
}

#[test]
fn a_connection_that_cannot_write_takes_nothing() {
    let mut other = Bench::open(ConnectionOptions::default());
    other.connection.write_failed(io::Error::from_raw_os_error(libc::EPIPE), &mut other.pool);
    assert!(!other.connection.takes_parcels());
    let mut other = Bench::open(ConnectionOptions::default());
    other.connection.shut_write();
    assert!(!other.connection.takes_parcels());
}

#[test]
fn a_failed_write_leaves_the_input_that_came_to_be_passed_on() {
    let (mut bench, other) = piped(ConnectionOptions::default());
    bench.peer.push(b"answer");
    bench.connection.write_failed(io::Error::from_raw_os_error(libc::EPIPE), &mut bench.pool);
    assert_eq!(pass(&mut bench, &other), (b"answer".into(), false));
    assert_eq!(pass(&mut bench, &other), (b"".into(), false));
    assert_eq!(bench.connection.take_due(), Some(Due::Close));
}

#[test]
fn partners_are_the_two_connections_that_end_with_it() {
    let (mut bench, _) = piped(ConnectionOptions::default());
    let (to, from) = (Slot::from_bits(2 << 32), Slot::from_bits(3 << 32));
    assert_eq!(bench.connection.partners(), [Some(to), None]);
    bench.connection.feeder = Some(from);
    assert_eq!(bench.connection.partners(), [Some(to), Some(from)]);
    bench.connection.feeder = Some(to);
    assert_eq!(bench.connection.partners(), [Some(to), None]);
}
