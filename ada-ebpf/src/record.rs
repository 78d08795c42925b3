//! Reserve a record in this processor's ring, fill it, submit it; wake the collector once per so many bytes.

use core::sync::atomic::AtomicU64;

use ada_format::wire::{Record, Registers, cookie, flags, kind, loss};
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS},
    btf_maps::RingBuf,
    helpers::{bpf_get_attach_cookie, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ringbuf_query},
};

use crate::{
    filter,
    ids::Ids,
    loss::{add_one, count},
    maps::{COUNTS, RINGS, config, follow},
    registers,
};

type Ring = RingBuf<u8, 4096>;

/// A record with its registers, as they lie in the ring.
#[repr(C)]
struct Wide {
    record: Record,
    registers: Registers,
}

/// The kernel's own header before each record (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER: u64 = 8;

/// What the probe that fired was attached with.
#[inline(always)]
pub fn cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: a helper without preconditions but a valid context.
    unsafe { bpf_get_attach_cookie(ctx.as_ptr()) }
}

/// Whether the probe sits on the jump of a stack check that is about to be taken: no call yet, see [`cookie::STACK_CHECK`].
#[inline(always)]
pub fn grows_stack(cookie: u64, ctx: &impl EbpfContext) -> bool {
    cookie & cookie::STACK_CHECK != 0 && registers::below_or_equal(ctx)
}

/// Records a call or return of the function whose probe fired, unless it is filtered out.
#[inline(always)]
pub fn function(ids: Ids, kind: u16, flags: u16, sp: u64, ctx: &impl EbpfContext) {
    let filtered = config!(filter.any) != 0;
    if filtered && !filter::wants(ids) {
        return;
    }
    let mut record = Record { function_id: cookie(ctx), sp, kind, flags, ..stamped(ids) };
    if !filtered || filter::passes(&mut record) {
        emit(record, ctx);
    }
}

/// Records a call or return on a stack that need not be the thread's own, unless it is filtered out.
#[inline(always)]
pub fn on_stack(ids: Ids, kind: u16, sp: u64, stack: u32, function_id: u64, ctx: &impl EbpfContext) {
    let filtered = config!(filter.any) != 0;
    if filtered && !filter::wants(ids) {
        return;
    }
    let record = Record { function_id, sp, kind, stack, ..stamped(ids) };
    if !filtered || filter::passes_by_itself(&record) {
        emit(record, ctx);
    }
}

#[inline(always)]
fn emit(record: Record, ctx: &impl EbpfContext) {
    if config!(registers) == 0 {
        submit(record);
    } else {
        submit_wide(record, ctx);
    }
}

/// Counts a call instead of recording it.
#[inline(always)]
pub fn count_call(function_id: u64) {
    let first = || {
        // Another processor may be first: then it is there.
        let _ = COUNTS.insert(function_id, AtomicU64::new(0), u64::from(BPF_NOEXIST));
        COUNTS.get_ptr(function_id)
    };
    if let Some(counter) = COUNTS.get_ptr(function_id).or_else(first) {
        // SAFETY: elements of this hash are never removed.
        add_one(unsafe { &*counter });
    }
}

/// Records the end of a thread or the start of a program, with the task's name in place of function and stack. False if
/// it was lost.
#[inline(always)]
pub fn lifecycle(ids: Ids, kind: u16, flags: u16, name: [u8; 16]) -> bool {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = name;
    let function_id = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let sp = u64::from_le_bytes([i, j, k, l, m, n, o, p]);
    submit(Record { function_id, sp, kind, flags, ..stamped(ids) })
}

/// Records what became of a process, with its id or wait status in place of the function. False if it was lost.
#[inline(always)]
pub fn process(ids: Ids, kind: u16, flags: u16, value: u32) -> bool {
    submit(Record { function_id: u64::from(value), kind, flags, ..stamped(ids) })
}

/// A record that has its time and owner. The time is taken before a place in the ring is: see the crate's invariants.
#[inline(always)]
fn stamped(ids: Ids) -> Record {
    // SAFETY: a helper without preconditions.
    let time_ns = unsafe { bpf_ktime_get_boot_ns() };
    Record { time_ns, tgid: ids.tgid, tid: ids.tid, ..Record::default() }
}

/// Delivers a record, or counts it as lost. False if it was.
#[inline(always)]
pub fn submit(record: Record) -> bool {
    match try_submit(record) {
        Ok(()) => true,
        Err(reason) => {
            count(&record, reason);
            false
        }
    }
}

/// Delivers a record, or says why that cannot be; it is not counted as lost then.
#[inline(always)]
pub fn try_submit(record: Record) -> Result<(), u32> {
    let ring = ring().ok_or(loss::NO_RING)?;
    let mut entry = ring.reserve_untyped::<Record>(0).ok_or(loss::RING_FULL)?;
    entry.write(record);
    // Of what a followed process executes, and of one that is stopped, the collector wants to know at once.
    let now = record.kind == kind::EXEC && follow!(enabled) != 0 || record.flags & flags::HELD != 0;
    entry.submit(if now { u64::from(BPF_RB_FORCE_WAKEUP) } else { wake_flag::<Record>(ring) });
    Ok(())
}

#[inline(always)]
fn submit_wide(mut record: Record, ctx: &impl EbpfContext) {
    let Some(ring) = ring() else { return count(&record, loss::NO_RING) };
    record.flags |= flags::REGISTERS;
    match ring.reserve_untyped::<Wide>(0) {
        Some(mut entry) => {
            // SAFETY: every field is an integer, valid as any bytes, and all are written before the submit.
            let wide = unsafe { entry.assume_init_mut() };
            wide.record = record;
            if record.kind == kind::CALL {
                registers::of_call(ctx, record.sp, &mut wide.registers);
            } else {
                registers::of_return(ctx, &mut wide.registers);
            }
            entry.submit(wake_flag::<Wide>(ring));
        }
        None => count(&record, loss::RING_FULL),
    }
}

/// The ring of this processor. Uprobe programs run with migration disabled, but not preemption: another task on the
/// same processor may come in between, for which the ring itself is made.
#[inline(always)]
fn ring() -> Option<&'static Ring> {
    // SAFETY: a helper without preconditions.
    RINGS.get(unsafe { bpf_get_smp_processor_id() })
}

/// Wakes the collector each time the ring has taken another `wake_bytes`; it also polls, so a missed step costs nothing.
#[inline(always)]
fn wake_flag<T>(ring: &Ring) -> u64 {
    let step = config!(wake_bytes);
    let map = core::ptr::from_ref(ring).cast_mut().cast();
    // SAFETY: the pointer came from a lookup in the array of rings.
    let produced = unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_PROD_POS)) };
    let length = size_of::<T>() as u64 + RING_HEADER;
    if produced & step.wrapping_sub(1) < length { u64::from(BPF_RB_FORCE_WAKEUP) } else { u64::from(BPF_RB_NO_WAKEUP) }
}
