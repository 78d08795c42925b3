//! A thread's writer: both lanes, and the sequence numbers that link them.
//!
//! Invariant: detail is flushed before the index and before links of events that are in the file already, so that no
//! index event on disk points at a detail that is not; and details are in the order of their events.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::detail::{Detail, DetailWriter, Linked};
use super::index::IndexWriter;
use super::sink::{Folder, Storage};
use super::{DETAIL_FILE, ThreadMeta, ThreadSummary, WriteError};
use crate::layout::{EventKind, NO_DETAIL};

/// Writes one thread's folder.
///
/// An event that was appended is buffered; one that was [flushed](Self::flush) is with the operating system and
/// survives this process. After a failed write the writer keeps what is whole, and takes no more.
///
/// # Examples
/// ```
/// use ada_format::layout::{Arch, ClockType, EventKind, Os};
/// use ada_format::read::ThreadReader;
/// use ada_format::write::{Detail, FunctionDetail, ThreadMeta, ThreadWriter};
///
/// # let dir = tempfile::tempdir()?;
/// # let folder = dir.path().join("thread_0");
/// let meta = ThreadMeta { thread_id: 42, arch: Arch::host(), os: Os::Linux, clock: ClockType::Boottime };
/// let mut writer = ThreadWriter::create(&folder, &meta)?;
/// let registers = FunctionDetail { regs: [1, 2, 3, 4, 5, 6, 7, 8], ..Default::default() };
/// writer.append_with_detail(1_000, 7, EventKind::Call, 0, &Detail::Function(registers))?;
/// writer.append(1_500, 7, EventKind::Return, 0)?;
/// let summary = writer.finish()?;
/// assert_eq!((summary.event_count, summary.detail_count), (2, 1));
///
/// let thread = ThreadReader::open(&folder)?;
/// assert_eq!(thread.index().time_range(), Some((1_000, 1_500)));
/// let detail = thread.detail_of(0)?.expect("the call has detail");
/// assert_eq!(detail.index_seq(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ThreadWriter<D: Storage = Folder> {
    index: IndexWriter<D::File>,
    detail: Option<DetailWriter<D::File>>,
    storage: D,
    meta: ThreadMeta,
}

impl ThreadWriter<Folder> {
    /// Creates `folder`, which must not exist, and in it index.atf with its header. The detail file comes with the
    /// first detail.
    ///
    /// # Errors
    /// [`WriteError::Create`] if the system refuses; nothing is left behind then.
    pub fn create(folder: &Path, meta: &ThreadMeta) -> Result<Self, WriteError> {
        fs::create_dir(folder).map_err(|source| WriteError::Create { path: folder.to_owned(), source })?;
        Self::create_in(Folder(folder.to_owned()), meta).inspect_err(|_| {
            let _ = fs::remove_dir_all(folder);
        })
    }
}

impl<D: Storage> ThreadWriter<D> {
    /// Creates the files in any storage.
    ///
    /// # Errors
    /// [`WriteError::Create`] if the storage refuses.
    pub fn create_in(mut storage: D, meta: &ThreadMeta) -> Result<Self, WriteError> {
        let index = IndexWriter::create_in(&mut storage, meta)?;
        Ok(Self { index, detail: None, storage, meta: *meta })
    }

    /// Appends an event without detail and returns its position in the index.
    ///
    /// A timestamp (in nanoseconds of the clock) that lies before the last one is raised to it.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if the buffer was full and could not be written, [`WriteError::Stopped`] after that,
    /// [`WriteError::Full`] at the format's limit. The event was not taken then.
    #[inline]
    pub fn append(
        &mut self,
        timestamp_ns: u64,
        function_id: u64,
        kind: EventKind,
        call_depth: u32,
    ) -> Result<u32, WriteError> {
        if self.index.needs_room() {
            self.make_room()?;
        }
        Ok(self.index.push(timestamp_ns, function_id, kind, call_depth, NO_DETAIL))
    }

    /// Appends an event with detail and returns its positions in the index and in the detail file.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`WriteError::Create`] if the detail file cannot be created (the event was not
    /// taken; it can still be appended without detail); a variant that names the limit if the detail does not fit the
    /// format.
    pub fn append_with_detail(
        &mut self,
        timestamp_ns: u64,
        function_id: u64,
        kind: EventKind,
        call_depth: u32,
        detail: &Detail<'_>,
    ) -> Result<(u32, u32), WriteError> {
        let (event_type, length) = detail.check(kind)?;
        if self.index.needs_room() || self.detail.as_ref().is_some_and(|lane| !lane.has_room(length)) {
            self.make_room()?;
        }
        let lane = match &mut self.detail {
            Some(lane) => lane,
            None => self.detail.insert(create_detail(&mut self.storage, &self.meta, &mut self.index)?),
        };
        // Never truncates: there are no more details than index events, and those are fewer than 2^32.
        let detail_seq = u32::try_from(lane.count()).unwrap_or(NO_DETAIL);
        let index_seq = self.index.push(timestamp_ns, function_id, kind, call_depth, detail_seq);
        let of = Linked { index_seq, timestamp_ns: self.index.last_ns(), function_id, kind };
        lane.push(of, event_type, length, detail);
        Ok((index_seq, detail_seq))
    }

    /// Appends the detail of an event that was [appended](Self::append) earlier without, links both, and returns the
    /// detail's position.
    ///
    /// `index_seq` is that event's position; it lies behind that of every event that has detail. The other values are
    /// those that it was appended with. If the event has gone to the file, its link follows at the next flush: what
    /// was flushed of the detail is found by readers even if the recorder is killed before.
    ///
    /// # Errors
    /// [`WriteError::DetailOrder`], [`WriteError::NoSuchEvent`] or [`WriteError::OtherEvent`] if it cannot be that
    /// event's; [`WriteError::ReadBack`] if the event cannot be looked at; [`WriteError::Create`] if the detail file
    /// cannot be created; a variant that names the limit if the detail does not fit the format. The detail was not
    /// taken then, and the writer goes on. [`WriteError::Failed`] if a buffer was full and could not be written,
    /// [`WriteError::Stopped`] after that.
    pub fn add_detail(
        &mut self,
        index_seq: u32,
        timestamp_ns: u64,
        function_id: u64,
        kind: EventKind,
        detail: &Detail<'_>,
    ) -> Result<u32, WriteError> {
        let (event_type, length) = detail.check(kind)?;
        if self.index.failed() {
            return Err(self.index.stopped());
        }
        if let Some(last) = self.detail.as_ref().and_then(DetailWriter::last_seq).filter(|&last| last >= index_seq) {
            return Err(WriteError::DetailOrder { index_seq, last });
        }
        if self.index.is_elsewhere(index_seq) || self.detail.as_ref().is_some_and(|lane| !lane.has_room(length)) {
            self.flush()?;
        }
        let of = Linked { index_seq, timestamp_ns, function_id, kind };
        let of = Linked { timestamp_ns: self.index.check_late(&of)?, ..of };
        let lane = match &mut self.detail {
            Some(lane) => lane,
            None => self.detail.insert(create_detail(&mut self.storage, &self.meta, &mut self.index)?),
        };
        // Never truncates: there are no more details than index events.
        let detail_seq = u32::try_from(lane.count()).unwrap_or(NO_DETAIL);
        lane.push(of, event_type, length, detail);
        self.index.link(index_seq, detail_seq);
        Ok(detail_seq)
    }

    /// Whether the format's limit of 2³²−2 events is reached: go on in a new ordinal.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.index.is_full()
    }

    /// Number of events appended; after a failure the number that is safe.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.index.event_count()
    }

    /// Number of details appended; after a failure the number that is safe.
    #[must_use]
    pub fn detail_count(&self) -> u64 {
        self.detail.as_ref().map_or(0, DetailWriter::count)
    }

    /// Length of both files in bytes, headers and what is still buffered included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index.bytes() + self.detail.as_ref().map_or(0, DetailWriter::bytes)
    }

    /// Timestamps of the first and last event, in nanoseconds of the clock.
    #[must_use]
    pub fn time_range(&self) -> Option<(u64, u64)> {
        self.index.time_range()
    }

    /// What the files hold so far; after a failure what is safe.
    #[must_use]
    pub fn summary(&self) -> ThreadSummary {
        let (time_start_ns, time_end_ns) = self.time_range().unwrap_or_default();
        ThreadSummary {
            event_count: self.event_count(),
            detail_count: self.detail_count(),
            bytes: self.bytes(),
            time_start_ns,
            time_end_ns,
        }
    }

    /// Hands what is buffered to the operating system; costs next to nothing when nothing is.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if it refuses, [`WriteError::Stopped`] if it did before.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.index.failed() {
            return Err(self.index.stopped());
        }
        self.flush_lanes().map_err(|(path, source)| self.end_after(&path, source))
    }

    /// Flushes and finalises both files and closes them.
    ///
    /// After an earlier failure this finalises, where it can, what was safe, and returns that.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if the system refuses; what the error calls safe stays readable.
    pub fn finish(mut self) -> Result<ThreadSummary, WriteError> {
        if !self.index.failed() {
            self.flush()?;
        }
        match self.seal() {
            Ok(()) => Ok(self.summary()),
            Err((path, source)) => Err(WriteError::failed(&path, self.event_count(), source)),
        }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) -> Result<(), WriteError> {
        self.index.check_open()?;
        self.flush()
    }

    /// Writes both buffers, detail first and late links between. After an error each file holds whole events.
    fn flush_lanes(&mut self) -> Result<(), (PathBuf, io::Error)> {
        if let Some(detail) = &mut self.detail
            && let Err(source) = detail.flush_buffer()
        {
            self.index.unlink_from(detail.count());
            let path = detail.path().to_owned();
            let _ = self.flush_index();
            return Err((path, source));
        }
        self.flush_index().map_err(|source| (self.index.path().to_owned(), source))
    }

    /// Late links first: the footer that a failed write may leave behind has to be theirs, too.
    fn flush_index(&mut self) -> io::Result<()> {
        let late = self.index.flush_late();
        late.and(self.index.flush_buffer())
    }

    /// Ends the writing after a failed flush: finalises what there is room for.
    #[cold]
    fn end_after(&mut self, path: &Path, source: io::Error) -> WriteError {
        self.index.stop();
        let _ = self.seal();
        WriteError::failed(path, self.event_count(), source)
    }

    /// Finalises both lanes as far as they are not, one whether or not the other can be.
    fn seal(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let detail = match &mut self.detail {
            Some(lane) if !lane.finished() => lane.seal().map_err(|source| (lane.path().to_owned(), source)),
            _ => Ok(()),
        };
        let index = match self.index.finished() {
            true => Ok(()),
            false => self.index.seal().map_err(|source| (self.index.path().to_owned(), source)),
        };
        detail.and(index)
    }

    /// For tests of the format's limit: as if `written` events were in the file.
    #[cfg(test)]
    pub(super) fn pretend_written(&mut self, written: u64) {
        self.index.pretend_written(written);
    }
}

impl<D: Storage> Drop for ThreadWriter<D> {
    /// What was appended reaches the operating system even if the recorder unwinds.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

fn create_detail<D: Storage>(
    storage: &mut D,
    meta: &ThreadMeta,
    index: &mut IndexWriter<D::File>,
) -> Result<DetailWriter<D::File>, WriteError> {
    let lane = DetailWriter::create_in(storage, meta)
        .map_err(|source| WriteError::Create { path: storage.path(DETAIL_FILE), source })?;
    index.set_has_detail();
    Ok(lane)
}
