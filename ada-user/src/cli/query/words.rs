//! How times, shares and long names are written.
//!
//! Invariant: what is written has a width that a column can be made for.

use std::borrow::Cow;

use ada_query::functions::About;

use crate::cli::names::printable;

/// Characters of a name that is not to be printed whole.
pub(super) const LONGEST_NAME: usize = 60;

/// As many as were asked for; 0 stands for all.
pub(super) fn limit(asked: Option<usize>, otherwise: usize) -> usize {
    match asked {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None => otherwise,
    }
}

/// A time with three decimals, as it was measured: `1.234 us`, `17 ns`.
pub(super) fn exact(nanoseconds: u64) -> String {
    let (value, unit) = scaled(nanoseconds as f64);
    if unit == "ns" { format!("{nanoseconds} ns") } else { format!("{value:.3} {unit}") }
}

/// A time with three significant digits: what is known of a mean or a quantile.
pub(super) fn rough(nanoseconds: f64) -> String {
    let (value, unit) = scaled(nanoseconds);
    let decimals = match value {
        _ if unit == "ns" && value >= 10.0 => 0,
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

fn scaled(nanoseconds: f64) -> (f64, &'static str) {
    let mut value = nanoseconds;
    for unit in ["ns", "us", "ms"] {
        // What would be rounded to 1000 is 1 of the next unit.
        if value < 999.9995 {
            return (value, unit);
        }
        value /= 1000.0;
    }
    (value, "s")
}

/// The name of a function for people; long ones lose their middle, unless `full`.
pub(super) fn name(function: &About<'_>, full: bool) -> String {
    let name = function.to_string();
    let name = printable(&name);
    if full { name.into_owned() } else { shortened(&name, LONGEST_NAME).into_owned() }
}

/// Its name, such as SIGSEGV.
pub(super) fn signal_name(number: i32) -> String {
    ada_user::trigger::signal_name(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

/// Text of at most `width` characters: of longer ones, both ends.
pub(super) fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let kept = width.saturating_sub(1);
    let (start, end) = (kept.div_ceil(2), kept / 2);
    let head: String = text.chars().take(start).collect();
    let tail: String = text.chars().skip(length - end).collect();
    format!("{head}…{tail}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table = [
            (0, "0 ns", "0.00 ns"),
            (17, "17 ns", "17 ns"),
            (999, "999 ns", "999 ns"),
            (1_000, "1.000 us", "1.00 us"),
            (1_234, "1.234 us", "1.23 us"),
            (12_345, "12.345 us", "12.3 us"),
            (999_999, "999.999 us", "1000 us"),
            (1_500_000_000, "1.500 s", "1.50 s"),
        ];
        for (time, in_full, about) in table {
            assert_eq!((exact(time).as_str(), rough(time as f64).as_str()), (in_full, about));
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("std::vector<int>::push_back", 11), "std::…_back");
        assert_eq!(shortened("größer als", 5), "gr…ls");
    }
}
