//! detail.atf: registers and stacks of some events, by position.
//!
//! ```text
//! │ header 64 │ length, … │ length, … │ … │ footer 64 │
//! 0           64                        end           length
//! ```
//!
//! Events differ in length, so the first look-up walks them once and keeps where each begins: 8 bytes per event of at
//! least 24. Invariant: every offset in that table begins an event that lies wholly between header and `end`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::error::{About, ReadError};
use crate::layout::{
    DETAIL_EVENT_HEADER_SIZE, DETAIL_FOOTER_MAGIC, DETAIL_MAGIC, DetailEventHeader, DetailFooter, DetailHeader,
    DetailType, FOOTER_SIZE, FunctionPayload, HEADER_SIZE, LITTLE_ENDIAN, MemoryBlock, SignalPayload, VERSION,
};
use crate::map::FileBytes;

/// Reads one detail.atf, from a file or from any bytes.
#[derive(Debug)]
pub struct DetailReader<B = FileBytes> {
    bytes: B,
    path: PathBuf,
    header: DetailHeader,
    footer: Option<DetailFooter>,
    /// Where the events section ends, in bytes from the start; whole events may end earlier.
    end: usize,
    table: OnceLock<Table>,
}

impl DetailReader {
    /// Opens a file. Checksums and the events' lengths are left to [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`ReadError`] if the file cannot be opened, is not a detail file, or has a footer that disagrees with its length.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let bytes = FileBytes::open(path).map_err(|source| ReadError::Open { path: path.to_owned(), source })?;
        Self::from_bytes(bytes, path)
    }
}

impl<B: AsRef<[u8]>> DetailReader<B> {
    /// Reads bytes that are a detail file's; errors call them `path`.
    ///
    /// # Errors
    /// [`ReadError`] if they are not a detail file, or have a footer that disagrees with their length.
    pub fn from_bytes(bytes: B, path: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let path = path.into();
        let about = About(&path);
        let header = read_header(bytes.as_ref(), about)
            .and_then(|header| about.check_intact(bytes.as_ref()).map(|()| header))?;
        let found = find_footer(bytes.as_ref(), &header);
        about.check_intact(bytes.as_ref())?;
        if let Some((footer, end)) = &found {
            check_footer(footer, *end, About(&path))?;
        }
        let end = found.map_or_else(|| events_end(bytes.as_ref(), &header), |(_, end)| end);
        let footer = found.map(|(footer, _)| footer);
        Ok(Self { bytes, path, header, footer, end, table: OnceLock::new() })
    }

    /// Number of whole events. The first call walks the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.table().offsets.len() as u64
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event at `position`.
    #[must_use]
    pub fn get(&self, position: u32) -> Option<DetailEvent<'_>> {
        let start = *self.table().offsets.get(usize::try_from(position).ok()?)?;
        event_at(self.section_end(), usize::try_from(start).ok()?)
    }

    /// All whole events in order.
    pub fn events(&self) -> impl Iterator<Item = DetailEvent<'_>> {
        let starts = self.table().offsets.iter();
        starts.filter_map(|&start| event_at(self.section_end(), usize::try_from(start).ok()?))
    }

    /// The header as it was when the file was opened. Its counts are not to be trusted; see [`len`](Self::len).
    #[must_use]
    pub fn header(&self) -> &DetailHeader {
        &self.header
    }

    /// The footer, if the file is finalised. Its length agrees with the file; see [`verify`](Self::verify).
    #[must_use]
    pub fn footer(&self) -> Option<&DetailFooter> {
        self.footer.as_ref()
    }

    /// Whether the file has no footer, so that its events are those that were whole in it.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.footer.is_none()
    }

    /// Checks the events' lengths, their number and the checksum against the footer; reads all of them. Without a
    /// footer there is nothing to compare.
    ///
    /// # Errors
    /// [`ReadError`] with the value found and the one expected.
    pub fn verify(&self) -> Result<(), ReadError> {
        let Some(footer) = &self.footer else {
            return self.intact();
        };
        let about = About(&self.path);
        let checked = self
            .check_walk()
            .and_then(|()| about.check_checksum(self.section(), self.end as u64, footer.checksum.get()));
        self.intact().and(checked)
    }

    /// Fails if the file was cut after it was opened, and somebody has read what was behind: that reads as zeros. To be
    /// asked after reading; costs next to nothing.
    ///
    /// # Errors
    /// [`ReadError::Truncated`].
    pub fn intact(&self) -> Result<(), ReadError> {
        About(&self.path).check_intact(self.bytes.as_ref())
    }

    /// What errors call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the events do not fill the section of a finalised file, or are not as many as its footer says.
    pub(super) fn check_walk(&self) -> Result<(), ReadError> {
        let Some(footer) = &self.footer else {
            return Ok(());
        };
        let table = self.table();
        if table.end < self.end {
            return Err(self.length_error(table));
        }
        About(&self.path).check("event_count", self.end as u64 + 8, footer.event_count.get(), self.len())
    }

    /// Whether nothing is left to finalise.
    pub(crate) fn is_final(&self) -> bool {
        self.footer.is_some_and(|footer| {
            footer.bytes_length == self.header.bytes_length && footer.event_count == self.header.event_count
        })
    }

    /// The bytes of the whole events.
    pub(crate) fn whole_section(&self) -> &[u8] {
        self.bytes.as_ref().get(HEADER_SIZE..self.table().end).unwrap_or_default()
    }

    fn section(&self) -> &[u8] {
        self.bytes.as_ref().get(HEADER_SIZE..self.end).unwrap_or_default()
    }

    /// Everything up to the end of the events, so that offsets in it are offsets in the file.
    fn section_end(&self) -> &[u8] {
        self.bytes.as_ref().get(..self.end).unwrap_or_default()
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| Table::walk(self.section_end()))
    }

    fn length_error(&self, table: &Table) -> ReadError {
        let rest = self.section_end().get(table.end..).unwrap_or_default();
        // Fewer than four bytes have no length to show.
        let found = rest.first_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes));
        ReadError::Length {
            path: self.path.clone(),
            offset: table.end as u64,
            position: table.offsets.len() as u64,
            found: found.into(),
            least: DETAIL_EVENT_HEADER_SIZE as u64,
            most: rest.len() as u64,
        }
    }
}

/// Where each whole event begins, and where the last one ends, in bytes from the file's start.
#[derive(Debug)]
struct Table {
    offsets: Vec<u64>,
    end: usize,
}

impl Table {
    fn walk(bytes: &[u8]) -> Self {
        let (mut offsets, mut end) = (Vec::new(), HEADER_SIZE);
        while let Some(event) = event_at(bytes, end) {
            offsets.push(end as u64);
            end += event.length();
        }
        Self { offsets, end }
    }
}

/// The event that begins at `start`, if it is whole.
fn event_at(bytes: &[u8], start: usize) -> Option<DetailEvent<'_>> {
    let rest = bytes.get(start..)?;
    let (header, _) = DetailEventHeader::ref_from_prefix(rest).ok()?;
    let length = usize::try_from(header.total_length.get()).ok()?;
    let payload = rest.get(DETAIL_EVENT_HEADER_SIZE..length)?;
    Some(DetailEvent { header, payload })
}

/// The first `length` bytes, or all there are, and what is behind them.
fn split(bytes: &[u8], length: u16) -> (&[u8], &[u8]) {
    bytes.split_at_checked(length.into()).unwrap_or((bytes, &[]))
}

fn read_header(bytes: &[u8], about: About<'_>) -> Result<DetailHeader, ReadError> {
    let (header, _) = DetailHeader::read_from_prefix(bytes).map_err(|_| about.too_short(bytes))?;
    about.check_magic(0, header.magic, DETAIL_MAGIC)?;
    about.check("endian", 4, header.endian.into(), LITTLE_ENDIAN.into())?;
    about.check_version(header.version, VERSION)?;
    about.check("events_offset", 20, header.events_offset.get(), HEADER_SIZE as u64)?;
    Ok(header)
}

/// The footer at the bytes' end, and where it begins. A stack may look like one: unless the header says that it is
/// there, the events have to end where it begins.
fn find_footer(bytes: &[u8], header: &DetailHeader) -> Option<(DetailFooter, usize)> {
    let end = bytes.len().checked_sub(FOOTER_SIZE).filter(|&end| end >= HEADER_SIZE)?;
    let (footer, _) = DetailFooter::read_from_prefix(bytes.get(end..)?).ok()?;
    if footer.magic != DETAIL_FOOTER_MAGIC {
        return None;
    }
    let promised = header.bytes_length.get() == (end - HEADER_SIZE) as u64;
    let is_footer = promised || Table::walk(bytes.get(..end)?).end == end;
    is_footer.then_some((footer, end))
}

/// Fails if the footer, which begins at `end`, disagrees with the file's length.
fn check_footer(footer: &DetailFooter, end: usize, about: About<'_>) -> Result<(), ReadError> {
    let (at, section) = (end as u64, (end - HEADER_SIZE) as u64);
    let most = section / DETAIL_EVENT_HEADER_SIZE as u64;
    about.check("bytes_length", at + 16, footer.bytes_length.get(), section)?;
    about.check("event_count", at + 8, footer.event_count.get(), footer.event_count.get().min(most))
}

/// How far events can reach in a file without a footer: not into what is left of one.
fn events_end(bytes: &[u8], header: &DetailHeader) -> usize {
    match (header.bytes_length.get(), usize::try_from(header.bytes_length.get())) {
        (1.., Ok(length)) => length.saturating_add(HEADER_SIZE).min(bytes.len()),
        _ => bytes.len(),
    }
}

/// One event of the detail lane.
#[derive(Clone, Copy, Debug)]
pub struct DetailEvent<'a> {
    header: &'a DetailEventHeader,
    payload: &'a [u8],
}

impl<'a> DetailEvent<'a> {
    /// One that was read by other means: its header, and the bytes that follow.
    #[must_use]
    pub fn new(header: &'a DetailEventHeader, payload: &'a [u8]) -> Self {
        Self { header, payload }
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &'a DetailEventHeader {
        self.header
    }

    /// What it holds; `None` if the file has a number that this version does not know.
    #[must_use]
    pub fn detail_type(&self) -> Option<DetailType> {
        DetailType::from_raw(self.header.event_type.get())
    }

    /// Position of the linked index event.
    #[must_use]
    pub fn index_seq(&self) -> u32 {
        self.header.index_seq.get()
    }

    /// The linked index event's timestamp, in nanoseconds of the clock.
    #[must_use]
    pub fn timestamp_ns(&self) -> u64 {
        self.header.timestamp_ns.get()
    }

    /// The payload's bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.payload
    }

    /// The payload; `None` if its type is unknown or it is too short for it. A count of stack, memory or
    /// registers that the payload's length does not bear out is cut to what is there.
    #[must_use]
    pub fn payload(&self) -> Option<Payload<'a>> {
        match self.detail_type()? {
            DetailType::FunctionCall | DetailType::FunctionReturn => self.function().map(Payload::Function),
            DetailType::SignalDelivery => self.signal().map(Payload::Signal),
        }
    }

    fn function(&self) -> Option<FunctionEvent<'a>> {
        let (fixed, rest) = FunctionPayload::ref_from_prefix(self.payload).ok()?;
        let (stack, rest) = split(rest, fixed.stack_size.get());
        let (memory, _) = split(rest, fixed.memory_size.get());
        Some(FunctionEvent { fixed, stack, memory })
    }

    fn signal(&self) -> Option<SignalEvent<'a>> {
        let (fixed, rest) = SignalPayload::ref_from_prefix(self.payload).ok()?;
        let count = usize::from(fixed.register_count.get()).min(rest.len() / size_of::<U64>());
        let (registers, _) = <[U64]>::ref_from_prefix_with_elems(rest, count).ok()?;
        Some(SignalEvent { fixed, registers })
    }

    /// Length of the whole event, in bytes.
    fn length(&self) -> usize {
        DETAIL_EVENT_HEADER_SIZE + self.payload.len()
    }
}

/// What a detail event holds.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Registers and stack at a call or return.
    Function(FunctionEvent<'a>),
    /// A signal's delivery.
    Signal(SignalEvent<'a>),
}

/// Registers, stack and memory at a call or return.
#[derive(Clone, Copy, Debug)]
pub struct FunctionEvent<'a> {
    /// The registers.
    pub fixed: &'a FunctionPayload,
    /// The stack, upwards from the stack pointer.
    pub stack: &'a [u8],
    /// The memory blocks.
    memory: &'a [u8],
}

impl<'a> FunctionEvent<'a> {
    /// What arguments or values pointed at, in the file's order. A piece whose length the event does not bear out is
    /// cut to what is there.
    pub fn memory(&self) -> impl Iterator<Item = MemoryEvent<'a>> + use<'a> {
        let mut rest = self.memory;
        std::iter::from_fn(move || {
            let (block, behind) = MemoryBlock::ref_from_prefix(rest).ok()?;
            let (bytes, next) = split(behind, block.length.get());
            rest = next;
            let full_length = block.full_length.get();
            Some(MemoryEvent { slot: block.slot, address: block.address.get(), full_length, bytes })
        })
    }
}

/// A piece of the target's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEvent<'a> {
    /// Which piece of the function's signature it is: its position there.
    pub slot: u8,
    /// Where it was in the target.
    pub address: u64,
    /// Length of the whole in the target, in bytes: more than that of `bytes` if it was cut.
    pub full_length: u32,
    /// What was copied of it.
    pub bytes: &'a [u8],
}

/// A signal's delivery.
#[derive(Clone, Copy, Debug)]
pub struct SignalEvent<'a> {
    /// The signal.
    pub fixed: &'a SignalPayload,
    /// The general-purpose registers, in the format's order for the architecture.
    pub registers: &'a [U64],
}
