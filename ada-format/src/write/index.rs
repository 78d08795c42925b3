//! The index lane's writer: 32 bytes per event into a fixed buffer, one write(2) per full buffer.
//!
//! Invariant: `buffer[..used]` holds the events behind the `written` ones in the file, in order; no call of the hot path
//! makes anything grow.

use std::fs::File;
use std::io;
use std::path::Path;

use zerocopy::{FromZeros, IntoBytes};

use super::detail::Linked;
use super::lane::{Ends, Lane, Salvage};
use super::late::Stretch;
use super::sink::{Folder, Sink, Storage};
use super::{INDEX_FILE, ThreadMeta, WriteError};
use crate::layout::{
    EventKind, FLAG_HAS_DETAIL, HEADER_SIZE, INDEX_EVENT_SIZE, INDEX_FOOTER_MAGIC, INDEX_MAGIC, IndexEvent,
    IndexFooter, IndexHeader, LITTLE_ENDIAN, MAX_EVENTS, NO_DETAIL, VERSION,
};

/// Events held back before they are written: 128 KiB.
const BUFFERED_EVENTS: usize = 4096;

/// Writes one index.atf. Most callers want a [`ThreadWriter`](super::ThreadWriter), which keeps both lanes linked.
#[derive(Debug)]
pub struct IndexWriter<S: Sink = File> {
    buffer: Box<[IndexEvent]>,
    used: usize,
    /// Where the hot path stops and looks closer: the buffer's end, the format's end, or 0 after a failure.
    room: usize,
    last_ns: u64,
    thread_id: u32,
    failed: bool,
    written: u64,
    written_times: Option<(u64, u64)>,
    header: IndexHeader,
    /// Events in the file that get their links only now.
    late: Stretch,
    lane: Lane<S>,
}

impl IndexWriter<File> {
    /// Creates `folder`/index.atf, which must not exist, with its header.
    ///
    /// # Errors
    /// [`WriteError::Create`] if the system refuses.
    pub fn create(folder: &Path, meta: &ThreadMeta) -> Result<Self, WriteError> {
        Self::create_in(&mut Folder(folder.to_owned()), meta)
    }
}

impl<S: Sink> IndexWriter<S> {
    /// Creates the file in any storage.
    ///
    /// # Errors
    /// [`WriteError::Create`] if the storage refuses.
    pub fn create_in(storage: &mut impl Storage<File = S>, meta: &ThreadMeta) -> Result<Self, WriteError> {
        let path = storage.path(INDEX_FILE);
        let create_error = |source| WriteError::Create { path: path.clone(), source };
        let header = unfinished_header(meta);
        let sink = storage.create(INDEX_FILE).map_err(create_error)?;
        let lane = Lane::create(sink, path.clone(), &zerocopy::transmute!(header))
            .inspect_err(|_| storage.remove(INDEX_FILE))
            .map_err(create_error)?;
        let buffer = <[IndexEvent]>::new_box_zeroed_with_elems(BUFFERED_EVENTS)
            .map_err(|_| create_error(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self {
            room: buffer.len(),
            buffer,
            used: 0,
            last_ns: 0,
            thread_id: meta.thread_id,
            failed: false,
            written: 0,
            written_times: None,
            header,
            late: Stretch::default(),
            lane,
        })
    }

    /// Appends an event and returns its position. `detail_seq` is [`NO_DETAIL`] or the position of its detail.
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
        detail_seq: u32,
    ) -> Result<u32, WriteError> {
        if self.needs_room() {
            self.check_open()?;
            self.flush()?;
        }
        Ok(self.push(timestamp_ns, function_id, kind, call_depth, detail_seq))
    }

    /// Number of events appended, or after a failure the number that is safe.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.written + self.used as u64
    }

    /// Whether the format's limit of 2³²−2 events is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.event_count() >= MAX_EVENTS
    }

    /// Hands what is buffered to the operating system.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if it refuses, [`WriteError::Stopped`] if it did before.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.failed {
            return Err(self.stopped());
        }
        self.flush_buffer().map_err(|source| self.end_after(source))
    }

    /// Flushes and finalises.
    ///
    /// # Errors
    /// [`WriteError::Failed`] if the system refuses; what had been flushed stays readable.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.flush()?;
        self.seal().map_err(|source| WriteError::failed(self.lane.path(), self.written, source))
    }

    /// Whether [`push`](Self::push) has to be preceded by a flush, or is impossible.
    #[inline]
    pub(super) fn needs_room(&self) -> bool {
        self.used >= self.room
    }

    /// Appends an event to the buffer; the caller has seen to it that there is room.
    #[inline]
    pub(super) fn push(
        &mut self,
        timestamp_ns: u64,
        function_id: u64,
        kind: EventKind,
        depth: u32,
        detail: u32,
    ) -> u32 {
        debug_assert!(!self.needs_room());
        self.last_ns = self.last_ns.max(timestamp_ns);
        let position = self.next_position();
        if let Some(slot) = self.buffer.get_mut(self.used) {
            *slot = IndexEvent {
                timestamp_ns: self.last_ns.into(),
                function_id: function_id.into(),
                thread_id: self.thread_id.into(),
                event_kind: kind.raw().into(),
                call_depth: depth.into(),
                detail_seq: detail.into(),
            };
            self.used += 1;
        }
        position
    }

    /// The position that the next event gets.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "event_count never exceeds MAX_EVENTS, which is below 2^32")]
    pub(super) fn next_position(&self) -> u32 {
        self.event_count() as u32
    }

    /// The timestamp of the last event appended, in nanoseconds.
    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Timestamps of the first and last event.
    pub(super) fn time_range(&self) -> Option<(u64, u64)> {
        let buffered = time_range(self.buffer.get(..self.used).unwrap_or_default());
        join(self.written_times, buffered)
    }

    /// Length of the file, in bytes, with what is still buffered.
    pub(super) fn bytes(&self) -> u64 {
        self.lane.file_length() + (self.used * INDEX_EVENT_SIZE) as u64
    }

    pub(super) fn path(&self) -> &Path {
        self.lane.path()
    }

    /// Whether an earlier write failed.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// Notes for the header that a detail file exists.
    pub(super) fn set_has_detail(&mut self) {
        self.header.flags = FLAG_HAS_DETAIL.into();
    }

    /// Takes the links off buffered events whose detail, at `safe_details` or behind, did not reach its file.
    pub(super) fn unlink_from(&mut self, safe_details: u64) {
        for event in self.buffer.iter_mut().take(self.used) {
            if u64::from(event.detail_seq.get()) >= safe_details {
                event.detail_seq = NO_DETAIL.into();
            }
        }
        self.late.unlink_from(safe_details);
    }

    /// Whether the event at `position` can be looked at only after a flush: it is in the file, and what was read back
    /// from there is another part that has links to be written.
    pub(super) fn is_elsewhere(&self, position: u32) -> bool {
        let position = u64::from(position);
        position < self.written && self.late.is_changed() && self.late.get(position).is_none()
    }

    /// Makes sure that detail can be linked to the event `of` and returns its timestamp, which is the one of `of` or,
    /// if that lay before an earlier event's, the one that it was raised to.
    pub(super) fn check_late(&mut self, of: &Linked) -> Result<u64, WriteError> {
        let position = u64::from(of.index_seq);
        if position < self.written && self.late.get(position).is_none() {
            let read = self.late.load(&mut self.lane, position, self.written);
            read.map_err(|source| WriteError::ReadBack { path: self.lane.path().to_owned(), source })?;
        }
        let Some(event) = self.appended(position) else {
            return Err(WriteError::NoSuchEvent { index_seq: of.index_seq, events: self.event_count() });
        };
        let is_it = event.function_id == of.function_id
            && event.event_kind == of.kind.raw()
            && event.timestamp_ns >= of.timestamp_ns
            && event.detail().is_none();
        is_it.then_some(event.timestamp_ns.get()).ok_or(WriteError::OtherEvent { index_seq: of.index_seq })
    }

    /// Links the event at `position`, which was [checked](Self::check_late).
    pub(super) fn link(&mut self, position: u32, detail_seq: u32) {
        let position = u64::from(position);
        match position.checked_sub(self.written) {
            None => self.late.link(position, detail_seq),
            Some(buffered) => {
                let place = usize::try_from(buffered).ok();
                if let Some(event) = place.and_then(|place| self.buffer.get_mut(place)) {
                    event.detail_seq = detail_seq.into();
                }
            }
        }
    }

    /// Writes the links of events that are in the file. After an error it holds some of them.
    pub(super) fn flush_late(&mut self) -> io::Result<()> {
        self.late.write(&mut self.lane)
    }

    /// Writes the buffer. After an error the file holds `written` whole events, and the buffer is gone.
    pub(super) fn flush_buffer(&mut self) -> io::Result<()> {
        let events = self.buffer.get(..self.used).unwrap_or_default();
        if events.is_empty() {
            return Ok(());
        }
        let Err(short) = self.lane.append(events.as_bytes()) else {
            self.advance(self.used);
            return Ok(());
        };
        let footer = |kept: &[u8], checksum| {
            let kept = events.get(..kept.len() / INDEX_EVENT_SIZE).unwrap_or_default();
            let times = join(self.written_times, time_range(kept));
            finished(&self.header, self.written + kept.len() as u64, times, checksum).footer
        };
        let Salvage { kept, source } = self.lane.salvage(events.as_bytes(), short, whole, &footer);
        self.advance(kept / INDEX_EVENT_SIZE);
        Err(source)
    }

    /// Takes no more events.
    pub(super) fn stop(&mut self) {
        self.failed = true;
        self.room = 0;
        self.used = 0;
    }

    /// Writes footer and header around what is in the file.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        let ends = finished(&self.header, self.written, self.written_times, self.lane.checksum());
        self.lane.seal(&ends)
    }

    /// Whether the file is finalised.
    pub(super) fn finished(&self) -> bool {
        self.lane.finished()
    }

    /// Fails if no event can be taken any more.
    pub(super) fn check_open(&self) -> Result<(), WriteError> {
        if self.failed {
            return Err(self.stopped());
        }
        if self.is_full() {
            return Err(WriteError::Full { path: self.path().to_owned(), events: self.event_count() });
        }
        Ok(())
    }

    /// The error of a call after a failure.
    pub(super) fn stopped(&self) -> WriteError {
        WriteError::Stopped { path: self.path().to_owned(), safe_events: self.written }
    }

    #[cold]
    fn end_after(&mut self, source: io::Error) -> WriteError {
        self.stop();
        let _ = self.seal();
        WriteError::failed(self.lane.path(), self.written, source)
    }

    /// The event at `position`, if it is buffered or was read back.
    fn appended(&self, position: u64) -> Option<&IndexEvent> {
        match position.checked_sub(self.written) {
            None => self.late.get(position),
            Some(buffered) => self.buffer.get(..self.used)?.get(usize::try_from(buffered).ok()?),
        }
    }

    /// Counts the first `events` of the buffer as written and empties it.
    fn advance(&mut self, events: usize) {
        let taken = self.buffer.get(..events).unwrap_or_default();
        self.written_times = join(self.written_times, time_range(taken));
        self.written += events as u64;
        self.used = 0;
        let left = MAX_EVENTS.saturating_sub(self.written);
        self.room = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
    }

    /// For tests of the format's limit: as if `written` events were in the file.
    #[cfg(test)]
    pub(super) fn pretend_written(&mut self, written: u64) {
        self.written = written;
        self.advance(0);
    }
}

/// Events are all of one size.
fn whole(_bytes: &[u8], limit: usize) -> usize {
    limit - limit % INDEX_EVENT_SIZE
}

fn time_range(events: &[IndexEvent]) -> Option<(u64, u64)> {
    Some((events.first()?.timestamp_ns.get(), events.last()?.timestamp_ns.get()))
}

/// The range from the start of the earlier to the end of the later one.
pub(super) fn join(earlier: Option<(u64, u64)>, later: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (earlier, later) {
        (Some((start, _)), Some((_, end))) => Some((start, end)),
        (range, None) | (None, range) => range,
    }
}

fn unfinished_header(meta: &ThreadMeta) -> IndexHeader {
    IndexHeader {
        magic: INDEX_MAGIC,
        endian: LITTLE_ENDIAN,
        version: VERSION,
        arch: meta.arch.raw(),
        os: meta.os.raw(),
        thread_id: meta.thread_id.into(),
        clock_type: meta.clock.raw(),
        event_size: (INDEX_EVENT_SIZE as u32).into(),
        events_offset: (HEADER_SIZE as u64).into(),
        ..IndexHeader::new_zeroed()
    }
}

/// Header and footer of a finalised file, from its header so far and what it holds.
pub(crate) fn finished(header: &IndexHeader, events: u64, times: Option<(u64, u64)>, checksum: u32) -> Ends {
    let bytes = events * INDEX_EVENT_SIZE as u64;
    let (start, end) = times.unwrap_or_default();
    let footer = IndexFooter {
        magic: INDEX_FOOTER_MAGIC,
        checksum: checksum.into(),
        event_count: events.into(),
        time_start_ns: start.into(),
        time_end_ns: end.into(),
        bytes_written: bytes.into(),
        reserved: [0; 24],
    };
    let header = IndexHeader {
        event_count: u32::try_from(events).unwrap_or(u32::MAX).into(),
        footer_offset: (HEADER_SIZE as u64 + bytes).into(),
        time_start_ns: start.into(),
        time_end_ns: end.into(),
        ..*header
    };
    Ends { header: zerocopy::transmute!(header), footer: zerocopy::transmute!(footer) }
}
