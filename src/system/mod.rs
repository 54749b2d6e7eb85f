//! The calls to Linux, one file a subject. This module knows no poller and no connection.

pub mod address;
pub(crate) mod clock;
#[cfg(feature = "tls")]
pub(crate) mod file;
pub mod fork;
pub(crate) mod heap;
pub(crate) mod level;
pub mod packet_info;
pub(crate) mod pipe;
pub(crate) mod random;
pub(crate) mod resolver;
pub(crate) mod run_delay;
pub mod signal;
pub mod socket;
pub mod stack;
pub(crate) mod steering;
pub mod thread_exit;
