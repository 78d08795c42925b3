//! Finalising one thread's files in place.
//!
//! Invariant: only bytes that belong to no whole event are cut off, only links that are none are set, and a file that
//! cannot be read is left alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crc32fast::Hasher;
use zerocopy::IntoBytes;

use super::{SessionError, thread_folder};
use crate::layout::{FLAG_HAS_DETAIL, FOOTER_SIZE, HEADER_SIZE, INDEX_EVENT_SIZE, IndexEvent, IndexHeader};
use crate::read::{DetailEvent, DetailReader, IndexReader, Payload, ReadError};
use crate::write::{Coverage, DETAIL_FILE, Ends, INDEX_FILE, Lane, finished_detail, finished_index};

/// What became of a thread's folder.
#[derive(Debug)]
pub struct RecoveredThread {
    /// Its ordinal.
    pub id: u32,
    /// The operating system's thread id; 0 if the index cannot be read.
    pub tid: u32,
    /// Index events kept.
    pub event_count: u64,
    /// Detail events kept.
    pub detail_count: u64,
    /// Timestamps of the first and last event kept, in nanoseconds of the clock.
    pub time_range: Option<(u64, u64)>,
    /// Whether there is a detail file.
    pub has_detail: bool,
    /// What was done to index.atf; `None` if it was final already.
    pub index: Option<RecoveredLane>,
    /// What was done to detail.atf; `None` if it was final already or is not there.
    pub detail: Option<RecoveredLane>,
    /// Why a file of it cannot be recovered; that file was left as it is.
    pub error: Option<ReadError>,
}

/// A file that was finalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredLane {
    /// Bytes at its end that were no whole event, and were cut off.
    pub bytes_cut: u64,
}

/// A thread's files as they are found.
pub(super) struct Found {
    id: u32,
    index: Result<IndexReader, ReadError>,
    /// `None` if there is none.
    detail: Option<Result<DetailReader, ReadError>>,
}

impl Found {
    pub(super) fn open(dir: &Path, id: u32) -> Self {
        let folder = thread_folder(dir, id);
        let index = IndexReader::open(&folder.join(INDEX_FILE));
        let detail = match DetailReader::open(&folder.join(DETAIL_FILE)) {
            Err(ReadError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            detail => Some(detail),
        };
        Self { id, index, detail }
    }

    /// Whether there is nothing to finalise, or nothing that can be.
    pub(super) fn is_final(&self) -> bool {
        let Ok(index) = &self.index else { return true };
        let detail_is_final = match &self.detail {
            Some(Ok(detail)) => detail.is_final(),
            Some(Err(ReadError::TooShort { .. })) => false,
            Some(Err(_)) | None => true,
        };
        index.is_final() && detail_is_final
    }

    /// What is there, as if it had been recovered.
    pub(super) fn report(self) -> RecoveredThread {
        let mut report = RecoveredThread {
            id: self.id,
            tid: 0,
            event_count: 0,
            detail_count: 0,
            time_range: None,
            has_detail: false,
            index: None,
            detail: None,
            error: None,
        };
        if let Some(Ok(detail)) = &self.detail {
            report.has_detail = true;
            report.detail_count = detail.len();
        }
        if let Ok(index) = &self.index {
            report.tid = index.header().thread_id.get();
            report.event_count = index.len();
            report.time_range = index.time_range();
        }
        report.error = self.index.err().or(self.detail.and_then(Result::err));
        report
    }

    /// Finalises what is not.
    pub(super) fn finalise(mut self, dir: &Path) -> Result<RecoveredThread, SessionError> {
        let Ok(index) = &self.index else {
            return Ok(self.report());
        };
        if self.is_final() {
            return Ok(self.report());
        }
        let index_work = (!index.is_final()).then(|| Work::on_index(index, self.detail.as_ref()));
        let mut detail_work = None;
        let mut removed = None;
        match &self.detail {
            Some(Ok(detail)) if !detail.is_final() => detail_work = Some(Work::on_detail(detail)),
            Some(Err(ReadError::TooShort { path, found, .. })) => {
                fs::remove_file(path).map_err(SessionError::io("remove", path))?;
                removed = Some(RecoveredLane { bytes_cut: *found });
            }
            _ => {}
        }
        if removed.is_some() {
            self.detail = None;
        }
        // Ends the mappings, before the files are cut.
        let mut report = self.report();
        let folder = thread_folder(dir, report.id);
        report.detail = match detail_work {
            Some(work) => Some(work.apply(&folder.join(DETAIL_FILE))?),
            None => removed,
        };
        report.index = index_work.map(|work| work.apply(&folder.join(INDEX_FILE))).transpose()?;
        Ok(report)
    }
}

/// What is to be done to a file.
struct Work {
    /// Bytes of whole events.
    length: u64,
    crc: Hasher,
    ends: Ends,
    /// Whether a footer is there already, and only the header is not.
    has_footer: bool,
    /// Events to be overwritten, each at its offset in the events section.
    linked: Vec<(usize, IndexEvent)>,
}

impl Work {
    fn on_index(index: &IndexReader, detail: Option<&Result<DetailReader, ReadError>>) -> Self {
        let detail = detail.and_then(|detail| detail.as_ref().ok());
        let flags = if detail.is_some() { FLAG_HAS_DETAIL } else { 0 };
        let header = IndexHeader { flags: flags.into(), ..*index.header() };
        let has_footer = index.footer().is_some();
        let linked = detail.filter(|_| !has_footer).map(|detail| links_to_set(index, detail)).unwrap_or_default();
        let crc = checksum_with(index.section(), &linked);
        let ends = finished_index(&header, index.len(), index.time_range(), crc.clone().finalize());
        Self { length: index.section().len() as u64, crc, ends, has_footer, linked }
    }

    fn on_detail(detail: &DetailReader) -> Self {
        let mut covers = Coverage::default();
        for event in detail.events() {
            covers.add(event.index_seq(), event.timestamp_ns());
        }
        let section = detail.whole_section();
        let crc = checksum_with(section, &[]);
        let ends = finished_detail(detail.header(), section.len() as u64, &covers, crc.clone().finalize());
        Self { length: section.len() as u64, crc, ends, has_footer: detail.footer().is_some(), linked: Vec::new() }
    }

    fn apply(self, path: &Path) -> Result<RecoveredLane, SessionError> {
        let file = File::options().write(true).open(path).map_err(SessionError::io("open", path))?;
        let before = file.metadata().map_err(SessionError::io("open", path))?.len();
        let after = HEADER_SIZE as u64 + self.length + if self.has_footer { FOOTER_SIZE as u64 } else { 0 };
        self.write(file, path).map_err(SessionError::io("finalise", path))?;
        Ok(RecoveredLane { bytes_cut: before.saturating_sub(after) })
    }

    fn write(self, file: File, path: &Path) -> io::Result<()> {
        for (at, event) in &self.linked {
            file.write_all_at(event.as_bytes(), (HEADER_SIZE + at) as u64)?;
        }
        Lane::resume(file, path.to_owned(), self.length, self.crc)?.seal(&self.ends)
    }
}

/// The index events whose detail was written, but whose link was not before the recorder was killed: as they should be,
/// with their offsets in the events section, in order.
fn links_to_set(index: &IndexReader, detail: &DetailReader) -> Vec<(usize, IndexEvent)> {
    let (mut links, mut done) = (Vec::new(), 0);
    for (seq, found) in (0_u32..).zip(detail.events()) {
        let Some(event) = index.get(found.index_seq().into()) else { continue };
        let at = INDEX_EVENT_SIZE * found.index_seq() as usize;
        if at >= done && event.detail().is_none() && belongs_to(&found, event) {
            links.push((at, IndexEvent { detail_seq: seq.into(), ..*event }));
            done = at + INDEX_EVENT_SIZE;
        }
    }
    links
}

fn belongs_to(detail: &DetailEvent<'_>, event: &IndexEvent) -> bool {
    let function_agrees = match detail.payload() {
        Some(Payload::Function(function)) => function.fixed.function_id == event.function_id,
        _ => true,
    };
    function_agrees && detail.timestamp_ns() == event.timestamp_ns.get()
}

/// The checksum that `bytes` will have once the events `linked`, which are in order, are put at their offsets.
fn checksum_with(bytes: &[u8], linked: &[(usize, IndexEvent)]) -> Hasher {
    let (mut crc, mut done) = (Hasher::new(), 0);
    for (at, event) in linked {
        crc.update(bytes.get(done..*at).unwrap_or_default());
        crc.update(event.as_bytes());
        done = at + INDEX_EVENT_SIZE;
    }
    crc.update(bytes.get(done..).unwrap_or_default());
    crc
}
