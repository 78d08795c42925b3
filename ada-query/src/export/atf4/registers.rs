//! Registers of calls, returns and signals, under the names that the processor's makers give them.
//!
//! Invariant: threads take turns, each reads its own detail file forwards; a file that fails is named and left alone.

use std::collections::BTreeMap;

use ada_format::read::Payload;

use crate::QueryError;
use crate::detail::Details;
use crate::export::values::register_names;
use crate::span::Place;
use crate::trace::Trace;

const SIGNAL_X86: [&str; 18] = [
    "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    "RIP", "RFLAGS",
];
/// From 1 on, as Linux numbers them on x86-64 and arm64.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

type Names = BTreeMap<String, u64>;

/// Reads the registers of all threads.
#[derive(Debug)]
pub(super) struct Registers<'a> {
    trace: &'a Trace,
    /// By the thread's place, made when it is first asked.
    threads: Vec<Option<Details>>,
    pub(super) failed: Vec<(u32, QueryError)>,
}

impl<'a> Registers<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self { trace, threads: trace.threads().iter().map(|_| None).collect(), failed: Vec::new() }
    }

    /// Those of a call or return, and its stack.
    pub(super) fn function(
        &mut self,
        thread: usize,
        place: Place,
        detail: Option<u32>,
        is_call: bool,
    ) -> (Names, Vec<u8>) {
        let names = register_names(&self.trace.manifest().arch, is_call);
        let read = |payload: Payload<'_>| match payload {
            Payload::Function(function) => {
                let values = function.fixed.regs.iter().map(|register| register.get());
                let registers = names.iter().map(|name| name.to_uppercase()).zip(values).collect();
                Some((registers, function.stack.to_vec()))
            }
            Payload::Signal(_) => None,
        };
        self.read(thread, place, detail, read).unwrap_or_default()
    }

    /// A signal's number, and the registers at its delivery.
    pub(super) fn signal(&mut self, thread: usize, place: Place, detail: Option<u32>) -> (i32, Names) {
        let is_arm = self.trace.manifest().arch == "arm64";
        let name = |index: usize| match (is_arm, index) {
            (false, _) => SIGNAL_X86.get(index).map(|name| (*name).to_owned()),
            (true, 31) => Some("SP".to_owned()),
            (true, 32) => Some("PC".to_owned()),
            (true, 33) => Some("PSTATE".to_owned()),
            (true, _) => Some(format!("X{index}")),
        };
        let read = |payload: Payload<'_>| match payload {
            Payload::Signal(signal) => {
                let registers = signal.registers.iter().enumerate();
                let named = registers.filter_map(|(index, register)| Some((name(index)?, register.get())));
                Some((i32::try_from(signal.fixed.number.get()).unwrap_or(0), named.collect()))
            }
            Payload::Function(_) => None,
        };
        self.read(thread, place, detail, read).unwrap_or_default()
    }

    fn read<T>(
        &mut self,
        thread: usize,
        place: Place,
        detail: Option<u32>,
        read: impl FnOnce(Payload<'_>) -> Option<T>,
    ) -> Option<T> {
        let about = self.trace.threads().get(thread)?;
        let details = self.threads.get_mut(thread)?.get_or_insert_with(|| Details::new(about));
        match details.event(place.part, detail?) {
            Ok(event) => read(event?.event().payload()?),
            Err(error) => {
                self.failed.push((place.part, error));
                details.stop();
                None
            }
        }
    }
}

/// `SIGSEGV` of 11; `signal 40` of a number without a name.
pub(super) fn signal_name(number: i32) -> String {
    let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let name = place.and_then(|place| SIGNALS.get(place));
    name.map_or_else(|| format!("signal {number}"), |name| (*name).to_owned())
}
