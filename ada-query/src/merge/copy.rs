//! A thread's files, with new times and function ids, event by event.
//!
//! Invariant: events keep their positions in both files, so that all links stay right; a copy is finalised, whatever its
//! original was.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use ada_format::layout::{
    DETAIL_FOOTER_MAGIC, DetailFooter, DetailHeader, EventKind, FLAG_HAS_DETAIL, FunctionPayload, HEADER_SIZE,
    INDEX_EVENT_SIZE, INDEX_FOOTER_MAGIC, IndexEvent, IndexFooter, IndexHeader,
};
use ada_format::read::ThreadReader;
use ada_format::write::{DETAIL_FILE, INDEX_FILE};
use zerocopy::{FromBytes, IntoBytes};

use super::MergeError;
use crate::blocks::{BLOCK, Blocks};
use crate::detail::{Details, RawDetail};
use crate::trace::Part;

/// New times and ids; none if a time lies before the common clock's start.
pub(super) trait Change {
    fn time(&mut self, time_ns: u64) -> Option<u64>;
    fn function(&mut self, id: u64) -> u64;
}

/// What a copy holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    pub(super) events: u64,
    pub(super) details: u64,
    pub(super) times: Option<(u64, u64)>,
}

/// A file under way: what was written, and its checksum.
struct Section {
    file: BufWriter<File>,
    crc: crc32fast::Hasher,
    length: u64,
    times: Option<(u64, u64)>,
}

/// Copies a thread's folder to `folder`, which must not exist.
pub(super) fn copy(
    reader: &ThreadReader,
    part: &Part,
    folder: &Path,
    change: &mut impl Change,
) -> Result<Copied, MergeError> {
    fs::create_dir(folder).map_err(MergeError::writing(folder))?;
    let details = match reader.detail() {
        Some(detail) => copy_detail((*detail.header(), detail.len()), part, &folder.join(DETAIL_FILE), change)?,
        None => 0,
    };
    let path = folder.join(INDEX_FILE);
    let failed = MergeError::writing(&path);
    let mut section = Section::create(&path).map_err(&failed)?;
    let mut blocks = Blocks::new(&part.index, part.events, BLOCK);
    loop {
        let events = blocks.next_block(u64::MAX)?;
        if events.is_empty() {
            break;
        }
        for event in events {
            let time_ns = event.timestamp_ns.get();
            let moved = change.time(time_ns).ok_or_else(|| MergeError::before(reader.folder(), time_ns))?;
            let function_id = match event.kind() {
                // A stack's number.
                Some(EventKind::Switch) => event.function_id,
                _ => change.function(event.function_id.get()).into(),
            };
            section
                .put(IndexEvent { timestamp_ns: moved.into(), function_id, ..*event }.as_bytes())
                .map_err(&failed)?;
            section.saw(moved);
        }
    }
    let times = section.times;
    section.seal_index(*reader.index().header(), part.events, details > 0).map_err(&failed)?;
    Ok(Copied { events: part.events, details, times })
}

/// Copies as many details as the file was found to have; returns their number.
fn copy_detail(
    (header, events): (DetailHeader, u64),
    part: &Part,
    path: &Path,
    change: &mut impl Change,
) -> Result<u64, MergeError> {
    let failed = MergeError::writing(path);
    let mut section = Section::create(path).map_err(&failed)?;
    let mut details = Details::of_part(part);
    let (mut count, mut seen) = (0_u32, None::<(u32, u32)>);
    while u64::from(count) < events
        && let Some(detail) = details.event(part.id, count)?
    {
        let mut head = *detail.header;
        let time_ns = head.timestamp_ns.get();
        let moved = change.time(time_ns).ok_or_else(|| MergeError::before(path, time_ns))?;
        head.timestamp_ns = moved.into();
        section.put(head.as_bytes()).map_err(&failed)?;
        section.put(&payload(detail, change)).map_err(&failed)?;
        section.saw(moved);
        let seq = head.index_seq.get();
        seen = Some(seen.map_or((seq, seq), |(first, _)| (first, seq)));
        count += 1;
    }
    section.seal_detail(header, count.into(), seen.unwrap_or_default()).map_err(&failed)?;
    Ok(count.into())
}

fn payload(detail: RawDetail<'_>, change: &mut impl Change) -> Vec<u8> {
    let mut payload = detail.payload.to_vec();
    if let (Some(function), Ok((slot, _))) = (detail.function(), FunctionPayload::mut_from_prefix(&mut payload)) {
        slot.function_id = change.function(function.function_id.get()).into();
    }
    payload
}

impl Section {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(256 * 1024, File::create_new(path)?);
        file.write_all(&[0; HEADER_SIZE])?;
        Ok(Self { file, crc: crc32fast::Hasher::new(), length: 0, times: None })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn saw(&mut self, time_ns: u64) {
        let (first, last) = self.times.unwrap_or((time_ns, time_ns));
        self.times = Some((first.min(time_ns), last.max(time_ns)));
    }

    fn seal_index(self, header: IndexHeader, events: u64, has_detail: bool) -> io::Result<()> {
        let (start_ns, end_ns) = self.times.unwrap_or_default();
        let header = IndexHeader {
            flags: if has_detail { FLAG_HAS_DETAIL.into() } else { 0.into() },
            event_size: u32::try_from(INDEX_EVENT_SIZE).unwrap_or_default().into(),
            event_count: u32::try_from(events).unwrap_or(u32::MAX).into(),
            footer_offset: (HEADER_SIZE as u64 + self.length).into(),
            time_start_ns: start_ns.into(),
            time_end_ns: end_ns.into(),
            ..header
        };
        let footer = IndexFooter {
            magic: INDEX_FOOTER_MAGIC,
            checksum: self.crc.clone().finalize().into(),
            event_count: events.into(),
            time_start_ns: start_ns.into(),
            time_end_ns: end_ns.into(),
            bytes_written: self.length.into(),
            reserved: [0; 24],
        };
        self.seal(header.as_bytes(), footer.as_bytes())
    }

    fn seal_detail(self, header: DetailHeader, count: u64, (first, last): (u32, u32)) -> io::Result<()> {
        let (start_ns, end_ns) = self.times.unwrap_or_default();
        let header = DetailHeader {
            event_count: count.into(),
            bytes_length: self.length.into(),
            index_seq_start: u64::from(first).into(),
            index_seq_end: u64::from(last).into(),
            ..header
        };
        let footer = DetailFooter {
            magic: DETAIL_FOOTER_MAGIC,
            checksum: self.crc.clone().finalize().into(),
            event_count: count.into(),
            bytes_length: self.length.into(),
            time_start_ns: start_ns.into(),
            time_end_ns: end_ns.into(),
            reserved: [0; 24],
        };
        self.seal(header.as_bytes(), footer.as_bytes())
    }

    fn seal(mut self, header: &[u8], footer: &[u8]) -> io::Result<()> {
        self.file.write_all(footer)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header)?;
        self.file.flush()
    }
}
