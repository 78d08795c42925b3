//! `ada-trace follow SESSION`: calls and returns as they are recorded.
//!
//! Invariant: what was read is printed, or waits in memory for a call's end that decides about it; nothing is printed twice.

use std::cell::Cell;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ada_format::manifest::SessionStatus;
use ada_format::session;
use ada_query::QueryError;
use ada_query::live::steps::{LiveSteps, due};
use ada_query::live::{Look, Standing, follow, is_recorded};
use ada_query::span::Accounting;
use ada_user::clock;
use ada_user::session::DEFAULT_ROOT;
use anyhow::{Result, anyhow, bail};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::args::FollowArgs;
use super::replay::{Known, Printer, Style};
use super::values::Values;
use super::words::limit;
use super::{Question, notes};
use crate::cli::REFUSED;
use crate::cli::args::Format;
use crate::cli::out::Out;
use crate::cli::summary::plural;
use crate::cli::tell;

/// How often is looked for events.
const EVERY: Duration = Duration::from_millis(25);
/// What happened longer ago is with the operating system: the recorder writes every 40 ms.
const WRITTEN_AFTER_NS: u64 = 150_000_000;

/// Prints what `args` ask for.
pub(crate) fn run(args: &FollowArgs) -> Result<ExitCode> {
    let dir = under_way(args.session.as_deref())?;
    let question = Question::of_recording(&dir, &args.select)?;
    if !question.trace.is_recording() {
        bail!("{0} is finished: `ada-trace replay {0}` shows it", dir.display());
    }
    if !is_recorded(&dir) {
        bail!(
            "nobody records {0} any more: `ada-trace replay {0}` shows it, `ada-trace recover {0}` ends it",
            dir.display()
        );
    }
    let begun = Cell::new(args.select.from.is_some());
    let mut following = Following::new(&question, args, io::stdout().lock())?;
    follow(
        &dir,
        &question.selection,
        |thread, again| LiveSteps::new(thread.index, question.selection.min_duration_ns, again || !begun.get()),
        |mut look| {
            begun.set(true);
            following.look(&mut look)
        },
    )?;
    following.end()
}

/// The session that was named, or the newest one that is being recorded.
fn under_way(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    newest_recorded().ok_or_else(|| {
        anyhow!("no session below {DEFAULT_ROOT} is being recorded: name a folder, or see finished ones by `ada-trace replay`")
    })
}

/// The newest session below the default folder that is being recorded.
pub(super) fn newest_recorded() -> Option<PathBuf> {
    let sessions = session::list(Path::new(DEFAULT_ROOT)).unwrap_or_default();
    let recorded =
        |entry: &session::SessionEntry| entry.status() == Some(SessionStatus::Recording) && is_recorded(&entry.path);
    sessions.into_iter().rfind(recorded).map(|entry| entry.path)
}

/// Whether somebody wants us to stop: set by the first signal; the second ends this process.
pub(super) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// What is printed, and how far.
struct Following<W: Write> {
    out: Out<W>,
    style: Style,
    format: Format,
    printer: Option<Printer>,
    values: Values,
    /// Lines that may still be printed.
    left: usize,
    until_ns: Option<u64>,
    stop: Arc<AtomicBool>,
    lost: u64,
    accounting: Accounting,
    failed: bool,
}

impl<W: Write> Following<W> {
    fn new(question: &Question, args: &FollowArgs, sink: W) -> Result<Self> {
        let first_ns = question.trace.time_range().map_or_else(clock::boottime_ns, |(first, _)| first);
        Ok(Self {
            out: Out::new(sink),
            style: Style::new(&args.print, args.time, first_ns),
            format: args.print.format,
            printer: None,
            values: Values::new(question.trace.manifest()),
            left: limit(args.print.limit, usize::MAX),
            until_ns: question.range.until,
            stop: stop_flag()?,
            lost: question.trace.manifest().lost.total,
            accounting: Accounting::default(),
            failed: false,
        })
    }

    fn look(&mut self, look: &mut Look<'_, '_, LiveSteps>) -> Result<ControlFlow<()>> {
        let now_ns = clock::boottime_ns();
        self.describe(look)?;
        for error in &look.failed {
            self.failed = true;
            tell(&format!("ada-trace: {error}\n"));
        }
        let steps = due(look.lanes, look.settled_ns, now_ns.saturating_sub(WRITTEN_AFTER_NS));
        if look.is_first {
            look.lanes.iter_mut().for_each(|lane| lane.visitor.unmute());
        }
        for step in steps.iter().take(self.left) {
            if let Some(printer) = &self.printer {
                let mut known = Known { table: look.functions, values: &mut self.values };
                printer.step(&mut self.out, &mut known, step)?;
            }
        }
        let quiet = look.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_busy);
        quiet.for_each(|(place, _)| self.values.rest(place));
        self.left = self.left.saturating_sub(steps.len());
        self.complain();
        self.losses(look.manifest.lost.total)?;
        self.out.flush()?;
        // Relaxed: nothing but the flag itself is passed on.
        let is_over = look.standing != Standing::Recorded || self.stop.load(Ordering::Relaxed) || self.left == 0;
        let is_past = self.until_ns.is_some_and(|until_ns| now_ns > until_ns.saturating_add(2 * WRITTEN_AFTER_NS));
        if is_over || (is_past && !look.is_behind) {
            look.lanes.iter().for_each(|lane| self.accounting.merge(lane.accounting()));
            self.accounting.events_lost = look.manifest.lost.total;
            if look.standing == Standing::Abandoned {
                tell("ada-trace: the recorder was killed; `ada-trace recover` ends the session\n");
            }
            return Ok(ControlFlow::Break(()));
        }
        if !look.is_behind {
            std::thread::sleep(EVERY);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Learns the names of functions and threads that are new.
    fn describe(&mut self, look: &Look<'_, '_, LiveSteps>) -> Result<()> {
        if look.is_first {
            let mut printer = Printer::new(look.functions, self.style);
            let tids = look.lanes.iter().map(|lane| lane.thread.tid);
            // Ids of threads that have not called anything yet are about as long as those of their processes.
            printer.widen(tids.chain(look.manifest.process.iter().map(|process| process.pid)));
            if self.printer.is_none() {
                printer.head(&mut self.out)?;
            }
            self.printer = Some(printer);
            self.values.learn(look.manifest);
        }
        self.values.threads(look.lanes.iter().map(|lane| &lane.thread));
        if let Some(printer) = &mut self.printer {
            look.lanes.iter().skip(printer.threads()).for_each(|lane| printer.thread(&lane.thread));
        }
        Ok(())
    }

    /// Says which details cannot be read. A folder that a flight recorder has deleted meanwhile is passed over.
    fn complain(&mut self) {
        let is_gone = |error: &QueryError| matches!(error, QueryError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
        for (_, error) in self.values.failed.drain(..).filter(|(_, error)| !is_gone(error)) {
            self.failed = true;
            tell(&format!("ada-trace: {error}\n"));
        }
    }

    fn losses(&mut self, total: u64) -> io::Result<()> {
        let more = total.saturating_sub(self.lost);
        if more == 0 {
            return Ok(());
        }
        self.lost = total;
        let line = match self.format {
            Format::Text => format!("/* LOST: {}, {total} in all */", plural(more, "event")),
            Format::Jsonl => json!({ "kind": "losing", "count": more, "events_lost": total }).to_string(),
        };
        self.out.text(&line);
        self.out.end_line()
    }

    fn end(mut self) -> Result<ExitCode> {
        if self.format == Format::Jsonl && self.left > 0 {
            self.out.text(&notes::json(&self.accounting).to_string());
            self.out.end_line()?;
        }
        self.out.finish()?;
        Ok(if self.failed { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
    }
}
