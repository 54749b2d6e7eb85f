//! The flush phase: sends output, one system call for each touched connection, and applies the water marks.

use std::io;
use std::sync::Arc;

use super::deadlines::set_guard;
use super::state::{Source, State};
use super::token::mio_token;
use crate::connection::buffer::Pool;
use crate::connection::phase::Phase;
use crate::connection::{Connection, Flushed};
use crate::data::{Data, Payload};
use crate::error::{Error, Reason};
use crate::shared::group::{Broadcast, WhenBehind};
use crate::shared::remote::Remote;
use crate::slots::Token;

/// The step that follows a flush.
enum Next {
    Nothing,
    /// A closed connection has sent everything.
    End,
    /// A closed connection cannot send the rest.
    Fail(io::Error),
    /// The poll has to watch for room.
    Watch,
    /// The connection whose input comes here may be read again.
    Feed(Token),
}

/// The result of queuing output.
enum Queued {
    /// The queue is at most at the high-water mark.
    Low,
    /// The queue is above the high-water mark.
    High,
    /// The queue exceeds `max_output`.
    TooMuch,
}

impl Queued {
    /// The result of a write to a connection that had `before` bytes of output. A write always fits if the queue was
    /// empty.
    #[inline(always)]
    fn of(connection: &Connection, before: usize) -> Self {
        let options = &connection.options;
        if before > 0 && connection.queued_or_posted() > options.max_output {
            Self::TooMuch
        } else if connection.queued() > options.high_water {
            Self::High
        } else {
            Self::Low
        }
    }
}

/// The result of a message for a member of a group.
enum Offered {
    Taken,
    /// Its output is above the high-water mark.
    Full,
    /// It takes no output any more.
    Closing,
}

impl State {
    pub(super) fn flush_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.queues.touched);
        for token in touched.drain(..) {
            self.flush_one(token);
        }
        // Connections that flush again in the next turn; the memory is used again.
        touched.append(&mut self.queues.touched);
        self.queues.touched = touched;
    }

    pub(super) fn flush_one(&mut self, token: Token) {
        let now = self.batch.latest;
        let next = self.with(token, |connection, supplies| {
            connection.places.touched = false;
            if connection.phase() > Phase::Flushing {
                return Next::Nothing;
            }
            let mut next = Next::Nothing;
            if !connection.is_blocked() {
                let closes = connection.phase() == Phase::Flushing;
                match connection.flush(&mut supplies.pool, now) {
                    Ok(Flushed::All) if closes => next = Next::End,
                    Ok(Flushed::All) => {
                        connection.shut_if_due();
                        next = connection.feeder.map_or(Next::Nothing, Next::Feed);
                    }
                    Ok(Flushed::Again) => {}
                    Ok(Flushed::Blocked) => {
                        if connection.guards.blocked(now) {
                            set_guard(connection, &mut supplies.timers, token);
                        }
                        if connection.block() {
                            next = Next::Watch;
                        }
                    }
                    Err(error) if closes => next = Next::Fail(error),
                    Err(error) => connection.write_failed(error, &mut supplies.pool),
                }
            }
            connection.weigh();
            next
        });
        if self.supplies.pool.has_passed() {
            self.pass_marks(token);
        }
        match next {
            Some(Next::End) => {
                let known = self.with(token, |connection, _| connection.reason.take()).flatten();
                self.end(token, known.map_or(Reason::Orderly, |reason| *reason));
            }
            Some(Next::Fail(error)) => self.end(token, Reason::Io(error)),
            Some(Next::Watch) => self.watch_writes(token),
            Some(Next::Feed(feeder)) => self.feed(feeder),
            Some(Next::Nothing) => {}
            None => self.flush_datagrams(token),
        }
    }

    /// Queues the marks whose output was sent.
    #[cold]
    fn pass_marks(&mut self, token: Token) {
        let marks = self.supplies.pool.take_passed();
        self.queues.passed.extend(marks.into_iter().map(|mark| (token, mark)));
    }

    pub(super) fn watch_writes(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        if let Err(error) = connection.transport.reregister(&self.registry, mio_token(token), true) {
            self.with(token, |connection, _| connection.unwatch_writes());
            self.end(token, Reason::Io(error));
        }
    }

    /// Sends output above the high-water mark at once, because the callback may run for long.
    pub(super) fn flush_above_high_water(&mut self, token: Token) {
        if self.open(token).is_some_and(|connection| connection.queued() > connection.options.high_water) {
            self.batch.latest = self.supplies.clock.now();
            self.flush_one(token);
        }
    }

    /// Queues output.
    pub(super) fn write(&mut self, token: Token, data: Data<'_>) -> Result<(), Error> {
        self.queue(token, data, |data, connection, pool| connection.push(data, pool), |data, pool| pool.refuse(data))
    }

    /// Queues a copy of each part. They count as a single write.
    pub(super) fn write_copies(&mut self, token: Token, parts: [&[u8]; 3]) -> Result<(), Error> {
        self.queue(token, parts, |parts, connection, pool| connection.push_copies(parts, pool), |_, _| {})
    }

    /// Queues several parts. They count as a single write, which always fits if the queue is empty.
    pub(super) fn write_parts<'a>(
        &mut self,
        token: Token,
        parts: impl IntoIterator<Item = Data<'a>>,
    ) -> Result<(), Error> {
        self.queue(
            token,
            parts,
            |parts, connection, pool| parts.into_iter().for_each(|part| connection.push(part, pool)),
            |parts, pool| parts.into_iter().for_each(|part| pool.refuse(part)),
        )
    }

    /// Has `push` queue output, as a single write. If the connection takes none, `refuse` gets it instead: the owner of held
    /// bytes can be dropped only by the dispatch.
    #[inline(always)]
    fn queue<T>(
        &mut self,
        token: Token,
        output: T,
        push: impl FnOnce(T, &mut Connection, &mut Pool),
        refuse: impl FnOnce(T, &mut Pool),
    ) -> Result<(), Error> {
        let (supplies, connection) = match self.sources.get_mut(token) {
            Some(Source::Connection(connection)) if connection.is_open() && connection.takes_output() => {
                (&mut self.supplies, connection)
            }
            _ => {
                refuse(output, &mut self.supplies.pool);
                return Err(Error::closed());
            }
        };
        if connection.cannot_write() {
            // The peer is gone; `on_close` reports that after the input is delivered.
            refuse(output, &mut supplies.pool);
            return Ok(());
        }
        let before = connection.queued_or_posted();
        push(output, connection, &mut supplies.pool);
        let queued = Queued::of(connection, before);
        self.queues.place(token, connection);
        match queued {
            Queued::Low => {}
            Queued::High => self.flush_above_high_water(token),
            Queued::TooMuch => self.overflow(token),
        }
        Ok(())
    }

    /// Queues a message for the members of a group on this poller. It is sent when the batch is over.
    pub(super) fn broadcast(&mut self, broadcast: &Broadcast) {
        let (mut full, mut sent, mut skipped) = (Vec::new(), 0, 0);
        broadcast.for_each(|token, bytes| {
            if let Some(Source::Expected(expected)) = self.sources.get(token) {
                // It joined on its way here: the message goes behind it.
                sent += u64::from(expected.remote.write(Payload::Copied(bytes.to_vec())).is_ok());
                return;
            }
            match self.offer(token, bytes, false) {
                Offered::Taken => sent += 1,
                Offered::Full => full.push(token),
                Offered::Closing => {}
            }
        });
        // Without the lock of the members, because a flush may end connections.
        for token in full {
            // The messages of this batch alone may have filled the output of a peer that is not behind.
            self.flush_above_high_water(token);
            match self.offer(token, &broadcast.bytes, true) {
                Offered::Taken => sent += 1,
                Offered::Full => {
                    skipped += 1;
                    if broadcast.when_behind == WhenBehind::End {
                        self.overflow(token);
                    }
                }
                Offered::Closing => {}
            }
        }
        self.handle.counters.group_sent.add(sent);
        self.handle.counters.group_skipped.add(skipped);
    }

    /// Queues a message for a member, unless its output is above the high-water mark. A flush sends so much at most, so after
    /// one the member may be above the mark as long as its socket takes more.
    fn offer(&mut self, token: Token, bytes: &Arc<[u8]>, is_flushed: bool) -> Offered {
        let offered = self.with_open(token, |connection, supplies| {
            if !connection.takes_output() || connection.cannot_write() {
                return Offered::Closing;
            }
            let options = &connection.options;
            let most = if is_flushed && !connection.is_blocked() { options.max_output } else { options.high_water };
            if connection.queued() + connection.remote.posted() > most {
                return Offered::Full;
            }
            let output = connection.output.get_or_insert_with(|| supplies.pool.take());
            output.push_shared(bytes.clone());
            Offered::Taken
        });
        offered.unwrap_or(Offered::Closing)
    }

    pub(super) fn write_posted(&mut self, to: &Arc<Remote>, payload: Payload) {
        to.arrived(payload.len());
        // If the connection has ended meanwhile, `on_close` reports that; the writer cannot be told here.
        let _ = self.write(to.current(), payload.into());
    }
}
