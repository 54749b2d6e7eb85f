//! HTTP/1.1 of one server connection (RFC 9110, RFC 9112): finds requests in a stream, sends answers in their order.
//!
//! Pure: no sockets, no clock, no Python. Ambiguous input is refused, never repaired: a proxy before the server may
//! have read it differently (RFC 9112 section 11.2).
//!
//! | file | holds |
//! |---|---|
//! | `machine` | [`Http`]: both directions together, by the wire of the connection |
//! | `requests` `head` `chunks` | the input: the position of the next request, or of a piece of its body |
//! | `answers` | the output: parts of answers, put into the order of the requests |
//! | `answer` | [`Answer`]: the rules of a single answer, from any thread |
//! | `response` | the head of an answer |
//! | `limits` `refusal` | the size limits of a request; the status of a refused one |

mod answer;
mod answers;
mod chunks;
mod head;
mod limits;
mod machine;
mod refusal;
mod requests;
mod response;

pub use answer::{Answer, NotNow, Piece};
pub use answers::Then;
pub use head::{Facts, Lines, Version};
pub use limits::Limits;
pub use machine::{Http, Kept, Part};
pub use refusal::Refusal;
pub use requests::Event;
pub use response::{Framed, Head, Unfit, error_answer};

#[cfg(test)]
mod tests;
