//! Where the two architectures keep what a record needs, in the `pt_regs` that a uprobe program is given.
//!
//! The object is one for both: which branch is live is known when it is loaded, and the verifier drops the other.
//! Offsets: arch/x86/include/asm/ptrace.h (`struct pt_regs`), arch/arm64/include/uapi/asm/ptrace.h (`user_pt_regs`).

use core::arch::asm;

use ada_format::wire::{MAX_SIGNAL_REGISTERS, Registers, arch};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_user, generated::bpf_probe_read_kernel},
};

use crate::maps::config;

/// Byte offsets in x86_64's `struct pt_regs`.
mod x86_64 {
    pub const R15: usize = 0;
    pub const R14: usize = 8;
    pub const R13: usize = 16;
    pub const R12: usize = 24;
    pub const RBP: usize = 32;
    pub const RBX: usize = 40;
    pub const R11: usize = 48;
    pub const R10: usize = 56;
    pub const R9: usize = 64;
    pub const R8: usize = 72;
    pub const RAX: usize = 80;
    pub const RCX: usize = 88;
    pub const RDX: usize = 96;
    pub const RSI: usize = 104;
    pub const RDI: usize = 112;
    pub const RIP: usize = 128;
    pub const FLAGS: usize = 144;
    pub const RSP: usize = 152;
    /// Words up to here.
    pub const COUNT: usize = 20;
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

/// Where a return probe fires: what the stack pointer was at the function's entry. x86 has popped the return address by
/// now; arm64 never pushed one.
#[inline(always)]
pub fn stack_pointer_before_return(ctx: &impl EbpfContext) -> u64 {
    stack_pointer(ctx).wrapping_sub(8 * words_before_arguments())
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

/// A function's frame as its call has made it.
#[derive(Clone, Copy)]
pub struct Frame {
    /// The stack pointer at its first instruction.
    pub sp: u64,
    /// 0 if it cannot be read.
    pub return_address: u64,
}

impl Frame {
    /// Not looked at.
    pub const NONE: Self = Self { sp: 0, return_address: 0 };

    /// At a function's first instruction.
    #[inline(always)]
    pub fn at_entry(ctx: &impl EbpfContext) -> Self {
        let sp = stack_pointer(ctx);
        Self { sp, return_address: return_address(ctx, sp) }
    }

    /// Whether the function returns to a return probe's trampoline.
    #[inline(always)]
    pub fn is_chained(self) -> bool {
        self.return_address != 0 && self.return_address % TRAMPOLINE_ALIGNMENT == 0
    }
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
pub fn of_call(ctx: &impl EbpfContext, frame: Frame, to: &mut Registers) {
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
    to.return_address = frame.return_address;
    to.frame_pointer = frame_pointer(ctx);
}

/// The argument register at `index` of [`Registers::regs`].
#[inline(always)]
pub fn argument(ctx: &impl EbpfContext, index: u8) -> u64 {
    if config!(arch) == arch::X86_64 {
        return match index {
            0 => load!(ctx, x86_64::RDI),
            1 => load!(ctx, x86_64::RSI),
            2 => load!(ctx, x86_64::RDX),
            3 => load!(ctx, x86_64::RCX),
            4 => load!(ctx, x86_64::R8),
            5 => load!(ctx, x86_64::R9),
            6 => load!(ctx, x86_64::RAX),
            _ => load!(ctx, x86_64::R10),
        };
    }
    match index {
        0 => load!(ctx, 0),
        1 => load!(ctx, 8),
        2 => load!(ctx, 16),
        3 => load!(ctx, 24),
        4 => load!(ctx, 32),
        5 => load!(ctx, 40),
        6 => load!(ctx, 48),
        _ => load!(ctx, 56),
    }
}

/// The value register at `index` of [`Registers::regs`] of a return.
#[inline(always)]
pub fn value(ctx: &impl EbpfContext, index: u8) -> u64 {
    match (config!(arch) == arch::X86_64, index) {
        (true, 0) => load!(ctx, x86_64::RAX),
        (true, 1) => load!(ctx, x86_64::RDX),
        (false, 0) => load!(ctx, 0),
        (false, 1) => load!(ctx, 8),
        _ => 0,
    }
}

/// Words on the stack before the first argument there, at a function's entry: x86_64's return address.
#[inline(always)]
pub fn words_before_arguments() -> u64 {
    u64::from(config!(arch) == arch::X86_64)
}

/// The full general-purpose set of a task's `pt_regs`, in ATF v2's order for the architecture, and how many these are.
#[inline(always)]
pub fn of_task(regs: *const u8, to: &mut [u64; MAX_SIGNAL_REGISTERS]) -> u32 {
    if config!(arch) != arch::X86_64 {
        // `user_pt_regs` has just that order.
        let length = size_of_val(to) as u32;
        // SAFETY: a helper that fails on an address that cannot be read; `to` has `length` bytes.
        let failed = unsafe { bpf_probe_read_kernel(to.as_mut_ptr().cast(), length, regs.cast()) };
        return if failed == 0 { MAX_SIGNAL_REGISTERS as u32 } else { 0 };
    }
    let mut found = [0u64; x86_64::COUNT];
    // SAFETY: as above.
    let failed = unsafe { bpf_probe_read_kernel(found.as_mut_ptr().cast(), size_of_val(&found) as u32, regs.cast()) };
    if failed != 0 {
        return 0;
    }
    let order = [
        x86_64::RAX,
        x86_64::RBX,
        x86_64::RCX,
        x86_64::RDX,
        x86_64::RSI,
        x86_64::RDI,
        x86_64::RBP,
        x86_64::RSP,
        x86_64::R8,
        x86_64::R9,
        x86_64::R10,
        x86_64::R11,
        x86_64::R12,
        x86_64::R13,
        x86_64::R14,
        x86_64::R15,
        x86_64::RIP,
        x86_64::FLAGS,
    ];
    for (place, offset) in to.iter_mut().zip(order) {
        *place = found[offset / 8];
    }
    order.len() as u32
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
