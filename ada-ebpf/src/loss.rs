//! What could not be delivered: counted by processor and reason, and by thread with the time of it.

use core::{arch::asm, sync::atomic::AtomicU64};

use ada_format::wire::{Lost, LostKey, Record, kind, loss};
use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_get_smp_processor_id};

use crate::maps::{DROPS, EPOCH, LOST};

/// Counts `record` as lost. Out of line: it must not weigh on the path where nothing is lost.
#[inline(never)]
pub fn count(record: &Record, reason: u32) {
    let event = matches!(record.kind, kind::CALL | kind::RETURN | kind::SIGNAL);
    add(if event { reason } else { loss::LIFECYCLE });
    if event {
        count_for_thread(record);
    }
}

/// Counts a new process for which the table of targets has no room.
#[inline(never)]
pub fn unfollowed() {
    add(loss::UNFOLLOWED);
}

#[inline(always)]
fn add(counter: u32) {
    // SAFETY: a helper without preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(drops) = DROPS.get(cpu)
        && let Some(counter) = drops.counters.get(counter as usize)
    {
        add_one(counter);
    }
}

/// Atomic, because a task may preempt another one here on the same processor; it orders nothing.
///
/// By hand: core has no `fetch_add` for a target without compare-and-swap, and BPF's base instruction set is one.
#[inline(always)]
pub fn add_one(counter: &AtomicU64) {
    // SAFETY: BPF_ATOMIC | BPF_ADD on an aligned u64 of a map element.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter.as_ptr(), one = in(reg) 1u64);
    }
}

#[inline(always)]
fn count_for_thread(record: &Record) {
    let key = LostKey { tgid: record.tgid, tid: record.tid };
    let epoch = EPOCH.get(0).copied().unwrap_or(0);
    if let Some(lost) = LOST.get_ptr_mut(key) {
        // SAFETY: an element of this hash is never removed, and only the thread it belongs to writes it.
        let lost = unsafe { &mut *lost };
        if lost.epoch != epoch {
            lost.epoch = epoch;
            lost.first_ns = record.time_ns;
        }
        lost.last_ns = record.time_ns;
        lost.count += 1;
    } else {
        let first = Lost { count: 1, first_ns: record.time_ns, last_ns: record.time_ns, epoch };
        let _ = LOST.insert(key, first, u64::from(BPF_NOEXIST));
    }
}
