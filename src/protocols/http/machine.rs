//! One HTTP connection: hands out requests, puts answers in their order, answers malformed requests.
//!
//! The rules of order (RFC 9112 section 9.3.2):
//!
//! * Requests are numbered as they are handed out. Answers go out by number, in whatever order they are given.
//! * The oldest answer that is due is written at once; parts of later answers wait, within `max_output`.
//! * While more than `high_water` bytes wait so, no further request is handed out.
//! * A refusal is an answer like any other: it follows the answers that are due, and the connection ends after it.
//! * After an answer that ends the connection no further request is handed out, and the answer says so (section 9.6).
//! * `100 Continue` goes out only while nothing else is due.

use std::any::Any;
use std::sync::Arc;

use super::access::Site;
use super::answer::{Answer, Piece};
use super::answers::{self, Answers, Place, Then};
use super::ledger::Ledger;
use super::limits::Limits;
use super::refusal::Refusal;
use super::requests::{Event, Requests, Sent};
use super::response::{Head, closing, error_answer};
use super::sink::Intake;
use crate::data::{Data, Held, Payload};
use crate::error::{Error, Foreign, Reason};
use crate::options::Rate;
use crate::protocols::{Closing, Protocol, Succession, Unfinished, Wire};

/// RFC 9110 section 15.2.1
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One HTTP connection: the requests that arrive, and the answers that are due.
pub struct Http {
    requests: Requests,
    answers: Answers,
    /// The reason with which the connection ends when the answers are given.
    reason: Option<Reason>,
    ledger: Ledger,
    /// The place that takes requests off the poller.
    pub(super) intake: Option<Box<Intake>>,
}

/// A part of an answer that another thread posts ([`crate::shared::remote::Remote::post`]).
pub struct Part {
    /// The number of the request.
    pub number: u64,
    /// The bytes of the part.
    pub parts: Vec<Payload>,
    /// The step after the part.
    pub then: Then,
}

/// The result of [`Http::keep_failure`].
pub enum Kept {
    /// The exception is kept: the connection ends with it after the answers that are due.
    Kept,
    /// The connection ends with an earlier exception; this one comes back.
    Other(Foreign),
    /// No answer is due: the caller ends the connection with the exception now.
    NothingDue(Foreign),
}

impl Http {
    /// With `streams`, a request is handed out as soon as its head has arrived, and its body in pieces.
    pub fn new(limits: Arc<Limits>, streams: bool) -> Self {
        let (requests, answers) = (Requests::new(limits, streams), Answers::default());
        Self { requests, answers, reason: None, ledger: Ledger::default(), intake: None }
    }

    /// Tells the wire of the time of each request from now on. No request may have been handed out.
    pub fn measure(&mut self) {
        self.ledger.measure();
    }

    /// Marks the end of each answer in the output from now on, by an [`super::Answered`].
    pub fn observe(&mut self) {
        self.ledger.observe();
    }

    /// Records each request and its answer from now on.
    pub fn record(&mut self, site: Site) {
        self.ledger.record(site);
    }

    /// From now on a request without a body is handed out whole, and its body not in pieces.
    pub fn keep_empty_whole(&mut self) {
        self.requests.keep_empty_whole();
    }

    // ---- requests -------------------------------------------------------------------------------------------------

    /// Hands out the next request, or a piece of the body of the last one, with the number of the request. Returns
    /// `None` if nothing may be handed out now.
    pub fn take<R>(&mut self, wire: &mut dyn Wire, show: impl FnOnce(u64, Event<'_>) -> R) -> Option<R> {
        if !self.has_news() {
            // A request that was found may wait for answers.
            return None;
        }
        if self.requests.take_continue() {
            self.look_on(wire);
            // Fails only if the connection is about to end.
            let _ = wire.write(Data::Bytes(CONTINUE));
            return None;
        }
        let time = self.ledger.now(wire);
        let (answers, ledger) = (&mut self.answers, &mut self.ledger);
        let taken = self.requests.take(wire.input(), |event| {
            let number = match &event {
                Event::Request { head, facts, .. } => {
                    let number = answers.expect(facts.is_head);
                    ledger.begin(number, head, time);
                    number
                }
                Event::Body(_) | Event::End => answers.last(),
            };
            show(number, event)
        });
        if let Some((value, done)) = taken {
            wire.consume(done);
            self.look_on(wire);
            return Some(value);
        }
        if let Some(refusal) = self.requests.take_refusal() {
            self.refuse(refusal, wire);
        }
        None
    }

    fn look_on(&mut self, wire: &mut dyn Wire) {
        if self.requests.finds_without_input() {
            return;
        }
        let done = self.requests.look(wire.input(), self.answers.load());
        if done > 0 {
            wire.consume(done);
        }
    }

    /// Refuses the input: the answers that are due go out first, then the answer of the refusal, then the connection
    /// ends.
    fn refuse(&mut self, refusal: Refusal, wire: &mut dyn Wire) {
        let is_of_input = self.requests.is_head(wire.input());
        let number = if self.requests.is_in_body() {
            // The refusal answers the request with the malformed body, unless that answer was begun.
            self.answers.last_untouched()
        } else {
            let number = self.answers.expect(false);
            self.ledger.begin(number, self.requests.refused(wire.input()), 0);
            Some(number)
        };
        self.requests.give_up();
        self.reason.get_or_insert(Reason::Protocol(refusal.into()));
        let Some(number) = number else { return self.end_at_last(wire) };
        let answer = error_answer(refusal, &wire.date(), is_of_input || self.answers.is_head(number));
        // Cannot be refused, because the number is that of the next or the last request.
        let _ = self.answer(number, [Data::Bytes(&answer)], Then::Close, wire);
    }

    /// The rest of the last request will not come: the connection ends after its answer, or after the given part of
    /// it.
    fn end_at_last(&mut self, wire: &mut dyn Wire) {
        self.requests.give_up();
        let last = self.answers.last();
        match self.answers.place(last) {
            Place::Never if self.answers.due() == 0 => self.close_answered(wire),
            Place::Never => self.answers.finishing = true,
            Place::Now | Place::Later => {
                let then = if self.answers.is_until_close(last) { Then::Cut } else { Then::Close };
                // Cannot be refused in this place.
                let _ = self.answer(last, [], then, wire);
            }
        }
    }

    /// The handler wants the body of a request: sends `100 Continue` if the peer waits for it.
    pub fn continue_body(&mut self, number: u64, wire: &mut dyn Wire) {
        self.requests.note_asked();
        if self.answers.last_untouched() == Some(number) && self.answers.due() == 1 {
            // Cannot fail: no part of the answer was given, and nothing has closed it.
            let _ = wire.write(Data::Bytes(CONTINUE));
        }
    }

    /// Whether the body of the last request is still to come or to be handed out, in pieces.
    pub(super) fn is_in_body(&self) -> bool {
        self.requests.is_in_body()
    }

    // ---- answers --------------------------------------------------------------------------------------------------

    /// Gives a whole answer to a request.
    pub fn respond(&mut self, answer: &mut Answer, head: Head, body: &[u8], wire: &mut dyn Wire) -> Result<(), Error> {
        let ready = answer.whole(head, body.len(), &wire.date())?;
        answer.give(&ready)?;
        let body = if ready.has_body { body } else { b"" };
        self.answer(answer.number(), [Data::Own(ready.head), Data::Bytes(body)], ready.then, wire)
    }

    /// Begins an answer; its body follows by [`Http::write`] and [`Http::end`].
    pub fn start(&mut self, answer: &mut Answer, head: Head, wire: &mut dyn Wire) -> Result<(), Error> {
        let ready = answer.beginning(head, &wire.date())?;
        answer.give(&ready)?;
        self.answer(answer.number(), [Data::Own(ready.head)], ready.then, wire)
    }

    /// Gives another piece of the body of an answer that was begun.
    pub fn write(&mut self, answer: &mut Answer, data: &[u8], wire: &mut dyn Wire) -> Result<(), Error> {
        let number = answer.number();
        match answer.piece(data.len())? {
            Piece::Counted => Ok(()),
            Piece::Plain => self.answer(number, [Data::Bytes(data)], Then::More, wire),
            Piece::Chunk(size) => {
                let parts = [size.as_bytes(), data, b"\r\n"].map(Data::Bytes);
                self.answer(number, parts, Then::More, wire)
            }
        }
    }

    /// Completes the body of an answer that was begun.
    pub fn end(&mut self, answer: &mut Answer, wire: &mut dyn Wire) -> Result<(), Error> {
        let (last, then) = answer.end()?;
        self.answer(answer.number(), [Data::Bytes(last)], then, wire)
    }

    /// Ends an answer for which the handler gives no more parts. The peer is told, unless the answer is complete.
    pub fn abandon(&mut self, answer: &mut Answer, wire: &mut dyn Wire) -> Result<(), Error> {
        let Some((last, then)) = answer.abandon(&wire.date()) else { return Ok(()) };
        self.answer(answer.number(), [Data::Own(last)], then, wire)
    }

    /// Writes an interim answer, unless the answer with this number was begun or has to wait for its turn.
    pub fn interim(&mut self, number: u64, head: &[u8], wire: &mut dyn Wire) {
        if self.answers.place(number) == Place::Now && !self.answers.has_begun() {
            // Fails only if the connection is about to end.
            let _ = wire.write(Data::Bytes(head));
        }
    }

    /// Takes a part of an answer: writes it if the answer's turn has come, otherwise keeps it. Returns
    /// [`Error::closed()`] if the answer is complete, or a refusal has taken its place.
    pub fn answer<'a>(
        &mut self,
        number: u64,
        parts: impl IntoIterator<Item = Data<'a>>,
        then: Then,
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        let place = self.answers.place(number);
        if then.is_of_last() && place != Place::Never {
            self.requests.end();
        }
        match place {
            Place::Never => {
                parts.into_iter().for_each(|part| release(part, wire));
                return Err(Error::closed());
            }
            Place::Later => {
                self.keep(number, parts, wire);
                if !then.is_more() {
                    self.answers.end(number, then);
                }
            }
            Place::Now => {
                let is_final = !self.answers.has_begun() && self.is_final(number, then, wire);
                let written = self.write_parts(parts, is_final, false, wire);
                self.answers.begin();
                written?;
                self.advance(then, wire);
            }
        }
        if then == Then::MoreUntilClose {
            self.answers.note_until_close(number);
        }
        Ok(())
    }

    /// Keeps a part of an answer. A part always fits if no output waits.
    fn keep<'a>(&mut self, number: u64, parts: impl IntoIterator<Item = Data<'a>>, wire: &mut dyn Wire) {
        let is_first = self.answers.is_empty() && wire.queued() == 0;
        for part in parts {
            if let Some(held) = self.answers.keep(number, part) {
                wire.release(held);
            }
        }
        self.answers.weigh(wire.high_water());
        if self.answers.held() + wire.queued() > wire.max_output() {
            if is_first {
                self.answers.exempt(number);
            } else {
                wire.overflow();
            }
        }
    }

    /// Whether the connection ends after an answer that is about to begin, although its head does not say so: an
    /// orderly end was asked for, and no later request was handed out.
    fn is_final(&self, number: u64, then: Then, wire: &dyn Wire) -> bool {
        number == self.answers.last()
            && (self.answers.finishing || wire.is_stopping())
            && matches!(then, Then::Next | Then::More)
    }

    /// Writes parts of the oldest answer. With `is_final` the first begins with the head of the last answer; with
    /// `is_exempt` they count toward no limit of the output.
    #[inline]
    fn write_parts<'a>(
        &mut self,
        parts: impl IntoIterator<Item = Data<'a>>,
        is_final: bool,
        is_exempt: bool,
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        let mut parts = parts.into_iter();
        let written = if is_final {
            self.write_final(&mut parts, is_exempt, wire)
        } else {
            self.write_each(&mut parts, is_exempt, wire)
        };
        if written.is_err() {
            // The wire has released the part that it refused, and these come after it.
            parts.for_each(|part| release(part, wire));
        }
        written
    }

    #[cold]
    fn write_final<'a>(
        &mut self,
        parts: &mut impl Iterator<Item = Data<'a>>,
        is_exempt: bool,
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        let Some(head) = parts.next() else { return Ok(()) };
        let head = self.say_close(head);
        self.write_each(&mut std::iter::once(head).chain(parts), is_exempt, wire)
    }

    #[inline]
    fn write_each<'a>(
        &mut self,
        parts: &mut impl Iterator<Item = Data<'a>>,
        is_exempt: bool,
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        let ledger = &mut self.ledger;
        parts.try_for_each(|part| {
            ledger.note(&part);
            if is_exempt { wire.write_exempt(part) } else { wire.write(part) }
        })
    }

    /// Has the head of the last answer say that the connection ends (RFC 9112 section 9.6).
    #[cold]
    fn say_close<'a>(&mut self, head: Data<'a>) -> Data<'a> {
        let said = match &head {
            Data::Bytes(bytes) => closing(bytes),
            Data::Own(bytes) => closing(bytes),
            Data::Held(_) | Data::File(_) | Data::Mark(_) | Data::Note(_) => None,
        };
        let Some(said) = said else { return head };
        self.answers.finishing = true;
        self.requests.end();
        Data::Own(said)
    }

    /// Makes the step after a part of the oldest answer. After its last part, the kept parts of the next answers
    /// follow.
    fn advance(&mut self, mut then: Then, wire: &mut dyn Wire) {
        let mut waits = false;
        while !then.is_more() {
            if then.is_half_way() {
                self.ledger.cut(self.answers.first());
            } else {
                self.ledger.end(self.answers.first(), wire);
            }
            waits |= self.requests.waits_for_answers(self.answers.load());
            self.answers.complete();
            match then {
                Then::Close | Then::Break => return self.close_answered(wire),
                Then::Cut => return wire.cut(),
                Then::Switch => self.requests.end(),
                Then::More | Then::MoreOfLast | Then::MoreUntilClose | Then::Next => {}
            }
            let (kept, next) = self.answers.advance();
            if self.answers.due() == 0 && self.answers.finishing {
                return self.close_answered(wire);
            }
            if let Some(kept) = kept
                && !self.write_kept(kept, next, wire)
            {
                return;
            }
            then = next;
        }
        if waits {
            // The next request may have waited for one of these answers.
            self.look_on(wire);
        }
    }

    /// Writes the parts of an answer that have waited for their turn. False if the wire takes no more.
    #[inline(never)]
    fn write_kept(&mut self, kept: answers::Kept, then: Then, wire: &mut dyn Wire) -> bool {
        if self.answers.is_crowded() {
            self.answers.weigh(wire.high_water());
        }
        let is_final = self.is_final(self.answers.first(), then, wire);
        self.write_parts(kept.parts.into_iter().map(Data::from), is_final, kept.is_exempt, wire).is_ok()
    }

    fn close_answered(&mut self, wire: &mut dyn Wire) {
        match self.reason.take() {
            Some(reason) => wire.fail(reason),
            None => wire.close(),
        }
    }

    /// Whether only the answer to this request is due, and the request has arrived whole.
    pub fn is_alone(&self, number: u64) -> bool {
        self.answers.due() == 1 && self.answers.last() == number && !self.requests.is_amid_body()
    }

    /// Keeps an exception of the handler until the earlier answers are given; the answer that reports the exception
    /// is not among them. With `waits`, it is also kept until an answer given on another thread has arrived.
    pub fn keep_failure(&mut self, raised: Foreign, waits: bool) -> Kept {
        if self.answers.due() <= usize::from(!waits) {
            return Kept::NothingDue(raised);
        }
        self.requests.forget();
        self.answers.finishing = true;
        if matches!(self.reason, Some(Reason::Raised(_))) {
            return Kept::Other(raised);
        }
        self.reason = Some(Reason::Raised(raised));
        Kept::Kept
    }
}

fn release(part: Data<'_>, wire: &mut dyn Wire) {
    if let Data::Held(held) = part {
        wire.release(held);
    }
}

impl Protocol for Http {
    fn look(&mut self, input: &mut [u8]) -> usize {
        self.requests.look(input, self.answers.load())
    }

    fn has_news(&self) -> bool {
        self.requests.has_news(self.answers.load()) && !self.is_full()
    }

    fn missing(&self, input: &[u8]) -> usize {
        self.requests.missing(input.len())
    }

    fn longest(&self) -> usize {
        self.requests.longest()
    }

    fn callback(&self) -> &'static &'static str {
        &"on_request"
    }

    fn forget(&mut self) {
        self.requests.forget();
    }

    /// EOF waits if a request has arrived that waits for earlier answers.
    fn holds_eof(&self, input: usize) -> bool {
        let waits = self.requests.waits_for_answers(self.answers.load()) || self.is_full();
        waits && (self.requests.has_found() || input > 0)
    }

    /// The peer has sent its whole request and waits for the answer.
    fn is_waited_for(&self) -> bool {
        self.answers.due() > 0 && !self.requests.is_amid_body()
    }

    fn is_busy(&self) -> bool {
        self.answers.due() > 0 || self.requests.is_amid_body()
    }

    #[inline]
    fn unfinished(&self) -> Option<Unfinished> {
        let (number, limits) = (self.answers.next(), self.requests.limits());
        match self.requests.unfinished()? {
            Sent::Head => Some(Unfinished { id: 2 * number, time: limits.head_timeout?, bytes_per_second: None }),
            Sent::Body => {
                let Rate { bytes_per_second, window } = limits.body_min_rate?;
                Some(Unfinished { id: 2 * number + 1, time: window, bytes_per_second: Some(bytes_per_second) })
            }
        }
    }

    /// RFC 9110 section 15.5.9
    fn took_too_long(&mut self, wire: &mut dyn Wire) {
        match self.requests.unfinished() {
            None => {}
            Some(Sent::Head) => self.refuse(Refusal::new(408, "a head that took longer than head_timeout"), wire),
            Some(Sent::Body) => self.refuse(Refusal::new(408, "a body that came slower than body_min_rate"), wire),
        }
    }

    fn is_ending(&self) -> bool {
        self.answers.finishing || self.reason.is_some()
    }

    fn take_reason(&mut self) -> Option<Reason> {
        self.reason.take()
    }

    /// After an exception no handler may be left to answer, so the peer gets an error answer, unless a part of the
    /// answer was written.
    fn closing(&mut self, why: Closing<'_>, wire: &mut dyn Wire) {
        if self.answers.is_until_close(self.answers.first()) {
            // The answer is not complete, and must not look so.
            return wire.cut();
        }
        if let Closing::Failed(Reason::Raised(_)) = why
            && self.answers.due() > 0
            && !self.answers.has_begun()
        {
            let is_head = self.answers.is_head(self.answers.first());
            let answer = Data::Own(error_answer(Refusal::no_answer(), &wire.date(), is_head));
            self.ledger.note(&answer);
            // Fails only if the write side is shut down, and then no peer waits for the answer.
            let _ = wire.write(answer);
            self.ledger.end(self.answers.first(), wire);
            self.answers.begin();
        }
    }

    fn kept(&self) -> usize {
        self.answers.held()
    }

    fn drop_output(&mut self, release: &mut dyn FnMut(Box<dyn Held>)) {
        self.answers.lose(release);
    }

    /// Closes in order after the answers that are due.
    fn finish(&mut self, wire: &mut dyn Wire) {
        if self.answers.due() == 0 {
            return wire.close();
        }
        if wire.has_eof() && self.requests.is_in_body() && !self.has_news() {
            // Otherwise the handler could wait for the rest of the body before it answers.
            return self.end_at_last(wire);
        }
        self.answers.finishing = true;
        self.requests.end();
    }

    fn drains(&self) -> bool {
        !self.answers.finishing
    }

    fn receive(&mut self, post: Box<dyn Any + Send>, wire: &mut dyn Wire) -> Option<Box<dyn Any + Send>> {
        let part = match post.downcast::<Part>() {
            Ok(part) => *part,
            Err(other) => return self.grant(other, wire),
        };
        // Fails if a refusal has answered the request meanwhile; `on_close` reports that.
        let _ = self.answer(part.number, part.parts.into_iter().map(Data::from), part.then, wire);
        None
    }

    fn delivers(&self) -> bool {
        self.intake.as_ref().is_some_and(|intake| intake.delivers)
    }

    fn deliver(&mut self, wire: &mut dyn Wire) {
        self.deliver_all(wire);
    }

    fn drained(&mut self) {
        if let Some(intake) = &self.intake {
            intake.sink.drained();
        }
    }

    fn may_hand_over(&self) -> Result<Succession, Error> {
        if self.answers.due() > 0 {
            return Err(Error::state(
                "answers are due, and would be lost: give them before hand_over() [GOEV604]".into(),
            ));
        }
        // RFC 9110 section 7.8: otherwise the rest of the request would be read as the other protocol.
        if self.requests.is_amid_request() {
            return Err(Error::state(
                "the stream is in the middle of a request, which has to come whole first [GOEV604]".into(),
            ));
        }
        Ok(Succession::Bytes)
    }
}
