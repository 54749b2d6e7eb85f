//! The WebSocket protocol (RFC 6455) after the handshake, for both sides, with permessage-deflate (RFC 7692).
//!
//! Pure: no sockets, no clock, no Python, no random numbers: the mask keys of a client come from the caller or the
//! wire. A message in one uncompressed frame is never copied; the handler gets it from its place in the input.
//!
//! | file | holds |
//! |---|---|
//! | `machine` | [`WebSocket`]: both directions together, pings and the close handshake, by the wire of the connection |
//! | `messages` | the input: the position of the next message |
//! | `frame` `write` | the head of a frame and the mask; whole frames to send |
//! | `close` `violation` `settings` | close codes, broken rules, the outcome of the handshake |
//! | `deflate` `utf8` | compression; a check of text that arrives in pieces |

mod close;
mod deflate;
mod frame;
mod machine;
mod messages;
mod settings;
mod utf8;
mod violation;
mod write;

pub use close::{MOST_REASON, close_payload, is_sendable_code};
pub use deflate::Deflate;
pub use frame::{Head, Opcode};
pub use machine::{Farewell, WebSocket};
pub use messages::{Item, Messages};
pub use settings::Settings;
pub use violation::Violation;
pub use write::{frame, head};

#[cfg(test)]
mod tests;
