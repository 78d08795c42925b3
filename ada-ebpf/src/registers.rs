//! Where the two architectures keep what a record needs, in the `pt_regs` that a uprobe program is given.
//!
//! The object is one for both: which branch is live is known when it is loaded, and the verifier drops the other.
//! Offsets: arch/x86/include/asm/ptrace.h (`struct pt_regs`), arch/arm64/include/uapi/asm/ptrace.h (`user_pt_regs`).

use core::arch::asm;

use ada_format::wire::{Registers, arch};
use aya_ebpf::{EbpfContext, helpers::bpf_probe_read_user};

use crate::maps::config;

/// Byte offsets in x86_64's `struct pt_regs`.
mod x86_64 {
    pub const RBP: usize = 32;
    pub const R14: usize = 8;
    pub const R10: usize = 56;
    pub const R9: usize = 64;
    pub const R8: usize = 72;
    pub const RAX: usize = 80;
    pub const RCX: usize = 88;
    pub const RDX: usize = 96;
    pub const RSI: usize = 104;
    pub const RDI: usize = 112;
    pub const FLAGS: usize = 144;
    pub const RSP: usize = 152;
}

/// Byte offsets in arm64's `struct user_pt_regs`; x0 is at 0.
mod arm64 {
    pub const X28: usize = 28 * 8;
    pub const X29: usize = 29 * 8;
    pub const X30: usize = 30 * 8;
    pub const SP: usize = 31 * 8;
}

/// A uretprobe's trampoline is the first byte of the page that the kernel maps into the target for its probes
/// (kernel/events/uprobes.c, `uprobe_get_trampoline_vaddr`), so this is what such a return address looks like.
const TRAMPOLINE_ALIGNMENT: u64 = 4096;

/// One u64 of the context. By hand: LLVM folds two plain loads of a branch into one from a computed address, and the
/// verifier refuses to read the context through a pointer that was computed.
macro_rules! load {
    ($ctx:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: $offset lies within the pt_regs of the architecture that the branch is for.
        unsafe {
            asm!(
                "{value} = *(u64 *)({ctx} + {offset})",
                value = out(reg) value,
                ctx = in(reg) $ctx.as_ptr(),
                offset = const $offset,
                options(pure, readonly, nostack),
            );
        }
        value
    }};
}

/// The stack pointer at the probe.
#[inline(always)]
pub fn stack_pointer(ctx: &impl EbpfContext) -> u64 {
    if config!(arch) == arch::X86_64 { load!(ctx, x86_64::RSP) } else { load!(ctx, arm64::SP) }
}

/// Go's `g`.
#[inline(always)]
pub fn goroutine(ctx: &impl EbpfContext) -> u64 {
    if config!(arch) == arch::X86_64 { load!(ctx, x86_64::R14) } else { load!(ctx, arm64::X28) }
}

/// Whether a `jbe` at the probe will jump (the carry or the zero flag is set). x86_64 only: elsewhere no site is such a jump.
#[inline(always)]
pub fn below_or_equal(ctx: &impl EbpfContext) -> bool {
    const CARRY: u64 = 1 << 0;
    const ZERO: u64 = 1 << 6;
    config!(arch) == arch::X86_64 && load!(ctx, x86_64::FLAGS) & (CARRY | ZERO) != 0
}

/// At a function's first instruction: the stack pointer, and whether the return address is a return probe's trampoline.
#[inline(always)]
pub fn entry_frame(ctx: &impl EbpfContext) -> (u64, bool) {
    let sp = stack_pointer(ctx);
    let address = return_address(ctx, sp);
    (sp, address != 0 && address % TRAMPOLINE_ALIGNMENT == 0)
}

#[inline(always)]
fn return_address(ctx: &impl EbpfContext, sp: u64) -> u64 {
    if config!(arch) == arch::X86_64 {
        // SAFETY: a helper that fails on an address that cannot be read; 0 then.
        unsafe { bpf_probe_read_user(sp as *const u64) }.unwrap_or(0)
    } else {
        load!(ctx, arm64::X30)
    }
}

/// The argument registers and frame of a call, in ATF v2's order.
#[inline(always)]
pub fn of_call(ctx: &impl EbpfContext, sp: u64, to: &mut Registers) {
    if config!(arch) == arch::X86_64 {
        to.regs[0] = load!(ctx, x86_64::RDI);
        to.regs[1] = load!(ctx, x86_64::RSI);
        to.regs[2] = load!(ctx, x86_64::RDX);
        to.regs[3] = load!(ctx, x86_64::RCX);
        to.regs[4] = load!(ctx, x86_64::R8);
        to.regs[5] = load!(ctx, x86_64::R9);
        to.regs[6] = load!(ctx, x86_64::RAX);
        to.regs[7] = load!(ctx, x86_64::R10);
    } else {
        arm64_arguments(ctx, to);
    }
    to.return_address = return_address(ctx, sp);
    to.frame_pointer = frame_pointer(ctx);
}

/// The value registers of a return. On x86_64 rax and rdx; a kernel program cannot read xmm0.
#[inline(always)]
pub fn of_return(ctx: &impl EbpfContext, to: &mut Registers) {
    if config!(arch) == arch::X86_64 {
        to.regs = [0; 8];
        to.regs[0] = load!(ctx, x86_64::RAX);
        to.regs[1] = load!(ctx, x86_64::RDX);
    } else {
        arm64_arguments(ctx, to);
    }
    to.return_address = 0;
    to.frame_pointer = frame_pointer(ctx);
}

/// x0–x7: arguments at entry, values at return.
#[inline(always)]
fn arm64_arguments(ctx: &impl EbpfContext, to: &mut Registers) {
    to.regs[0] = load!(ctx, 0);
    to.regs[1] = load!(ctx, 8);
    to.regs[2] = load!(ctx, 16);
    to.regs[3] = load!(ctx, 24);
    to.regs[4] = load!(ctx, 32);
    to.regs[5] = load!(ctx, 40);
    to.regs[6] = load!(ctx, 48);
    to.regs[7] = load!(ctx, 56);
}

#[inline(always)]
fn frame_pointer(ctx: &impl EbpfContext) -> u64 {
    if config!(arch) == arch::X86_64 { load!(ctx, x86_64::RBP) } else { load!(ctx, arm64::X29) }
}
