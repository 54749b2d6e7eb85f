//! TLS that begins amid a conversation (STARTTLS): the connection stays, and its transport changes.
//!
//! Until the handshake is over, the connection's output waits as if the socket were full, and no input arrives.

use std::io;

use super::state::{Deadline, State};
use crate::connection::Connection;
use crate::connection::phase::Phase;
use crate::connection::transport::Upgrade;
use crate::error::{Error, Foreign, Reason};
use crate::slots::Token;
use crate::tls::Failure;
use crate::tls::stream::Stream;

impl State {
    /// Begins TLS on a connection of plain bytes. The dispatch gets `done` when the handshake is over.
    pub(super) fn start_tls(
        &mut self,
        token: Token,
        stream: Stream,
        done: Option<Foreign>,
    ) -> Result<(), (Error, Option<Foreign>)> {
        if let Err(error) = self.check_upgrade(token) {
            return Err((error, done));
        }
        self.with_open(token, |connection, supplies| {
            let limit = connection.options.handshake_timeout;
            let until = supplies.clock.now().saturating_add(limit.as_nanos() as u64);
            let deadline = supplies.timers.set(until, 0, Deadline::Handshake(token));
            connection.begin_upgrade(stream, Upgrade { deadline, done });
        });
        self.watch_writes(token);
        Ok(())
    }

    /// Sends the output that waits, and returns an error unless TLS can begin now.
    fn check_upgrade(&mut self, token: Token) -> Result<(), Error> {
        let is_open = |connection: &&Connection| connection.phase() == Phase::Open && connection.takes_output();
        let connection = self.open(token).filter(is_open).ok_or_else(Error::closed)?;
        if !connection.transport.is_plain() {
            return Err(Error::state(
                "TLS has begun on this connection already, or its peer is in memory [GOEV705]".into(),
            ));
        }
        if connection.protocol().is_some_and(|protocol| !protocol.allows_bytes()) {
            return Err(Error::state("TLS cannot begin amid the protocol of this connection [GOEV705]".into()));
        }
        if connection.holds_input() {
            let text =
                "input has come that was not read: bytes from before TLS must not count as protected by it [GOEV705]";
            return Err(Error::state(text.into()));
        }
        self.batch.latest = self.supplies.clock.now();
        self.flush_one(token);
        let connection = self.open(token).ok_or_else(Error::closed)?;
        match connection.waiting() {
            0 => Ok(()),
            waiting => {
                let text = format!(
                    "{waiting} bytes of output wait to be sent; begin TLS when they are, in on_drain say [GOEV705]"
                );
                Err(Error::state(text))
            }
        }
    }

    /// Goes on with the handshake of a connection, and lets it go on when that is over.
    pub(super) fn go_on_upgrading(&mut self, token: Token) {
        let shaken = self.with(token, |connection, _| {
            connection.places.listed = false;
            connection.shake_hands()
        });
        match shaken {
            Some(Ok(upgrade)) => {
                self.supplies.timers.cancel(upgrade.deadline);
                if let Some(done) = upgrade.done {
                    self.queues.push_task(done);
                }
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Some(Err(error)) => self.fail_upgrade(token, error),
            None => {}
        }
    }

    /// Ends a connection whose handshake has used up its time.
    pub(super) fn upgrade_timed_out(&mut self, token: Token) {
        self.go_on_upgrading(token);
        let limit = self.connection(token).filter(|connection| connection.transport.is_upgrading());
        if let Some(limit) = limit.map(|connection| connection.options.handshake_timeout) {
            self.fail_upgrade(token, Failure::Timeout(limit).into());
        }
    }

    fn fail_upgrade(&mut self, token: Token, error: io::Error) {
        let upgrade = self.with(token, |connection, _| connection.transport.end_upgrade()).flatten();
        if let Some(upgrade) = upgrade {
            self.supplies.timers.cancel(upgrade.deadline);
            if let Some(done) = upgrade.done {
                // Its owner has ended when its turn comes, so it is dropped and not called.
                self.queues.push_task(done);
            }
        }
        self.end(token, Reason::Io(error));
    }
}
