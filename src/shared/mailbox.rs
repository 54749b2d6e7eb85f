//! The one queue by which other threads reach a poller.
//!
//! Any thread posts; only the poller takes. It takes all messages at once by a swap of two queues, so a take costs the same
//! for one message and for a million. A thread that posts into an empty queue wakes the poller. "Empty" is read under the
//! same lock as the messages, so no wake-up is lost: a message is taken by the current `take`, or it is the first of the
//! next one. So a thousand posts cost one wake-up. The thread that serves the mailbox needs none for its own messages.
//!
//! An urgent message overtakes all others: it has a queue of its own, by the same rules.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicUsize};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard, atomic::AtomicUsize};

/// Wakes the owner of a mailbox: mio's `Waker`, except in tests.
pub trait Wake {
    /// Makes the owner look into its mailbox soon.
    fn wake(&self) -> io::Result<()>;
}

impl Wake for mio::Waker {
    fn wake(&self) -> io::Result<()> {
        loop {
            match mio::Waker::wake(self) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

thread_local! {
    /// The mailbox that this thread serves.
    static SERVED: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// A queue with many writers and one reader.
pub struct Mailbox<M, W = mio::Waker> {
    inside: Mutex<Inside<M>>,
    /// The number of messages in both queues: written under the lock, read without it.
    depth: AtomicUsize,
    waker: W,
}

struct Inside<M> {
    messages: VecDeque<M>,
    urgent: Vec<M>,
    open: bool,
}

impl<M> Inside<M> {
    fn depth(&self) -> usize {
        self.messages.len() + self.urgent.len()
    }
}

impl<M, W: Wake> Mailbox<M, W> {
    /// Makes an empty mailbox; `waker` wakes its owner.
    pub fn new(waker: W) -> Self {
        let inside = Inside { messages: VecDeque::new(), urgent: Vec::new(), open: true };
        Self { inside: Mutex::new(inside), depth: AtomicUsize::new(0), waker }
    }

    /// Notes that this thread looks at [`Self::depth`] before each of its waits, until [`Self::leave`].
    pub fn serve(&self) {
        SERVED.set(self.address());
    }

    /// Notes that it does so no more.
    pub fn leave(&self) {
        if self.is_served_here() {
            SERVED.set(ptr::null());
        }
    }

    fn is_served_here(&self) -> bool {
        SERVED.get() == self.address()
    }

    fn address(&self) -> *const () {
        ptr::from_ref(self).cast()
    }

    /// Queues `message` behind all earlier ones; returns it when the mailbox is closed.
    pub fn post(&self, message: M) -> Result<(), M> {
        self.post_by(message, |inside, message| {
            inside.messages.push_back(message);
            inside.messages.len() == 1
        })
    }

    /// As [`Self::post`], but only behind the urgent ones.
    pub fn post_urgent(&self, message: M) -> Result<(), M> {
        self.post_by(message, |inside, message| {
            inside.urgent.push(message);
            inside.urgent.len() == 1
        })
    }

    /// Posts by `push`, which tells whether the message is the first of its queue.
    fn post_by(&self, message: M, push: impl FnOnce(&mut Inside<M>, M) -> bool) -> Result<(), M> {
        let mut inside = self.lock();
        if !inside.open {
            return Err(message);
        }
        let is_first = push(&mut inside, message);
        self.depth.store(inside.depth(), Ordering::Relaxed);
        drop(inside);
        if is_first && !self.is_served_here() {
            // Writing to an eventfd fails only when it is full, and then a wake-up is pending already.
            let _ = self.waker.wake();
        }
        Ok(())
    }

    /// Takes all messages but the urgent ones into `emptied`, the memory of which the next messages use.
    pub fn take(&self, emptied: &mut VecDeque<M>) {
        debug_assert!(emptied.is_empty());
        let mut inside = self.lock();
        std::mem::swap(&mut inside.messages, emptied);
        self.depth.store(inside.depth(), Ordering::Relaxed);
    }

    /// Takes the urgent messages.
    pub fn take_urgent(&self) -> Vec<M> {
        let mut inside = self.lock();
        let urgent = std::mem::take(&mut inside.urgent);
        self.depth.store(inside.depth(), Ordering::Relaxed);
        urgent
    }

    /// Takes all messages but the urgent ones; later posts are refused.
    pub fn close(&self) -> VecDeque<M> {
        let mut inside = self.lock();
        inside.open = false;
        let messages = std::mem::take(&mut inside.messages);
        self.depth.store(inside.depth(), Ordering::Relaxed);
        messages
    }

    /// Calls `look` with each waiting message.
    pub fn each(&self, look: impl FnMut(&M)) {
        let inside = self.lock();
        inside.messages.iter().chain(&inside.urgent).for_each(look);
    }

    /// Whether it takes messages, as of a moment ago.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// The number of waiting messages, as of a moment ago.
    pub fn depth(&self) -> u64 {
        self.depth.load(Ordering::Relaxed) as u64
    }

    fn lock(&self) -> MutexGuard<'_, Inside<M>> {
        // A panic while the lock is held cannot leave the vector half changed.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
    use std::time::Duration;

    use super::*;

    /// Behaves like an eventfd: many wake-ups become one, and it stays until it is waited for.
    struct Bell(SyncSender<()>);

    impl Wake for Bell {
        fn wake(&self) -> io::Result<()> {
            match self.0.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => Ok(()),
                Err(TrySendError::Disconnected(())) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn mailbox() -> (Mailbox<(usize, usize), Bell>, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Mailbox::new(Bell(sender)), receiver)
    }

    fn taken(mailbox: &Mailbox<(usize, usize), Bell>) -> Vec<(usize, usize)> {
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        taken.into()
    }

    #[test]
    fn under_load_no_wake_up_is_lost_and_each_thread_keeps_its_order() {
        const THREADS: usize = 8;
        const EACH: usize = 50_000;
        let (mailbox, bell) = mailbox();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let mailbox = &mailbox;
                scope.spawn(move || (0..EACH).for_each(|n| assert!(mailbox.post((thread, n)).is_ok())));
            }
            let (mut next, mut taken) = ([0; THREADS], VecDeque::new());
            while next.iter().sum::<usize>() < THREADS * EACH {
                // A lost wake-up ends here, because no thread rings again for a queue that is not empty.
                bell.recv_timeout(Duration::from_secs(20)).expect("a wake-up was lost");
                mailbox.take(&mut taken);
                for (thread, n) in taken.drain(..) {
                    assert_eq!(n, next[thread]);
                    next[thread] += 1;
                }
            }
        });
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_is_posted_and_hands_out_the_rest() {
        let (mailbox, _bell) = mailbox();
        assert_eq!(mailbox.post((1, 1)), Ok(()));
        assert_eq!(mailbox.close(), [(1, 1)]);
        assert_eq!(mailbox.post((2, 2)), Err((2, 2)));
    }

    #[test]
    fn a_take_moves_no_message() {
        let (mailbox, _bell) = mailbox();
        (0..10_000).for_each(|n| assert!(mailbox.post((0, n)).is_ok()));
        let (mut before, mut taken) = (Vec::new(), VecDeque::new());
        mailbox.each(|message| before.push(std::ptr::from_ref(message)));
        mailbox.take(&mut taken);
        assert!(taken.iter().map(std::ptr::from_ref).eq(before));
    }

    #[test]
    fn many_posts_ring_once_until_taken() {
        let (mailbox, bell) = mailbox();
        for n in 0..10 {
            assert_eq!(mailbox.post((0, n)), Ok(()));
        }
        assert_eq!((bell.try_recv().is_ok(), bell.try_recv().is_ok()), (true, false));
        assert_eq!(taken(&mailbox).len(), 10);
        assert_eq!(mailbox.post((0, 10)), Ok(()));
        assert!(bell.try_recv().is_ok());
    }

    #[test]
    fn the_thread_that_serves_it_rings_for_no_message_of_its_own() {
        let (mailbox, bell) = mailbox();
        mailbox.serve();
        assert_eq!(mailbox.post((0, 0)), Ok(()));
        assert_eq!((bell.try_recv().is_ok(), mailbox.depth()), (false, 1));
        assert_eq!(taken(&mailbox).len(), 1);
        std::thread::scope(|scope| scope.spawn(|| mailbox.post((1, 0))).join().expect("it ends well"))
            .expect("it is open");
        assert!(bell.try_recv().is_ok());
        assert_eq!(taken(&mailbox).len(), 1);
        mailbox.leave();
        assert_eq!(mailbox.post((0, 1)), Ok(()));
        assert!(bell.try_recv().is_ok());
    }

    #[test]
    fn an_urgent_message_rings_and_comes_alone_although_others_wait() {
        let (mailbox, bell) = mailbox();
        assert_eq!(mailbox.post((0, 0)), Ok(()));
        assert!(bell.try_recv().is_ok());
        assert_eq!(mailbox.post_urgent((1, 0)), Ok(()));
        assert!(bell.try_recv().is_ok());
        assert_eq!((mailbox.take_urgent(), mailbox.depth()), (vec![(1, 0)], 1));
        assert_eq!((taken(&mailbox), mailbox.depth()), (vec![(0, 0)], 0));
    }
}

/// `make soak` runs these models. They try every order of the threads' steps with at most three preemptions. A higher
/// bound would take hours and find little (loom, "Combinatorial explosion").
#[cfg(all(test, loom))]
mod models {
    use loom::sync::{Arc, Notify};
    use loom::thread;

    use super::*;

    impl Wake for Arc<Notify> {
        fn wake(&self) -> io::Result<()> {
            self.notify();
            Ok(())
        }
    }

    fn mailbox() -> (Arc<Mailbox<(usize, usize), Arc<Notify>>>, Arc<Notify>) {
        let bell = Arc::new(Notify::new());
        (Arc::new(Mailbox::new(bell.clone())), bell)
    }

    fn taken(mailbox: &Mailbox<(usize, usize), Arc<Notify>>) -> VecDeque<(usize, usize)> {
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken);
        taken
    }

    fn in_every_order(threads: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(threads);
    }

    #[test]
    fn no_wake_up_is_lost_and_each_thread_keeps_its_order() {
        in_every_order(|| {
            let (mailbox, bell) = mailbox();
            let threads: Vec<_> = (0..2)
                .map(|thread| {
                    let mailbox = mailbox.clone();
                    thread::spawn(move || (0..2).for_each(|n| assert!(mailbox.post((thread, n)).is_ok())))
                })
                .collect();
            let mut next = [0; 2];
            while next != [2, 2] {
                // A lost wake-up ends here: loom fails when all threads sleep.
                bell.wait();
                for (thread, n) in taken(&mailbox) {
                    assert_eq!(n, next[thread]);
                    next[thread] += 1;
                }
            }
            threads.into_iter().for_each(|thread| thread.join().expect("it ends well"));
        });
    }

    #[test]
    fn a_message_is_either_handed_out_by_the_close_or_given_back() {
        in_every_order(|| {
            let (mailbox, _bell) = mailbox();
            let posting = mailbox.clone();
            let thread = thread::spawn(move || (0..2).filter(|n| posting.post((0, *n)).is_ok()).count());
            let mut count = taken(&mailbox).len();
            count += mailbox.close().len();
            assert_eq!(thread.join().expect("it ends well"), count);
            assert_eq!(mailbox.post((0, 9)), Err((0, 9)));
            assert!(taken(&mailbox).is_empty());
        });
    }
}
