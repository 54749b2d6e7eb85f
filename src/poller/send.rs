//! The flush phase: what was written goes out, one system call for each touched connection, and the water marks apply.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::unix::SourceFd;

use super::deadlines::set_guard;
use super::{Data, Source, State, list_if_ready, mio_token, open, queue_if_due, stream_interests, touch};
use crate::connection::{Flushed, Phase};
use crate::error::{Error, Reason};
use crate::group::{Broadcast, WhenBehind};
use crate::http::Then;
use crate::remote::{Payload, Remote};
use crate::slots::Token;

impl State {
    pub(super) fn flush_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for token in touched.drain(..) {
            self.flush_one(token);
        }
        // Those that go on in the next turn; the memory is used again.
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    fn flush_one(&mut self, token: Token) {
        let connection = match self.sources.get_mut(token) {
            Some(Source::Connection(connection)) => connection,
            Some(Source::Datagrams(_)) => return self.flush_datagrams(token),
            _ => return,
        };
        connection.touched = false;
        if connection.phase > Phase::Flushing {
            return;
        }
        if !connection.blocked {
            match connection.flush(&mut self.pool, self.batch.latest) {
                Ok(Flushed::All) => self.flushed(token),
                Ok(Flushed::Again) => touch(connection, &mut self.touched, token),
                Ok(Flushed::Blocked) => self.watch_writes(token),
                Err(error) => self.write_failed(token, error),
            }
        }
        self.weigh(token);
    }

    /// Everything is sent: now the end of the stream may follow.
    pub(super) fn flushed(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        if connection.phase == Phase::Flushing {
            let reason = connection.reason.take().map_or(Reason::Orderly, |reason| *reason);
            self.end(token, reason);
        } else if connection.write_shut {
            // Fails only when the peer is gone, which reading will tell.
            let _ = connection.socket.shutdown(Shutdown::Write);
        }
    }

    fn watch_writes(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        connection.blocked = true;
        if connection.guards.blocked(self.batch.latest) {
            set_guard(connection, &mut self.timers, token);
        }
        if connection.watches_writes {
            return;
        }
        connection.watches_writes = true;
        let fd = connection.socket.as_raw_fd();
        if let Err(error) = self.registry.reregister(&mut SourceFd(&fd), mio_token(token), stream_interests(true)) {
            self.end(token, Reason::Io(error));
        }
    }

    fn write_failed(&mut self, token: Token, error: io::Error) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        if connection.phase == Phase::Flushing {
            return self.end(token, Reason::Io(error));
        }
        connection.write_failed(error, &mut self.pool);
        list_if_ready(connection, &mut self.ready, token);
        queue_if_due(connection, &mut self.turns, token);
    }

    /// Applies the water marks after the queue changed.
    fn weigh(&mut self, token: Token) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(token) else { return };
        let was_over = connection.over_high;
        connection.weigh();
        if was_over && !connection.over_high {
            list_if_ready(connection, &mut self.ready, token);
            queue_if_due(connection, &mut self.turns, token);
        }
    }

    pub(super) fn write(&mut self, token: Token, data: Data<'_>) -> Result<(), Error> {
        self.write_parts(token, [data])
    }

    /// Queues parts of one whole: they count as a single write, which always fits where nothing waits.
    pub(super) fn write_parts<'a>(
        &mut self,
        token: Token,
        parts: impl IntoIterator<Item = Data<'a>>,
    ) -> Result<(), Error> {
        self.queue_output(token, parts, true)
    }

    /// Queues what has waited elsewhere: there it was bounded.
    pub(super) fn write_kept(&mut self, token: Token, bytes: Vec<u8>) -> Result<(), Error> {
        self.queue_output(token, [Data::Own(bytes)], false)
    }

    fn queue_output<'a>(
        &mut self,
        token: Token,
        parts: impl IntoIterator<Item = Data<'a>>,
        is_bounded: bool,
    ) -> Result<(), Error> {
        let Some(connection) = open(&mut self.sources, token).filter(|connection| !connection.write_shut) else {
            self.refuse(parts);
            return Err(Error::Closed);
        };
        if connection.cannot_write() {
            // The peer is gone; `on_close` will say so once the input is delivered.
            self.refuse(parts);
            return Ok(());
        }
        let before = connection.queued_memory() + connection.remote.posted();
        let output = connection.output.get_or_insert_with(|| self.pool.take());
        for part in parts {
            match part {
                Data::Bytes(bytes) => output.push_copy(bytes, &mut self.pool),
                Data::Own(bytes) => output.push_own(bytes, &mut self.pool),
                Data::Held(held) => output.push_held(held),
                Data::File(range) => output.push_file(range),
            }
        }
        let queued = output.len();
        let options = &connection.options;
        if is_bounded && before > 0 && connection.queued_memory() + connection.remote.posted() > options.max_output {
            self.overflow(token);
            return Ok(());
        }
        if queued <= options.high_water {
            touch(connection, &mut self.touched, token);
        } else {
            // The callback may have run for long.
            self.batch.latest = self.clock.now();
            self.flush_one(token);
        }
        Ok(())
    }

    /// Queues a message to the members of a group on this poller. Nothing is sent before the batch is over.
    pub(super) fn broadcast(&mut self, broadcast: &Broadcast) {
        let mut behind = Vec::new();
        broadcast.for_each(|token, bytes, when_behind| {
            let Some(connection) = open(&mut self.sources, token) else { return };
            if connection.write_shut || connection.cannot_write() {
                return;
            }
            let waiting = connection.queued() + connection.remote.posted();
            if waiting > connection.options.high_water {
                behind.extend((when_behind == WhenBehind::End).then_some(token));
                return;
            }
            let output = connection.output.get_or_insert_with(|| self.pool.take());
            output.push_shared(bytes.clone());
            touch(connection, &mut self.touched, token);
        });
        for token in behind {
            self.overflow(token);
        }
    }

    /// What is not sent still has to be dropped where its owner can be.
    pub(super) fn refuse<'a>(&mut self, parts: impl IntoIterator<Item = Data<'a>>) {
        for part in parts {
            if let Data::Held(held) = part {
                self.pool.release(held);
            }
        }
    }

    pub(super) fn write_posted(&mut self, to: &Arc<Remote>, payload: Payload) {
        to.arrived(payload.len());
        // When the connection has ended meanwhile, its `on_close` says so; the writer is gone on to other things.
        let _ = self.write(to.current(), payload.into());
    }

    pub(super) fn answer_posted(&mut self, to: &Arc<Remote>, number: u64, parts: Vec<Payload>, then: Then) {
        to.arrived(parts.iter().map(Payload::len).sum());
        // As above.
        let _ = self.answer(to.token, number, parts.into_iter().map(Data::from), then);
    }
}
