//! Numbers of the kernel's that several programs go by.
//!
//! Invariant: each is the same on both architectures; what differs is in `registers`.

/// The smallest page there is: memory beyond the end of one may not be there.
pub const PAGE: u64 = 4096;
/// asm-generic/signal.h; the same on x86.
pub const SIGSTOP: u32 = 19;
