//! Looks up host names in threads beside the pollers, because getaddrinfo(3) blocks; other work that blocks runs there too.
//!
//! Up to [`THREADS`] threads run at once; they are started on demand and end when idle. Further lookups wait in a
//! queue. A lookup cannot be cancelled, so the caller keeps the deadline. Each reactor has its own resolver: a forked
//! child inherits no state of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, getaddrinfo};

use crate::error::{Error, ErrorKind};
use crate::system::signal::BlockedSignals;

/// The name of the threads.
pub(crate) const NAME: &str = "goev-resolver";

const THREADS: usize = 8;
const IDLE: Duration = Duration::from_secs(10);

/// The addresses of a host in the order in which to try them (RFC 6724), or the error of the lookup.
pub(crate) type Answer = Result<Vec<SocketAddr>, Error>;

struct Job {
    /// The caller holds the strong reference; when the caller drops it, the job is skipped.
    wanted: Weak<()>,
    run: Box<dyn FnOnce() + Send>,
}

impl Job {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

/// Looks up host names.
#[derive(Clone, Default)]
pub(crate) struct Resolver(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Resolver {
    /// Looks up a name and calls `tell` on some thread. Does neither once `wanted` is gone.
    pub fn look_up(&self, name: String, port: u16, wanted: Weak<()>, tell: impl FnOnce(Answer) + Send + 'static) {
        self.run(wanted, move || tell(addresses_of(&name, port)));
    }

    /// Runs a job on some thread, unless `wanted` is gone before.
    pub fn run(&self, wanted: Weak<()>, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        // Without this, lookups that hang would delay the queue for longer than any caller waits.
        state.jobs.retain(Job::is_wanted);
        state.jobs.push_back(Job { wanted, run: Box::new(job) });
        if state.idle >= state.jobs.len() || state.threads == THREADS {
            drop(state);
            self.0.changed.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = self.0.clone();
        let _blocked = BlockedSignals::new();
        let started = thread::Builder::new().name(NAME.into()).spawn(move || shared.work());
        if started.is_err() {
            // If no thread can be started the caller blocks, which is better than an answer that never comes.
            self.0.lock().threads -= 1;
            self.0.work_off();
        }
    }
}

impl Shared {
    /// Runs one thread: takes jobs until none is left.
    fn work(&self) {
        loop {
            self.work_off();
            let mut state = self.lock();
            state.idle += 1;
            let waited = self.changed.wait_timeout_while(state, IDLE, |state| state.jobs.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn work_off(&self) {
        loop {
            let Some(job) = self.lock().jobs.pop_front() else { return };
            if job.is_wanted() {
                (job.run)();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave the fields inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses_of(name: &str, port: u16) -> Answer {
    let hints = AddrInfoHints { socktype: libc::SOCK_STREAM, ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(|error| {
        let code = error.error_num();
        let text = std::io::Error::from(error).to_string();
        // Drops the prefix of the standard library, which says less than our own text.
        let why = text.rsplit_once(": ").map_or(text.as_str(), |(_, why)| why);
        Error::from(ErrorKind::Lookup { code, text: format!("cannot look up {name}: {why}") })
    })?;
    let mut addresses = Vec::new();
    for found in found.flatten() {
        let mut address = found.sockaddr;
        address.set_port(port);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn names_are_answered_or_refused_with_their_reason() {
        let (resolver, waiting) = (Resolver::default(), Arc::new(()));
        let (sender, answers) = channel();
        for name in ["localhost", "no-such-host.invalid", "127.0.0.1"] {
            let sender = sender.clone();
            resolver.look_up(name.into(), 7, Arc::downgrade(&waiting), move |answer| drop(sender.send((name, answer))));
        }
        for _ in 0..3 {
            match answers.recv_timeout(Duration::from_secs(20)).expect("an answer") {
                (name, Ok(addresses)) => {
                    assert_ne!(name, "no-such-host.invalid");
                    assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
                    assert!(!addresses.is_empty());
                }
                (name, Err(error)) => {
                    assert_eq!(name, "no-such-host.invalid");
                    assert!(error.to_string().starts_with("cannot look up no-such-host.invalid: "), "{error}");
                }
            }
        }
    }

    #[test]
    fn more_names_than_threads_are_all_answered() {
        let (resolver, waiting) = (Resolver::default(), Arc::new(()));
        let (sender, answers) = channel();
        for _ in 0..THREADS * 5 {
            let sender = sender.clone();
            resolver.look_up("127.0.0.1".into(), 1, Arc::downgrade(&waiting), move |answer| {
                sender.send(answer.is_ok()).expect("somebody listens");
            });
        }
        for _ in 0..THREADS * 5 {
            assert!(answers.recv_timeout(Duration::from_secs(20)).expect("an answer"));
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_looked_up() {
        let (resolver, waiting) = (Resolver::default(), Arc::new(()));
        let gone = Arc::downgrade(&Arc::new(()));
        let (sender, answers) = channel();
        for (name, wanted) in [("127.0.0.1", gone), ("127.0.0.2", Arc::downgrade(&waiting))] {
            let sender = sender.clone();
            resolver.look_up(name.into(), 1, wanted, move |_| sender.send(name).expect("somebody listens"));
        }
        assert_eq!(answers.recv_timeout(Duration::from_secs(20)), Ok("127.0.0.2"));
        drop(sender);
        assert!(answers.recv_timeout(Duration::from_secs(20)).is_err(), "its sender is dropped unused");
    }
}
