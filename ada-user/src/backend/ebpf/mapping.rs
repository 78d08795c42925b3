//! Memory of an eBPF map, shared with the kernel.
//!
//! Invariant: what the kernel may be writing is reached as an atomic only.

use std::{
    io,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping of an eBPF map.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is reached through atomics or by `bytes`, whose contents nobody changes any more.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes from `offset` on, a multiple of the page size.
    pub(super) fn new(fd: &impl AsFd, length: usize, offset: usize, protection: ProtFlags) -> io::Result<Self> {
        let null = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(null, length, protection, MapFlags::SHARED, fd, offset as u64) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, length })
    }

    /// The u64 at an aligned offset.
    pub(super) fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.length && offset.is_multiple_of(8));
        // SAFETY: in bounds and aligned; the memory is shared with the kernel and only reached as an atomic.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The u32 at an aligned offset.
    pub(super) fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.length && offset.is_multiple_of(4));
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Bytes that the kernel will not change until they are given back to it; `None` beyond the mapping.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        if offset.checked_add(length)? > self.length {
            return None;
        }
        // SAFETY: in bounds. The caller names a committed record that was not given back: the kernel leaves it alone.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), length) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and no reference outlives this value.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
