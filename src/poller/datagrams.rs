//! Datagram sockets on their poller: the phases of a connection, with whole datagrams instead of a stream.

use std::os::fd::AsRawFd;

use mio::Interest;
use mio::unix::SourceFd;

use super::call::Call;
use super::queues::{Ending, Turn};
use super::state::{Deadline, REST, Source, State};
use super::token::mio_token;
use crate::error::{Error, Reason};
use crate::slots::Token;
use crate::sources::datagram::{DatagramSocket, Due, Ends, Opened};

impl State {
    pub(super) fn watch_datagrams(&mut self, opened: Opened) -> Result<Token, Error> {
        if self.stopping.is_some() {
            return Err(Error::stopped());
        }
        let fd = opened.socket.as_raw_fd();
        let token = self.sources.insert_with(|_| Source::Datagrams(Box::new(DatagramSocket::new(opened))));
        if let Err(error) = self.registry.register(&mut SourceFd(&fd), mio_token(token), Interest::READABLE) {
            self.sources.remove(token);
            return Err(Error::io("cannot watch the datagram socket")(error));
        }
        self.list_datagrams(token);
        Ok(token)
    }

    /// Notes that the poll reported input or an error.
    pub(super) fn note_datagrams(&mut self, token: Token) {
        if let Some(Source::Datagrams(socket)) = self.sources.get_mut(token) {
            socket.readable = true;
        }
        self.list_datagrams(token);
    }

    fn list_datagrams(&mut self, token: Token) {
        if let Some(Source::Datagrams(socket)) = self.sources.get_mut(token)
            && socket.readable
            && !socket.held
            && !socket.listed
        {
            socket.listed = true;
            self.queues.ready.push_back(token);
        }
    }

    /// Gives a socket its turn in the read phase.
    pub(super) fn receive_datagrams(&mut self, token: Token) {
        let landing = self.landing.get_or_insert_default();
        let Some(Source::Datagrams(socket)) = self.sources.get_mut(token) else { return };
        socket.listed = false;
        // Datagrams that are not read now stay in the kernel, which drops those above its limit.
        if !landing.is_full() && !socket.has_due() {
            self.handle.counters.bytes_in.add(socket.receive(landing) as u64);
            self.queues.filled.push(token);
        }
        if std::mem::take(&mut socket.short) {
            // Memory is short, so an attempt at once would fail too.
            let until = self.batch.now + REST.as_nanos() as u64;
            self.supplies.timers.set(until, 0, Deadline::Rest(token));
        }
        if socket.has_due() && !socket.queued {
            socket.queued = true;
            self.queues.turns.push_back(Turn::Datagrams(token));
        } else {
            // A socket with due callbacks is listed after them, so that other sockets find room first.
            self.list_datagrams(token);
        }
    }

    pub(super) fn call_datagrams(&mut self, token: Token) -> Option<Call> {
        let Some(Source::Datagrams(socket)) = self.sources.get_mut(token) else { return None };
        if socket.held {
            // It has had its turn in this batch, so its datagrams leave the buffer here.
            self.landing.iter().for_each(|landing| socket.settle(landing));
            return None;
        }
        let Some(due) = socket.take_due() else {
            socket.queued = false;
            self.list_datagrams(token);
            return None;
        };
        self.queues.turns.push_front(Turn::Datagrams(token));
        Some(match due {
            Due::Datagram(datagram) => Call::Datagram(token, datagram),
            Due::Error(error) => Call::DatagramError(token, error),
        })
    }

    pub(super) fn send_datagram(&mut self, token: Token, data: &[u8], to: Option<Ends>) -> Result<(), Error> {
        let Some(Source::Datagrams(socket)) = self.sources.get_mut(token) else { return Err(Error::closed()) };
        if socket.push(data, to) {
            self.flush_datagrams(token);
        } else if !socket.touched {
            socket.touched = true;
            self.queues.touched.push(token);
        }
        Ok(())
    }

    pub(super) fn flush_datagrams(&mut self, token: Token) {
        let Some(Source::Datagrams(socket)) = self.sources.get_mut(token) else { return };
        socket.touched = false;
        let (sent, dropped) = socket.flush();
        self.handle.counters.bytes_out.add(sent as u64);
        self.handle.counters.datagrams_dropped.add(dropped as u64);
        if socket.has_due() && !socket.queued {
            socket.queued = true;
            self.queues.turns.push_back(Turn::Datagrams(token));
        }
    }

    /// Sends the queued datagrams, then closes the socket; `on_close` follows in its turn.
    pub(super) fn close_datagrams(&mut self, token: Token, reason: Reason) -> Result<(), Reason> {
        self.flush_datagrams(token);
        match self.sources.get_mut(token) {
            Some(source @ Source::Datagrams(_)) => {
                if let Source::Datagrams(socket) = std::mem::replace(source, Source::Leaving) {
                    self.queues.endings.push(Ending::Leave(socket.socket));
                }
                self.queues.turns.push_back(Turn::Removed(token, reason));
                Ok(())
            }
            _ => Err(reason),
        }
    }
}
