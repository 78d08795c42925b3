//! The kernel programs of ada-trace: each turns one event of a target thread into one wire record in the ring of the
//! processor that it happened on.
//!
//! Invariants: no policy here (what is probed, for whom and how wide a record is was decided before loading); a record
//! takes its time before its place in the ring, on which the collector's ordering rests (ada-user, `merge`); what
//! cannot be delivered is counted by processor, reason and thread.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod capture;
mod detail;
mod filter;
mod follow;
mod frames;
mod go;
mod ids;
mod kernel;
mod loss;
mod maps;
mod rate;
mod record;
mod registers;
mod signal;
mod task;

use ada_format::wire::{cookie, kind};
use aya_ebpf::{
    EbpfContext,
    macros::{raw_tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};

use crate::{maps::follow, registers::Frame, task::Task};

#[uprobe]
fn function_entry(ctx: ProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        record::call(ids, Frame::at_entry(&ctx), &ctx);
    }
    0
}

#[uretprobe]
fn function_return(ctx: RetProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        record::ret(ids, registers::stack_pointer_before_return(&ctx), &ctx);
    }
    0
}

#[uprobe]
fn function_exit(ctx: ProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        // At a `ret`, or a jump to another function, the stack pointer is again what it was at the entry.
        record::ret(ids, registers::stack_pointer(&ctx), &ctx);
    }
    0
}

#[uprobe(sleepable)]
fn entry_capturing(ctx: ProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        record::capturing_call(ids, Frame::at_entry(&ctx), &ctx);
    }
    0
}

#[uretprobe(sleepable)]
fn return_capturing(ctx: RetProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        record::capturing_ret(ids, registers::stack_pointer_before_return(&ctx), &ctx);
    }
    0
}

#[uprobe(sleepable)]
fn exit_capturing(ctx: ProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        record::capturing_ret(ids, registers::stack_pointer(&ctx), &ctx);
    }
    0
}

#[uprobe]
fn go_entry(ctx: ProbeContext) -> u32 {
    let cookie = record::cookie(&ctx);
    if record::grows_stack(cookie, &ctx) {
        return 0;
    }
    if let Some(ids) = ids::recorded() {
        record::on_stack(ids, kind::CALL, go::place(&ctx), cookie, &ctx);
    }
    0
}

#[uprobe]
fn go_exit(ctx: ProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        record::on_stack(ids, kind::RETURN, go::place(&ctx), record::cookie(&ctx), &ctx);
    }
    0
}

#[uprobe]
fn function_count(ctx: ProbeContext) -> u32 {
    let cookie = record::cookie(&ctx);
    if record::grows_stack(cookie, &ctx) {
        return 0;
    }
    if let Some(ids) = ids::recorded()
        && filter::wants(ids)
    {
        record::count_call(cookie & !cookie::FLAGS);
    }
    0
}

#[uprobe]
fn libraries_changed(_ctx: ProbeContext) -> u32 {
    if let Some(ids) = ids::recorded() {
        follow::libraries_changed(ids);
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn thread_exit(ctx: RawTracePointContext) -> i32 {
    if let Some(ids) = ids::ending() {
        frames::forget(ids);
        let name = ctx.command().unwrap_or_default();
        record::lifecycle(ids, kind::THREAD_EXIT, 0, name);
        if follow!(known) != 0 {
            follow::exited(ids, Task::at(ctx.arg(0)));
        }
    }
    0
}

#[raw_tracepoint(tracepoint = "signal_deliver")]
fn signal_deliver(ctx: RawTracePointContext) -> i32 {
    if let Some(ids) = ids::recorded()
        && filter::wants(ids)
    {
        signal::delivered(ids, ctx.arg(0), ctx.arg(1));
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(ctx: RawTracePointContext) -> i32 {
    if let Some(ids) = ids::recorded() {
        follow::forked(ids, Task::at(ctx.arg(1)));
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(ctx: RawTracePointContext) -> i32 {
    if let Some(ids) = ids::recorded() {
        frames::forget(ids);
        let name = ctx.command().unwrap_or_default();
        follow::executed(ids, name);
    }
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_ktime_get_boot_ns, ring buffers and attach cookies are for GPL-compatible programs; this text is what the kernel checks.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
