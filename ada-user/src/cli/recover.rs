//! `ada-trace recover SESSION`: finalises what a killed recorder left, and tells what was kept.
//!
//! Invariant: a file that cannot be read is left as it is, named, and makes the exit status 2.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ada_format::manifest::Manifest;
use ada_format::session::{self, RecoverReport, RecoveredThread, SessionError};
use ada_user::control;
use anyhow::{Context, Result};

use super::REFUSED;
use super::args::RecoverArgs;
use super::names::Who;
use super::open::{check_recoverable, chosen};
use super::summary::{bytes, count};
use super::table::{Column, Table};

/// How long a recorder that was killed may take to go.
const PATIENCE: Duration = Duration::from_secs(2);

/// Recovers what `args` name.
pub(crate) fn run(args: &RecoverArgs) -> Result<ExitCode> {
    let dir = chosen(args.session.as_deref())?;
    check_recoverable(&dir)?;
    let report = recover(&dir)?;
    // What it was steered by leads nowhere any more.
    control::remove_stale(&dir).with_context(|| format!("cannot remove the control socket of {}", dir.display()))?;
    let manifest = Manifest::read(&dir)?;
    io::stdout().write_all(text(&report, &manifest).as_bytes())?;
    let errors = report.threads.iter().filter_map(|thread| thread.error.as_ref());
    errors.clone().for_each(|error| eprintln!("ada-trace: {error}; it was left as it is"));
    Ok(if errors.count() == 0 { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

const COLUMNS: [Column; 7] = [
    ("THREAD", true),
    ("PID/TID", false),
    ("NAME", false),
    ("EVENTS", true),
    ("DETAIL", true),
    ("CUT", true),
    ("STATE", false),
];

fn text(report: &RecoverReport, manifest: &Manifest) -> String {
    let (name, events) = (report.session.display(), events(report));
    if report.already_complete {
        return format!("{name} is complete: {events}; there was nothing to recover\n");
    }
    let mut table = Table::new(&COLUMNS);
    for thread in &report.threads {
        let who = Who::of_id(thread.id, manifest);
        table.row([
            thread.id.to_string(),
            who.ids(),
            who.name,
            count(thread.event_count),
            count(thread.detail_count),
            bytes(cut(thread)),
            state(thread).to_owned(),
        ]);
    }
    let table = if table.is_empty() { String::new() } else { table.to_string() };
    let cut_off = bytes(report.threads.iter().map(cut).sum());
    format!("{table}recovered {name}: {events} kept, {cut_off} cut off\n")
}

fn events(report: &RecoverReport) -> String {
    let events: u64 = report.threads.iter().map(|thread| thread.event_count).sum();
    let plural = |number: u64| if number == 1 { "" } else { "s" };
    let threads = report.threads.len() as u64;
    format!("{} event{} in {} thread{}", count(events), plural(events), count(threads), plural(threads))
}

/// Bytes that were no whole event.
fn cut(thread: &RecoveredThread) -> u64 {
    [&thread.index, &thread.detail].into_iter().flatten().map(|lane| lane.bytes_cut).sum()
}

fn state(thread: &RecoveredThread) -> &'static str {
    match (&thread.error, &thread.index, &thread.detail) {
        (Some(_), _, _) => "unreadable",
        (None, None, None) => "was finished",
        _ => "recovered",
    }
}

/// Recovers, with patience: a recorder that was killed a moment ago holds its lock until the kernel has detached its
/// probes.
fn recover(dir: &Path) -> Result<RecoverReport, SessionError> {
    let began = Instant::now();
    loop {
        match session::recover(dir) {
            Err(SessionError::Locked { .. }) if began.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 40),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use ada_format::layout::{Arch, ClockType, EventKind, Os};
    use ada_format::manifest::Thread;
    use ada_format::session::thread_folder;
    use ada_format::write::{ThreadMeta, ThreadWriter};

    use super::*;

    fn write(dir: &Path, id: u32, finish: bool) {
        let meta = ThreadMeta { thread_id: 40 + id, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
        let mut writer = ThreadWriter::create(&thread_folder(dir, id), &meta).unwrap();
        writer.append(10, 7, EventKind::Call, 0).unwrap();
        writer.append(20, 7, EventKind::Return, 0).unwrap();
        writer.flush().unwrap();
        if finish {
            writer.finish().unwrap();
        }
    }

    fn recover(dir: &Path) -> String {
        let report = session::recover(dir).unwrap();
        text(&report, &Manifest::read(dir).unwrap()).replace(&dir.display().to_string(), "DIR")
    }

    #[test]
    fn tells_what_was_kept_and_what_was_cut() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let main = Thread { id: 0, pid: 40, tid: 40, name: "main".into(), ..Thread::default() };
        let worker = Thread { id: 1, pid: 40, tid: 41, name: "worker".into(), ..Thread::default() };
        Manifest { threads: vec![main, worker], ..Manifest::default() }.write_atomic(dir).unwrap();
        write(dir, 0, true);
        write(dir, 1, false);
        let mut torn = fs::File::options().append(true).open(dir.join("thread_1/index.atf")).unwrap();
        torn.write_all(&[1; 21]).unwrap();
        assert_eq!(
            recover(dir),
            "\
THREAD  PID/TID  NAME    EVENTS  DETAIL   CUT  STATE
     0  40/40    main         2       0   0 B  was finished
     1  40/41    worker       2       0  21 B  recovered
recovered DIR: 4 events in 2 threads kept, 21 B cut off
"
        );
        assert_eq!(recover(dir), "DIR is complete: 4 events in 2 threads; there was nothing to recover\n");
    }

    #[test]
    fn what_cannot_be_read_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        Manifest::default().write_atomic(dir).unwrap();
        write(dir, 0, false);
        write(dir, 1, false);
        let index = dir.join("thread_0/index.atf");
        fs::write(&index, [b'x'; 100]).unwrap();
        let report = session::recover(dir).unwrap();
        assert!(text(&report, &Manifest::read(dir).unwrap()).contains("unreadable"));
        assert_eq!(fs::read(&index).unwrap(), [b'x'; 100]);
    }
}
