//! The size limits of a request.

use crate::error::{Error, within};

/// The most fields that a head may have under any setting.
pub(super) const MOST_HEADERS: usize = 256;

/// The largest value of a limit in bytes.
const MOST: usize = 1 << 30;

/// The size limits of a request.
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
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_line: 8192, max_headers: 100, max_head: 32 * 1024, max_body: 1024 * 1024, max_pending: 32 }
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
        Ok(())
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
