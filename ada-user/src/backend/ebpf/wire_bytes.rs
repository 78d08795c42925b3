//! Reads wire records out of ring memory.

use ada_format::wire::{Record, Registers};

/// The record at the front of `bytes`, and what follows it.
pub(super) fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (front, rest) = bytes.split_at_checked(size_of::<Record>())?;
    // SAFETY: `front` is as long as a Record, for which all bytes are valid; read_unaligned asks for no more.
    Some((unsafe { front.as_ptr().cast::<Record>().read_unaligned() }, rest))
}

/// The registers at the front of `bytes`.
pub(super) fn registers(bytes: &[u8]) -> Option<Registers> {
    let front = bytes.get(..size_of::<Registers>())?;
    // SAFETY: as in `record`.
    Some(unsafe { front.as_ptr().cast::<Registers>().read_unaligned() })
}
