//! The stream of ATF v4: calls, returns and signals of all threads by time, each a message with its length before it, and
//! trace.json.
//!
//! Invariant: ids are 1, 2, 3 … in time order; the first event is TraceStart and the last TraceEnd; trace.json appears
//! whole, when everything else is written.

mod proto;
mod registers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::path::Path;

use prost::Message;
use serde_json::json;

use self::proto::{Event, FunctionCall, FunctionReturn, Payload, SignalDelivery, Timestamp, TraceEnd, TraceStart};
use self::registers::Registers;
use super::names;
use super::out::Out;
use super::{ExportError, Exported, create};
use crate::functions::FunctionIndex;
use crate::replay::{Step, StepKind, replay};
use crate::select::Selection;
use crate::span::{End, MarkKind, Place, Span};
use crate::trace::Trace;

const EVENTS: &str = "events.bin";
const DESCRIPTION: &str = "trace.json";

pub(super) fn export(trace: &Trace, selection: &Selection, dir: &Path) -> Result<Exported, ExportError> {
    let mut writer = Writer::new(trace, Out::new(create(&dir.join(EVENTS))?));
    let first_ns = trace.time_range().map_or(0, |(first, _)| first);
    writer.start(selection.from_ns.unwrap_or(0).max(first_ns))?;
    let outcome = replay(trace, selection, |step| writer.step(step).map(|()| true))?;
    writer.stop()?;
    let (events, start_ns, end_ns) = (writer.next_id - 1, writer.first_ns, writer.last_ns);
    let mut outcome = outcome;
    outcome.failed.append(&mut writer.registers.failed);
    let description = describe(trace, (start_ns, end_ns), events).to_string();
    let bytes = writer.out.finish()? + description.len() as u64;
    write_description(dir, &description)?;
    Ok(Exported { outcome, bytes, ..Exported::default() })
}

struct Writer<'a> {
    trace: &'a Trace,
    out: Out<File>,
    registers: Registers<'a>,
    /// Returns of leaves that lie ahead, mostly one for each thread: their time, and a number that keeps their order.
    ahead: BinaryHeap<Reverse<(u64, u64)>>,
    /// Their threads, and what is to be told.
    waiting: HashMap<u64, (usize, Payload)>,
    count: u64,
    next_id: u64,
    offset_ns: i128,
    first_ns: u64,
    last_ns: u64,
}

impl<'a> Writer<'a> {
    fn new(trace: &'a Trace, out: Out<File>) -> Self {
        Self {
            trace,
            out,
            registers: Registers::new(trace),
            ahead: BinaryHeap::new(),
            waiting: HashMap::new(),
            count: 0,
            next_id: 1,
            offset_ns: names::wall_offset_ns(trace),
            first_ns: 0,
            last_ns: 0,
        }
    }

    fn event(&mut self, thread_id: u32, time_ns: u64, payload: Payload) -> Result<(), ExportError> {
        // A return whose caller was given back late may be older than what was told since.
        self.last_ns = self.last_ns.max(time_ns);
        let wall_ns = i128::from(self.last_ns) + self.offset_ns;
        let timestamp = Timestamp {
            seconds: i64::try_from(wall_ns.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
            nanos: i32::try_from(wall_ns.rem_euclid(1_000_000_000)).unwrap_or(0),
        };
        let event = Event {
            event_id: self.next_id,
            thread_id: thread_id.cast_signed(),
            timestamp: Some(timestamp),
            payload: Some(payload),
        };
        self.next_id += 1;
        // Never fails: a vector grows.
        let _ = event.encode_length_delimited(self.out.buffer());
        Ok(self.out.piece()?)
    }

    fn start(&mut self, time_ns: u64) -> Result<(), ExportError> {
        self.first_ns = time_ns;
        let manifest = self.trace.manifest();
        let process = manifest.process.first();
        let start = TraceStart {
            executable_path: process.map_or_else(String::new, |process| process.executable.clone()),
            args: process.map_or_else(Vec::new, |process| process.args.clone()),
            operating_system: manifest.os.clone(),
            cpu_architecture: manifest.arch.clone(),
        };
        let pid = process.map_or(0, |process| process.pid);
        self.event(pid, time_ns, Payload::TraceStart(start))
    }

    fn stop(&mut self) -> Result<(), ExportError> {
        self.catch_up(u64::MAX)?;
        let process = self.trace.manifest().process.first();
        // As a shell tells it.
        let status = |process: &ada_format::manifest::Process| {
            process.exit_code.or_else(|| process.signal.map(|signal| signal.saturating_add(128)))
        };
        let end = TraceEnd { exit_code: process.and_then(status).unwrap_or(0) };
        let pid = process.map_or(0, |process| process.pid);
        self.event(pid, self.last_ns, Payload::TraceEnd(end))
    }

    /// Tells the returns up to a time.
    fn catch_up(&mut self, time_ns: u64) -> Result<(), ExportError> {
        while let Some(&Reverse((at_ns, number))) = self.ahead.peek()
            && at_ns <= time_ns
        {
            self.ahead.pop();
            if let Some((thread, payload)) = self.waiting.remove(&number) {
                self.event(self.tid(thread), at_ns, payload)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), ExportError> {
        self.catch_up(step.time_ns)?;
        let thread = step.thread;
        match &step.kind {
            StepKind::Enter { function, call, detail, .. } => {
                let payload = self.call(thread, *function, *call, *detail);
                self.event(self.tid(thread), step.time_ns, payload)
            }
            StepKind::Exit { span, leaf: true, detail } => {
                let payload = self.call(thread, span.function, span.call, *detail);
                self.event(self.tid(thread), span.start_ns, payload)?;
                if span.end == End::Return {
                    let payload = self.ret(thread, span);
                    self.count += 1;
                    self.waiting.insert(self.count, (thread, payload));
                    self.ahead.push(Reverse((span.end_ns, self.count)));
                }
                Ok(())
            }
            StepKind::Exit { span, leaf: false, .. } if span.end == End::Return => {
                let payload = self.ret(thread, span);
                self.event(self.tid(thread), span.end_ns, payload)
            }
            StepKind::Mark(mark) if mark.kind == MarkKind::Signal => {
                let (number, registers) = self.registers.signal(thread, mark.place, mark.detail);
                let name = registers::signal_name(number);
                let payload = Payload::SignalDelivery(SignalDelivery { number, name, registers });
                self.event(self.tid(thread), mark.time_ns, payload)
            }
            // The stream knows no other ends, and no losses.
            StepKind::Exit { .. } | StepKind::Mark(_) | StepKind::Gap(_) => Ok(()),
        }
    }

    fn call(&mut self, thread: usize, function: FunctionIndex, place: Place, detail: Option<u32>) -> Payload {
        let (symbol, address) = self.about(thread, function);
        let (argument_registers, stack_shallow_copy) = self.registers.function(thread, place, detail, true);
        Payload::FunctionCall(FunctionCall { symbol, address, argument_registers, stack_shallow_copy })
    }

    fn ret(&mut self, thread: usize, span: &Span) -> Payload {
        let (symbol, address) = self.about(thread, span.function);
        let place = span.ret.unwrap_or(span.call);
        let (return_registers, _) = self.registers.function(thread, place, span.ret_detail, false);
        Payload::FunctionReturn(FunctionReturn { symbol, address, return_registers })
    }

    /// A function's symbol, and where its process has it.
    fn about(&self, thread: usize, function: FunctionIndex) -> (String, u64) {
        let about = self.trace.functions().about(function);
        let symbol = about.name.map_or_else(|| about.to_string(), str::to_owned);
        let offset = self.trace.functions().known().get(function as usize).map_or(0, |known| known.offset);
        let pid = self.trace.threads().get(thread).and_then(|thread| thread.pid);
        let module = self.trace.manifest().modules.iter().find(|module| u64::from(module.module_id) == about.id >> 32);
        let base = pid.zip(module).and_then(|(pid, module)| module.bases.get(&pid)).copied().unwrap_or(0);
        (symbol, base.wrapping_add(offset))
    }

    fn tid(&self, thread: usize) -> u32 {
        self.trace.threads().get(thread).map_or(0, |thread| thread.tid)
    }
}

fn describe(trace: &Trace, (start_ns, end_ns): (u64, u64), events: u64) -> serde_json::Value {
    let offset = names::wall_offset_ns(trace);
    let wall = |time_ns: u64| u64::try_from((i128::from(time_ns) + offset).max(0)).unwrap_or(u64::MAX);
    let manifest = trace.manifest();
    let modules: Vec<_> = manifest
        .modules
        .iter()
        .map(|module| json!({ "uuid": module.build_id.as_deref().map(uuid), "path": module.path }))
        .collect();
    json!({
        "os": manifest.os,
        "arch": manifest.arch,
        "timeStartNs": wall(start_ns),
        "timeEndNs": wall(end_ns),
        "eventCount": events,
        "modules": modules,
    })
}

/// The first 16 bytes of a build-id as a UUID.
fn uuid(build_id: &str) -> String {
    let hex: String = build_id.chars().filter(char::is_ascii_hexdigit).chain("0".repeat(32).chars()).take(32).collect();
    let hex = hex.to_ascii_uppercase();
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    parts.map(|(from, to)| hex.get(from..to).unwrap_or_default()).join("-")
}

fn write_description(dir: &Path, text: &str) -> Result<(), ExportError> {
    let (path, temporary) = (dir.join(DESCRIPTION), dir.join("trace.json.new"));
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|source| ExportError::File { path, source })
}
