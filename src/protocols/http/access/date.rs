//! The time of day in the forms of logs. Text is made anew only for a new second.

use std::fmt::Write;

use crate::recorder::Time;

const SECOND: u64 = 1_000_000_000;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The forms of one second.
#[derive(Default)]
pub(super) struct Dates {
    of: Option<(u64, i32)>,
    common: String,
    iso: String,
}

impl Dates {
    /// `10/Oct/2000:13:55:36 -0700`, local time.
    pub fn common(&mut self, at: u64, time: Time) -> String {
        self.turn(at, time);
        self.common.clone()
    }

    /// `2000-10-10T20:55:36.123Z`, UTC.
    pub fn iso(&mut self, at: u64, time: Time) -> String {
        let nanos = self.turn(at, time);
        format!("{}.{:03}Z", self.iso, nanos / 1_000_000)
    }

    /// Makes the texts of the second; returns the nanoseconds behind it.
    fn turn(&mut self, at: u64, time: Time) -> u64 {
        let wall = time.zero.saturating_add(at);
        let second = wall / SECOND;
        if self.of != Some((second, time.east)) {
            self.of = Some((second, time.east));
            self.write(second, time.east);
        }
        wall % SECOND
    }

    fn write(&mut self, second: u64, east: i32) {
        let (common, iso) = (&mut self.common, &mut self.iso);
        common.clear();
        iso.clear();
        let ([year, month, day], [hour, minute, second]) = of(second, 0);
        // A `String` takes everything that is written to it.
        let _ = write!(iso, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let ([year, month, day], [hour, minute, second]) = of(self.of.map_or(0, |(second, _)| second), east);
        let month = MONTHS[month as usize - 1];
        let (sign, zone) = (if east < 0 { '-' } else { '+' }, east.unsigned_abs() / 60);
        let (hours, minutes) = (zone / 60, zone % 60);
        let _ =
            write!(common, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}");
    }
}

/// Year, month and day, and hour, minute and second, of a time since 1970 in a zone.
fn of(second: u64, east: i32) -> ([u64; 3], [u64; 3]) {
    let local = second.saturating_add_signed(i64::from(east));
    let (days, rest) = (local / 86_400, local % 86_400);
    // The calendar repeats every 400 years. A year begins with March here, so that the leap day is its last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, after) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    ([era * 400 + year + after, month, day], [rest / 3_600, rest / 60 % 60, rest % 60])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn iso(seconds: u64) -> String {
        Dates::default().iso(0, Time { zero: seconds * SECOND + 7_000_000, east: 0 })
    }

    #[test]
    fn known_days_have_their_dates() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(iso(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(iso(4_107_542_399), "2100-02-28T23:59:59.007Z");
        let mut dates = Dates::default();
        let time = |east| Time { zero: 971_211_336 * SECOND, east };
        assert_eq!(dates.common(0, time(-7 * 3600)), "10/Oct/2000:13:55:36 -0700");
        assert_eq!(dates.common(0, time(19_800)), "11/Oct/2000:02:25:36 +0530");
        assert_eq!(dates.common(SECOND, time(0)), "10/Oct/2000:20:55:37 +0000");
    }

    proptest! {
        #[test]
        fn every_second_is_the_one_of_another_calendar(second in 0..4_000_000_000_u64) {
            let other = httpdate::HttpDate::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second));
            let ([year, month, day], [hour, minute, second]) = of(second, 0);
            let month = MONTHS[month as usize - 1];
            let text = format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT");
            prop_assert_eq!(&other.to_string()[5..], text);
        }
    }
}
