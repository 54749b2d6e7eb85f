//! The callback that is due in each state, and the ends of a connection.

use super::*;

#[test]
fn each_phase_has_its_callback_and_its_rights() {
    for (phase, due, is_open, is_alive) in [
        (Phase::Accepted, None, true, true),
        (Phase::New, Some(Due::Open), true, true),
        (Phase::Doomed, Some(Due::Open), false, true),
        (Phase::Open, None, true, true),
        (Phase::Flushing, None, false, true),
        (Phase::Ended, Some(Due::Close), false, false),
        (Phase::Lingering, None, false, false),
        (Phase::Gone, None, false, false),
    ] {
        let mut bench = Bench::in_phase(phase);
        let connection = &mut bench.connection;
        assert_eq!((connection.is_open(), connection.is_alive()), (is_open, is_alive), "{phase:?}");
        assert_eq!((connection.has_due(), connection.take_due()), (due.is_some(), due), "{phase:?}");
    }
}

#[test]
fn only_an_open_connection_has_a_callback_for_its_input_or_a_stop() {
    for phase in Phase::ALL {
        let mut bench = Bench::in_phase(phase);
        let before = bench.connection.due();
        bench.come(b"abc");
        bench.connection.set_stopping(true);
        bench.connection.drain_due = true;
        let due = if phase == Phase::Open { Some(Due::Stopping) } else { before };
        assert_eq!(bench.connection.due(), due, "{phase:?}");
    }
}

#[test]
fn callbacks_that_are_due_together_come_in_order_and_once() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    bench.finish();
    bench.connection.note(HUNG_UP);
    bench.connection.drain_due = true;
    bench.connection.set_stopping(true);
    for due in [Due::Stopping, Due::Drain, Due::Read, Due::Eof, Due::Close, Due::Close] {
        assert!(bench.connection.has_due());
        assert_eq!(bench.connection.take_due(), Some(due));
    }
}

#[test]
fn a_stop_that_is_taken_back_is_not_told() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.set_stopping(true);
    bench.connection.set_stopping(false);
    assert_eq!(bench.connection.take_due(), None);
}

#[test]
fn the_end_of_the_input_is_told_once_and_the_connection_stays_open() {
    let mut bench = Bench::open(ConnectionOptions::default());
    assert_eq!(bench.connection.take_due(), None);
    bench.finish();
    assert!(bench.connection.has_eof());
    assert_eq!(bench.connection.take_due(), Some(Due::Eof));
    assert!(bench.connection.has_eof());
    assert_eq!(bench.connection.take_due(), None);
    // The peer finished before; now our own side has, too.
    bench.connection.note(HUNG_UP);
    assert_eq!(bench.connection.take_due(), Some(Due::Close));
}

#[test]
fn an_error_ends_the_connection_when_its_input_is_delivered_and_without_on_eof() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    assert!(!bench.connection.cannot_write());
    bench.peer.push_reset();
    bench.connection.note(READABLE);
    assert_eq!(bench.read(), 0);
    assert!(bench.connection.cannot_write() && bench.connection.has_eof());
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
    assert_eq!(bench.connection.take_due(), Some(Due::Close));
}

#[test]
fn an_error_alone_is_not_the_end_of_the_input() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.reason = Some(Box::new(Reason::Aborted));
    bench.connection.note(HUNG_UP);
    assert_eq!(bench.connection.take_due(), None);
}

#[test]
fn a_pause_holds_input_and_its_end_back_unless_the_peer_is_gone() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    bench.finish();
    bench.connection.pause();
    assert!(bench.connection.is_paused());
    assert_eq!(bench.connection.take_due(), None);
    bench.connection.drain_due = true;
    assert_eq!(bench.connection.take_due(), Some(Due::Drain));
    bench.connection.note(HUNG_UP);
    assert!(!bench.connection.is_paused());
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
}

#[test]
fn output_above_the_high_water_mark_pauses_if_the_options_say_so() {
    for (over_high, auto_pause, paused, is_paused) in [
        (false, true, false, false),
        (true, true, false, true),
        (true, false, false, false),
        (true, false, true, true),
        (false, false, true, true),
    ] {
        let mut bench = Bench::open(ConnectionOptions { auto_pause, ..ConnectionOptions::default() });
        (bench.connection.over_high, bench.connection.paused) = (over_high, paused);
        assert_eq!((bench.connection.is_over_high(), bench.connection.is_paused()), (over_high, is_paused));
    }
}

#[test]
fn a_protocol_decides_on_callbacks_for_its_input_and_may_hold_the_end_back() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let rules = bench.speak();
    bench.come(b"abc");
    assert_eq!(bench.connection.take_due(), None);
    lock(&rules).has_news = true;
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
    lock(&rules).has_news = false;
    bench.finish();
    lock(&rules).holds_eof = true;
    assert_eq!(bench.connection.take_due(), None);
    lock(&rules).holds_eof = false;
    assert_eq!(bench.connection.take_due(), Some(Due::Eof));
    assert_eq!(bench.connection.take_due(), None);
    lock(&rules).holds_eof = true;
    bench.connection.note(HUNG_UP);
    assert_eq!(bench.connection.take_due(), Some(Due::Close));
}

#[test]
fn a_part_follows_the_last_one_at_once_if_it_would_be_next_anyway() {
    let taken = |consumed: usize, change: fn(&mut Connection)| {
        let mut bench = Bench::open(ConnectionOptions::default());
        let rules = bench.speak();
        lock(&rules).has_news = true;
        bench.come(b"abc");
        assert_eq!(bench.connection.take_due(), Some(Due::Read));
        bench.consume(consumed);
        change(&mut bench.connection);
        let follows = bench.connection.take_news();
        if !follows {
            // Nothing has changed: the usual way decides.
            assert_eq!(bench.connection.offered, 3);
        }
        (follows, follows && bench.connection.take_news())
    };
    // The second part has taken nothing.
    assert_eq!(taken(1, |_| {}), (true, false));
    // A part that took nothing may be a broken rule.
    assert_eq!(taken(0, |_| {}), (false, false));
    assert_eq!(taken(1, Connection::pause), (false, false));
    assert_eq!(taken(1, |connection| connection.drain_due = true), (false, false));
    assert_eq!(taken(1, |connection| connection.stopping_due = true), (false, false));
    assert_eq!(taken(1, |connection| _ = connection.step(Event::Close)), (false, false));
    assert_eq!(taken(1, |connection| _ = connection.step(Event::End)), (false, false));

    let mut bytes = Bench::open(ConnectionOptions::default());
    bytes.come(b"abc");
    assert_eq!(bytes.connection.take_due(), Some(Due::Read));
    bytes.consume(1);
    assert!(!bytes.connection.take_news(), "on_read has its own rules");
}

#[test]
fn on_read_comes_again_while_it_consumes_something_and_input_remains() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.come(b"abc");
    for (consumed, due) in [(1, Some(Due::Read)), (1, Some(Due::Read)), (0, None)] {
        assert_eq!(bench.connection.take_due(), Some(Due::Read));
        bench.consume(consumed);
        assert!(bench.connection.settle_callback().is_none());
        assert_eq!(bench.connection.due(), due);
    }
    bench.come(b"d");
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
    bench.consume(2);
    assert!(bench.connection.settle_callback().is_none());
    assert_eq!((bench.connection.due(), bench.connection.news), (None, false));
}

#[test]
fn an_on_read_that_consumes_nothing_of_full_input_is_an_overflow() {
    let full = || {
        let mut bench = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
        assert_eq!(bench.come(b"abcdef"), 4);
        assert_eq!(bench.connection.take_due(), Some(Due::Read));
        bench
    };
    let mut bench = full();
    let reason = bench.connection.settle_callback().map(|reason| *reason);
    assert!(matches!(reason, Some(Reason::InputOverflow { limit: 4 })));
    // Only on_read is asked, and only once.
    assert!(bench.connection.settle_callback().is_none());

    let mut paused = full();
    paused.connection.pause();
    assert!(paused.connection.settle_callback().is_none());

    let mut closed = full();
    closed.connection.step(Event::Close);
    assert!(closed.connection.settle_callback().is_none());

    let mut consuming = full();
    consuming.consume(1);
    assert!(consuming.connection.settle_callback().is_none());

    let mut with_room = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
    with_room.come(b"abc");
    assert_eq!(with_room.connection.take_due(), Some(Due::Read));
    assert!(with_room.connection.settle_callback().is_none());
}

#[test]
fn a_protocol_may_leave_full_input() {
    let mut bench = Bench::open(ConnectionOptions { max_input: 4, ..ConnectionOptions::default() });
    let rules = bench.speak();
    lock(&rules).has_news = true;
    bench.come(b"abcd");
    assert_eq!(bench.connection.take_due(), Some(Due::Read));
    assert!(bench.connection.settle_callback().is_none());
}

#[test]
fn a_broken_rule_ends_the_connection_when_no_pause_holds_it_back() {
    let mut bench = Bench::open(ConnectionOptions::default());
    let rules = bench.speak();
    assert!(bench.connection.settle_callback().is_none());
    lock(&rules).is_broken = true;
    bench.connection.pause();
    assert!(bench.connection.settle_callback().is_none());
    bench.connection.resume();
    assert_eq!(bench.connection.settle_callback().as_deref().map(word), Some("protocol"));
}

#[test]
fn the_reason_that_is_told_is_an_exception_or_a_limit_before_all_others() {
    let io = || Reason::Io(std::io::ErrorKind::BrokenPipe.into());
    for (known, given, answered, told, untold) in [
        (None, None, None, "orderly", None),
        (None, Some(Reason::Aborted), None, "aborted", None),
        (Some(io()), None, None, "io", None),
        (Some(io()), Some(Reason::Aborted), None, "aborted", None),
        (Some(raised()), Some(Reason::Aborted), None, "raised", None),
        (Some(expired()), None, Some(raised()), "expired", Some("raised")),
        (Some(raised()), None, Some(Reason::Aborted), "raised", Some("aborted")),
        (Some(io()), Some(Reason::Aborted), Some(raised()), "raised", None),
        (None, None, Some(expired()), "expired", None),
        (None, Some(Reason::Aborted), Some(io()), "aborted", None),
        (None, None, Some(io()), "orderly", None),
    ] {
        let mut bench = Bench::open(ConnectionOptions::default());
        let rules = bench.speak();
        lock(&rules).reason = answered;
        bench.connection.reason = known.map(Box::new);
        let (first, second) = bench.connection.take_reason(given);
        assert_eq!((word(&first), second.as_ref().map(word)), (told, untold));
        assert!(bench.connection.reason.is_none());
    }
}

#[test]
fn a_new_handler_begins_with_the_input_that_waits_and_with_its_own_pauses() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.speak();
    bench.come(b"abc");
    bench.finish();
    bench.connection.input_end = InputEnd::Told;
    bench.connection.pause();
    bench.connection.drain_due = true;
    bench.connection.places = Places { listed: true, queued: true, touched: true, ..Places::default() };
    let successor = remote(&bench.connection.options);
    bench.connection.hand_over(successor.clone(), Succession::Same);
    let connection = &mut bench.connection;
    assert!(Arc::ptr_eq(&connection.remote, &successor) && connection.protocol().is_some());
    assert_eq!((connection.phase(), connection.is_paused()), (Phase::New, false));
    assert!(!connection.places.listed && !connection.places.queued && !connection.places.touched);

    bench.connection.step(Event::Open);
    bench.connection.hand_over(successor, Succession::Bytes);
    assert!(bench.connection.protocol().is_none());
    for due in [Some(Due::Open), Some(Due::Read), Some(Due::Eof), None] {
        assert_eq!(bench.connection.take_due(), due);
    }
}

#[test]
fn an_old_remote_knows_the_current_token_and_keeps_no_remote_alive() {
    let options = ConnectionOptions::default();
    let named = |n: u64| {
        let first = remote(&options);
        Remote::new(first.location.shared_poller(), Slot::from_bits(n << 32), first.peer(), &options)
    };
    let (old, mut current, mut passed) = (named(1), named(1), Vec::new());
    old.hand_over(&current);
    for n in 2..10 {
        let next = named(n);
        current.hand_over(&next);
        passed.push(Arc::downgrade(&current));
        current = next;
        assert_eq!((old.current(), current.current()), (current.token(), current.token()));
    }
    assert!(passed.iter().all(|passed| passed.upgrade().is_none()));
}

#[test]
fn a_new_handler_is_not_called_for_input_that_is_not_there() {
    let mut bench = Bench::open(ConnectionOptions::default());
    bench.connection.news = true;
    let successor = remote(&bench.connection.options);
    bench.connection.hand_over(successor, Succession::Bytes);
    assert_eq!((bench.connection.take_due(), bench.connection.take_due()), (Some(Due::Open), None));
    assert!(!bench.connection.news && !bench.connection.has_eof());
}

#[test]
fn output_that_was_dropped_or_marked_is_a_cut() {
    let mut bench = Bench::open(ConnectionOptions::default());
    assert!(!bench.connection.is_cut());
    bench.connection.mark_cut();
    assert!(bench.connection.is_cut());
}

#[test]
fn a_protocol_can_be_taken_out_and_put_back() {
    let mut bench = Bench::open(ConnectionOptions::default());
    assert!(bench.connection.protocol().is_none());
    let rules = bench.speak();
    assert_eq!(lock(&rules).looks, [b""]);
    let protocol = bench.connection.take_protocol().expect("it has one");
    assert!(bench.connection.protocol().is_none());
    bench.connection.put_protocol(protocol);
    assert!(bench.connection.protocol().is_some());
}

#[test]
fn a_connection_keeps_its_permit_as_long_as_it_lives() {
    let options = crate::options::AdmissionOptions { max_connections: Some(1), ..Default::default() };
    let gate = crate::shared::admission::Admission::new(options, None, || {});
    let Bench { connection, .. } = Bench::unopened(ConnectionOptions::default());
    let connection = connection.with_permit(gate.reserve().and_then(|room| room.admit(None)).expect("there is room"));
    assert!(gate.reserve().is_none());
    drop(connection);
    assert!(gate.reserve().is_some());
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 240, "{}", size_of::<Connection>());
}
