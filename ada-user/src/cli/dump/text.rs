//! Events as lines for people: time, process and thread, calls and returns indented by depth.
//!
//! ```text
//! #  TIME (s)    PID/TID    THREAD  CALL
//!   0.000000000  4242/4243  worker  -> outer
//!   0.000001000  4242/4243  worker    -> malloc (0x20, 0x0, 0x7f0c1a2b3c40, 0x1, 0x0, 0x0)
//!   0.000001200  4242/4243  worker      -> open(path="/etc/hostname", flags=O_RDONLY)
//!   0.000001300  4242/4243  worker      <- open = 3
//!   0.000001500  4242/4243  worker    <- malloc = 0x55d0c0ffee10
//! --- 12 events lost between 0.000001600s and 0.000001800s, thread 1 (4242/4243 worker) ---
//!   0.000001900  4242/4243  worker    !! SIGSEGV SEGV_MAPERR at 0x0, rip 0x55d0c0ffee42
//!   0.000002000  4242/4243  worker  !! outer left without a return
//!   0.000003000  4242/4243  worker  -- on stack 7
//! ```
//!
//! Invariant: columns are as wide in every line; what follows the arrow is the rest of the line.

use std::cell::OnceCell;
use std::io::{self, Write};

use ada_format::layout::{EventKind, NO_FUNCTION};
use ada_format::manifest::Gap;
use ada_format::read::{DetailEvent, FunctionEvent, Payload, SessionReader};
use ada_format::values::{Observed, write_call};

use super::places::Places;
use super::selection::Selection;
use super::signals;
use super::{Event, Style};
use crate::cli::names::{self, IdMap, Typed, Who};
use crate::cli::out::Out;

/// Indentation ends here; the depth is written instead.
const DEEPEST: u32 = 40;
/// Digits of whole seconds for which there is room in any session.
const LEAST_SECONDS: usize = 3;
/// The longest name that Linux gives a thread; others are cut.
const LONGEST_NAME: usize = 15;
/// Argument registers that are shown of a call.
const ARGUMENTS: usize = 6;

/// Lines for people.
pub(super) struct Text<'s> {
    session: &'s SessionReader,
    functions: IdMap<String>,
    typed: IdMap<Typed>,
    /// What stands between the time and the call, by place in the selection.
    columns: Vec<String>,
    header: String,
    /// The process of each thread, by place in the selection.
    processes: Vec<Option<u32>>,
    /// Made for the first signal: few sessions have one.
    places: OnceCell<Places>,
    /// The session's first event, time zero.
    first_ns: u64,
    seconds_width: usize,
    /// Whether details were kept only in windows: what is a signal is known there alone.
    in_windows: bool,
    /// Whether registers are not arguments everywhere, and so are written with their names.
    names_registers: bool,
}

impl<'s> Text<'s> {
    /// Lines for the threads of a selection.
    pub(super) fn new(session: &'s SessionReader, selection: &Selection<'_>) -> Self {
        let (first_ns, last_ns) = session.time_range().unwrap_or_default();
        let seconds_width = ((last_ns - first_ns) / 1_000_000_000).to_string().len().max(LEAST_SECONDS);
        let people = selection.threads.iter().map(|(_, who)| [who.ids(), cut(&who.name)]);
        let rows: Vec<[String; 2]> = people.collect();
        let width = |column: usize, title: &str| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0).max(title.len())
        };
        let (ids_width, name_width) = (width(0, "PID/TID"), width(1, "THREAD"));
        let column = |[ids, name]: &[String; 2]| format!("  {ids:<ids_width$}  {name:<name_width$}  ");
        let titles = column(&["PID/TID".to_owned(), "THREAD".to_owned()]);
        Self {
            session,
            functions: names::by_function(session.manifest(), |function, _| names::readable(function).into_owned()),
            typed: names::with_signatures(session.manifest()),
            columns: rows.iter().map(column).collect(),
            header: format!("#{:^width$}{titles}CALL", "TIME (s)", width = seconds_width + 9),
            processes: selection.threads.iter().map(|(_, who)| who.pid).collect(),
            places: OnceCell::new(),
            first_ns,
            seconds_width,
            in_windows: !session.manifest().windows.is_empty(),
            names_registers: session.manifest().modules.iter().any(|module| module.language.is_some()),
        }
    }

    fn time<W: Write>(&self, out: &mut Out<W>, time_ns: u64, width: usize) {
        out.seconds(time_ns < self.first_ns, time_ns.abs_diff(self.first_ns), width);
    }

    /// What its types make of a call or return.
    fn typed<W: Write>(out: &mut Out<W>, event: &Event<'_>, typed: &Typed, observed: &Observed<'_>) {
        if event.kind == Some(EventKind::Return) {
            out.text(&typed.name);
        }
        // A buffer in memory takes everything.
        let _ = write_call(out, &typed.name, &typed.signature, observed);
    }

    /// What the registers say: arguments of a call, the value of a return.
    fn values<W: Write>(&self, out: &mut Out<W>, kind: Option<EventKind>, detail: &DetailEvent<'_>) {
        match detail.payload() {
            Some(Payload::Function(function)) if kind == Some(EventKind::Return) => {
                out.text(if self.names_registers { " rax=" } else { " = " });
                out.hex(function.fixed.regs[0].get());
            }
            Some(Payload::Function(function)) => arguments(out, &function, self.names_registers),
            Some(Payload::Signal(_)) | None => {}
        }
    }

    /// A signal, or a call that was left.
    #[cold]
    fn exception<W: Write>(&self, out: &mut Out<W>, thread: usize, event: &Event<'_>) {
        if let Some(Payload::Signal(signal)) = event.detail.as_ref().and_then(DetailEvent::payload) {
            out.text(&signals::describe(&signal));
            let pid = self.processes.get(thread).copied().flatten();
            let places = || self.places.get_or_init(|| Places::new(self.session.manifest()));
            let place = pid.zip(signals::address(&signal)).and_then(|(pid, address)| places().of(pid, address));
            if let Some(place) = place {
                out.text(&format!(" ({place})"));
            }
            return;
        }
        if event.function_id == NO_FUNCTION {
            return out.text("a signal");
        }
        self.function(out, event.function_id);
        out.text(if self.in_windows { " left without a return, or a signal" } else { " left without a return" });
    }

    fn function<W: Write>(&self, out: &mut Out<W>, id: u64) {
        match self.functions.get(&id) {
            Some(name) => out.text(name),
            None => {
                out.text("function ");
                out.hex(id);
            }
        }
    }
}

impl Style for Text<'_> {
    fn begin<W: Write>(&self, out: &mut Out<W>) -> io::Result<()> {
        out.text(&self.header);
        out.end_line()
    }

    #[inline]
    fn event<W: Write>(&self, out: &mut Out<W>, thread: usize, event: &Event<'_>) -> io::Result<()> {
        self.time(out, event.time_ns, self.seconds_width);
        out.text(self.columns.get(thread).map_or("", String::as_str));
        indent(out, event.depth);
        out.text(match event.kind {
            Some(EventKind::Call) => "-> ",
            Some(EventKind::Return) => "<- ",
            Some(EventKind::Exception) => "!! ",
            Some(EventKind::Switch) => "-- on stack ",
            None => "?? ",
        });
        let typed = event.detail.as_ref().zip(self.typed.get(&event.function_id));
        match typed.and_then(|(detail, typed)| Some((Observed::event(detail)?, typed))) {
            Some((observed, typed)) => Self::typed(out, event, typed, &observed),
            None if event.kind == Some(EventKind::Exception) => self.exception(out, thread, event),
            None if event.kind == Some(EventKind::Switch) => out.number(event.function_id),
            None => {
                self.function(out, event.function_id);
                if let Some(detail) = &event.detail {
                    self.values(out, event.kind, detail);
                }
            }
        }
        out.end_line()
    }

    fn lost<W: Write>(&self, out: &mut Out<W>, gap: &Gap, who: &Who) -> io::Result<()> {
        out.text("--- ");
        out.number(gap.count);
        out.text(if gap.count == 1 { " event lost between " } else { " events lost between " });
        self.time(out, gap.time_start_ns, 0);
        out.text("s and ");
        self.time(out, gap.time_end_ns, 0);
        out.text("s, thread ");
        out.number(gap.thread.into());
        out.text(" (");
        out.text(format!("{} {}", who.ids(), who.name).trim_end());
        out.text(") ---");
        out.end_line()
    }
}

fn cut(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

#[inline]
fn indent<W: Write>(out: &mut Out<W>, depth: u32) {
    if depth <= DEEPEST {
        out.spaces(2 * depth as usize);
        return;
    }
    out.spaces(2 * DEEPEST as usize);
    out.text("[");
    out.number(depth.into());
    out.text("] ");
}

const REGISTERS: [&str; ARGUMENTS] = ["rdi=", "rsi=", "rdx=", "rcx=", "r8=", "r9="];

fn arguments<W: Write>(out: &mut Out<W>, function: &FunctionEvent<'_>, names: bool) {
    let mut before = " (";
    for (register, name) in function.fixed.regs.iter().zip(REGISTERS) {
        out.text(before);
        out.text(if names { name } else { "" });
        out.hex(register.get());
        before = ", ";
    }
    out.text(")");
}
