//! The part of a session's time that `--from` and `--to` choose.
//!
//! Invariant: what is typed counts from the session's first event, with `@` from the clock's zero, and both ends
//! belong to the range.

use ada_format::read::SessionReader;
use anyhow::{Result, bail};

use crate::cli::args;

/// Times from `from` up to but without `until`, in nanoseconds of the session's clock; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Range {
    pub(in crate::cli) from: Option<u64>,
    pub(in crate::cli) until: Option<u64>,
}

impl Range {
    /// Reads what was typed.
    pub(in crate::cli) fn new(from: Option<&str>, to: Option<&str>, session: &SessionReader) -> Result<Self> {
        let first = session.time_range().map_or(0, |(first, _)| first);
        let from_ns = from.map(|text| time("--from", text, first)).transpose()?;
        let to_ns = to.map(|text| time("--to", text, first)).transpose()?;
        if let (Some(from_text), Some(to_text)) = (from, to)
            && from_ns > to_ns
        {
            bail!("--from {from_text} lies after --to {to_text}: exchange them");
        }
        Ok(Self { from: from_ns, until: to_ns.and_then(|to| to.checked_add(1)) })
    }

    /// Whether nothing is left out.
    pub(in crate::cli) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a stretch of time has a part in it.
    pub(in crate::cli) fn touches(&self, start_ns: u64, end_ns: u64) -> bool {
        self.from.is_none_or(|from| end_ns >= from) && self.until.is_none_or(|until| start_ns < until)
    }

    /// Why there is nothing in it, as a clause.
    pub(in crate::cli) fn about(&self, session: &SessionReader) -> String {
        let Some((first, last)) = session.time_range() else { return "the session has none".to_owned() };
        if self.is_all() {
            return "these threads have none".to_owned();
        }
        let seconds = (last - first) as f64 / 1e9;
        let count = session.event_count();
        format!(
            "none lies between these times; the session's {count} lie between 0s and {seconds:.9}s, that is @{first} and \
             @{last}"
        )
    }
}

/// A time in nanoseconds of the session's clock.
fn time(option: &str, text: &str, first: u64) -> Result<u64> {
    if let Some(absolute) = text.strip_prefix('@') {
        let Ok(time) = absolute.parse() else {
            bail!("{option} {text} is not a time; write nanoseconds of the session's clock after the @");
        };
        return Ok(time);
    }
    match args::duration(text) {
        Ok(since) => Ok(first.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))),
        Err(complaint) => bail!("{option}: {complaint}, or @NANOSECONDS of the session's clock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = |text| time("--from", text, 1000).ok();
        assert_eq!(at("0"), Some(1000));
        assert_eq!(at("1us"), Some(2000));
        assert_eq!(at("1.000000001"), Some(1_000_001_001));
        assert_eq!(at("@17"), Some(17));
        assert_eq!(at("@18446744073709551615"), Some(u64::MAX));
        assert_eq!(at("18446744073709551615h"), None);
        assert_eq!(at("999999999999999"), Some(u64::MAX));
        for wrong in ["@", "@x", "@-1", "soon", "", "-1s"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn stretches() {
        let range = Range { from: Some(10), until: Some(20) };
        assert!(range.touches(5, 10) && range.touches(19, 30) && range.touches(0, 99));
        assert!(!range.touches(5, 9) && !range.touches(20, 30));
        assert!(Range::default().touches(0, 0));
    }
}
