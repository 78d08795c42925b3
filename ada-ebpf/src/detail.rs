//! What is recorded of a call or return beside the event: registers, and at a call the stack.
//!
//! Invariant: the bytes behind the record are `wire::Detail` and, at a call, as many bytes of stack as the configuration
//! says, of which the first `stack_size` are the target's.

use ada_format::wire::{Detail, Record, flags, kind};
use aya_ebpf::{EbpfContext, helpers::generated::bpf_probe_read_user};

use crate::{
    kernel::PAGE,
    loss::count,
    maps::config,
    record::Place,
    registers::{self, Frame},
};

/// One less than the most bytes of stack that the format holds.
const STACK_MASK: u64 = 511;

/// Where in a place the parts begin.
const DETAIL_AT: usize = size_of::<Record>();
pub const STACK_AT: usize = DETAIL_AT + size_of::<Detail>();

/// Delivers `record` with its detail, or counts it as lost.
#[inline(always)]
pub fn submit(mut record: Record, frame: Frame, ctx: &impl EbpfContext) {
    record.flags |= flags::DETAIL;
    let (length, stack_bytes) = if record.kind == kind::CALL {
        (STACK_AT as u64 + u64::from(config!(stack_bytes)), u64::from(config!(stack_bytes)))
    } else {
        (STACK_AT as u64, 0)
    };
    let place = if record.kind == kind::CALL { Place::reserve(length) } else { Place::reserve(STACK_AT as u64) };
    match place {
        Ok(place) => {
            fill(&place, record, frame, stack_bytes, ctx);
            place.submit();
        }
        Err(reason) => count(&record, reason),
    }
}

/// Writes everything but copied memory into a place that has room for it, and returns the detail.
#[inline(always)]
pub fn fill<'a>(
    place: &'a Place,
    record: Record,
    frame: Frame,
    stack_bytes: u64,
    ctx: &impl EbpfContext,
) -> &'a mut Detail {
    // SAFETY: the place begins with a record and its detail, aligned like the ring; the reference lives no longer than the place.
    let detail = unsafe {
        place.bytes.cast::<Record>().write(record);
        &mut *place.bytes.add(DETAIL_AT).cast::<Detail>()
    };
    detail.slots = 0;
    if record.kind == kind::CALL {
        registers::of_call(ctx, frame, &mut detail.registers);
        detail.stack_pointer = frame.sp;
        // SAFETY: the place has `stack_bytes` bytes there.
        detail.stack_size = unsafe { copy_stack(place.bytes.add(STACK_AT), stack_bytes, frame.sp) };
    } else {
        registers::of_return(ctx, &mut detail.registers);
        detail.stack_pointer = frame.sp;
        detail.stack_size = 0;
    }
    detail
}

/// Copies `length` bytes of stack, or what lies before the next page if they reach into one that cannot be read.
#[inline(always)]
unsafe fn copy_stack(to: *mut u8, length: u64, sp: u64) -> u32 {
    if length == 0 {
        return 0;
    }
    // SAFETY: a helper that fails on an address that cannot be read; `to` has `length` bytes.
    if unsafe { bpf_probe_read_user(to.cast(), length as u32, sp as *const _) } == 0 {
        return length as u32;
    }
    let rest = (PAGE - (sp & (PAGE - 1))) & STACK_MASK;
    if rest >= length {
        return 0;
    }
    // SAFETY: as above, with less.
    if unsafe { bpf_probe_read_user(to.cast(), rest as u32, sp as *const _) } == 0 { rest as u32 } else { 0 }
}
