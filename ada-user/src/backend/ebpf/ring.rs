//! One processor's BPF ring buffer, mapped: look at what is committed without taking it, take it, give the space back.
//!
//! ```text
//! consumer page (rw): [0] consumer position          positions only grow; offset in the ring = position & mask
//! producer page (ro): [0] producer position
//! data (ro, mapped twice in a row): [u32 length | BUSY | DISCARD][u32 page offset][payload, padded to 8] …
//! ```
//!
//! Invariant: nothing is read beyond a position that the kernel published, and nothing is given back before it was
//! delivered. Layout and orderings: kernel/bpf/ringbuf.c.

use std::{io, sync::atomic::Ordering};

use aya::maps::MapData;
use rustix::mm::ProtFlags;

use super::mapping::Mapping;

/// `BPF_RINGBUF_BUSY_BIT`: reserved, not yet committed.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: committed as nothing.
const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;

/// A mapped ring.
#[derive(Debug)]
pub(super) struct Ring {
    consumer: Mapping,
    producer: Mapping,
    mask: u64,
    /// Everything before this position was delivered.
    read: u64,
    /// Everything before this position is committed; `read <= committed`.
    committed: u64,
    /// Keeps the map's file descriptor open, for those who watch it.
    _map: MapData,
}

impl Ring {
    /// Maps the ring buffer `map`, whose data area has `size` bytes, a power of two.
    pub(super) fn map(map: MapData, size: u32) -> io::Result<Self> {
        let fd = map.fd();
        let page = rustix::param::page_size();
        let consumer = Mapping::new(&fd, page, 0, ProtFlags::READ | ProtFlags::WRITE)?;
        let producer = Mapping::new(&fd, page + 2 * size as usize, page, ProtFlags::READ)?;
        Ok(Self { consumer, producer, mask: u64::from(size) - 1, read: 0, committed: 0, _map: map })
    }

    /// Looks for newly committed records. True if everything that was produced so far is committed.
    pub(super) fn scan(&mut self) -> bool {
        // Acquire: pairs with the kernel's store-release of the producer position after it marked a record BUSY.
        let produced = self.producer.u64_at(0).load(Ordering::Acquire);
        while self.committed < produced {
            let length = self.length_at(self.committed);
            if length & BUSY != 0 {
                return false;
            }
            self.committed += span(length);
        }
        true
    }

    /// The payload of the next committed record, if there is one.
    pub(super) fn peek(&mut self) -> Option<&[u8]> {
        while self.read < self.committed {
            let length = self.length_at(self.read);
            if length & DISCARD == 0 {
                let offset = self.data_offset(self.read + HEADER);
                return self.producer.bytes(offset, length as usize);
            }
            self.read += span(length);
        }
        None
    }

    /// Takes the record that [`Ring::peek`] showed.
    pub(super) fn advance(&mut self) {
        if self.read < self.committed {
            self.read += span(self.length_at(self.read));
        }
    }

    /// Gives the space of everything taken back to the kernel.
    pub(super) fn release(&self) {
        // Release: pairs with the kernel's load-acquire of the consumer position before it reuses the space.
        self.consumer.u64_at(0).store(self.read, Ordering::Release);
    }

    fn length_at(&self, position: u64) -> u32 {
        // Acquire: pairs with the kernel's xchg that clears BUSY after the payload was written.
        self.producer.u32_at(self.data_offset(position)).load(Ordering::Acquire)
    }

    fn data_offset(&self, position: u64) -> usize {
        let within = usize::try_from(position & self.mask).unwrap_or(0);
        rustix::param::page_size() + within
    }
}

/// What a record takes up in the ring, from its length word.
fn span(length: u32) -> u64 {
    (u64::from(length & !(BUSY | DISCARD)) + HEADER).next_multiple_of(8)
}
