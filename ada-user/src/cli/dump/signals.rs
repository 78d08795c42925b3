//! A signal's delivery in words: `SIGSEGV SEGV_MAPERR at 0x0, rip 0x55d0c0ffee42`. Where that is, `places` tells.
//!
//! Invariant: a number without a name is written as a number.

use ada_format::read::SignalEvent;
use ada_user::trigger::signal_name;

/// Where the program counter is among so many registers, and what it is called there.
fn program_counter(registers: usize) -> Option<(usize, &'static str)> {
    match registers {
        18 => Some((16, "rip")),
        34 => Some((32, "pc")),
        _ => None,
    }
}

/// Where it came: the program counter.
pub(super) fn address(signal: &SignalEvent<'_>) -> Option<u64> {
    let (place, _) = program_counter(signal.registers.len())?;
    signal.registers.get(place).map(|register| register.get())
}

/// Which signal, why, at which address, and where it came.
pub(in crate::cli) fn describe(signal: &SignalEvent<'_>) -> String {
    let (number, code) = (signal.fixed.number.get(), signal.fixed.code.get());
    let mut text = format!("{} {}", name(number), code_name(number, code));
    if code > 0 && code != SI_KERNEL && matches!(number, 4 | 5 | 7 | 8 | 11) {
        text += &format!(" at {:#x}", signal.fixed.fault_address.get());
    }
    if let Some((place, register)) = program_counter(signal.registers.len())
        && let Some(value) = signal.registers.get(place)
    {
        text += &format!(", {register} {:#x}", value.get());
    }
    text
}

/// Its name, such as SIGSEGV.
pub(super) fn name(number: u32) -> String {
    let known = i32::try_from(number).ok().and_then(signal_name);
    known.map_or_else(|| format!("signal {number}"), str::to_owned)
}

const SI_KERNEL: i32 = 0x80;

/// include/uapi/asm-generic/siginfo.h
fn code_name(number: u32, code: i32) -> String {
    let named = match (number, code) {
        (_, 0) => "SI_USER",
        (_, -1) => "SI_QUEUE",
        (_, -2) => "SI_TIMER",
        (_, -3) => "SI_MESGQ",
        (_, -4) => "SI_ASYNCIO",
        (_, -5) => "SI_SIGIO",
        (_, -6) => "SI_TKILL",
        (_, SI_KERNEL) => "SI_KERNEL",
        (4, 1) => "ILL_ILLOPC",
        (4, 2) => "ILL_ILLOPN",
        (4, 5) => "ILL_PRVOPC",
        (5, 1) => "TRAP_BRKPT",
        (5, 2) => "TRAP_TRACE",
        (7, 1) => "BUS_ADRALN",
        (7, 2) => "BUS_ADRERR",
        (7, 3) => "BUS_OBJERR",
        (8, 1) => "FPE_INTDIV",
        (8, 2) => "FPE_INTOVF",
        (8, 3) => "FPE_FLTDIV",
        (8, 7) => "FPE_FLTINV",
        (11, 1) => "SEGV_MAPERR",
        (11, 2) => "SEGV_ACCERR",
        (17, 1) => "CLD_EXITED",
        (17, 2) => "CLD_KILLED",
        (17, 3) => "CLD_DUMPED",
        (17, 5) => "CLD_STOPPED",
        (17, 6) => "CLD_CONTINUED",
        _ => return format!("code {code}"),
    };
    named.to_owned()
}
