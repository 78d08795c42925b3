//! index.atf: every call and return of a thread, by position.
//!
//! ```text
//! │ header 64 │ event 0 │ event 1 │ … │ event n−1 │ footer 64 │
//! 0           64                                  end         length
//! ```
//!
//! Invariant: `end` lies within the bytes and `end − 64` is a multiple of 32, whatever header and footer say.

use std::path::{Path, PathBuf};

use zerocopy::{FromBytes, FromZeros};

use super::error::{About, ReadError};
use crate::layout::{
    FOOTER_SIZE, HEADER_SIZE, INDEX_EVENT_SIZE, INDEX_FOOTER_MAGIC, INDEX_MAGIC, IndexEvent, IndexFooter, IndexHeader,
    LITTLE_ENDIAN, VERSION,
};
use crate::map::FileBytes;

/// Reads one index.atf, from a file or from any bytes.
///
/// # Examples
/// ```
/// use ada_format::read::IndexReader;
///
/// let error = IndexReader::from_bytes(&b"not a trace"[..], "memory").unwrap_err();
/// assert_eq!(error.to_string(), "memory ends at byte 11, within its header of 64 bytes");
/// ```
#[derive(Debug)]
pub struct IndexReader<B = FileBytes> {
    bytes: B,
    path: PathBuf,
    parts: Parts,
}

impl IndexReader {
    /// Opens a file; takes the same time for any length. Checksums are left to [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`ReadError`] if the file cannot be opened, is not an index, or has a footer that disagrees with its length.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let bytes = FileBytes::open(path).map_err(|source| ReadError::Open { path: path.to_owned(), source })?;
        Self::from_bytes(bytes, path)
    }
}

impl<B: AsRef<[u8]>> IndexReader<B> {
    /// Reads bytes that are an index file's; errors call them `path`.
    ///
    /// # Errors
    /// [`ReadError`] if they are not an index, or have a footer that disagrees with their length.
    pub fn from_bytes(bytes: B, path: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let path = path.into();
        let parts = Parts::find(bytes.as_ref(), About(&path));
        About(&path).check_intact(bytes.as_ref())?;
        let parts = parts?;
        Ok(Self { bytes, path, parts })
    }

    /// Number of events.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u64 {
        ((self.parts.end - HEADER_SIZE) / INDEX_EVENT_SIZE) as u64
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The event at `position`.
    #[must_use]
    #[inline]
    pub fn get(&self, position: u64) -> Option<&IndexEvent> {
        self.events().get(usize::try_from(position).ok()?)
    }

    /// All events, in place.
    #[must_use]
    #[inline]
    pub fn events(&self) -> &[IndexEvent] {
        <[IndexEvent]>::ref_from_bytes(self.section()).unwrap_or_default()
    }

    /// The header as it was when the file was opened. Its counts are not to be trusted; see [`len`](Self::len).
    #[must_use]
    pub fn header(&self) -> &IndexHeader {
        &self.parts.header
    }

    /// The footer, if the file is finalised; its counts agree with the file.
    #[must_use]
    pub fn footer(&self) -> Option<&IndexFooter> {
        self.parts.footer.as_ref()
    }

    /// Whether the file has no footer, so that its events are those that were whole in it.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.parts.footer.is_none()
    }

    /// Timestamps of the first and last event, in nanoseconds of the clock.
    #[must_use]
    pub fn time_range(&self) -> Option<(u64, u64)> {
        let events = self.events();
        Some((events.first()?.timestamp_ns.get(), events.last()?.timestamp_ns.get()))
    }

    /// Compares the events with the footer's checksum; reads all of them. Without a footer there is nothing to compare.
    ///
    /// # Errors
    /// [`ReadError::Checksum`] with both values; [`ReadError::Truncated`].
    pub fn verify(&self) -> Result<(), ReadError> {
        let Some(footer) = self.footer() else {
            return self.intact();
        };
        let checked = About(&self.path).check_checksum(self.section(), self.parts.end as u64, footer.checksum.get());
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

    /// Whether nothing is left to finalise.
    pub(crate) fn is_final(&self) -> bool {
        self.footer().is_some() && self.header().footer_offset.get() == self.parts.end as u64
    }

    /// The events section's bytes.
    #[inline]
    pub(crate) fn section(&self) -> &[u8] {
        self.bytes.as_ref().get(HEADER_SIZE..self.parts.end).unwrap_or_default()
    }
}

/// Where the parts of a file are.
#[derive(Debug)]
struct Parts {
    header: IndexHeader,
    footer: Option<IndexFooter>,
    /// Where the events end, in bytes from the start.
    end: usize,
}

impl Parts {
    fn find(bytes: &[u8], about: About<'_>) -> Result<Self, ReadError> {
        let header = read_header(bytes, about)?;
        if let Some((footer, end)) = find_footer(bytes, &header) {
            check_footer(&footer, end, about)?;
            return Ok(Self { header, footer: Some(footer), end });
        }
        let limit = check_no_footer(bytes, &header, about)?;
        let end = HEADER_SIZE + whole(limit - HEADER_SIZE);
        let end = if is_torn_footer(bytes, end) { end - INDEX_EVENT_SIZE } else { end };
        Ok(Self { header, footer: None, end })
    }
}

fn whole(length: usize) -> usize {
    length - length % INDEX_EVENT_SIZE
}

fn read_header(bytes: &[u8], about: About<'_>) -> Result<IndexHeader, ReadError> {
    let (header, _) = IndexHeader::read_from_prefix(bytes).map_err(|_| about.too_short(bytes))?;
    about.check_magic(0, header.magic, INDEX_MAGIC)?;
    about.check("endian", 4, header.endian.into(), LITTLE_ENDIAN.into())?;
    about.check_version(header.version, VERSION)?;
    about.check("event_size", 24, header.event_size.get().into(), INDEX_EVENT_SIZE as u64)?;
    about.check("events_offset", 32, header.events_offset.get(), HEADER_SIZE as u64)?;
    Ok(header)
}

/// The footer at the bytes' end, and where it begins. If the header does not say that it is there, its reserved bytes
/// tell it from events: where a second event's thread and kind would be, they are 0.
fn find_footer(bytes: &[u8], header: &IndexHeader) -> Option<(IndexFooter, usize)> {
    let end = bytes.len().checked_sub(FOOTER_SIZE).filter(|&end| end >= HEADER_SIZE)?;
    let (footer, _) = IndexFooter::read_from_prefix(bytes.get(end..)?).ok()?;
    let promised = header.footer_offset.get() == end as u64;
    let is_footer = footer.magic == INDEX_FOOTER_MAGIC && (promised || footer.reserved == [0; 24]);
    is_footer.then_some((footer, end))
}

/// Fails if the footer, which begins at `end`, disagrees with the file's length.
fn check_footer(footer: &IndexFooter, end: usize, about: About<'_>) -> Result<(), ReadError> {
    let (at, section) = (end as u64, (end - HEADER_SIZE) as u64);
    about.check("event_count", at + 8, footer.event_count.get(), section / INDEX_EVENT_SIZE as u64)?;
    about.check("bytes_written", at + 32, footer.bytes_written.get(), section)?;
    about.check("length of the events section", HEADER_SIZE as u64, section, whole(end - HEADER_SIZE) as u64)
}

/// How far events can reach in a file without a footer at its end. Fails if the header says it is elsewhere within.
fn check_no_footer(bytes: &[u8], header: &IndexHeader, about: About<'_>) -> Result<usize, ReadError> {
    let promised = header.footer_offset.get();
    if promised == 0 {
        return Ok(bytes.len());
    }
    about.check("footer_offset", 40, promised, promised.max(HEADER_SIZE as u64))?;
    let there = usize::try_from(promised).ok().and_then(|at| bytes.get(at..at.checked_add(FOOTER_SIZE)?));
    let Some((footer, _)) = there.and_then(|bytes| IndexFooter::read_from_prefix(bytes).ok()) else {
        // The file was cut: the events end where the footer was, or where the file does.
        return Ok(usize::try_from(promised).map_or(bytes.len(), |at| at.min(bytes.len())));
    };
    about.check_magic(promised, footer.magic, INDEX_FOOTER_MAGIC)?;
    about.check("footer_offset", 40, promised, (bytes.len() - FOOTER_SIZE) as u64)?;
    Ok(bytes.len())
}

/// Whether the last 32 bytes before `end` are not an event but the first half of a footer whose writing was cut off.
fn is_torn_footer(bytes: &[u8], end: usize) -> bool {
    let events = <[IndexEvent]>::ref_from_bytes(bytes.get(HEADER_SIZE..end).unwrap_or_default()).unwrap_or_default();
    let Some((torn, events)) = events.split_last() else {
        return false;
    };
    let torn: IndexFooter = zerocopy::transmute!([*torn, IndexEvent::new_zeroed()]);
    let time = |event: Option<&IndexEvent>| event.map_or(0, |event| event.timestamp_ns.get());
    torn.magic == INDEX_FOOTER_MAGIC
        && torn.event_count.get() == events.len() as u64
        && torn.time_start_ns.get() == time(events.first())
        && torn.time_end_ns.get() == time(events.last())
}
