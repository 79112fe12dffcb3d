//! A day of the calendar (UTC), as agreements name it.

use std::fmt;
use std::str::FromStr;

use crate::ids::UnixSeconds;

const DAY_S: u64 = 24 * 3600;
/// Days of 400 years of the Gregorian calendar.
const ERA_DAYS: u64 = 146_097;
/// Days from the first of March of the year 0 to the first of January 1970.
const EPOCH_DAYS: u64 = 719_468;

/// Years 1970 to 9999, written `2027-01-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u64,
    month: u64,
    day: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a date is a day that exists, from 1970 to 9999, written like 2027-01-31")]
pub struct BadDate;

impl Date {
    /// The day that this moment is in; the last one of 9999 for what is later.
    pub fn at(time: UnixSeconds) -> Self {
        // The civil calendar from a count of days, in years that begin in March.
        let days = time.0 / DAY_S + EPOCH_DAYS;
        let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        if year > 9999 { Self { year: 9999, month: 12, day: 31 } } else { Self { year, month, day } }
    }

    /// Its first second.
    pub fn start(self) -> UnixSeconds {
        let year = self.year - u64::from(self.month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let shifted = if self.month > 2 { self.month - 3 } else { self.month + 9 };
        let day_of_year = (153 * shifted + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        UnixSeconds((era * ERA_DAYS + day_of_era - EPOCH_DAYS) * DAY_S)
    }
}

impl FromStr for Date {
    type Err = BadDate;

    fn from_str(text: &str) -> Result<Self, BadDate> {
        let bytes = text.as_bytes();
        let is_shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() });
        if !is_shaped {
            return Err(BadDate);
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u64>().map_err(|_| BadDate);
        let date = Self { year: number(0, 4)?, month: number(5, 7)?, day: number(8, 10)? };
        let in_range = date.year >= 1970 && (1..=12).contains(&date.month) && (1..=31).contains(&date.day);
        // A day that does not exist comes back as another one.
        if in_range && Self::at(date.start()) == date { Ok(date) } else { Err(BadDate) }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_seconds() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("1970-03-01", 59 * DAY_S),
            ("2000-02-29", 951_782_400),
            ("2024-02-29", 1_709_164_800),
            ("2026-11-23", 1_795_392_000),
            ("9999-12-31", 253_402_214_400),
        ] {
            let date: Date = text.parse().unwrap();
            assert_eq!(date.start(), UnixSeconds(seconds), "{text}");
            assert_eq!(Date::at(UnixSeconds(seconds + DAY_S - 1)), date);
            assert_eq!(date.to_string(), text);
        }
        assert_eq!(Date::at(UnixSeconds(u64::MAX / 2)).to_string(), "9999-12-31");
    }

    #[test]
    fn days_that_do_not_exist() {
        let bad = [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "1969-12-31",
            "26-01-01",
            "2026-1-01",
            "+026-01-01",
            "2026-01-01 ",
            "",
        ];
        for text in bad {
            assert_eq!(text.parse::<Date>(), Err(BadDate), "{text:?}");
        }
    }
}
