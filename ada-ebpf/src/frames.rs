//! The calls of each thread that have not returned, so that a filter's word on a call holds for its return, and a call
//! can be written once it is known to have taken long enough.
//!
//! A call pushes a frame, its return takes it off with all above it. Frames whose return never comes (longjmp, an
//! exception, the kernel's limit of pending returns) go when a later event shows that the stack is shorter.
//!
//! Under a minimum duration nothing is written at a call. When a return qualifies, the calls around it began earlier and
//! still run, so they qualify, too: all that were held back are written then, outermost first, each with its own time.
//!
//! Invariant: whenever a thread writes a call or return, none of its calls is still held back: so each record is later
//! than all that the thread wrote in earlier runs of a program (ada-user, `merge`, rests on it).

use core::arch::asm;

use ada_format::wire::{LostKey, Record, flags, kind};
use aya_ebpf::bindings::BPF_NOEXIST;

use crate::{
    ids::Ids,
    maps::{FRAMES, NO_FRAMES, config},
    record,
};

/// The most frames of one thread. Deeper calls are written, whatever they take; their returns are the collector's to pair.
const LIMIT: u64 = 128;

/// A call that has not returned.
#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    sp: u64,
    function_id: u64,
    time_ns: u64,
    /// Of its record.
    flags: u16,
    /// 0 = it is left out, and so is its return.
    keep: u16,
    reserved: u32,
}

/// The calls of one thread, outermost first, by falling stack pointer.
#[repr(C)]
pub struct Frames {
    depth: u64,
    /// So many of them, from the outermost on, are not held back (any more): written, or left out for good.
    settled: u64,
    frames: [Frame; LIMIT as usize],
}

/// Notes a call that is to be kept or not. Whether it is to be written now.
#[inline(always)]
pub fn call(call: &Record, keep: bool) -> bool {
    // There are more threads than the table has room for: no duration is known then, and returns are paired later.
    let Some(frames) = of_thread(call) else { return keep };
    frames.pop_until(call.sp, call.flags & flags::CHAINED != 0);
    let holds_back = config!(filter.min_duration_ns) != 0;
    if frames.depth >= LIMIT {
        if holds_back {
            write_held_back(frames, call, LIMIT);
        }
        return keep;
    }
    *frames.at(frames.depth) = Frame {
        sp: call.sp,
        function_id: call.function_id,
        time_ns: call.time_ns,
        flags: call.flags,
        keep: u16::from(keep),
        reserved: 0,
    };
    frames.depth += 1;
    if holds_back {
        return false;
    }
    frames.settled = frames.depth;
    keep
}

/// Notes a return. Whether it is to be written; the calls around it have been then.
#[inline(always)]
pub fn ret(ret: &mut Record) -> bool {
    let Some(frames) = FRAMES.get_ptr_mut(key(ret)) else { return unpaired(ret) };
    // SAFETY: see `of_thread`.
    let frames = unsafe { &mut *frames };
    let place = place_of(frames, ret.sp, ret.function_id);
    if place >= LIMIT {
        frames.pop_until(ret.sp, true);
        // Behind a call that is held back nothing may be written before it.
        return frames.settled >= frames.depth && unpaired(ret);
    }
    let frame = *frames.at(place);
    let counts = frame.keep != 0 && (place < frames.settled || took_long(&frame, ret));
    if counts && config!(filter.min_duration_ns) != 0 {
        write_held_back(frames, ret, place + 1);
    }
    frames.cut(place);
    counts
}

/// Forgets the calls of a thread that ends or executes another program.
#[inline(always)]
pub fn forget(ids: Ids) {
    if config!(filter.frames) != 0 {
        let _ = FRAMES.remove(LostKey { tgid: ids.tgid, tid: ids.tid });
    }
}

#[inline(always)]
fn took_long(frame: &Frame, ret: &Record) -> bool {
    ret.time_ns.wrapping_sub(frame.time_ns) >= config!(filter.min_duration_ns)
}

/// A return of a call that is not known here: the collector knows whether it was written.
#[inline(always)]
fn unpaired(ret: &mut Record) -> bool {
    ret.flags |= flags::UNPAIRED;
    true
}

#[inline(always)]
fn key(record: &Record) -> LostKey {
    LostKey { tgid: record.tgid, tid: record.tid }
}

/// The frames of the current thread, made if there are none. `None` if the table is full.
#[inline(always)]
fn of_thread(call: &Record) -> Option<&'static mut Frames> {
    let key = key(call);
    let first = || {
        let _ = FRAMES.insert(key, NO_FRAMES.get(0)?, u64::from(BPF_NOEXIST));
        FRAMES.get_ptr_mut(key)
    };
    // SAFETY: only the thread itself uses its frames, and removes them last of all.
    FRAMES.get_ptr_mut(key).or_else(first).map(|frames| unsafe { &mut *frames })
}

impl Frames {
    /// A frame by its place. The mask changes nothing below the limit; it is what the verifier goes by, and by hand
    /// because LLVM leaves it out where it knows better.
    #[inline(always)]
    fn at(&mut self, mut place: u64) -> &mut Frame {
        // SAFETY: an instruction on one register.
        unsafe {
            asm!("{place} &= {mask}", place = inout(reg) place, mask = const LIMIT - 1, options(pure, nomem, nostack));
        }
        // SAFETY: the array is as long as the mask allows.
        unsafe { self.frames.get_unchecked_mut(place as usize) }
    }

    /// Gives up the frames below a stack pointer, and with it those at it, unless they are to stay.
    #[inline(always)]
    fn pop_until(&mut self, sp: u64, keep_equal: bool) {
        if self.depth == 0 {
            return;
        }
        let top = self.at(self.depth - 1).sp;
        if top < sp || top == sp && !keep_equal {
            let depth = depth_at(self, sp, u64::from(keep_equal));
            self.cut(depth);
        }
    }

    #[inline(always)]
    fn cut(&mut self, depth: u64) {
        self.depth = depth;
        self.settled = self.settled.min(depth);
    }
}

/// How many frames lie above a stack pointer, or at it, if those are to stay. Out of line, like those below: loops that
/// the verifier walks, once for all who call them.
#[inline(never)]
fn depth_at(frames: &mut Frames, sp: u64, keep_equal: u64) -> u64 {
    let mut depth = frames.depth;
    for _ in 0..LIMIT {
        if depth == 0 {
            break;
        }
        let top = frames.at(depth - 1).sp;
        if top > sp || top == sp && keep_equal != 0 {
            break;
        }
        depth -= 1;
    }
    depth
}

/// The place of the innermost call of a function at a stack pointer; [`LIMIT`] if there is none.
#[inline(never)]
fn place_of(frames: &mut Frames, sp: u64, function_id: u64) -> u64 {
    let mut place = frames.depth;
    for _ in 0..LIMIT {
        if place == 0 {
            break;
        }
        place -= 1;
        let frame = *frames.at(place);
        if frame.sp > sp {
            break;
        }
        if frame.sp == sp && frame.function_id == function_id {
            return place;
        }
    }
    LIMIT
}

/// Writes the calls that are held back, up to `until`. `event` tells whose they are.
#[inline(never)]
fn write_held_back(frames: &mut Frames, event: &Record, until: u64) {
    let mut place = frames.settled;
    for _ in 0..LIMIT {
        if place >= until {
            break;
        }
        let frame = *frames.at(place);
        if frame.keep != 0 {
            record::submit(Record {
                time_ns: frame.time_ns,
                function_id: frame.function_id,
                sp: frame.sp,
                kind: kind::CALL,
                flags: frame.flags,
                ..*event
            });
        }
        place += 1;
    }
    frames.settled = until.max(frames.settled);
}
