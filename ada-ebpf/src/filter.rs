//! What is left out before it is written: other threads, calls beside the sample, muted functions, short calls.
//!
//! Invariant: without filters nothing of this is left but the load of one flag, for the verifier drops what the
//! configuration rules out; with them, a call and its return share one fate.

use ada_format::wire::{Record, kind};
use aya_ebpf::helpers::bpf_get_prandom_u32;

use crate::{
    frames,
    ids::Ids,
    maps::{THREADS, config},
    rate,
};

/// Whether the current thread is recorded.
#[inline(always)]
pub fn wants(ids: Ids) -> bool {
    config!(filter.threads) == 0 || THREADS.get_ptr(ids.tid).is_some()
}

/// Whether this call or return is to be written now. Calls that were held back and are known to count by now have
/// been written when this returns.
#[inline(always)]
pub fn passes(record: &mut Record) -> bool {
    if config!(filter.frames) == 0 {
        return passes_by_itself(record);
    }
    if record.kind == kind::CALL {
        let keep = passes_by_itself(record);
        return frames::call(record, keep);
    }
    frames::ret(record)
}

/// The same where calls and returns cannot be brought together by thread, as of goroutines: the collector has seen to it
/// that no filter needs that.
#[inline(always)]
pub fn passes_by_itself(record: &Record) -> bool {
    record.kind != kind::CALL || !is_muted(record) && is_sampled()
}

#[inline(always)]
fn is_muted(record: &Record) -> bool {
    let limit = config!(filter.max_rate);
    limit != 0 && rate::is_muted(record, limit)
}

#[inline(always)]
fn is_sampled() -> bool {
    let one_in = config!(filter.sample);
    // SAFETY: a helper without preconditions.
    one_in <= 1 || unsafe { bpf_get_prandom_u32() } % one_in == 0
}
