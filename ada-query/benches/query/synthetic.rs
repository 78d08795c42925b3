//! Synthetic sessions: threads that call functions as programs do.
//!
//! Invariant: the same arguments make the same events, and every call has its return but those that run at the end.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{Function, Manifest, Module, Process, Session, SessionStatus, Thread};
use ada_format::session;
use ada_format::write::{ThreadMeta, ThreadWriter};

type Failure = Box<dyn std::error::Error>;

/// What a session is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) events: u64,
    pub(crate) threads: u32,
    pub(crate) functions: u32,
    pub(crate) calls: Calls,
}

/// Which functions call which.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Calls {
    /// Any calls any, those with low numbers more often.
    Any,
    /// Each calls so many others, equally often.
    Few(u32),
}

/// The first timestamp.
const START_NS: u64 = 1_000_000_000_000;
const PID: u32 = 4242;

/// Writes a session to `dir`, which is empty or does not exist.
pub(crate) fn write(dir: &Path, shape: Shape) -> Result<(), Failure> {
    session::create(dir)?;
    let mut manifest = manifest(shape);
    for id in 0..shape.threads {
        let events = shape.events / u64::from(shape.threads);
        let meta = ThreadMeta { thread_id: PID + id, arch: Arch::host(), os: Os::Linux, clock: ClockType::Boottime };
        let mut writer = ThreadWriter::create(&session::thread_folder(dir, id), &meta)?;
        write_thread(&mut writer, events, shape, u64::from(id) + 1)?;
        let summary = writer.finish()?;
        manifest.event_count += summary.event_count;
        manifest.time_start_ns = START_NS;
        manifest.time_end_ns = manifest.time_end_ns.max(summary.time_end_ns);
        manifest.threads.push(Thread {
            id,
            pid: PID,
            tid: PID + id,
            name: format!("worker-{id}"),
            event_count: summary.event_count,
            time_start_ns: summary.time_start_ns,
            time_end_ns: summary.time_end_ns,
            ..Thread::default()
        });
    }
    Ok(manifest.write_atomic(dir)?)
}

fn manifest(shape: Shape) -> Manifest {
    let function = |index: u32| Function {
        function_id: id(index),
        name: format!("function_{index:04}"),
        offset: 0x1000 + u64::from(index) * 64,
        size: 64,
        probe_offset: 0x1000 + u64::from(index) * 64,
        ..Function::default()
    };
    Manifest {
        session: Session { status: SessionStatus::Complete, complete: true, ..Session::default() },
        process: vec![Process { pid: PID, executable: "/usr/bin/synthetic".to_owned(), ..Process::default() }],
        modules: vec![Module { module_id: 1, path: "/usr/bin/synthetic".to_owned(), ..Module::default() }],
        functions: (0..shape.functions).map(function).collect(),
        ..Manifest::default()
    }
}

fn id(function: u32) -> u64 {
    1 << 32 | u64::from(function)
}

/// A walk up and down the stack: deeper functions are called more often, and take less time.
fn write_thread(writer: &mut ThreadWriter, events: u64, shape: Shape, seed: u64) -> Result<(), Failure> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut stack: Vec<u32> = Vec::new();
    let mut time_ns = START_NS;
    for _ in 0..events {
        let draw = random.next();
        time_ns += 20 + (draw & 0x7f) + if draw >> 20 & 0xff == 0 { draw >> 28 & 0xffff } else { 0 };
        // Around depth 8, and never at 0 for long.
        let up = stack.is_empty() || (stack.len() < 60 && (draw >> 48) % 16 >= (stack.len() as u64).clamp(2, 14) - 1);
        if up {
            let function = callee(shape, stack.last().copied(), &mut random);
            writer.append(time_ns, id(function), EventKind::Call, stack.len() as u32)?;
            stack.push(function);
        } else if let Some(function) = stack.pop() {
            writer.append(time_ns, id(function), EventKind::Return, stack.len() as u32)?;
        }
    }
    Ok(())
}

/// What a function calls next, or a thread without any.
fn callee(shape: Shape, caller: Option<u32>, random: &mut Random) -> u32 {
    let functions = u64::from(shape.functions);
    let callee = match shape.calls {
        Calls::Any => (random.next() % functions) * (random.next() % 64) / 64,
        // Every function has as many callers.
        Calls::Few(count) => {
            let count = u64::from(count);
            (u64::from(caller.unwrap_or(0)) * count + random.next() % count) % functions
        }
    };
    callee as u32
}

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
