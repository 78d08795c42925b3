//! Scanning, looking up and opening, against the same mapped bytes.
//!
//! Invariant: every file is in the page cache, and mapped once before anything is measured.

use std::path::Path;
use std::time::Duration;

use ada_format::layout::{Arch, ClockType, IndexEvent, Os};
use ada_format::manifest::Manifest;
use ada_format::read::{FileBytes, IndexReader, SessionReader};
use ada_format::session;
use ada_format::write::ThreadMeta;

use crate::measure::{self, Row};
use crate::writing::write_events;

type Failure = Box<dyn std::error::Error>;

pub(crate) fn bench(dir: &Path, short: bool) -> Result<Vec<Row>, Failure> {
    let dir = dir.join("session");
    let (events, threads) = if short { (5_000_000, 4) } else { (100_000_000, 4) };
    write_session(&dir, events, threads)?;
    let index = session::thread_folder(&dir, 0).join("index.atf");
    let mut rows = vec![scan(&index)?];
    rows.extend(random_get(&index)?);
    rows.push(open(&dir, events)?);
    Ok(rows)
}

fn write_session(dir: &Path, events: u64, threads: u32) -> Result<(), Failure> {
    session::create(dir)?;
    for id in 0..threads {
        let meta = ThreadMeta { thread_id: 100 + id, arch: Arch::host(), os: Os::Linux, clock: ClockType::Boottime };
        write_events(&session::thread_folder(dir, id), &meta, events / u64::from(threads))?;
    }
    Ok(Manifest::default().write_atomic(dir)?)
}

/// Sums timestamps and function ids of at most 5 M events, against all u64s of the same bytes.
fn scan(path: &Path) -> Result<Row, Failure> {
    let index = IndexReader::open(path)?;
    let events = index.events();
    let events = &events[..events.len().min(5_000_000)];
    let bytes = FileBytes::open(path)?;
    let plain = &bytes.as_ref()[64..64 + size_of_val(events)];
    std::hint::black_box((sum_events(events), sum_plain(plain)));
    let scan = || Ok::<_, Failure>(measure::time(|| sum_events(std::hint::black_box(events))));
    let sum = || Ok(measure::time(|| sum_plain(std::hint::black_box(plain))));
    let (ours, plainly) = measure::compare(15, scan, sum)?;
    let rate = plain.len() as f64 / ours.as_secs_f64() / 1e9;
    let ratio = plainly.as_secs_f64() / ours.as_secs_f64();
    Ok(Row {
        name: "full scan",
        value: rate,
        unit: "GB/s",
        against: Some(("summing the mapped file's u64s", ratio)),
        target: ">= 1 GB/s, ratio >= 0.5",
        met: rate >= 1.0 && ratio >= 0.5,
    })
}

fn sum_events(events: &[IndexEvent]) -> u64 {
    let sum =
        |sum: u64, event: &IndexEvent| sum.wrapping_add(event.timestamp_ns.get()).wrapping_add(event.function_id.get());
    events.iter().fold(0, sum)
}

fn sum_plain(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

/// Look-ups per round.
const GETS: usize = 1_000_000;

/// Looks up random positions of the whole file, against the same positions of a plain slice.
fn random_get(path: &Path) -> Result<Vec<Row>, Failure> {
    let index = IndexReader::open(path)?;
    let events = index.events();
    std::hint::black_box(sum_events(events));
    let rounds = |next: Next| {
        let ours = || Ok::<_, Failure>(look_up(events.len(), next, |at| index.get(at)));
        let plain = || Ok(look_up(events.len(), next, |at| events.get(at as usize)));
        measure::compare(9, ours, plain)
    };
    let row = |name, (ours, plain): (Duration, Duration), target, limit: f64| {
        let each = ours.as_secs_f64() * 1e9 / GETS as f64;
        let against = Some(("indexing the slice of events", plain.as_secs_f64() / ours.as_secs_f64()));
        Row { name, value: each, unit: "ns", against, target, met: each < limit }
    };
    Ok(vec![
        row("random get", rounds(|step, _| step)?, "< 50 ns warm", 50.0),
        row("random get that awaits the last", rounds(|step, time| step ^ time)?, "none: memory", f64::INFINITY),
    ])
}

/// The seed of the next position, from the number of the look-up and the time that the last one found.
type Next = fn(u64, u64) -> u64;

fn look_up<'a>(among: usize, next: Next, get: impl Fn(u64) -> Option<&'a IndexEvent>) -> Duration {
    measure::time(|| {
        let (mut sum, mut time) = (0_u64, 0);
        for step in 0..GETS as u64 {
            let random = next(step, time).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            // The upper half of the product with the length: a position below it, without a division.
            let position = ((u128::from(random) * among as u128) >> 64) as u64;
            time = get(position).map_or(0, |event| event.timestamp_ns.get());
            sum = sum.wrapping_add(time);
        }
        sum
    })
}

/// Opens a finalised session, to the first and the last event.
fn open(dir: &Path, events: u64) -> Result<Row, Failure> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let mut found = Err(String::new());
        times.push(measure::time(|| {
            found = SessionReader::open(dir)
                .map(|session| (session.event_count(), session.time_range()))
                .map_err(|error| error.to_string());
        }));
        assert_eq!(found?.0, events);
    }
    let opening = measure::best(times).as_secs_f64() * 1e3;
    Ok(Row {
        name: if events >= 100_000_000 { "open a session of 100 M events" } else { "open a session of 5 M events" },
        value: opening,
        unit: "ms",
        against: None,
        target: "< 10 ms",
        met: opening < 10.0,
    })
}
