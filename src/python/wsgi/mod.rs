//! WSGI (PEP 3333): requests leave the poller in its read phase, and threads call the application with them.
//!
//! | file | holds |
//! |---|---|
//! | `queue` | the requests that wait for threads; which thread is woken |
//! | `site` `pool` | one application; the pool of threads that call it |
//! | `line` | one connection as the threads see it |
//! | `feed` | its requests on their way to the queue |
//! | `body` | the body of a request, between the poller and a thread |
//! | `environ` | the dict of a request |
//! | `exchange` | the answer to a request: its head, its pieces, back-pressure |
//! | `start` `input` | `start_response` and `write`; `wsgi.input` |
//! | `call` | one call of the application, and the answer that its result makes |
//!
//! `queue`, `body` and `feed` run on pollers too, without the interpreter. No lock of theirs is held while Python runs.

pub mod body;
pub mod call;
pub mod environ;
pub mod exchange;
pub mod feed;
pub mod input;
pub mod line;
pub mod pool;
pub mod queue;
pub mod site;
pub mod start;
