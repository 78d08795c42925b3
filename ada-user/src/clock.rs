//! The clock of all events, `CLOCK_BOOTTIME`, and its pairs with wall-clock time.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in nanoseconds: what `bpf_ktime_get_boot_ns` reads in the kernel.
#[must_use]
pub fn boottime_ns() -> u64 {
    read(ClockId::Boottime)
}

/// Wall-clock time in nanoseconds since 1970 (`CLOCK_REALTIME`).
#[must_use]
pub fn realtime_ns() -> u64 {
    read(ClockId::Realtime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
}
