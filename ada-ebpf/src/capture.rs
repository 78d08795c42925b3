//! Memory of the target that is copied at a call or return: strings, and what pointers point at.
//!
//! A page that the target has mapped and not touched yet (a string literal of a program that has just begun) cannot be read
//! with page faults off. So every page is touched first, by a helper that may sleep, before a place in the ring is taken:
//! while one is held, nobody else's record behind it can be read.
//!
//! Invariant: a slot is only marked as filled if all of the bytes that it claims are the target's.

use ada_format::wire::{Capture, MAX_SLOTS, Piece, Record, Slot, flags, kind, piece};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_copy_from_user, bpf_probe_read_user, bpf_probe_read_user_str},
};

use crate::{
    detail::{self, STACK_AT},
    kernel::PAGE,
    loss::count,
    maps::{CAPTURES, config},
    record::Place,
    registers::{self, Frame},
};

/// The first piece base that is not a register.
const STACK_BASE: u8 = 8;

/// Delivers `record` with its detail and what its function's capture names, or counts it as lost. May sleep.
#[inline(always)]
pub fn submit(mut record: Record, frame: Frame, ctx: &impl EbpfContext) {
    let Some(capture) = CAPTURES.get_ptr(record.function_id) else { return detail::submit(record, frame, ctx) };
    // SAFETY: an element of this hash is never changed or removed.
    let capture: &Capture = unsafe { &*capture };
    record.flags |= flags::DETAIL | flags::MEMORY;
    let is_call = record.kind == kind::CALL;
    let pieces = if is_call { &capture.call } else { &capture.ret };
    for index in 0..MAX_SLOTS as u32 {
        if index >= config!(capture_slots) {
            break;
        }
        if let Some(piece) = pieces.get(index as usize) {
            touch(piece, record.kind, ctx);
        }
    }
    let slots_bytes = u64::from(config!(capture_slots)) * stride();
    let place = if is_call {
        Place::reserve(STACK_AT as u64 + u64::from(config!(stack_bytes)) + slots_bytes)
    } else {
        Place::reserve(STACK_AT as u64 + slots_bytes)
    };
    let place = match place {
        Ok(place) => place,
        Err(reason) => return count(&record, reason),
    };
    let stack_bytes = if is_call { u64::from(config!(stack_bytes)) } else { 0 };
    let detail = detail::fill(&place, record, frame, stack_bytes, ctx);
    let mut filled = 0;
    for index in 0..MAX_SLOTS as u32 {
        if index >= config!(capture_slots) {
            break;
        }
        let at = STACK_AT as u64 + stack_bytes + u64::from(index) * stride();
        if let Some(piece) = pieces.get(index as usize) {
            // SAFETY: the place has this slot.
            filled |= u32::from(unsafe { copy(piece, place.bytes.add(at as usize), record.kind, ctx) }) << index;
        }
    }
    detail.slots = filled;
    place.submit();
}

/// Bytes from one slot to the next.
#[inline(always)]
fn stride() -> u64 {
    size_of::<Slot>() as u64 + u64::from(config!(capture_bytes))
}

/// The pages that a piece begins and may end on, and the one with its object: there from now on, unless memory is short.
#[inline(always)]
fn touch(piece: &Piece, kind: u16, ctx: &impl EbpfContext) {
    if piece.kind == piece::NONE {
        return;
    }
    if piece.kind == piece::OBJECT {
        touch_page(word(piece.base, kind, ctx));
    }
    let (address, full_length) = locate(piece, kind, ctx);
    if address == 0 {
        return;
    }
    touch_page(address);
    let room = u64::from(config!(capture_bytes));
    let length = if piece.kind != piece::C_STRING && full_length < room { full_length } else { room };
    let end = address.wrapping_add(length.saturating_sub(1));
    if (address ^ end) & !(PAGE - 1) != 0 {
        touch_page(end);
    }
}

#[inline(always)]
fn touch_page(address: u64) {
    let mut byte = 0u8;
    let to = (&raw mut byte).cast();
    // SAFETY: helpers that fail on an address that cannot be read.
    unsafe {
        if bpf_probe_read_user(to, 1, address as *const _) != 0 {
            bpf_copy_from_user(to, 1, address as *const _);
        }
    }
}

/// A piece's address and length; an address of 0 if there is none.
#[inline(always)]
fn locate(piece: &Piece, kind: u16, ctx: &impl EbpfContext) -> (u64, u64) {
    let base = word(piece.base, kind, ctx);
    match piece.kind {
        piece::C_STRING | piece::FIXED => (base, u64::from(piece.size)),
        piece::SLICE => (base, word(piece.length_base, kind, ctx)),
        piece::OBJECT if base != 0 => (
            read_word(base.wrapping_add(u64::from(piece.pointer_offset))),
            read_word(base.wrapping_add(u64::from(piece.length_offset))),
        ),
        _ => (0, 0),
    }
}

/// Copies a piece into its slot. Whether that could be done.
#[inline(always)]
unsafe fn copy(piece: &Piece, to: *mut u8, kind: u16, ctx: &impl EbpfContext) -> bool {
    let (address, full_length) = locate(piece, kind, ctx);
    if address == 0 {
        return false;
    }
    // SAFETY: the caller's: a slot with room for `capture_bytes`.
    let bytes = unsafe { to.add(size_of::<Slot>()) };
    let slot = if piece.kind == piece::C_STRING {
        // SAFETY: as above.
        unsafe { copy_string(bytes, address) }
    } else {
        // SAFETY: as above.
        unsafe { copy_bytes(bytes, address, full_length) }
    };
    match slot {
        Some(slot) => {
            // SAFETY: the caller's.
            unsafe { to.cast::<Slot>().write(slot) };
            true
        }
        None => false,
    }
}

/// A C string; of one that reaches into a page that cannot be read, what lies before that, as one that is cut.
#[inline(always)]
unsafe fn copy_string(to: *mut u8, address: u64) -> Option<Slot> {
    let room = config!(capture_bytes);
    // SAFETY: a helper that fails on an address that cannot be read; `to` has so much room.
    let mut copied = unsafe { bpf_probe_read_user_str(to.cast(), room, address as *const _) };
    let rest = PAGE - (address & (PAGE - 1));
    if copied < 0 {
        if rest >= u64::from(room) {
            return None;
        }
        // SAFETY: as above, with less.
        copied = unsafe { bpf_probe_read_user_str(to.cast(), rest as u32, address as *const _) };
    }
    // The zero at its end counts, and may stand in the place of a byte that is none.
    if copied <= 0 {
        return None;
    }
    let length = copied as u32 - 1;
    let cut = copied as u64 == rest && read_byte(address.wrapping_add(rest - 1)) != 0;
    Some(Slot { address, length, full_length: length + u32::from(cut) })
}

#[inline(always)]
unsafe fn copy_bytes(to: *mut u8, address: u64, full_length: u64) -> Option<Slot> {
    let room = u64::from(config!(capture_bytes));
    let length = if full_length < room { full_length } else { room };
    if length > room {
        return None;
    }
    // SAFETY: a helper that fails on an address that cannot be read; `to` has so much room.
    if length != 0 && unsafe { bpf_probe_read_user(to.cast(), length as u32, address as *const _) } != 0 {
        return None;
    }
    let full_length = if full_length > u64::from(u32::MAX) { u32::MAX } else { full_length as u32 };
    Some(Slot { address, length: length as u32, full_length })
}

/// A register, or a word of the stack behind the return address.
#[inline(always)]
fn word(base: u8, kind: u16, ctx: &impl EbpfContext) -> u64 {
    if base < STACK_BASE {
        return if kind == kind::CALL { registers::argument(ctx, base) } else { registers::value(ctx, base) };
    }
    let words = u64::from(base - STACK_BASE) + registers::words_before_arguments();
    read_word(registers::stack_pointer(ctx).wrapping_add(words * 8))
}

#[inline(always)]
fn read_byte(address: u64) -> u8 {
    let mut value = 0u8;
    // SAFETY: a helper that fails on an address that cannot be read.
    if unsafe { bpf_probe_read_user((&raw mut value).cast(), 1, address as *const _) } == 0 { value } else { 0 }
}

#[inline(always)]
fn read_word(address: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: a helper that fails on an address that cannot be read.
    if unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, address as *const _) } == 0 { value } else { 0 }
}
