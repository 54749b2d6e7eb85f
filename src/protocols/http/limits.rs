//! The limits of a request: its sizes, and the time that it may take.

use std::time::Duration;

use crate::error::{Error, within};
use crate::options::Rate;

/// The most fields that a head may have under any setting.
pub(super) const MOST_HEADERS: usize = 256;

/// The largest value of a limit in bytes.
const MOST: usize = 1 << 30;

/// The limits of a request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the request line; a longer one gets 414.
    pub max_line: usize,
    /// Fields of a head, and of a trailer; more get 431.
    pub max_headers: usize,
    /// Bytes of a head, and of a trailer; more get 431.
    pub max_head: usize,
    /// Bytes of a body; more get 413.
    pub max_body: usize,
    /// Number of unanswered requests at which no further request is looked at.
    pub max_pending: usize,
    /// Time for a head, from its first byte; a slower one gets 408.
    pub head_timeout: Option<Duration>,
    /// Time for a body, and the number of bytes that give it a second more; a slower one gets 408.
    pub body_min_rate: Option<Rate>,
}

/// The times of Apache's `mod_reqtimeout`: a body has 20 seconds, and one more for each 500 bytes.
const PATIENCE: Duration = Duration::from_secs(20);
const BODY_MIN_RATE: Rate = Rate { bytes_per_second: 500.0, window: PATIENCE };

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line: 8192,
            max_headers: 100,
            max_head: 32 * 1024,
            max_body: 1024 * 1024,
            max_pending: 32,
            head_timeout: Some(PATIENCE),
            body_min_rate: Some(BODY_MIN_RATE),
        }
    }
}

impl Limits {
    /// Returns an error that names the limit that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        within("max_head", self.max_head, 64, 1024 * 1024)?;
        within("max_line", self.max_line, 16, self.max_head)?;
        within("max_headers", self.max_headers, 1, MOST_HEADERS)?;
        within("max_body", self.max_body, 0, MOST)?;
        within("max_pending", self.max_pending, 1, 10_000)?;
        if self.head_timeout == Some(Duration::ZERO) {
            return Err(Error::argument("head_timeout must be more than 0 seconds, not 0".into()));
        }
        self.body_min_rate.map_or(Ok(()), |rate| rate.validate("body_min_rate"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_range() {
        type Range = (&'static str, fn(&mut Limits) -> &mut usize, usize, usize);
        let ranges: [Range; 5] = [
            ("max_head", |limits| &mut limits.max_head, 64, 1024 * 1024),
            ("max_line", |limits| &mut limits.max_line, 16, 32 * 1024),
            ("max_headers", |limits| &mut limits.max_headers, 1, 256),
            ("max_body", |limits| &mut limits.max_body, 0, 1024 * 1024 * 1024),
            ("max_pending", |limits| &mut limits.max_pending, 1, 10_000),
        ];
        for (name, limit, least, most) in ranges {
            let set = |value| {
                let mut limits = Limits { max_line: 16, ..Limits::default() };
                *limit(&mut limits) = value;
                limits.validate().map_err(|error| error.to_string())
            };
            assert_eq!((set(least), set(most)), (Ok(()), Ok(())), "{name}");
            let below = least.checked_sub(1).map(set);
            for error in [set(most + 1)].into_iter().chain(below) {
                assert!(error.is_err_and(|text| text.contains(name)), "{name}");
            }
        }
    }

    #[test]
    fn a_line_is_no_longer_than_a_head() {
        let limits = |max_line| Limits { max_head: 64, max_line, ..Limits::default() };
        assert!(limits(64).validate().is_ok());
        assert!(limits(65).validate().is_err());
    }
}
