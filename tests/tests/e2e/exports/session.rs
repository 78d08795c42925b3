//! Sessions for exports: threads that call, throw, lose events, and are interrupted.
//!
//! Invariant: the same arguments make the same session.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{
    Anchor, Clock, Function, Gap, Lost, Manifest, Module, Process, Session, SessionStatus, Thread,
};
use ada_format::session::{create, thread_folder};
use ada_format::write::{Detail, FunctionDetail, SignalDetail, ThreadMeta, ThreadWriter};

const PID: u32 = 4000;
const START_NS: u64 = 5_000_000_000_000;
/// Names that formats have to quote.
const NAMES: [&str; 7] = ["main", "parse,\"x\"", "a::b<int, char>", "größe", "leaf", "never_returns", "back\\slash"];

/// What goes wrong in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    /// Nothing.
    None,
    /// Returns that are not seen, unwinding, signals, lost events, calls open at the end, registers.
    Many,
    /// Handlers on a stack of their own, which end before what they interrupt goes on.
    Handlers,
    /// What many has, and stacks that take turns as goroutines do.
    All,
}

/// Writes a session with `threads` threads of about `events` events each.
pub(super) fn write(dir: &Path, threads: u32, events: u64, faults: Faults) {
    create(dir).expect("a session");
    let mut manifest = manifest();
    for id in 0..threads {
        let meta = ThreadMeta { thread_id: PID + id, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
        let writer = ThreadWriter::create(&thread_folder(dir, id), &meta).expect("a thread");
        let mut player = Player::new(writer, u64::from(id) + 1, faults);
        player.play(events);
        let gaps = player.gaps.iter().map(|gap| Gap { thread: id, ..*gap });
        manifest.lost.gaps.extend(gaps);
        let lost = player.gaps.iter().map(|gap| gap.count).sum();
        manifest.lost.total += lost;
        let summary = player.writer.finish().expect("finished");
        manifest.event_count += summary.event_count;
        manifest.threads.push(Thread {
            id,
            pid: PID,
            tid: PID + id,
            name: format!("worker \"{id}\""),
            lost,
            event_count: summary.event_count,
            ..Thread::default()
        });
    }
    manifest.write_atomic(dir).expect("a manifest");
}

fn manifest() -> Manifest {
    let function = |(index, name): (usize, &&str)| Function {
        function_id: id(index as u64),
        name: (*name).to_owned(),
        offset: 0x1000,
        ..Function::default()
    };
    Manifest {
        arch: "x86_64".to_owned(),
        clock: Clock {
            anchors: vec![Anchor { boottime_ns: START_NS, realtime_ns: 1_767_225_600_000_000_000 }],
            ..Clock::default()
        },
        session: Session { id: "exported".to_owned(), status: SessionStatus::Complete, ..Session::default() },
        process: vec![Process { pid: PID, executable: "/opt/app".to_owned(), ..Process::default() }],
        modules: vec![Module { module_id: 1, path: "/opt/app".to_owned(), ..Module::default() }],
        functions: NAMES.iter().enumerate().map(function).collect(),
        lost: Lost::default(),
        ..Manifest::default()
    }
}

fn id(function: u64) -> u64 {
    1 << 32 | function
}

struct Player {
    writer: ThreadWriter,
    random: u64,
    faults: Faults,
    time_ns: u64,
    /// Functions that run, and those of another stack.
    stack: Vec<u64>,
    other: Vec<u64>,
    which: u64,
    gaps: Vec<Gap>,
    position: u64,
}

impl Player {
    fn new(writer: ThreadWriter, seed: u64, faults: Faults) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (stack, other, gaps) = (Vec::new(), Vec::new(), Vec::new());
        Self { writer, random, faults, time_ns: START_NS, stack, other, which: 0, gaps, position: 0 }
    }

    /// Marsaglia's xorshift64*.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn play(&mut self, events: u64) {
        while self.position < events {
            self.time_ns += self.draw(5) * 17;
            if self.faults == Faults::Handlers && self.which == 1 && self.stack.is_empty() {
                self.swap();
            }
            match self.draw(200) {
                0..=2 if matches!(self.faults, Faults::Many | Faults::All) => self.fault(),
                3..=8 if self.faults == Faults::All || (self.faults == Faults::Handlers && self.which == 0) => {
                    self.swap();
                }
                draw if self.stack.is_empty() || (draw % 2 == 0 && self.stack.len() < 12) => self.call(),
                _ => self.leave(),
            }
        }
        // Without faults nothing is open at the end.
        while self.faults == Faults::None && !self.stack.is_empty() {
            self.time_ns += 5;
            self.leave();
        }
    }

    /// Goes on with the other stack.
    fn swap(&mut self) {
        std::mem::swap(&mut self.stack, &mut self.other);
        self.which = 1 - self.which;
        if self.faults == Faults::Handlers && self.which == 1 {
            self.call();
        }
    }

    fn call(&mut self) {
        // Stacks that take turns run functions of their own: which stack a return is of must be certain.
        let function = match self.faults {
            Faults::Handlers | Faults::All => self.draw(3) * 2 + self.which,
            _ => self.draw(NAMES.len() as u64),
        };
        let depth = self.stack.len() as u32;
        if self.faults != Faults::None && self.draw(4) == 0 {
            let regs = [self.position, 2, 3, 4, 5, 6, 7, 8];
            let detail = Detail::Function(FunctionDetail { regs, ..FunctionDetail::default() });
            let appended = self.writer.append_with_detail(self.time_ns, id(function), EventKind::Call, depth, &detail);
            appended.expect("appended");
            self.position += 1;
        } else {
            self.append(function, EventKind::Call, depth);
        }
        self.stack.push(function);
    }

    /// The only function that nobody sees return, in sessions with faults, is one of its own.
    fn leave(&mut self) {
        let Some(function) = self.stack.pop() else { return };
        let depth = self.stack.len() as u32;
        match self.draw(40) {
            _ if matches!(self.faults, Faults::None | Faults::Handlers) => {
                self.append(function, EventKind::Return, depth);
            }
            _ if NAMES[function as usize] == "never_returns" => {}
            0 => self.append(function, EventKind::Exception, depth),
            _ => self.append(function, EventKind::Return, depth),
        }
    }

    fn fault(&mut self) {
        match self.draw(3) {
            0 => {
                let registers: Vec<u64> = (1..=18).collect();
                let signal =
                    Detail::Signal(SignalDetail { number: 11, code: 1, fault_address: 16, registers: &registers });
                let depth = self.stack.len() as u32;
                let appended =
                    self.writer.append_with_detail(self.time_ns, id(0), EventKind::Exception, depth, &signal);
                appended.expect("appended");
                self.position += 1;
            }
            1 => {
                // What happens now is not recorded.
                let (count, start) = (self.draw(9) + 1, self.time_ns);
                let left = self.draw(4) as usize;
                self.stack.truncate(left);
                self.time_ns += 400;
                self.gaps.push(Gap {
                    thread: 0,
                    after_index_seq: self.position.checked_sub(1),
                    count,
                    time_start_ns: start,
                    time_end_ns: self.time_ns,
                });
            }
            // A long jump.
            _ => {
                let left = self.draw(6) as usize;
                self.stack.truncate(left);
            }
        }
    }

    fn append(&mut self, function: u64, kind: EventKind, depth: u32) {
        self.writer.append(self.time_ns, id(function), kind, depth).expect("appended");
        self.position += 1;
    }
}
