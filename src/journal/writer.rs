//! The thread of a journal: takes the records of all lanes, makes lines, appends them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::records::{Records, each_of};
use super::shared::Shared;
use super::target::Target;
use crate::recorder::{Render, Time};
use crate::system::clock;

/// Bytes of lines that are written at once.
const BATCH: usize = 64 * 1024;
/// Nanoseconds between two reports of lost lines.
const TOLD_EVERY: u64 = 60_000_000_000;

/// Says that lines were lost. Called on the writer's thread.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    target: Target,
    render: Box<dyn Render>,
    tell: Tell,
    /// Lines that wait to be appended, and the bytes that their records count for.
    lines: Vec<u8>,
    of_records: usize,
    /// Memory for the next exchange with a lane.
    spare: Vec<u8>,
    /// Lost lines that were reported, and the time of the report; 0 for never.
    told: (u64, u64),
    /// The last failure of the file.
    failure: Option<String>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, target: Target, render: Box<dyn Render>, tell: Tell) -> Self {
        let (lines, spare, told) = (Vec::new(), Vec::new(), (0, 0));
        Self { shared, target, render, tell, lines, of_records: 0, spare, told, failure: None }
    }

    pub fn run(mut self) {
        loop {
            let (asked, is_closing) = self.shared.wait();
            self.write_all();
            self.report();
            if is_closing {
                self.count_torn();
                // The file is closed before anybody hears of the end, and may open or remove it.
                let Self { shared, target, .. } = self;
                drop(target);
                return tell_progress(&shared, asked, true);
            }
            tell_progress(&self.shared, asked, false);
        }
    }

    /// Writes everything that waits in the lanes.
    fn write_all(&mut self) {
        self.change();
        let lanes: Vec<Arc<Records>> = self.shared.lanes().clone();
        let zero = clock::wall_nanos().saturating_sub(self.shared.clock.now());
        let time = Time { zero, east: clock::east_of_utc() };
        for lane in lanes {
            let records = lane.take(std::mem::take(&mut self.spare));
            for (record, len) in each_of(&records) {
                self.render.render(record, time, &mut self.lines);
                self.of_records += len;
                if self.lines.len() >= BATCH {
                    self.append();
                }
            }
            self.spare = records;
        }
        // Also completes a line that is torn.
        self.append();
    }

    /// Appends the lines that are ready.
    fn append(&mut self) {
        let mut taken = 0;
        loop {
            let shared = &self.shared;
            let stops = || shared.gives_up.load(Ordering::Relaxed) || shared.has_next.load(Ordering::Relaxed);
            let appended = self.target.append(&self.lines[taken..], &stops);
            self.shared.count(&self.shared.written, &self.lines[taken..taken + appended.taken]);
            taken += appended.taken;
            if let Some(error) = appended.error {
                self.shared.errors.fetch_add(1, Ordering::Relaxed);
                self.failure = Some(error.to_string());
                break;
            }
            if taken == self.lines.len() && !self.target.is_torn() || !self.change() {
                break;
            }
        }
        self.shared.count(&self.shared.dropped, &self.lines[taken..]);
        self.shared.waiting.fetch_sub(self.of_records, Ordering::Relaxed);
        self.lines.clear();
        self.lines.shrink_to(2 * BATCH);
        self.of_records = 0;
    }

    /// Changes to the next file. False if there is none.
    fn change(&mut self) -> bool {
        if !self.shared.has_next.swap(false, Ordering::SeqCst) {
            return false;
        }
        let next = self.shared.state().next.take();
        let Some(next) = next else { return false };
        self.count_torn();
        self.target = next;
        true
    }

    /// Counts a line that was begun as lost: it will not be completed.
    fn count_torn(&self) {
        if self.target.is_torn() {
            self.shared.written.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports lost lines: the first at once, later ones once a minute.
    fn report(&mut self) {
        let (dropped, now) = (self.shared.dropped.load(Ordering::Relaxed), self.shared.clock.now());
        let (told, at) = self.told;
        if (dropped == told && self.failure.is_none()) || (at > 0 && now.saturating_sub(at) < TOLD_EVERY) {
            return;
        }
        self.told = (dropped, now.max(1));
        let why = self.failure.take().unwrap_or_else(|| "the file takes them too slowly".into());
        (self.tell)(&format!("the log {} lost {} lines: {why}", self.shared.settings.place, dropped - told));
    }
}

/// Tells the waiting threads that everything until `asked` is done.
fn tell_progress(shared: &Shared, asked: u64, has_ended: bool) {
    let mut state = shared.state();
    state.done = state.done.max(asked);
    state.has_ended = has_ended;
    shared.progress.notify_all();
}
