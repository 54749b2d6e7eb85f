//! The settings of one WebSocket, as its handshake agreed.

use super::deflate::Deflate;

/// The settings of one WebSocket, as the handshake agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether we are the client. A client masks its frames, a server must not.
    pub client: bool,
    /// The most bytes of a message from the peer, after inflating.
    pub max_message: usize,
    /// permessage-deflate without context takeover, if both sides want it.
    pub deflate: Option<Deflate>,
}
