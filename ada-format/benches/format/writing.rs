//! Index events through the thread writer, checksum included, against write(2) of the same bytes.
//!
//! Invariant: both create a new file, hand the kernel buffers of the same size, and close the file; the files are
//! removed outside of the measured time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::write::{ThreadMeta, ThreadWriter, WriteError};

use crate::measure::{self, Row};

/// What the writer hands to the kernel at once.
const BUFFER: usize = 128 * 1024;

pub(crate) fn bench(dir: &Path, short: bool) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let (events, rounds) = if short { (2_000_000, 9) } else { (8_000_000, 9) };
    let (ours, plain) = measure::compare(
        rounds,
        || through_writer(&dir.join("ours"), events).map_err(Box::<dyn std::error::Error>::from),
        || plainly(&dir.join("plain"), events).map_err(Into::into),
    )?;
    let rate = events as f64 / ours.as_secs_f64() / 1e6;
    let ratio = plain.as_secs_f64() / ours.as_secs_f64();
    Ok(vec![Row {
        name: "write index events, with CRC",
        value: rate,
        unit: "M events/s",
        against: Some(("write(2) of the same bytes", ratio)),
        target: ">= 40 M/s, ratio >= 0.5",
        met: rate >= 40.0 && ratio >= 0.5,
    }])
}

fn through_writer(folder: &Path, events: u64) -> Result<Duration, WriteError> {
    let meta = ThreadMeta { thread_id: 1, arch: Arch::host(), os: Os::Linux, clock: ClockType::Boottime };
    let mut outcome = Ok(());
    let time = measure::time(|| outcome = write_events(folder, &meta, events));
    let _ = fs::remove_dir_all(folder);
    outcome.map(|()| time)
}

/// Writes calls and returns of a few functions.
pub(crate) fn write_events(folder: &Path, meta: &ThreadMeta, events: u64) -> Result<(), WriteError> {
    let mut writer = ThreadWriter::create(folder, meta)?;
    for pair in 0..events / 2 {
        let function = (1 << 32) | (pair & 7);
        writer.append(20 * pair, function, EventKind::Call, (pair & 3) as u32)?;
        writer.append(20 * pair + 10, function, EventKind::Return, (pair & 3) as u32)?;
    }
    writer.finish().map(|_| ())
}

fn plainly(path: &Path, events: u64) -> io::Result<Duration> {
    let buffer: Vec<u8> = (0..BUFFER).map(|at| (at * 31 / 7) as u8).collect();
    let mut outcome = Ok(());
    let time = measure::time(|| outcome = write_plain(path, &buffer, events as usize * 32));
    let _ = fs::remove_file(path);
    outcome.map(|()| time)
}

fn write_plain(path: &Path, buffer: &[u8], bytes: usize) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let mut left = bytes;
    while left > 0 {
        let count = left.min(buffer.len());
        file.write_all(&buffer[..count])?;
        left -= count;
    }
    Ok(())
}
