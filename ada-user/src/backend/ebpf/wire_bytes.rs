//! Looks at wire records in ring memory, in place.
//!
//! Invariant: a reference is only made to bytes that are there and aligned; all structs of `wire` are valid as any bytes.

use ada_format::wire::{Detail, Record, Signal};

/// A struct of `wire` that the kernel programs write.
///
/// # Safety
/// A `repr(C)` struct of integers without padding, of alignment 8 at most.
pub(super) unsafe trait Wire {}

// SAFETY: integers only; `wire` asserts the sizes, which leave no room for padding.
unsafe impl Wire for Record {}
// SAFETY: as above.
unsafe impl Wire for Detail {}
// SAFETY: as above.
unsafe impl Wire for Signal {}

/// The struct at the front of `bytes`, and what follows it.
pub(super) fn read<T: Wire>(bytes: &[u8]) -> Option<(&T, &[u8])> {
    let (front, rest) = bytes.split_at_checked(size_of::<T>())?;
    let pointer = front.as_ptr().cast::<T>();
    // SAFETY: `front` is as long as a T, for which all bytes are valid, and lives as long as `bytes`.
    pointer.is_aligned().then(|| (unsafe { &*pointer }, rest))
}
