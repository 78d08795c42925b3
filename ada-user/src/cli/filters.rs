//! The options that leave calls out of a recording, as they are typed.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use ada_user::filter::Filters;
use anyhow::{Result, bail};
use clap::Args;

use super::args::{RecordArgs, duration};

/// What to leave out.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Record only this thread of the targets; repeatable
    #[arg(long, value_name = "TID")]
    pub(crate) tid: Vec<u32>,
    /// Keep a call and its return only if it took at least this long, such as 50us, measured in the kernel; calls that never
    /// return, or still run when the recording ends, are left out
    #[arg(long, value_name = "TIME", value_parser = min_duration)]
    pub(crate) min_duration: Option<Duration>,
    /// Keep one call in N, chosen at random, with its return
    #[arg(long, value_name = "1/N", value_parser = sample)]
    pub(crate) sample: Option<NonZeroU32>,
    /// Mute a function, for the rest of the recording, that is called more than N times within a second
    #[arg(long, value_name = "N", value_parser = at_least_one::<NonZeroU64>)]
    pub(crate) max_rate: Option<NonZeroU64>,
    /// Write only events at a call depth below N; 1 = outermost calls alone
    #[arg(long, value_name = "N", value_parser = at_least_one::<NonZeroU32>)]
    pub(crate) max_depth: Option<NonZeroU32>,
}

/// The filters that `args` ask for, checked as far as that goes without a target.
pub(super) fn filters(args: &RecordArgs) -> Result<Filters> {
    let FilterArgs { tid, min_duration, sample, max_rate, max_depth } = &args.filter;
    if min_duration.is_some() && args.entry_only {
        bail!("--min-duration times calls by their returns, which --entry-only does not record; leave one of them out");
    }
    if min_duration.is_some() && !args.choice.detail.is_empty() {
        bail!(
            "--min-duration decides when a call's registers are gone, so it goes without --detail; leave one of them out"
        );
    }
    if !tid.is_empty() && !args.command.is_empty() {
        bail!("--tid names a thread that runs, and those of a command have no ids yet; give the process with -p PID");
    }
    if !tid.is_empty() && args.follow_forks {
        bail!("--tid leaves out the threads of new processes, which -f is there to record; leave one of them out");
    }
    let mut threads = tid.clone();
    threads.sort_unstable();
    threads.dedup();
    Ok(Filters { threads, min_duration: *min_duration, sample: *sample, max_rate: *max_rate, max_depth: *max_depth })
}

fn min_duration(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err(format!("'{text}' leaves nothing out; write it like 50us or 2ms")) } else { Ok(time) }
}

fn sample(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_prefix("1/").unwrap_or(text);
    number.parse().map_err(|_| format!("'{text}' is not a share of the calls; write it like 1/100"))
}

fn at_least_one<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number of 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        assert_eq!(sample("1/100"), Ok(NonZeroU32::new(100).unwrap()));
        assert_eq!(sample("7"), Ok(NonZeroU32::new(7).unwrap()));
        for wrong in ["", "0", "1/0", "x", "2/5", "-1", "1/", "1/1/2", "1%", "4294967296"] {
            assert!(sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_that_leave_something_out() {
        assert_eq!(min_duration("50us"), Ok(Duration::from_micros(50)));
        assert!(min_duration("0").is_err() && min_duration("soon").is_err());
    }

    #[test]
    fn numbers_from_one_on() {
        assert_eq!(at_least_one("1"), Ok(NonZeroU64::MIN));
        assert!(at_least_one::<NonZeroU64>("0").is_err() && at_least_one::<NonZeroU32>("many").is_err());
    }
}
