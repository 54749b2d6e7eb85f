//! Objects that any thread may hold: the handle of a poller, of a connection, of a group, of an acceptor.
//!
//! Nothing here blocks for long, and nothing reads or writes a stream. The objects refer to one another: a message
//! carries a connection, a connection knows its groups, a group posts messages.

pub mod acceptor;
pub(crate) mod admission;
pub mod counters;
pub mod group;
pub mod handle;
pub mod histogram;
pub(crate) mod location;
pub(crate) mod mailbox;
pub(crate) mod placement;
pub mod pulse;
pub mod remote;
