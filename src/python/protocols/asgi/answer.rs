//! The stages of an answer, by the messages of `send`.

use crate::protocols::http::Head;

/// The part of an answer that was sent so far.
#[derive(Default)]
pub enum Stage {
    #[default]
    Nothing,
    /// The head, which waits for the first part of the body.
    Start {
        head: Head,
        has_trailers: bool,
    },
    /// The head and parts of the body.
    Body {
        has_trailers: bool,
    },
    /// The body; lines of the trailers.
    Trailers(Vec<u8>),
    Everything,
}

impl Stage {
    /// The messages that may come next.
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Nothing => "'http.response.start'",
            Self::Start { has_trailers: false, .. } => "'http.response.body' or 'http.response.pathsend'",
            Self::Start { .. } | Self::Body { .. } => "'http.response.body'",
            Self::Trailers(_) => "'http.response.trailers'",
            Self::Everything => "nothing",
        }
    }

    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }
}
