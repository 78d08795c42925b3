//! Packets of a CTF stream: events of one stack of a thread, and how many were lost before their end.
//!
//! ```text
//! │ magic 4 │ uuid 16 │ stream 4 │ begin 8 │ end 8 │ content bits 8 │ packet bits 8 │ lost 8 │ pid 4 │ tid 4 │ thread 4 │
//! │ thread_name … 0 │ events: id 1 │ time 8 │ fields │ …
//! ```
//!
//! Invariant: times of a stream never fall; a packet's sizes are those of what is written.

use std::io::{self, Write};

/// First bytes of every packet.
const MAGIC: u32 = 0xc1fc_1fc1;
/// A packet is written once it has so many bytes.
const FULL: usize = 64 * 1024;
/// Where the numbers begin that are known only at the end.
const CONTEXT: usize = 24;

/// Writes the packets of one stream.
#[derive(Debug)]
pub(super) struct Packets<W: Write> {
    sink: W,
    buffer: Vec<u8>,
    /// What precedes the events, without its numbers.
    head: Vec<u8>,
    begin_ns: u64,
    last_ns: u64,
    latest_ns: u64,
    lost: u64,
    /// Bytes so far.
    pub(super) written: u64,
}

impl<W: Write> Packets<W> {
    /// A stream of the trace with this id, of a thread.
    pub(super) fn new(
        sink: W,
        uuid: [u8; 16],
        (pid, tid, thread): (u32, u32, u32),
        name: &str,
        latest_ns: u64,
    ) -> Self {
        let mut head = MAGIC.to_le_bytes().to_vec();
        head.extend_from_slice(&uuid);
        head.extend_from_slice(&0_u32.to_le_bytes());
        head.extend_from_slice(&[0; 40]);
        for id in [pid, tid, thread] {
            head.extend_from_slice(&id.to_le_bytes());
        }
        head.extend_from_slice(name.replace('\0', "").as_bytes());
        head.push(0);
        let buffer = head.clone();
        Self { sink, buffer, head, begin_ns: 0, last_ns: 0, latest_ns, lost: 0, written: 0 }
    }

    /// Begins an event; its fields follow. A time before the last one becomes that.
    pub(super) fn event(&mut self, id: u8, time_ns: u64) -> io::Result<()> {
        if self.buffer.len() >= FULL {
            self.write()?;
        }
        self.last_ns = self.last_ns.max(time_ns.min(self.latest_ns));
        if self.is_empty() {
            self.begin_ns = self.last_ns;
        }
        self.buffer.push(id);
        self.buffer.extend_from_slice(&self.last_ns.to_le_bytes());
        Ok(())
    }

    /// A field.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// A field of text.
    pub(super) fn text(&mut self, text: &str) {
        self.buffer.extend(text.bytes().filter(|byte| *byte != 0));
        self.buffer.push(0);
    }

    /// Events are missing between the packet before and the one that follows.
    pub(super) fn lose(&mut self, count: u64) -> io::Result<()> {
        self.write()?;
        self.lost = self.lost.saturating_add(count);
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.write()?;
        self.sink.flush()?;
        Ok(self.written)
    }

    fn is_empty(&self) -> bool {
        self.buffer.len() == self.head.len()
    }

    /// Writes a packet, unless it is empty.
    fn write(&mut self) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let bits = self.buffer.len() as u64 * 8;
        let numbers = [self.begin_ns, self.last_ns, bits, bits, self.lost];
        for (place, number) in
            self.buffer.iter_mut().skip(CONTEXT).zip(numbers.iter().flat_map(|number| number.to_le_bytes()))
        {
            *place = number;
        }
        self.sink.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.truncate(self.head.len());
        Ok(())
    }
}
