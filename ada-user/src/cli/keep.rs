//! How much of a recording is kept, as it is typed: `--keep`, `--max-size`.

use std::time::Duration;

use ada_user::collect::Rotation;
use clap::Args;

use super::args;

/// What to keep.
#[derive(Debug, Args)]
#[command(next_help_heading = "Size")]
pub(crate) struct KeepArgs {
    /// Keep only the newest events: those of the last 30s, 10m, … (at least 1s) of the recording. Older ones are deleted
    /// meanwhile, but for those around triggers (docs/recording.md)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) keep: Option<Duration>,
    /// Keep only the newest events that fit into so much of the disk, such as 2G (at least 1M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
}

impl KeepArgs {
    /// What is kept.
    pub(super) fn rotation(&self) -> Rotation {
        Rotation { keep: self.keep, max_size: self.max_size }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = args::recording_time(text)?;
    let complaint = || format!("'{text}' is too short to keep anything; write a time of at least 1s, like 30s");
    if time < Rotation::SHORTEST { Err(complaint()) } else { Ok(time) }
}

fn size(text: &str) -> Result<u64, String> {
    let complaint = || format!("'{text}' is not a size to keep; write at least 1M, like 500M or 2G");
    args::size(text).filter(|size| *size >= Rotation::SMALLEST).ok_or_else(complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_kept() {
        assert_eq!((time("1s"), size("1M")), (Ok(Duration::from_secs(1)), Ok(1 << 20)));
        assert_eq!((time("2m"), size("2GiB")), (Ok(Duration::from_secs(120)), Ok(2 << 30)));
        for wrong in ["0", "999ms", "soon", "-1s", ""] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "1K", "1023K", "much", "-1M", "", "99999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
