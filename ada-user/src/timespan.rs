//! Time spans as people type them: `500ms`, `10s`, `2m`.
//!
//! Invariant: one grammar for all options, triggers and commands that take a time.

use std::time::Duration;

/// A text that is no time span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a time; write it like 500ms, 10s or 2m")]
pub struct TimespanError {
    /// As typed.
    pub text: String,
}

/// A number with ns, us, ms, s, m or h; seconds without.
///
/// # Errors
/// [`TimespanError`]; also for a time that [`Duration`] cannot hold.
pub fn parse(text: &str) -> Result<Duration, TimespanError> {
    let complaint = || TimespanError { text: text.to_owned() };
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| complaint())?;
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(complaint()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| complaint())
}

/// In nanoseconds, as event times are; half a millennium at most.
#[must_use]
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "1x", "-1s", "1e400s", "ten", "1 s", "."] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("ten").unwrap_err().to_string(), "'ten' is not a time; write it like 500ms, 10s or 2m");
    }

    #[test]
    fn a_time_that_events_cannot_reach_is_the_last_one() {
        assert_eq!(nanoseconds(Duration::from_millis(2)), 2_000_000);
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
    }
}
