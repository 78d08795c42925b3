//! A signal is delivered to a recorded thread: which one, why, and the registers that it interrupts.
//!
//! Invariant: a signal that ends the process is told before the process's end, by each of its threads.

use ada_format::wire::{Record, Signal, kind};
use aya_ebpf::helpers::{
    bpf_probe_read_kernel,
    generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
};

use crate::{ids::Ids, kernel::SIGSTOP, loss::count, record, record::Place, registers, task::Task};

/// asm-generic/signal.h; the same on x86.
const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGSEGV: u32 = 11;

/// `si_code`, include/uapi/asm-generic/siginfo.h: the kernel's own word, the bpf_send_signal of `follow` included.
const SI_KERNEL: i32 = 0x80;
/// kill(2), sigqueue(3) and tgkill(2): the sender is known.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;

/// In place of a `kernel_siginfo` (`SEND_SIG_NOINFO`): a signal whose default action ends the process has been sent, and this
/// SIGKILL ends the thread on its behalf (kernel/signal.c, `complete_signal`); or another thread has called exit.
const NO_INFO: u64 = 0;

/// The front of the kernel's `struct kernel_siginfo`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    number: i32,
    errno: i32,
    code: i32,
    padding: i32,
    /// A union: the sender's process and user, or the address of a fault.
    about: u64,
}

/// Signal `number` is delivered to the current thread, with the `struct kernel_siginfo` at `info`.
#[inline(always)]
pub fn delivered(ids: Ids, number: u32, info: u64) {
    let (number, info) = match info {
        NO_INFO => match Task::now().fatal_signal() {
            Some(number) => (number, Info { number: number as i32, errno: 0, code: SI_USER, padding: 0, about: 0 }),
            None => return,
        },
        // SAFETY: a helper that fails on an address that cannot be read.
        _ => match unsafe { bpf_probe_read_kernel(info as *const Info) } {
            Ok(info) => (number, info),
            Err(_) => return,
        },
    };
    // The stop by which the collector looks at a process is no event of the program.
    if number == SIGSTOP && info.code == SI_KERNEL {
        return;
    }
    let record = Record { kind: kind::SIGNAL, ..record::stamped(ids) };
    let place = match Place::reserve_kept((size_of::<Record>() + size_of::<Signal>()) as u64) {
        Ok(place) => place,
        Err(reason) => return count(&record, reason),
    };
    // SAFETY: the place begins with a record and a signal, aligned like the ring.
    let signal = unsafe {
        place.bytes.cast::<Record>().write(record);
        &mut *place.bytes.add(size_of::<Record>()).cast::<Signal>()
    };
    let fault = matches!(number, SIGILL | SIGTRAP | SIGBUS | SIGFPE | SIGSEGV) && info.code > 0;
    let sent = matches!(info.code, SI_USER | SI_QUEUE | SI_TKILL);
    signal.number = number;
    signal.code = info.code;
    signal.fault_address = if fault && info.code != SI_KERNEL { info.about } else { 0 };
    signal.sender = if sent { info.about as u32 } else { 0 };
    // SAFETY: helpers without preconditions; the task is the current one.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    signal.register_count = registers::of_task(regs, &mut signal.registers);
    place.submit();
}
