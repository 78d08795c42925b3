//! Reserve a record in this processor's ring, fill it, submit it; wake the collector once per so many bytes.

use core::{ffi::c_void, sync::atomic::AtomicU64};

use ada_format::wire::{Record, cookie, flags, kind, loss};
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS},
    btf_maps::RingBuf,
    helpers::{
        bpf_get_attach_cookie, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ringbuf_query, bpf_ringbuf_reserve,
        bpf_ringbuf_submit,
    },
};

use crate::{
    capture, detail, filter,
    ids::Ids,
    loss::{add_one, count},
    maps::{COUNTS, RINGS, config, follow},
    registers::{self, Frame},
};

type Ring = RingBuf<u8, 4096>;

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

/// Records a call of the function whose probe fired, unless it is filtered out.
#[inline(always)]
pub fn call(ids: Ids, frame: Frame, ctx: &impl EbpfContext) {
    let flags = if frame.is_chained() { flags::CHAINED } else { 0 };
    function(ids, Record { sp: frame.sp, kind: kind::CALL, flags, ..Record::default() }, frame, ctx);
}

/// Records a return, `sp` being the stack pointer at the function's entry, unless it is filtered out.
#[inline(always)]
pub fn ret(ids: Ids, sp: u64, ctx: &impl EbpfContext) {
    let frame = Frame { sp, return_address: 0 };
    function(ids, Record { sp, kind: kind::RETURN, ..Record::default() }, frame, ctx);
}

#[inline(always)]
fn function(ids: Ids, what: Record, frame: Frame, ctx: &impl EbpfContext) {
    let filtered = config!(filter.any) != 0;
    if filtered && !filter::wants(ids) {
        return;
    }
    let cookie = cookie(ctx);
    let Record { sp, kind, flags, .. } = what;
    let mut record = Record { function_id: plain(cookie), sp, kind, flags, ..stamped(ids) };
    if !filtered || filter::passes(&mut record) {
        emit(record, cookie, frame, ctx);
    }
}

/// Records a call or return on a stack that need not be the thread's own, unless it is filtered out.
#[inline(always)]
pub fn on_stack(ids: Ids, kind: u16, place: (u64, u32), cookie: u64, ctx: &impl EbpfContext) {
    let filtered = config!(filter.any) != 0;
    if filtered && !filter::wants(ids) {
        return;
    }
    let (sp, stack) = place;
    let record = Record { function_id: cookie & !cookie::FLAGS, sp, kind, stack, ..stamped(ids) };
    if !filtered || filter::passes_by_itself(&record) {
        // Only detail needs it.
        let frame = if config!(detail) == 0 { Frame::NONE } else { Frame::at_entry(ctx) };
        emit(record, cookie, frame, ctx);
    }
}

/// The function id in a cookie. Without detail there is nothing else in it: only Go's functions have stack checks.
#[inline(always)]
fn plain(cookie: u64) -> u64 {
    if config!(detail) == 0 { cookie } else { cookie & !cookie::FLAGS }
}

#[inline(always)]
fn emit(record: Record, cookie: u64, frame: Frame, ctx: &impl EbpfContext) {
    if config!(detail) == 0 || cookie & cookie::DETAIL == 0 {
        submit(record);
    } else {
        detail::submit(record, frame, ctx);
    }
}

/// The same as [`call`] of a function of whose memory something is copied. Only in programs that may sleep.
#[inline(always)]
pub fn capturing_call(ids: Ids, frame: Frame, ctx: &impl EbpfContext) {
    let flags = if frame.is_chained() { flags::CHAINED } else { 0 };
    capturing(ids, Record { sp: frame.sp, kind: kind::CALL, flags, ..Record::default() }, frame, ctx);
}

/// The same as [`ret`] of such a function.
#[inline(always)]
pub fn capturing_ret(ids: Ids, sp: u64, ctx: &impl EbpfContext) {
    let frame = Frame { sp, return_address: 0 };
    capturing(ids, Record { sp, kind: kind::RETURN, ..Record::default() }, frame, ctx);
}

#[inline(always)]
fn capturing(ids: Ids, what: Record, frame: Frame, ctx: &impl EbpfContext) {
    let filtered = config!(filter.any) != 0;
    if filtered && !filter::wants(ids) {
        return;
    }
    let Record { sp, kind, flags, .. } = what;
    let mut record = Record { function_id: cookie(ctx) & !cookie::FLAGS, sp, kind, flags, ..stamped(ids) };
    if !filtered || filter::passes(&mut record) {
        capture::submit(record, frame, ctx);
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
pub fn stamped(ids: Ids) -> Record {
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
    let length = size_of::<Record>() as u64;
    let event = record.kind == kind::CALL || record.kind == kind::RETURN;
    let place = if event { Place::reserve(length) } else { Place::reserve_kept(length) }?;
    // SAFETY: it is as long as a record, and aligned like the ring.
    unsafe { place.bytes.cast::<Record>().write(record) };
    // Of what a followed process executes, and of one that is stopped, the collector wants to know at once.
    let now = record.kind == kind::EXEC && follow!(enabled) != 0 || record.flags & flags::HELD != 0;
    if now {
        place.submit_with(u64::from(BPF_RB_FORCE_WAKEUP));
    } else {
        place.submit();
    }
    Ok(())
}

/// A place in a ring that has been reserved: bytes that are its own until they are submitted.
pub struct Place {
    ring: &'static Ring,
    length: u64,
    pub bytes: *mut u8,
}

impl Place {
    /// Reserves `length` bytes, which the verifier must know, in the ring of this processor; or says why that cannot be.
    #[inline(always)]
    pub fn reserve(length: u64) -> Result<Self, u32> {
        Self::reserve_in(ring().ok_or(loss::NO_RING)?, length)
    }

    /// The same for what must not be lost: in the spare ring if the processor's is full or missing.
    #[inline(always)]
    pub fn reserve_kept(length: u64) -> Result<Self, u32> {
        Self::reserve(length).or_else(|reason| Self::reserve_in(spare_ring().ok_or(reason)?, length))
    }

    #[inline(always)]
    fn reserve_in(ring: &'static Ring, length: u64) -> Result<Self, u32> {
        // SAFETY: the pointer came from a lookup in the array of rings.
        let bytes = unsafe { bpf_ringbuf_reserve(pointer(ring), length, 0) };
        if bytes.is_null() { Err(loss::RING_FULL) } else { Ok(Self { ring, length, bytes: bytes.cast() }) }
    }

    /// Hands them to the collector.
    #[inline(always)]
    pub fn submit(self) {
        let flag = wake_flag(self.ring, self.length);
        self.submit_with(flag);
    }

    #[inline(always)]
    fn submit_with(self, flag: u64) {
        // SAFETY: what was reserved, and once: this consumes it.
        unsafe { bpf_ringbuf_submit(self.bytes.cast(), flag) }
    }
}

#[inline(always)]
fn pointer(ring: &Ring) -> *mut c_void {
    core::ptr::from_ref(ring).cast_mut().cast()
}

/// The ring of this processor. Uprobe programs run with migration disabled, but not preemption: another task on the
/// same processor may come in between, for which the ring itself is made.
#[inline(always)]
fn ring() -> Option<&'static Ring> {
    // SAFETY: a helper without preconditions.
    RINGS.get(unsafe { bpf_get_smp_processor_id() })
}

/// The ring that is kept for what must not be lost. All processors write to it.
#[inline(always)]
fn spare_ring() -> Option<&'static Ring> {
    RINGS.get(config!(spare_ring))
}

/// Wakes the collector each time the ring has taken another `wake_bytes`; it also polls, so a missed step costs nothing.
#[inline(always)]
fn wake_flag(ring: &Ring, length: u64) -> u64 {
    let step = config!(wake_bytes);
    // SAFETY: the pointer came from a lookup in the array of rings.
    let produced = unsafe { bpf_ringbuf_query(pointer(ring), u64::from(BPF_RB_PROD_POS)) };
    if produced & step.wrapping_sub(1) < length + RING_HEADER {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}
