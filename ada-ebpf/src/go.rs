//! Whose stack a Go function runs on. A goroutine moves from thread to thread, and its stack moves when it grows; what stays is
//! the goroutine's descriptor (`g`) and the distance of a frame from its stack's end.
//!
//! Source: Go's internal ABI specification (R14 holds `g` on amd64 since Go 1.17, X28 on arm64) and runtime/runtime2.go (`g` begins with
//! its stack's bounds).

use aya_ebpf::{EbpfContext, helpers::bpf_probe_read_user};

use crate::registers;

/// The first words of runtime.g: `stack.lo`, `stack.hi`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Bounds {
    low: u64,
    high: u64,
}

/// `g` is aligned at least so.
const ALIGNMENT_BITS: u32 = 5;

/// The frame's place: (stack pointer, stack) as a record has them. Where R14 is no `g` (assembly, code before Go 1.17) the
/// thread's own.
#[inline(always)]
pub fn place(ctx: &impl EbpfContext) -> (u64, u32) {
    let (sp, g) = (registers::stack_pointer(ctx), registers::goroutine(ctx));
    // SAFETY: a helper that fails on an address that cannot be read.
    match unsafe { bpf_probe_read_user(g as *const Bounds) } {
        Ok(Bounds { low, high }) if low <= sp && sp < high => (sp.wrapping_sub(high), (g >> ALIGNMENT_BITS) as u32 | 1),
        _ => (sp, 0),
    }
}
