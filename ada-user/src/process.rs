//! What /proc tells about a traced process and its threads, for the manifest.
//!
//! Everything here may fail because the process has gone; then the answer is empty, never an error.

use std::fs;

use crate::clock;

/// A traced process, as it was when the recording began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id in the tracer's pid namespace.
    pub pid: u32,
    /// Its parent's id.
    pub ppid: u32,
    /// The executable, as the process sees it.
    pub executable: String,
    /// Its command line.
    pub args: Vec<String>,
    /// When it started, `CLOCK_BOOTTIME` in nanoseconds.
    pub start_ns: u64,
}

impl ProcessInfo {
    /// Reads what there is to know about `pid`.
    #[must_use]
    pub fn read(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        Self {
            pid,
            ppid: stat_field(&stat, 4).unwrap_or(0).try_into().unwrap_or(0),
            executable: executable.to_string_lossy().into_owned(),
            args: arguments(pid),
            start_ns: stat_field(&stat, 22).map_or(0, ticks_to_ns),
        }
    }
}

/// The name of a thread that is alive.
#[must_use]
pub fn thread_name(pid: u32, tid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    split(&bytes)
}

/// A program that has written what it does over its arguments has filled up their room.
fn split(bytes: &[u8]) -> Vec<String> {
    let text = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let title = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_title = title.contains(&b' ') && bytes.iter().skip(title.len()).all(|byte| *byte == 0);
    let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match () {
        () if text.is_empty() => Vec::new(),
        () if is_title => vec![string(title.trim_ascii_end())],
        () => text.split(|byte| *byte == 0).map(string).collect(),
    }
}

/// Field `number` (from 1) of /proc/PID/stat, from the third on: the second may hold anything, in parentheses.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

/// The start time is in clock ticks since boot, suspended time included.
fn ticks_to_ns(ticks: u64) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ticks.saturating_mul(1_000_000_000 / per_second).min(clock::boottime_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_words_and_titles_are_whole() {
        assert_eq!(split(b"a\0b c\0\0"), ["a", "b c", ""]);
        assert_eq!(split(b"postgres: walwriter \0\0\0\0"), ["postgres: walwriter"]);
        assert_eq!(split(b"postgres: walwriter    "), ["postgres: walwriter"]);
        assert_eq!(split(b""), [""; 0]);
    }

    #[test]
    fn knows_this_process() {
        let info = ProcessInfo::read(std::process::id());
        assert_eq!(info.ppid, rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned()));
        assert_eq!(info.executable, std::env::current_exe().unwrap().to_string_lossy());
        assert_eq!(info.args, std::env::args().collect::<Vec<_>>());
        assert!(info.start_ns > 0 && info.start_ns <= clock::boottime_ns());
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        assert_eq!(stat_field("7 (a) b) (c) S 42 7 7", 4), Some(42));
        assert_eq!(stat_field("", 4), None);
    }
}
