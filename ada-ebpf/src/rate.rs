//! Call rates by function: one that is called too often is muted for the rest of the recording.
//!
//! Invariant: a function that was muted stays so, and the collector is told, if not at once then at a later call.

use core::sync::atomic::AtomicU64;

use ada_format::wire::{Record, kind};
use aya_ebpf::bindings::BPF_NOEXIST;

use crate::{loss::add_one, maps::RATES, record};

/// Length of a window in which calls are counted.
const SECOND_NS: u64 = 1_000_000_000;

/// How often a function is called.
///
/// Processors race for it: when a window begins, some calls may be counted in none.
#[repr(C)]
pub struct Rate {
    /// Start of the window; the first one starts with the function's first call.
    window_ns: Shared,
    /// Calls in the window.
    calls: Shared,
    /// When it was muted; 0 = it is not.
    muted_ns: Shared,
    /// Its calls per second when it was muted.
    calls_per_s: Shared,
    /// 1 = the collector knows.
    told: Shared,
}

/// A number that all processors read and write, each time as a whole; it orders nothing. By hand: LLVM has no atomic
/// load or store for BPF's base instruction set, in which a plain one is just that.
#[repr(transparent)]
struct Shared(AtomicU64);

/// Counts a call; whether its function is muted.
#[inline(always)]
pub fn is_muted(call: &Record, limit: u64) -> bool {
    let Some(rate) = of(call) else { return false };
    if rate.muted_ns.get() == 0 && rate.count(call.time_ns) <= limit {
        return false;
    }
    rate.mute(call);
    true
}

/// The rate of the function that is called. `None` if the table is full, which has room for all of them.
#[inline(always)]
fn of(call: &Record) -> Option<&'static Rate> {
    let first = || {
        let first = Rate {
            window_ns: Shared::new(call.time_ns),
            calls: Shared::new(0),
            muted_ns: Shared::new(0),
            calls_per_s: Shared::new(0),
            told: Shared::new(0),
        };
        // Another processor may be first: then it is there.
        let _ = RATES.insert(call.function_id, first, u64::from(BPF_NOEXIST));
        RATES.get_ptr(call.function_id)
    };
    // SAFETY: elements of this hash are never removed, and are made of atomics.
    RATES.get_ptr(call.function_id).or_else(first).map(|rate| unsafe { &*rate })
}

impl Rate {
    /// Calls in this window, with one at `now_ns`.
    #[inline(always)]
    fn count(&self, now_ns: u64) -> u64 {
        let elapsed = self.elapsed(now_ns);
        if elapsed >= SECOND_NS {
            let whole = elapsed - elapsed % SECOND_NS;
            self.window_ns.set(now_ns - elapsed + whole);
            self.calls.set(0);
        }
        add_one(&self.calls.0);
        self.calls.get()
    }

    /// Time since the window began; 0 for a call that took its time before another processor began the window.
    #[inline(always)]
    fn elapsed(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.window_ns.get())
    }

    #[inline(always)]
    fn mute(&self, call: &Record) {
        if self.muted_ns.get() == 0 {
            let elapsed = self.elapsed(call.time_ns).max(1);
            self.calls_per_s.set(self.calls.get() * SECOND_NS / elapsed);
            self.muted_ns.set(call.time_ns);
        }
        if self.told.get() == 0 {
            let (time_ns, sp) = (self.muted_ns.get(), self.calls_per_s.get());
            let muted = Record { time_ns, sp, kind: kind::MUTED, flags: 0, ..*call };
            if record::try_submit(muted).is_ok() {
                self.told.set(1);
            }
        }
    }
}

impl Shared {
    #[inline(always)]
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[inline(always)]
    fn get(&self) -> u64 {
        // SAFETY: an aligned u64 of a map element.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    #[inline(always)]
    fn set(&self, value: u64) {
        // SAFETY: as in `get`.
        unsafe { self.0.as_ptr().write_volatile(value) }
    }
}
