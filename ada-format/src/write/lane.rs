//! One file being written: header, a growing section of whole events, then footer and header again.
//!
//! Invariant: `length` counts only whole events that are in the file, and `crc` is the checksum of exactly those.

use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use super::sink::Sink;
use crate::layout::{FOOTER_SIZE, HEADER_SIZE};

/// Length of the longest prefix of `bytes`, at most `limit` long, that is made of whole events.
pub(super) type Whole = fn(bytes: &[u8], limit: usize) -> usize;

/// Makes the footer for a file that ends with the given part of a buffer, and has the given checksum.
pub(super) type Footer<'a> = &'a dyn Fn(&[u8], u32) -> [u8; FOOTER_SIZE];

/// The two ends of a finalised file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) header: [u8; HEADER_SIZE],
    pub(crate) footer: [u8; FOOTER_SIZE],
}

/// A write that did not complete: how many bytes reached the file, and why no more did.
#[derive(Debug)]
pub(super) struct Short {
    written: usize,
    source: io::Error,
}

/// What was left of a buffer whose write failed.
#[derive(Debug)]
pub(super) struct Salvage {
    /// Bytes of it that are in the file, all of them whole events.
    pub(super) kept: usize,
    /// Why the rest is not.
    pub(super) source: io::Error,
}

/// A file and how far it has come.
#[derive(Debug)]
pub(crate) struct Lane<S> {
    sink: S,
    path: PathBuf,
    length: u64,
    crc: Hasher,
    /// Whether the footer is in place.
    sealed: bool,
    /// Whether the header has been rewritten, too.
    finished: bool,
}

impl<S: Sink> Lane<S> {
    /// Begins a file with its unfinalised header.
    pub(super) fn create(mut sink: S, path: PathBuf, header: &[u8; HEADER_SIZE]) -> io::Result<Self> {
        put(&mut sink, header, 0).map_err(|short| short.source)?;
        Ok(Self { sink, path, length: 0, crc: Hasher::new(), sealed: false, finished: false })
    }

    /// Takes up a file that holds `length` bytes of whole events with the checksum `crc`, cutting off all else.
    pub(crate) fn resume(mut sink: S, path: PathBuf, length: u64, crc: Hasher) -> io::Result<Self> {
        sink.set_len(HEADER_SIZE as u64 + length)?;
        Ok(Self { sink, path, length, crc, sealed: false, finished: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is finalised.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Length of the events section, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Length of the file, in bytes.
    pub(super) fn file_length(&self) -> u64 {
        self.end(0) + if self.sealed { FOOTER_SIZE as u64 } else { 0 }
    }

    /// Checksum of the events section.
    pub(super) fn checksum(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// Appends whole events. After an error the caller must [`salvage`](Self::salvage).
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Short> {
        let end = self.end(0);
        put(&mut self.sink, bytes, end)?;
        self.commit(bytes);
        Ok(())
    }

    /// Reads all of `bytes` from the place in the events section that begins `at` bytes behind its start.
    pub(super) fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        take(&mut self.sink, bytes, HEADER_SIZE as u64 + at)
    }

    /// Overwrites `old`, which begins `at` bytes behind the section's start and lies in it wholly, with `new`, which
    /// is as long. After an error the file holds some first bytes of `new`, and the checksum is right even so.
    pub(crate) fn patch(&mut self, at: u64, old: &[u8], new: &[u8]) -> io::Result<()> {
        let (written, outcome) = match put(&mut self.sink, new, HEADER_SIZE as u64 + at) {
            Ok(()) => (new.len(), Ok(())),
            Err(short) => (short.written, Err(short.source)),
        };
        let hash = |bytes: &[u8]| crc32fast::hash(bytes.get(..written).unwrap_or_default());
        let behind = self.length.saturating_sub(at + written as u64);
        let checksum = self.checksum() ^ shifted(hash(old) ^ hash(new), behind);
        self.crc = Hasher::new_with_initial_len(checksum, self.length);
        outcome
    }

    /// After a failed [`append`](Self::append) of `bytes`: cuts the file back to whole events and puts the footer
    /// behind them, if need be by giving up the last events of `bytes`, which nobody has been told are safe.
    pub(super) fn salvage(&mut self, bytes: &[u8], short: Short, whole: Whole, footer: Footer<'_>) -> Salvage {
        let mut kept = whole(bytes, short.written.min(bytes.len()));
        if self.sink.set_len(self.end(kept)).is_ok() && is_lack_of_room(&short.source) {
            kept = self.make_room(bytes, kept, whole, footer);
        }
        self.commit(bytes.get(..kept).unwrap_or_default());
        Salvage { kept, source: short.source }
    }

    /// Returns how much of `bytes[..kept]` stays so that a footer fits behind it; all of it if none can be made to.
    fn make_room(&mut self, bytes: &[u8], kept: usize, whole: Whole, footer: Footer<'_>) -> usize {
        let first_part = |length| bytes.get(..length).unwrap_or_default();
        let missing = match self.try_footer(first_part(kept), footer) {
            Err(missing) if missing <= kept => missing,
            _ => return kept,
        };
        let fewer = whole(bytes, kept - missing);
        let end = self.end(fewer);
        if self.sink.set_len(end).is_err() {
            return kept;
        }
        if self.try_footer(first_part(fewer), footer).is_ok() {
            return fewer;
        }
        // It was for nothing: put the events back where they have been before.
        match put(&mut self.sink, bytes.get(fewer..kept).unwrap_or_default(), end) {
            Ok(()) => kept,
            Err(short) => {
                let kept = whole(bytes, fewer + short.written);
                let _ = self.sink.set_len(self.end(kept));
                kept
            }
        }
    }

    /// Puts the footer behind `kept`, or says how many bytes of it do not fit.
    fn try_footer(&mut self, kept: &[u8], footer: Footer<'_>) -> Result<(), usize> {
        let mut crc = self.crc.clone();
        crc.update(kept);
        let end = self.end(kept.len());
        match put(&mut self.sink, &footer(kept, crc.finalize()), end) {
            Ok(()) => {
                self.sealed = true;
                Ok(())
            }
            Err(short) => {
                let _ = self.sink.set_len(end);
                Err(FOOTER_SIZE - short.written)
            }
        }
    }

    /// Finalises: the footer first, then the header. Without room for the footer the file stays as it was.
    pub(crate) fn seal(&mut self, ends: &Ends) -> io::Result<()> {
        if !self.sealed {
            let end = self.end(0);
            if let Err(short) = put(&mut self.sink, &ends.footer, end) {
                let _ = self.sink.set_len(end);
                return Err(short.source);
            }
            self.sealed = true;
        }
        put(&mut self.sink, &ends.header, 0).map_err(|short| short.source)?;
        self.finished = true;
        Ok(())
    }

    /// Where the file's events end if `more` bytes are added.
    fn end(&self, more: usize) -> u64 {
        HEADER_SIZE as u64 + self.length + more as u64
    }

    fn commit(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
    }
}

/// What a difference of two checksums becomes when the same `behind` bytes, whichever they are, follow both. A CRC is
/// linear over the bits, so that it is what `behind` zeros make of it.
fn shifted(difference: u32, behind: u64) -> u32 {
    let mut crc = Hasher::new_with_initial(difference);
    crc.combine(&Hasher::new_with_initial_len(0, behind));
    crc.finalize()
}

/// Whether an error means that a shorter file could have been written.
fn is_lack_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull | WriteZero)
}

/// Writes all of `bytes`, going on after interruptions and partial writes.
fn put(sink: &mut impl Sink, bytes: &[u8], offset: u64) -> Result<(), Short> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write_at(rest, offset + written as u64) {
            Ok(0) => {
                return Err(Short { written, source: io::ErrorKind::WriteZero.into() });
            }
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Short { written, source }),
        }
    }
    Ok(())
}

/// Fills `bytes`, going on after interruptions and partial reads.
fn take(sink: &mut impl Sink, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match sink.read_at(rest, offset + read as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(source),
        }
    }
    Ok(())
}
