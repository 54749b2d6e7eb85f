//! HTTP/1.1 of one server connection (RFC 9110, RFC 9112): finds requests in a stream, sends answers in their order.
//!
//! Pure: no sockets, no clock, no Python. Ambiguous input is refused, never repaired: a proxy before the server may
//! have read it differently (RFC 9112 section 11.2).
//!
//! | file | holds |
//! |---|---|
//! | `machine` | [`Http`]: both directions together, by the wire of the connection |
//! | `requests` `head` `chunks` | the input: the position of the next request, or of a piece of its body |
//! | `authority` `list` `characters` | the forms of a host, of a field with several members, and of a name |
//! | `answers` | the output: parts of answers, put into the order of the requests |
//! | `answer` | [`Answer`]: the rules of a single answer, from any thread |
//! | `response` | the head of an answer |
//! | `ledger` `tally` | notes on requests and answers: status, time, size, for counters, handlers and logs |
//! | `access` | records of requests and their answers, and the lines of an access log |
//! | `conditions` | the part of a file that answers a request, by its conditions and its range |
//! | `sink` `intake` | requests that leave the poller without a handler, for threads |
//! | `limits` `refusal` | the limits of a request; the status of a refused one |

pub mod access;
mod answer;
mod answers;
mod authority;
mod characters;
mod chunks;
mod conditions;
mod head;
mod intake;
mod ledger;
mod limits;
mod list;
mod machine;
mod refusal;
mod requests;
mod response;
mod sink;
mod tally;

pub use answer::{Answer, NotNow, Piece};
pub use answers::Then;
pub use conditions::{Representation, Selected, Tag, parse_date, select};
pub use head::{Facts, Lines, Version};
pub use limits::Limits;
pub use machine::{Http, Kept, Part};
pub use refusal::Refusal;
pub use requests::Event;
pub use response::{Framed, Head, Unfit, add_trailer, error_answer};
pub use sink::{Sink, Wish};
pub use tally::Answered;

#[cfg(test)]
mod tests;
