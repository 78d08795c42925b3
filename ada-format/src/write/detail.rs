//! The detail lane's writer: length-prefixed registers and stacks of some events.
//!
//! Invariant: the buffer holds whole events only, and none of them is split between two buffers.

use std::fs::File;
use std::io;
use std::path::Path;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::lane::{Ends, Lane, Salvage};
use super::sink::{Folder, Sink, Storage};
use super::{DETAIL_FILE, ThreadMeta, WriteError};
use crate::layout::{
    DETAIL_EVENT_HEADER_SIZE, DETAIL_FOOTER_MAGIC, DETAIL_MAGIC, DetailEventHeader, DetailFooter, DetailHeader,
    DetailType, EventKind, FUNCTION_PAYLOAD_SIZE, FunctionPayload, HEADER_SIZE, LITTLE_ENDIAN, MAX_MEMORY, MAX_STACK,
    MEMORY_BLOCK_SIZE, MemoryBlock, SIGNAL_PAYLOAD_SIZE, SignalPayload, VERSION,
};

/// Bytes held back before they are written, unless a single event is longer.
const BUFFERED_BYTES: usize = 64 * 1024;

/// What is to be kept of an event besides its place in the index.
#[derive(Clone, Copy, Debug)]
pub enum Detail<'a> {
    /// Registers and stack at a call or return.
    Function(FunctionDetail<'a>),
    /// A signal's delivery; its index event is an [`EventKind::Exception`].
    Signal(SignalDetail<'a>),
}

/// Registers and stack at a call or return; see [`FunctionPayload`].
#[derive(Clone, Copy, Debug, Default)]
pub struct FunctionDetail<'a> {
    /// Argument or value registers, in the format's order for the architecture.
    pub regs: [u64; 8],
    /// Where the function returns to.
    pub return_address: u64,
    /// rbp, or x29.
    pub frame_pointer: u64,
    /// rsp, or sp: the address of `stack`'s first byte.
    pub stack_pointer: u64,
    /// At most 512 bytes.
    pub stack: &'a [u8],
    /// What arguments or values point at; with 16 bytes for each piece at most 65 535 bytes in all.
    pub memory: &'a [Memory<'a>],
}

/// A piece of the target's memory; see [`MemoryBlock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory<'a> {
    /// Which piece of the function's signature it is: its position there.
    pub slot: u8,
    /// Where it was in the target.
    pub address: u64,
    /// Length of the whole in the target, in bytes; less than that of `bytes` counts as that.
    pub full_length: u32,
    /// What was copied of it.
    pub bytes: &'a [u8],
}

/// A signal's delivery; see [`SignalPayload`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalDetail<'a> {
    /// Signal number.
    pub number: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`, or 0.
    pub fault_address: u64,
    /// The full general-purpose set, in the format's order for the architecture.
    pub registers: &'a [u64],
}

impl Detail<'_> {
    /// Checks the format's limits and returns the event's type and length in bytes.
    pub(super) fn check(&self, kind: EventKind) -> Result<(DetailType, usize), WriteError> {
        match self {
            Self::Function(function) => Ok((function_type(kind)?, function.length()?)),
            Self::Signal(signal) if kind == EventKind::Exception => Ok((DetailType::SignalDelivery, signal.length()?)),
            Self::Signal(_) => Err(WriteError::DetailMismatch { kind, detail: "signal" }),
        }
    }
}

fn function_type(kind: EventKind) -> Result<DetailType, WriteError> {
    match kind {
        EventKind::Call => Ok(DetailType::FunctionCall),
        EventKind::Return => Ok(DetailType::FunctionReturn),
        EventKind::Exception | EventKind::Switch => Err(WriteError::DetailMismatch { kind, detail: "function" }),
    }
}

impl FunctionDetail<'_> {
    fn length(&self) -> Result<usize, WriteError> {
        let found = self.stack.len();
        if found > MAX_STACK {
            return Err(WriteError::StackTooLong { found, limit: MAX_STACK });
        }
        Ok(DETAIL_EVENT_HEADER_SIZE + FUNCTION_PAYLOAD_SIZE + found + self.memory_length()?)
    }

    fn memory_length(&self) -> Result<usize, WriteError> {
        let found = self.memory.iter().map(|piece| MEMORY_BLOCK_SIZE + piece.bytes.len()).sum();
        if found > MAX_MEMORY {
            return Err(WriteError::MemoryTooLong { found, limit: MAX_MEMORY });
        }
        Ok(found)
    }

    fn encode(&self, function_id: u64, buffer: &mut Vec<u8>) {
        let memory = self.memory_length().unwrap_or_default();
        let payload = FunctionPayload {
            function_id: function_id.into(),
            regs: self.regs.map(Into::into),
            return_address: self.return_address.into(),
            frame_pointer: self.frame_pointer.into(),
            stack_pointer: self.stack_pointer.into(),
            stack_size: u16::try_from(self.stack.len()).unwrap_or_default().into(),
            memory_size: u16::try_from(memory).unwrap_or_default().into(),
        };
        buffer.extend_from_slice(payload.as_bytes());
        buffer.extend_from_slice(self.stack);
        self.memory.iter().for_each(|piece| piece.encode(buffer));
    }
}

impl Memory<'_> {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let length = u16::try_from(self.bytes.len()).unwrap_or_default();
        let block = MemoryBlock {
            address: self.address.into(),
            full_length: self.full_length.max(length.into()).into(),
            length: length.into(),
            slot: self.slot,
            flags: 0,
        };
        buffer.extend_from_slice(block.as_bytes());
        buffer.extend_from_slice(self.bytes);
    }
}

impl SignalDetail<'_> {
    fn length(&self) -> Result<usize, WriteError> {
        let found = self.registers.len();
        let limit = usize::from(u16::MAX);
        if found > limit {
            return Err(WriteError::TooManyRegisters { found, limit });
        }
        Ok(DETAIL_EVENT_HEADER_SIZE + SIGNAL_PAYLOAD_SIZE + size_of_val(self.registers))
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        let payload = SignalPayload {
            number: self.number.into(),
            code: self.code.into(),
            fault_address: self.fault_address.into(),
            register_count: u16::try_from(self.registers.len()).unwrap_or_default().into(),
            reserved: 0.into(),
        };
        buffer.extend_from_slice(payload.as_bytes());
        for register in self.registers {
            buffer.extend_from_slice(&register.to_le_bytes());
        }
    }
}

/// The index event that a detail belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Linked {
    /// Its position in the index.
    pub index_seq: u32,
    /// Its timestamp, in nanoseconds of the clock.
    pub timestamp_ns: u64,
    /// Its function.
    pub function_id: u64,
    /// What it is.
    pub kind: EventKind,
}

/// What the events in a detail file cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) count: u64,
    first: Option<(u32, u64)>,
    last: (u32, u64),
}

impl Coverage {
    /// Adds one event's index position and timestamp.
    pub(crate) fn add(&mut self, index_seq: u32, timestamp_ns: u64) {
        self.count += 1;
        self.last = (index_seq, timestamp_ns);
        self.first.get_or_insert(self.last);
    }

    /// This and all whole events in `bytes`.
    fn with_all(mut self, bytes: &[u8]) -> Self {
        for event in heads(bytes) {
            self.add(event.index_seq.get(), event.timestamp_ns.get());
        }
        self
    }
}

/// Writes one detail.atf. Most callers want a [`ThreadWriter`](super::ThreadWriter), which keeps both lanes linked.
#[derive(Debug)]
pub struct DetailWriter<S: Sink = File> {
    buffer: Vec<u8>,
    buffered: u64,
    written: Coverage,
    /// Position of the last event with detail.
    last_seq: Option<u32>,
    thread_id: u32,
    header: DetailHeader,
    lane: Lane<S>,
}

impl DetailWriter<File> {
    /// Creates `folder`/detail.atf, which must not exist, with its header.
    ///
    /// # Errors
    /// [`WriteError::Create`] if the system refuses.
    pub fn create(folder: &Path, meta: &ThreadMeta) -> Result<Self, WriteError> {
        let mut storage = Folder(folder.to_owned());
        Self::create_in(&mut storage, meta)
            .map_err(|source| WriteError::Create { path: storage.path(DETAIL_FILE), source })
    }
}

impl<S: Sink> DetailWriter<S> {
    pub(super) fn create_in(storage: &mut impl Storage<File = S>, meta: &ThreadMeta) -> io::Result<Self> {
        let header = unfinished_header(meta);
        let sink = storage.create(DETAIL_FILE)?;
        let lane = Lane::create(sink, storage.path(DETAIL_FILE), &zerocopy::transmute!(header))
            .inspect_err(|_| storage.remove(DETAIL_FILE))?;
        Ok(Self {
            buffer: Vec::with_capacity(BUFFERED_BYTES),
            buffered: 0,
            written: Coverage::default(),
            last_seq: None,
            thread_id: meta.thread_id,
            header,
            lane,
        })
    }

    /// Appends the detail of the index event `of` and returns the detail's position.
    ///
    /// # Errors
    /// A variant that names the limit if the detail does not fit the format; [`WriteError::Failed`] if the buffer was
    /// full and could not be written.
    pub fn append(&mut self, of: Linked, detail: &Detail<'_>) -> Result<u64, WriteError> {
        let (event_type, length) = detail.check(of.kind)?;
        if !self.has_room(length) {
            self.flush()?;
        }
        let position = self.count();
        self.push(of, event_type, length, detail);
        Ok(position)
    }

    /// Number of details appended, or after a failure the number that is safe.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.written.count + self.buffered
    }

    /// Hands what is buffered to the operating system.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if it refuses.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.flush_buffer().map_err(|source| WriteError::failed(self.lane.path(), self.written.count, source))
    }

    /// Flushes and finalises.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if the system refuses; what had been flushed stays readable.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.flush()?;
        self.seal().map_err(|source| WriteError::failed(self.lane.path(), self.written.count, source))
    }

    /// Position of the last index event that got detail.
    pub(super) fn last_seq(&self) -> Option<u32> {
        self.last_seq
    }

    /// Whether an event of `length` bytes fits into the buffer; any does into an empty one.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.buffer.is_empty() || self.buffer.len() + length <= BUFFERED_BYTES
    }

    /// Appends a checked detail to the buffer.
    pub(super) fn push(&mut self, of: Linked, event_type: DetailType, length: usize, detail: &Detail<'_>) {
        let head = DetailEventHeader {
            total_length: u32::try_from(length).unwrap_or_default().into(),
            event_type: event_type.raw().into(),
            flags: 0.into(),
            index_seq: of.index_seq.into(),
            thread_id: self.thread_id.into(),
            timestamp_ns: of.timestamp_ns.into(),
        };
        self.buffer.extend_from_slice(head.as_bytes());
        match detail {
            Detail::Function(function) => function.encode(of.function_id, &mut self.buffer),
            Detail::Signal(signal) => signal.encode(&mut self.buffer),
        }
        self.buffered += 1;
        self.last_seq = Some(of.index_seq);
    }

    /// Length of the file, in bytes, with what is still buffered.
    pub(super) fn bytes(&self) -> u64 {
        self.lane.file_length() + self.buffer.len() as u64
    }

    pub(super) fn path(&self) -> &Path {
        self.lane.path()
    }

    /// Writes the buffer. After an error the file holds whole events, and the buffer is gone.
    pub(super) fn flush_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Err(short) = self.lane.append(&self.buffer) else {
            self.advance(self.buffer.len());
            return Ok(());
        };
        let length = self.lane.length();
        let footer = |kept: &[u8], checksum| {
            let covers = self.written.with_all(kept);
            finished(&self.header, length + kept.len() as u64, &covers, checksum).footer
        };
        let Salvage { kept, source } = self.lane.salvage(&self.buffer, short, whole, &footer);
        self.advance(kept);
        Err(source)
    }

    /// Counts the first `bytes` of the buffer as written and empties it.
    fn advance(&mut self, bytes: usize) {
        self.written = self.written.with_all(self.buffer.get(..bytes).unwrap_or_default());
        self.buffer.clear();
        self.buffered = 0;
    }

    /// Writes footer and header around what is in the file.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        let ends = finished(&self.header, self.lane.length(), &self.written, self.lane.checksum());
        self.lane.seal(&ends)
    }

    /// Whether the file is finalised.
    pub(super) fn finished(&self) -> bool {
        self.lane.finished()
    }
}

/// The headers of the whole events in a buffer of ours.
fn heads(bytes: &[u8]) -> impl Iterator<Item = &DetailEventHeader> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, _) = DetailEventHeader::ref_from_prefix(rest).ok()?;
        rest = rest.get(head.total_length.get() as usize..)?;
        Some(head)
    })
}

/// Length of the longest prefix made of whole events and at most `limit` long.
fn whole(bytes: &[u8], limit: usize) -> usize {
    let lengths = heads(bytes.get(..limit).unwrap_or(bytes));
    lengths.map(|head| head.total_length.get() as usize).sum()
}

fn unfinished_header(meta: &ThreadMeta) -> DetailHeader {
    DetailHeader {
        magic: DETAIL_MAGIC,
        endian: LITTLE_ENDIAN,
        version: VERSION,
        arch: meta.arch.raw(),
        os: meta.os.raw(),
        thread_id: meta.thread_id.into(),
        events_offset: (HEADER_SIZE as u64).into(),
        ..DetailHeader::new_zeroed()
    }
}

/// Header and footer of a finalised file, from its header so far and what it holds.
pub(crate) fn finished(header: &DetailHeader, bytes: u64, covers: &Coverage, checksum: u32) -> Ends {
    let (first_seq, time_start) = covers.first.unwrap_or_default();
    let (last_seq, time_end) = covers.last;
    let footer = DetailFooter {
        magic: DETAIL_FOOTER_MAGIC,
        checksum: checksum.into(),
        event_count: covers.count.into(),
        bytes_length: bytes.into(),
        time_start_ns: time_start.into(),
        time_end_ns: time_end.into(),
        reserved: [0; 24],
    };
    let header = DetailHeader {
        event_count: covers.count.into(),
        bytes_length: bytes.into(),
        index_seq_start: u64::from(first_seq).into(),
        index_seq_end: u64::from(last_seq).into(),
        ..*header
    };
    Ends { header: zerocopy::transmute!(header), footer: zerocopy::transmute!(footer) }
}
