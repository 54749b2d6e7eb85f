//! HTTP on a poller: requests are handed out, answers put in their order, refusals answered.

use super::{Data, Source, State, list_if_ready, open, queue_if_due};
use crate::clock::with_http_date;
use crate::connection::Connection;
use crate::error::{Error, Foreign, Reason};
use crate::http::{Event, Place, Refusal, Then, error_answer};
use crate::slots::Token;
use crate::websocket::{Farewell, GOING_AWAY};

/// RFC 9110 section 15.2.1
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl State {
    pub(super) fn take_request<R>(&mut self, token: Token, show: impl FnOnce(u64, Event<'_>) -> R) -> Option<R> {
        let connection = open(&mut self.sources, token)?;
        if connection.http()?.requests.take_continue() {
            connection.look(&mut self.arena);
            // It is open, so the write is not refused.
            let _ = self.write(token, Data::Bytes(CONTINUE));
            return None;
        }
        let value = connection.take_request(&mut self.arena, show);
        list_if_ready(connection, &mut self.ready, token);
        if value.is_none()
            && let Some(refusal) = connection.http()?.requests.take_refusal()
        {
            self.refuse_request(token, refusal);
        }
        value
    }

    /// What came is no request: the answers that are due go out, then one that says so, then the end.
    fn refuse_request(&mut self, token: Token, refusal: Refusal) {
        let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else { return };
        let number = if http.requests.is_in_body() {
            // The answer to the request whose body it is, if nobody has begun with one.
            http.answers.last_untouched()
        } else {
            Some(http.answers.expect())
        };
        http.requests.give_up();
        http.reason.get_or_insert(Reason::Http(refusal));
        let Some(number) = number else { return self.end_at_last(token) };
        let answer = with_http_date(|date| error_answer(refusal, date));
        // The number is the next or the last one, so there is a place for it.
        let _ = self.answer(token, number, [Data::Bytes(&answer)], Then::Close);
    }

    /// The rest of the last request will not come: the connection ends behind its answer, or where that has come to.
    fn end_at_last(&mut self, token: Token) {
        let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else { return };
        http.requests.give_up();
        let last = http.answers.last();
        match http.answers.place(last) {
            Place::Never if http.answers.due() == 0 => self.close_answered(token),
            Place::Never => http.answers.finishing = true,
            // There is a place for it.
            Place::Now | Place::Later => drop(self.answer(token, last, [], Then::Close)),
        }
    }

    /// Nobody may be left to answer: who waits is told so, unless a part of the answer went out.
    pub(super) fn answer_failure(&mut self, token: Token) {
        let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else { return };
        if http.answers.due() > 0 && !http.answers.has_begun() {
            let answer = with_http_date(|date| error_answer(Refusal::no_answer(), date));
            // It is open; where writing has ended nobody waits.
            let _ = self.write(token, Data::Bytes(&answer));
        }
    }

    /// The handler wants the body of a request whose peer waits to be asked for it.
    pub(super) fn continue_body(&mut self, token: Token, number: u64) {
        let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else { return };
        if http.answers.last_untouched() == Some(number) && http.answers.due() == 1 {
            // Nothing of the answer went out, and nothing has closed it.
            let _ = self.write(token, Data::Bytes(CONTINUE));
        }
    }

    /// Takes a part of an answer: writes it if it is its turn, else keeps it.
    pub(super) fn answer<'a>(
        &mut self,
        token: Token,
        number: u64,
        parts: impl IntoIterator<Item = Data<'a>>,
        then: Then,
    ) -> Result<(), Error> {
        let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else {
            self.refuse(parts);
            return Err(Error::Closed);
        };
        let place = http.answers.place(number);
        if then.is_of_last() && place != Place::Never {
            // RFC 9112 section 9.6: no further request may be processed.
            http.requests.end();
        }
        match place {
            // It was refused meanwhile, and the connection will end.
            Place::Never => {
                self.refuse(parts);
                Err(Error::Closed)
            }
            Place::Later => {
                self.keep_answer(token, number, parts);
                if !then.is_more() {
                    self.end_answer_later(token, number, then);
                }
                Ok(())
            }
            Place::Now => {
                http.answers.begin();
                self.write_parts(token, parts)?;
                self.advance(token, then);
                Ok(())
            }
        }
    }

    /// Keeps a part of an answer, which always fits where none is kept.
    fn keep_answer<'a>(&mut self, token: Token, number: u64, parts: impl IntoIterator<Item = Data<'a>>) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        let most = connection.options.max_output;
        let Some(http) = connection.http() else { return };
        let before = http.answers.held();
        for part in parts {
            match part {
                Data::Bytes(bytes) => http.answers.keep(number, bytes),
                Data::Own(bytes) => http.answers.keep(number, &bytes),
                Data::Held(held) => {
                    http.answers.keep(number, held.bytes());
                    self.pool.release(held);
                }
                // Nobody answers by a file.
                Data::File(_) => {}
            }
        }
        if before > 0 && http.answers.held() > most {
            self.overflow(token);
        }
    }

    fn end_answer_later(&mut self, token: Token, number: u64, then: Then) {
        if let Some(http) = open(&mut self.sources, token).and_then(Connection::http) {
            http.answers.end(number, then);
        }
    }

    /// After a part of the oldest answer: if it was the last one, those behind it that were given meanwhile follow.
    fn advance(&mut self, token: Token, mut then: Then) {
        let mut waits = false;
        while !then.is_more() {
            let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else { return };
            waits |= http.waits_for_answers();
            match then {
                Then::Close => return self.close_answered(token),
                Then::Cut => return self.close_cut(token),
                Then::Switch => http.requests.end(),
                Then::More | Then::MoreOfLast | Then::Next => {}
            }
            let (bytes, next) = http.answers.advance();
            if http.answers.due() == 0 && http.answers.finishing {
                return self.close_answered(token);
            }
            if !bytes.is_empty() && self.write_kept(token, bytes).is_err() {
                return;
            }
            then = next;
        }
        if waits {
            self.look_on(token);
        }
    }

    /// An answer was what the next request waited for, perhaps.
    fn look_on(&mut self, token: Token) {
        let Some(connection) = open(&mut self.sources, token) else { return };
        connection.look(&mut self.arena);
        list_if_ready(connection, &mut self.ready, token);
        queue_if_due(connection, &mut self.turns, token);
    }

    /// What was written goes out, then a reset.
    fn close_cut(&mut self, token: Token) {
        if let Some(connection) = open(&mut self.sources, token) {
            connection.cut = true;
        }
        self.close_because(token, Reason::Aborted);
    }

    fn close_answered(&mut self, token: Token) {
        let Some(http) = open(&mut self.sources, token).and_then(Connection::http) else { return };
        match http.reason.take() {
            Some(reason) => self.close_because(token, reason),
            None => self.close(token),
        }
    }

    /// As `fail`, but behind the answers that are due before the one that says so, and with `waits` behind one that is on its way.
    pub(super) fn fail_answered(&mut self, token: Token, raised: Foreign, waits: bool) -> Option<Foreign> {
        match open(&mut self.sources, token).and_then(Connection::http) {
            Some(http) if http.answers.due() > usize::from(!waits) => {
                http.requests.forget();
                http.answers.finishing = true;
                if matches!(http.reason, Some(Reason::Raised(_))) {
                    return Some(raised);
                }
                http.reason = Some(Reason::Raised(raised));
                None
            }
            _ => self.fail(token, raised),
        }
    }

    /// Closes in order, behind the answers that are due.
    pub(super) fn finish_connection(&mut self, token: Token) {
        if let Some(Source::Connection(connection)) = self.sources.get_mut(token)
            && let (eof, Some(http)) = (connection.eof, connection.http())
            && http.answers.due() > 0
        {
            if eof && http.requests.is_in_body() && !http.has_news() {
                // Who is to answer may wait for the rest of it.
                return self.end_at_last(token);
            }
            http.answers.finishing = true;
            return http.requests.end();
        }
        self.close_with(token, Farewell::new(GOING_AWAY));
    }
}
